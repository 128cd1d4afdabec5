"""The demo: the whole pipeline on drawn faces, up to findings and a report."""
