"""Variety: whom and what synthetic faces show, beside the real faces they come from."""
