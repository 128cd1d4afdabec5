"""The drawn dataset: faces of nobody, in CASME II's layout, that everybody may have."""
