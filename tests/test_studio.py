"""The studio answers its own user alone, and shows what is in the store."""

import re
from pathlib import Path

import numpy as np
import pytest
from worlds import CLASSES

pytest.importorskip("fastapi", reason="needs the extra mien[studio]")
from starlette.testclient import TestClient

from mien.api import keep_faces
from mien.faces import Faces
from mien.runs.store import Store
from mien.studio.app import make_app
from mien.studio.pages import PAGES

TOKEN = "a-token-of-the-tests"
HERE = "http://127.0.0.1:8712"


def draw_faces(count: int, licence: str = "cc0", synthetic: bool = False) -> Faces:
    """Return drawn images of noise, which are enough to be looked at."""
    images = np.random.default_rng(count).integers(0, 255, (count, 24, 24), dtype=np.uint8)
    labels = [CLASSES[number % len(CLASSES)] for number in range(count)]
    subjects = [f"s{number % 7}" for number in range(count)]
    return Faces.from_arrays(
        images, labels, subjects=subjects, licence=licence, synthetic=synthetic
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a free set and one whose licence is not known."""
    home = Store(tmp_path_factory.mktemp("studio") / "store")
    keep_faces(draw_faces(60), "free", store=home)
    keep_faces(draw_faces(40, "unknown"), "bound", store=home)
    return home


def open_client(store: Store, **options: bool) -> TestClient:
    """Return a browser that has opened the printed address."""
    client = TestClient(make_app(store, token=TOKEN, **options), base_url=HERE)
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    return client


@pytest.fixture(scope="module")
def client(store: Store) -> TestClient:
    """A browser that has opened the printed address."""
    return open_client(store)


def read_secret(client: TestClient) -> str:
    """Return the secret that a page gives to its forms."""
    found = re.search(r'name="csrf" content="([0-9a-f]+)"', client.get("/").text)
    assert found
    return found[1]


def test_every_page_answers_with_one_heading_and_a_strict_policy(client: TestClient):
    assert {page.title for page in PAGES} >= {"Overview"}
    for page in PAGES:
        answer = client.get(page.path)
        assert answer.status_code == 200 and answer.text.count("<h1") == 1
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=|https?://", answer.text)


def test_only_the_token_opens_the_studio(store: Store):
    stranger = TestClient(make_app(store, token=TOKEN), base_url=HERE)
    for address in ("/", "/?token=", "/?token=wrong", "/static/studio.js"):
        answer = stranger.get(address)
        assert answer.status_code == 403 and TOKEN not in answer.text
    assert not stranger.cookies


def test_other_hosts_and_pages_of_other_sites_are_refused(client: TestClient):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/", headers={"host": "127.0.0.1.evil.example:8712"}).status_code == 400
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert client.get("/", headers={"origin": origin}).status_code == 403
    assert client.get("/", headers={"origin": HERE}).status_code == 200


def test_a_post_needs_the_secret_of_the_page(client: TestClient, store: Store):
    stop, secret = "/runs/generate-000000000000/stop", read_secret(client)
    assert client.post(stop).status_code == 403
    assert client.post(stop, data={"csrf": "wrong"}).status_code == 403
    for answer in (
        client.post(stop, headers={"x-csrf-token": secret}),
        client.post(stop, data={"csrf": secret}),
    ):
        assert answer.status_code == 404 and "being made now" in answer.text
    reader = open_client(store, read_only=True)
    refused = reader.post(stop, headers={"x-csrf-token": secret})
    assert refused.status_code == 403 and "--read-only" in refused.text
    assert client.put("/").status_code == 405


def test_pictures_are_found_by_run_and_position_alone(client: TestClient, store: Store):
    run = store.resolve("free")
    assert client.get(f"/image/{run}/0").headers["content-type"] == "image/png"
    assert client.get(f"/image/{run}/60").status_code == 404
    for trick in ("..%2f..%2fetc", "free", "aliases", ".", run[:-1], "%00"):
        assert client.get(f"/image/{trick}/0").status_code == 404
    for trick in ("../studio.py", "..%2f..%2fapp.py", "%2e%2e/%2e%2e/app.py"):
        assert client.get(f"/static/{trick}").status_code in (404, 405)
    assert client.get(f"/sheet/{run}?at=0,1,59").status_code == 200
    assert client.get(f"/sheet/{run}?at=0,60").status_code == 404
    assert client.get(f"/sheet/{run}?at=-1").status_code == 400


def test_faces_without_a_free_licence_are_hidden_and_never_kept(client: TestClient, store: Store):
    free, bound = store.resolve("free"), store.resolve("bound")
    assert "immutable" in client.get(f"/image/{free}/0").headers["cache-control"]
    assert client.get(f"/image/{bound}/0").status_code == 403
    hidden = client.get(f"/sheet/{bound}?at=0,1")
    assert hidden.headers["cache-control"] == "no-store"
    shown = open_client(store, real_faces=True).get(f"/image/{bound}/0")
    assert shown.status_code == 200 and shown.headers["cache-control"] == "no-store"
    assert open_client(store, real_faces=False).get(f"/image/{free}/0").status_code == 403


def test_a_taken_port_is_named_with_what_to_do(tmp_path: Path):
    import socket

    from worlds import run_inside

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        code, text = run_inside(tmp_path, "studio", "--no-open", "--port", port)
    assert code == 2 and "--port 0" in text
