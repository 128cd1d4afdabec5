"""The audit: whether a synthetic database is good, new, and shows what its labels say."""
