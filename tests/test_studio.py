"""The studio answers its own user alone, and shows what is in the store."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from studios import HERE, TOKEN, make_store, open_client

from mien.api import keep_faces
from mien.faces import Faces
from mien.runs.store import Store
from mien.studio.app import make_app
from mien.studio.pages import PAGES


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The small store, made once."""
    return make_store(tmp_path_factory.mktemp("studio"))


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
    run = store.resolve("faces")
    assert client.get(f"/image/{run}/0").headers["content-type"] == "image/png"
    assert client.get(f"/image/{run}/96").status_code == 404
    for trick in ("..%2f..%2fetc", "aliases", "faces", ".", run[:-1], "%00"):
        assert client.get(f"/image/{trick}/0").status_code == 404
    for trick in ("../studio.py", "..%2f..%2fapp.py", "%2e%2e/%2e%2e/app.py"):
        assert client.get(f"/static/{trick}").status_code in (404, 405)
    assert client.get(f"/sheet/{run}?at=0,1,95").status_code == 200
    assert client.get(f"/sheet/{run}?at=0,96").status_code == 404
    assert client.get(f"/sheet/{run}?at=-1").status_code == 400


def test_faces_without_a_free_licence_are_hidden_and_never_kept(client: TestClient, store: Store):
    free, bound = store.resolve("faces"), store.resolve("bound")
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


# The gallery


