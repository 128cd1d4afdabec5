"""Variety: whom and what synthetic faces show, beside real faces."""
