"""PAGES: the pages of the studio, one file each."""

from mien.studio.base import StudioPage
from mien.studio.pages import overview

PAGES: tuple[StudioPage, ...] = (StudioPage("Overview", "/", 10, overview.router),)
"""The pages by their order in the navigation: ten more for each, so that others fit between."""
