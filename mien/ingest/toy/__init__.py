"""The toy dataset: drawn faces of nobody, which everybody may have."""
