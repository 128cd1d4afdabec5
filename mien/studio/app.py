"""The application of the studio: pages, pictures and static files."""

from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from mien.errors import DataError, MienError, StoreError
from mien.runs.store import Store
from mien.studio import images, tasks
from mien.studio.base import Studio, render_page, require_csrf
from mien.studio.pages import PAGES
from mien.studio.security import Guard

STATIC_FILES = Path(__file__).parent / "static"


def make_app(
    store: Store, *, token: str, read_only: bool = False, real_faces: bool | None = None
) -> FastAPI:
    """Return the application of a studio over a store.

    It answers only requests that come with `token`, or with the cookie that is given in return.
    `real_faces`: True shows all real faces, False none, None those with a free licence.
    """
    # No page that describes the requests: it would load scripts of other hosts
    app = FastAPI(
        openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(require_csrf)]
    )
    studio = Studio(store, token, read_only, real_faces)
    app.state.studio = studio

    # The pages
    studio.navigation = sorted(PAGES, key=lambda page: page.order)
    for page in PAGES:
        app.include_router(page.router)
    app.include_router(images.router)
    app.include_router(tasks.router)
    app.mount("/static", StaticFiles(directory=STATIC_FILES), name="static")

    # Faults
    app.add_exception_handler(MienError, _explain_mien_error)
    app.add_exception_handler(HTTPException, _explain_http_error)
    app.add_exception_handler(RequestValidationError, _explain_wrong_request)
    app.add_middleware(Guard, studio=studio)
    return app


def _explain_mien_error(request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, StoreError | DataError) else 400
    return _explain(request, str(error), status)


def _explain_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "There is no such page." if error.detail == "Not Found" else str(error.detail)
    return _explain(request, text, error.status_code)


def _explain_wrong_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    texts = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
    return _explain(request, f"This request cannot be read. {'; '.join(texts)}", 400)


def _explain(request: Request, text: str, status: int) -> Response:
    """Return the page that says what went wrong."""
    return render_page(request, "message.html", status=status, text=text)
