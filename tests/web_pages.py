"""A page of HTML as elements, and the faults that people with a screen reader or telephone meet."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID_TAGS = {"meta", "img", "br", "col", "hr", "input", "link", "wbr"}

TELEPHONE_PIXELS, REM_PIXELS = 390, 16


@dataclass
class Element:
    """An element with its attributes, its children, and its own text."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    parent: "Element | None" = None
    children: "list[Element | str]" = field(default_factory=list)

    def walk(self) -> "Iterator[Element]":
        """Yield the element and all in it, in their order."""
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def find(self, *tags: str) -> "list[Element]":
        return [one for one in self.walk() if one.tag in tags]

    @property
    def text(self) -> str:
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join(" ".join(parts).split())

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    def is_inside(self, name: str) -> bool:
        """Whether an element around it has the class `name`."""
        around = self.parent
        while around is not None and name not in around.classes:
            around = around.parent
        return around is not None


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Element("document")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        new = Element(tag, dict(attrs), self.at)
        self.at.children.append(new)
        if tag not in VOID_TAGS:
            self.at = new

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        self.at = self.at.parent or self.root

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read_page(html: str) -> Element:
    """Return the root of a page; all tags must be closed in their order."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    assert builder.at is builder.root
    return builder.root


def find_faults(html: str) -> list[str]:
    """Return what keeps people with a screen reader, a keyboard or a telephone from a page."""
    page = read_page(html)
    return [*_check_document(page), *_check_media(page), *_check_tables(page), *_check_width(page)]


def _check_document(page: Element) -> Iterator[str]:
    """The language, title, landmark, and headings; identities and links to them."""
    if [one.attributes.get("lang") for one in page.find("html")] != ["en"]:
        yield "no language"
    if len(page.find("main")) != 1 or len(page.find("h1")) != 1:
        yield "not one main and one h1"
    if not (titles := page.find("title")) or not titles[0].text.removesuffix("\u2013 mien").strip():
        yield "no title"

    # Headings go one level down at a time
    level = 0
    for heading in page.find("h1", "h2", "h3", "h4", "h5", "h6"):
        if int(heading.tag[1]) > level + 1:
            yield f"<{heading.tag}> {heading.text} after level {level}"
        if not heading.text:
            yield f"<{heading.tag}> is empty"
        level = int(heading.tag[1])

    names = [one.attributes["id"] for one in page.walk() if "id" in one.attributes]
    yield from (f"id {name} twice" for name in names if names.count(name) > 1)
    for link in page.find("a"):
        if (link.attributes.get("href") or "")[1:] not in names or not link.text:
            yield f"link to {link.attributes.get('href')}"


def _check_media(page: Element) -> Iterator[str]:
    """Images with their texts; elements that show a picture or scroll have a name."""
    for one in page.walk():
        names = one.attributes
        if one.tag == "img" and not names.get("alt"):
            yield "image without alt"
        if one.tag == "svg" and names.get("aria-hidden") != "true" and not names.get("aria-label"):
            around = one.parent
            if around is None or around.tag != "svg":
                yield "svg that is neither hidden nor named"
        if names.get("role") == "img" and not names.get("aria-label"):
            yield "picture without a name"
        if "scroll" in one.classes and not (
            names.get("tabindex") == "0" and names.get("role") and names.get("aria-label")
        ):
            yield "a keyboard cannot scroll, or nothing says what"
        if one.tag == "details" and not (one.find("summary") and one.find("summary")[0].text):
            yield "details without a summary"


def _check_tables(page: Element) -> Iterator[str]:
    """Captions, and headers of columns and rows with their scope."""
    for table in page.find("table"):
        captions = table.find("caption")
        name = captions[0].text if captions else ""
        if not name:
            yield f"table without a caption: {table.text[:60]}"
        if not table.find("thead") or table.find("thead")[0].find("td"):
            yield f"table without a head: {name}"
        for header in table.find("th"):
            if header.attributes.get("scope") not in ("col", "row", "colgroup"):
                yield f"header without scope: {name}, {header.text}"
        for row in (row for body in table.find("tbody") for row in body.find("tr")):
            first = next(child for child in row.children if isinstance(child, Element))
            if (first.tag, first.attributes.get("scope")) != ("th", "row"):
                yield f"row without a header: {name}, {row.text[:40]}"


def _check_width(page: Element) -> Iterator[str]:
    """What could be wider than a telephone is in an element that scrolls, or shrinks."""
    style = page.find("style")[0].text
    if "width=device-width" not in str([one.attributes for one in page.find("meta")]):
        yield "the page is not as wide as the screen"
    for table in page.find("table"):
        if not table.is_inside("scroll") and "heat" not in table.classes:
            yield f"table that cannot scroll: {table.text[:60]}"
    if any("heat" in table.classes for table in page.find("table")) and not re.search(
        r"\.heat \{ width: 100%; table-layout: fixed", style
    ):
        yield "heat maps are not as wide as the page"

    # Images shrink, and no length in the styles is wider than the telephone
    rules = r"figure img \{[^}]*max-width: 100%", r"\.strips img \{[^}]*width: 100%"
    if page.find("img") and not re.search(rules[0], style):
        yield "images do not shrink"
    for one in page.find("img"):
        if not any(around.tag == "figure" for around in _list_around(one)):
            yield "image outside of a figure"
    for prop, length, unit in re.findall(
        r"(?<![\w-])((?:min-)?width|minmax\(|flex-basis)[:\s]*([\d.]+)(rem|px)", style
    ):
        pixels = float(length) * (REM_PIXELS if unit == "rem" else 1)
        if pixels > TELEPHONE_PIXELS - 2 * REM_PIXELS:
            yield f"{prop} {length}{unit} is wider than a telephone"


def _list_around(one: Element) -> Iterator[Element]:
    while one.parent is not None:
        one = one.parent
        yield one


def read_palette(html: str) -> dict[str, dict[str, str]]:
    """Return the colours of a page by their names, under "light" and "dark"."""
    style = read_page(html).find("style")[0].text
    blocks = [
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    return {"light": blocks[0], "dark": blocks[0] | blocks[1]}


def mix(first: str, second: str, share: float) -> str:
    """Return the colour with a share of the first colour, as CSS's color-mix(in srgb)."""
    pairs = zip(_split(first), _split(second), strict=True)
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def measure_contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2, relative luminance)."""
    high, low = sorted((_measure_luminance(first), _measure_luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _measure_luminance(colour: str) -> float:
    parts = [value / 255 for value in _split(colour)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _split(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
