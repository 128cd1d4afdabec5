"""HTML pages that open without a network, from one set of templates."""

import base64
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from mien.runs.progress import format_duration, quantify

TEMPLATE_FOLDER = Path(__file__).parent / "templates"


def render_html(template: str, content: Mapping[str, Any]) -> str:
    """Return the page that a template of mien/pages/templates makes of `content`.

    All texts are escaped. A name that the template uses and `content` lacks is an error of jinja2.
    """
    return load_templates(TEMPLATE_FOLDER).get_template(template).render(content)


@cache
def load_templates(folder: Path) -> Environment:
    """Return the templates of a folder, which are compiled once: that takes longer than to fill
    one.
    """
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["many"] = quantify
    environment.filters["code"] = mark_code
    environment.filters["duration"] = format_duration
    return environment


def mark_code(text: str) -> Markup:
    """Return a text as HTML in which what stands between backticks is code."""
    segments = [escape(segment) for segment in text.split("`")]
    if len(segments) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(segment) if number % 2 else segment
        for number, segment in enumerate(segments)
    )


def encode_picture(image: Image.Image, colours: int | None = None) -> str:
    """Return a picture as a data address (PNG, base64) for an `img` element.

    With `colours`, the picture is reduced to a palette of at most so many.
    """
    if colours is not None:
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=colours)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
