"""The report: a study's findings in sentences, tables and files for other programs."""
