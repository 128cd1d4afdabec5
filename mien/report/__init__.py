"""The report: a study's findings as sentences, tables and files."""
