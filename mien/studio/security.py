"""Who may ask the studio for anything: its user, from its own pages.

A page of another site, which the same browser shows, must not read or change anything. It knows
neither the token nor the cookie, which is sent to the studio's own pages only (SameSite=Strict).
The host is checked, so that a name of another site that leads to this machine is refused (DNS
rebinding), and so is the origin of each request that has one.
"""

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mien.studio.base import Studio

OWN_HOSTS = ("127.0.0.1", "localhost")

UPLOAD_BYTES = 32 * 2**20  # of one request

SAFE_METHODS = ("GET", "HEAD")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: its own files only, and no script or style within the page."""

SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

REFUSAL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not allowed: mien studio</title></head>
<body><main><h1>Not allowed</h1><p>{}</p></main></body></html>
"""

NO_TOKEN = (
    "Open the address that <code>mien studio</code> printed when it started; it holds the token of "
    "this session. If it stands in this address, the studio was started again since."
)


class Guard:
    """An ASGI application that lets only allowed requests through, and adds SECURITY_HEADERS."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self.app, self.studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of HTTP; other protocols are refused."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        # Every answer has the headers, and is kept nowhere unless it says otherwise
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self.find_refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, _limit_body(receive), send_with_headers)

    def find_refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that must not pass, or None if it may.

        A request with the right token is answered with the cookie, and with the same address
        without the token.
        """
        # The studio's own name, and its own pages
        headers, method = Headers(scope=scope), scope["method"]
        host = headers.get("host", "")
        if host.rpartition(":")[0] not in OWN_HOSTS and host not in OWN_HOSTS:
            return _refuse("The studio answers only to 127.0.0.1 and localhost.", 400)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _refuse("This request comes from a page of another site.")
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and (
            method not in SAFE_METHODS
        ):
            return _refuse("This request comes from a page of another site.")

        # The token, once
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if given and method in SAFE_METHODS:
            if not _are_equal(given[0], self.studio.token):
                return _refuse(NO_TOKEN)
            return self._begin_session(scope, [pair for pair in query if pair[0] != "token"])
        if not _are_equal(self._read_session(headers), self.studio.session):
            return _refuse(NO_TOKEN)

        # Changes
        if method not in (*SAFE_METHODS, "POST"):
            return _refuse("The studio answers GET and POST.", 405)
        if method == "POST" and self.studio.read_only:
            return _refuse("This studio was started with --read-only, and changes nothing.")
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > UPLOAD_BYTES:
            return _refuse(f"A request must be at most {UPLOAD_BYTES >> 20} MB.", 413)
        return None

    def _begin_session(self, scope: Scope, query: list[tuple[str, str]]) -> Response:
        """Return the answer that sets the cookie and leads to the address without the token."""
        path = "/" + scope["path"].lstrip("/\\")  # never the address of another host
        answer = RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303)
        answer.set_cookie(
            self.studio.cookie, self.studio.session, httponly=True, samesite="strict", path="/"
        )
        return answer

    def _read_session(self, headers: Headers) -> str:
        """Return the content of this studio's cookie, empty if the browser sent none."""
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        return cookies[self.studio.cookie].value if self.studio.cookie in cookies else ""


def _are_equal(given: str, secret: str) -> bool:
    """Compare two texts in a time that does not tell how much of them is equal."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _refuse(reason: str, status: int = 403) -> Response:
    return HTMLResponse(REFUSAL.format(reason), status)


def _limit_body(receive: Receive) -> Receive:
    """Return `receive`, which ends a body of more than UPLOAD_BYTES without a stated length."""
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if received > UPLOAD_BYTES else message

    return receive_some
