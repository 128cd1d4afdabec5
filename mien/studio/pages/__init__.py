"""PAGES: the pages of the studio, one file each."""

from mien.studio.base import StudioPage
from mien.studio.pages import (
    audit,
    compare,
    gallery,
    generate,
    map,
    overview,
    release,
    review,
    study,
    try_picture,
)

PAGES: tuple[StudioPage, ...] = (
    StudioPage("Overview", "/", 10, overview.router),
    StudioPage("Gallery", "/gallery", 20, gallery.router),
    StudioPage("Compare", "/compare", 30, compare.router),
    StudioPage("Map", "/map", 40, map.router),
    StudioPage("Generate", "/generate", 50, generate.router),
    StudioPage("Review", "/review", 60, review.router),
    StudioPage("Audit", "/audit", 70, audit.router),
    StudioPage("Study", "/study", 80, study.router),
    StudioPage("Release", "/release", 90, release.router),
    StudioPage("Try", "/try", 100, try_picture.router),
)
"""The pages by their order in the navigation: ten more for each, so that others fit between."""
