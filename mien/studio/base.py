"""What the pages of the studio share: its state, and how a page is written."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import HTMLResponse

from mien import __version__
from mien.pages.html import load_templates
from mien.runs.contents import describe_content
from mien.runs.store import Run, Store
from mien.studio.sets import Library
from mien.studio.tags import Tags

STUDIO_TEMPLATES = Path(__file__).parent / "templates"

CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"


@dataclass(frozen=True)
class StudioPage:
    """A page of the studio: its `title` in the navigation, its `path`, the `order` in which the
    navigation names it, and the `router` with its requests.
    """

    title: str
    path: str
    order: int
    router: APIRouter


@dataclass
class Studio:
    """The state of a studio: the store that it shows, and how it is protected.

    `real_faces` says whether real faces are shown: True and False decide it, None shows those whose
    licences let everybody show them. `navigation` are the pages in their order.
    """

    store: Store
    token: str
    read_only: bool = False
    real_faces: bool | None = None
    navigation: Sequence[StudioPage] = ()
    library: Library = field(init=False)
    tags: Tags = field(init=False)

    def __post_init__(self) -> None:
        self.tags = Tags(self.store)
        self.library = Library(self.store, self.real_faces)

    def derive_secret(self, purpose: str) -> str:
        """Return a secret for one purpose, from which nobody can find the token."""
        return hmac.new(self.token.encode(), purpose.encode(), hashlib.sha256).hexdigest()

    @cached_property
    def csrf(self) -> str:
        """The secret that each POST must send, as the field `csrf` or the header X-CSRF-Token."""
        return self.derive_secret("csrf")

    @cached_property
    def session(self) -> str:
        """The content of the cookie of a browser that came with the token."""
        return self.derive_secret("session")

    @cached_property
    def cookie(self) -> str:
        """The name of the cookie, which differs between studios on one machine."""
        return f"mien-studio-{self.derive_secret('cookie')[:8]}"


def make_token() -> str:
    """Return a new random token for the address of a studio."""
    return secrets.token_urlsafe(24)


def get_studio(request: Request) -> Studio:
    """Return the studio that a request is for."""
    return request.app.state.studio


Here = Annotated[Studio, Depends(get_studio)]
"""The studio, as a parameter of the functions that answer requests."""


async def require_csrf(request: Request) -> None:
    """Refuse a POST that does not come from a page of this studio."""
    if request.method != "POST":
        return
    sent = request.headers.get(CSRF_HEADER, "")
    if not sent and "form" in request.headers.get("content-type", ""):
        value = (await request.form()).get(CSRF_FIELD, "")
        sent = value if isinstance(value, str) else ""
    if not hmac.compare_digest(sent.encode(), get_studio(request).csrf.encode()):
        raise HTTPException(
            403, "This page is out of date, so that nothing was changed. Load it again."
        )


def render_page(
    request: Request, template: str, *, status: int = 200, **content: Any
) -> HTMLResponse:
    """Return a page, or a part of one, that a template of mien/studio/templates makes of
    `content`.

    Every template also has `csrf`, `navigation`, `path`, `read_only`, `store_folder` and `version`.
    """
    studio = get_studio(request)
    common = {
        "csrf": studio.csrf,
        "navigation": studio.navigation,
        "path": request.url.path,
        "read_only": studio.read_only,
        "store_folder": str(studio.store.root),
        "version": __version__,
    }
    page = load_templates(STUDIO_TEMPLATES).get_template(template)
    return HTMLResponse(page.render({**common, **content}), status_code=status)


def list_set_choices(studio: Studio) -> list[dict[str, str]]:
    """Return the name of each run of faces with a title: its alias, or its own name, and what it
    holds.
    """
    alias_of = {run: alias for alias, run in studio.store.read_aliases().items()}
    choices = []
    for name in studio.library.list_sets():
        holds = describe_content(Run(name, studio.store.root / "runs" / name))
        choices.append({"name": name, "title": f"{alias_of.get(name, name)}: {holds}"})
    return choices


def is_partial(request: Request) -> bool:
    """Whether HTMX asks for a part of a page, not for the whole page."""
    return request.headers.get("hx-request") == "true"
