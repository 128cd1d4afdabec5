"""Pages: tables, charts, contact sheets and HTML that people look at."""
