"""The studio: a page over a store in a browser, for its own user alone."""
