"""mien builds synthetic facial-expression databases and proves what they are worth."""

__version__ = "0.1.0"