def read_order(client: TestClient, query: str) -> list[int]:
    """Return the positions that a gallery shows, in their order."""
    answer = client.get(f"/gallery/order?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()["positions"]


def test_a_gallery_filters_by_class_subject_split_and_flag(client: TestClient, store: Store):
    index = pd.read_parquet(store.run("faces").path / "index.parquet")
    assert read_order(client, "set=faces") == list(range(96))
    happy = np.flatnonzero(index["emotion"] == "happiness").tolist()
    assert read_order(client, "set=faces&emotion=happiness") == happy
    of_one = read_order(client, "set=faces&emotion=happiness&subject=blobs:s1")
    assert of_one and set(index["subject"][of_one]) == {"blobs:s1"}
    sides = [set(read_order(client, f"set=faces&split=fold-{side}")) for side in ("train", "test")]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 96
    assert len(read_order(client, "set=synthetic&flag=is_copy")) > 10
    refused = client.get("/gallery/order?set=faces&flag=is_copy")
    assert refused.status_code == 400 and "no flag" in refused.text


def test_a_gallery_sorts_by_any_number_of_the_audit_and_prints_it(client: TestClient, store: Store):
    rows = pd.read_parquet(store.run("audit").path / "rows.parquet")
    answer = client.get("/gallery/order?set=synthetic&sort=distance").json()
    distances = rows["distance"].to_numpy()[answer["positions"]]
    assert (np.diff(distances) >= 0).all() and len(distances) == 40
    assert answer["values"] == [f"{distance:.4g}" for distance in distances]
    turned = read_order(client, "set=synthetic&sort=distance&descending=1")
    assert (np.diff(rows["distance"].to_numpy()[turned]) <= 0).all()
    page = client.get("/gallery?set=synthetic&sort=distance").text
    first = answer["positions"][0]
    assert page.index(f"/image/{store.resolve('synthetic')}/{first}?") > 0
    assert "distance to the nearest training face" in page


def test_tags_are_kept_in_the_store_and_undone_in_turn(client: TestClient, store: Store):
    secret = {"x-csrf-token": read_secret(client)}

    def tag(positions: list[int], add: bool = True, name: str = "odd") -> str:
        change = {"set": "faces", "positions": positions, "tag": name, "add": add}
        return client.post("/gallery/tags", json=change, headers=secret).text

    assert "3 images tagged" in tag([5, 6, 7])
    assert "1 image tagged" in tag([7, 8])  # the seventh has it already
    assert read_order(client, "set=faces&tag=odd") == [5, 6, 7, 8]
    assert "2 images no longer" in tag([5, 8], add=False)
    assert read_order(open_client(store), "set=faces&tag=odd") == [6, 7]  # another session
    for left in ([5, 6, 7, 8], [5, 6, 7], []):
        assert client.post("/gallery/undo", json={}, headers=secret).status_code == 200
        if left:
            assert read_order(client, "set=faces&tag=odd") == left
    assert client.post("/gallery/undo", json={}, headers=secret).status_code == 400
    assert "printable" in tag([1], name="x" * 41) and "select one" in tag([96])


def test_a_selection_becomes_a_list_a_run_or_a_folder(
    client: TestClient, store: Store, tmp_path: Path
):
    secret = {"x-csrf-token": read_secret(client)}

    def export(name: str, to: str, words: str = "", positions: tuple[int, ...] = (3, 1)) -> str:
        wanted = {"set": name, "positions": positions, "to": to, "name": words}
        return client.post("/gallery/export", json=wanted, headers=secret).text

    rows = export("synthetic", "list").splitlines()
    assert rows[0].startswith("key,emotion,") and "distance" in rows[0] and len(rows) == 3
    assert "2 images are the run arrays-" in export("faces", "run", "chosen")
    keys = pd.read_parquet(store.run("faces").path / "index.parquet")["key"]
    chosen = pd.read_parquet(store.run("chosen").path / "index.parquet")["key"]
    assert list(chosen) == [keys[1], keys[3]]
    copies = tuple(read_order(client, "set=synthetic&flag=is_copy")[:2])
    kept = export("synthetic", "folder", str(tmp_path / "out"), copies)
    assert "copies of training faces, which leave the store only" in kept
    assert "real faces leave the store only" in export("faces", "folder", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_gallery_of_20000_images_is_answered_quickly(tmp_path: Path):
    import time

    from worlds import blobs

    places = np.arange(20_000) % 96
    small = blobs()
    rows = small.index.take(places.tolist()).reset_index(drop=True)
    keys = [f"many/{number}" for number in range(20_000)]
    many = Faces(small.images[places], rows.assign(key=keys))
    store = Store(tmp_path / "store")
    name = keep_faces(many, "many", store=store).run
    assert name is not None
    client = open_client(store)
    client.get("/gallery?set=many")  # opens the set
    at = ",".join(str(place) for place in range(0, 20_000, 84))
    requests = (
        "/gallery?set=many",
        "/gallery/order?set=many&sort=subject",
        f"/gallery/facts?set=many&at={at}",
        f"/sheet/{name.name}?at={at}",
    )
    for request in requests:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            assert client.get(request).status_code == 200
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < 0.5, request  # 0.1 on a free machine


def test_a_clip_shows_its_moments_side_by_side(client: TestClient, store: Store):
    import io

    from PIL import Image

    def read_size(address: str) -> tuple[int, int]:
        return Image.open(io.BytesIO(client.get(address).content)).size

    clips = store.resolve("clips")
    assert read_size(f"/image/{clips}/0") == (32, 32)
    assert read_size(f"/moments/{clips}/0") == (96, 32)
    facts = client.get("/gallery/facts?set=clips&at=0").json()
    assert facts[0][2] == 3


# Comparisons


def test_a_comparison_shows_the_nearest_faces_first_and_their_difference(
    client: TestClient, store: Store
):
    page = client.get("/compare?set=synthetic").text
    order = read_order(client, "set=synthetic&sort=distance")
    shown = [int(place) for place in re.findall(r"/gallery/image\?set=[^&]*&amp;at=(\d+)", page)]
    assert shown == order[:12] and page.count(">copy</b>") > 0
    assert "searching" in page
    searched = client.get("/compare?set=synthetic&held_out=1").text
    assert "searching" not in searched
    assert searched.count(f'src="/image/{store.resolve("fold-test")}/') == 12
    train = store.resolve("fold-train")
    difference = re.findall(r'src="(/difference/[^"]*)"', page)
    assert len(difference) == 12 and train in difference[0]
    answer = client.get(difference[0].replace("&amp;", "&"))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    assert "No audit has compared" in client.get("/compare?set=bound").text


def test_two_sets_stand_side_by_side_by_class(client: TestClient):
    page = client.get("/compare?set=synthetic&other=faces").text
    assert page.count("<h2>") == 4 and "at the same place" in page
    same = client.get("/compare?set=synthetic&other=synthetic").text
    assert "from the same seed" in same


def test_a_comparison_hides_real_faces_whose_licence_is_not_free(store: Store):
    page = open_client(store, real_faces=False).get("/compare?set=synthetic").text
    assert "/difference/" not in page and "/image/" not in page
    assert page.count("not shown") > 35 and "--no-real-faces" in page


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    from worlds import run_inside

    for name in [name for name in sys.modules if name.startswith("mien.studio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, text = run_inside(tmp_path, "studio", "--no-open")
    assert code == 2 and "pip install 'mien[studio]'" in text
