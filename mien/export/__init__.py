"""Export: a generator that draws without mien, or faces as PNG files."""
