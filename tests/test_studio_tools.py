"""The pages that make and measure: they show what is in the store, and refuse what they must."""

import io
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra mien[studio]")
from starlette.testclient import TestClient
from studio_rooms import fill_store, name_run, open_studio, read_secret

from mien.audit.face_maps import read_map
from mien.audit.labels.review import read_decisions
from mien.faces import Faces
from mien.generators.orders import order_database
from mien.generators.shard_files import get_shard_path, write_shard
from mien.publish.origin import trace_origin
from mien.publish.questions import Answers, read_answers
from mien.runs import commands
from mien.runs.spec import read_spec, read_toml
from mien.runs.store import Store

PATH_TRICKS = ("..%2f..%2fetc", "%2e%2e", "made%00", "generate-0123456789ab", "nobody", "train")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Store:
    return fill_store(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module")
def client(store: Store) -> TestClient:
    return open_studio(store)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[str]]]:
    """The words of commands that a page starts, which end at once."""
    words: list[list[str]] = []
    processes = []
    begin = commands.subprocess.Popen

    def begin_nothing(line: list[str], **options: Any) -> Any:
        words.append(line[3:])
        processes.append(begin([commands.sys.executable, "-c", ""], **options))
        return processes[-1]

    monkeypatch.setattr(commands.subprocess, "Popen", begin_nothing)
    yield words
    for process in processes:
        process.wait()


def post(client: TestClient, path: str, **fields: str) -> tuple[int, str]:
    """Send a form; return the status of the page that follows, and its text."""
    answer = client.post(path, data={"csrf": read_secret(client), **fields})
    return answer.status_code, answer.text


@pytest.mark.parametrize("room", ["map", "generate", "review", "audit", "study", "release", "try"])
def test_each_page_lists_what_the_store_holds(client: TestClient, room: str):
    text = client.get(f"/{room}").text
    expected = {
        "map": "map",
        "generate": "drawer",
        "review": "queue",
        "audit": "audit",
        "study": "broken",
        "release": "made",
        "try": "learnt from train",
    }
    assert text.count("<h1") == 1 and expected[room] in text
    assert not re.search(r"<script(?![^>]*src=)|style=|\son[a-z]+=|https?://", text)


@pytest.mark.parametrize("room", ["map", "review", "audit", "study", "release"])
@pytest.mark.parametrize("name", PATH_TRICKS)
def test_other_names_have_a_message_and_no_page(client: TestClient, room: str, name: str):
    answer = client.get(f"/{room}/{name}")
    assert answer.status_code in (400, 404) and "Traceback" not in answer.text
    assert answer.text.count("<h1") == 1 and "root:" not in answer.text


@pytest.mark.parametrize(
    "path", ["/map", "/generate", "/review", "/audit", "/release/made", "/study/broken/run", "/try"]
)
def test_a_form_without_the_secret_and_a_studio_that_only_reads_change_nothing(
    client: TestClient, store: Store, started: list[list[str]], path: str
):
    forged = client.post(path, data={"synthetic": "made", "faces": "train", "csrf": "0" * 64})
    reader = open_studio(store, read_only=True)
    refused = reader.post(path, data={"csrf": read_secret(reader), "synthetic": "made"})
    assert forged.status_code == refused.status_code == 403 and started == []
    assert 'method="post"' not in reader.get(path.rpartition("/")[0] or path).text


# Map


def test_a_map_answers_with_every_point_and_its_picture(client: TestClient, store: Store):
    run = name_run(store, "map")
    page = client.get(f"/map/{run}").text
    found = read_map(store.run("map"))
    answer = client.get(f"/map/{run}/points").json()
    assert len(answer["x"]) == len(found.points) == len(answer["hidden"])
    first = found.points.iloc[0]
    assert answer["sides"][answer["side"][0]] == first["side"]
    assert answer["runs"][answer["run"][0]] == first["run"]
    assert answer["x"][0] == pytest.approx(first["x"], rel=1e-3)
    assert not any(answer["hidden"]) and "judge" in page and "held-out (" in page
    assert client.get(f"/map/{run}/picture.svg").text.count("<svg") == 1

    # Faces whose licence nobody knows are points without a picture
    hidden = open_studio(store, real_faces=False).get(f"/map/{run}/points").json()["hidden"]
    assert hidden == [side != "synthetic" for side in found.points["side"]]


def test_a_new_map_is_made_by_the_command_that_the_page_names(
    client: TestClient, store: Store, started: list[list[str]]
):
    status, _ = post(client, "/map", synthetic="made", space="random")
    made = name_run(store, "made")
    assert status == 200
    assert started == [["map", made, "--space", "random", "--store", str(store.root)]]
    status, text = post(client, "/map", synthetic="made", space="inner")
    assert status == 400 and "must be" in text
    status, text = post(client, "/map", synthetic="train", space="random")
    assert status == 400 and "is not known which faces" in text


# Generate


def test_the_form_shows_the_command_and_starts_it(
    client: TestClient, store: Store, started: list[list[str]]
):
    page = client.get("/generate?generator=drawer&counts=each:3&seed=5&alias=more").text
    generator = name_run(store, "drawer")
    words = ["generate", generator, "--counts", "each:3", "--seed", "5", "--as", "more"]
    assert " ".join(["mien", *words]) in page
    status, _ = post(
        client, "/generate", generator=generator, counts="each:3", seed="5", alias="more"
    )
    assert status == 200 and started == [[*words, "--store", str(store.root)]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counts": "many"}, "counts must be"),
        ({"counts": "each:0"}, "whole number above 0"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"guidance": "strong"}, "guidance must be a number"),
        ({"steps": "3"}, "steps and guidance do not apply"),
        ({"sampler": "heun"}, "cannot use the sampler"),
        ({"alias": "../x"}, "an alias must be"),
        ({"generator": "faces"}, "is not a trained generator"),
        ({"generator": "nobody"}, "there is no run or alias"),
    ],
)
def test_a_form_that_cannot_be_drawn_says_why_and_starts_nothing(
    client: TestClient, started: list[list[str]], fields: dict[str, str], message: str
):
    status, text = post(client, "/generate", **{"generator": "drawer", "counts": "each:2"} | fields)
    assert status in (400, 404) and message in text and started == []


def test_what_is_drawn_so_far_is_shown(client: TestClient, store: Store):
    spec = order_database(store.run("drawer"), "each:9", store)
    total = sum(spec.counts.values())
    store.note_spec(spec)
    scratch = store.make_scratch(spec.name)
    write_shard(get_shard_path(scratch, slice(0, 8)), np.full((8, 1, 24, 24), 200, np.uint8))
    page = client.get("/generate?generator=drawer&counts=each:9").text
    assert f"8 of {total} images are drawn" in page
    picture = client.get(f"/generate/preview/{spec.name}")
    assert picture.headers["content-type"] == "image/png"
    assert np.asarray(Image.open(io.BytesIO(picture.content))).max() == 200
    assert client.get("/generate/preview/generate-0123456789ab").status_code == 404
    assert client.get("/generate/preview/..%2f..%2fx").status_code == 404


def test_a_finished_database_is_shown(client: TestClient, store: Store):
    page = client.get("/generate?generator=drawer&counts=each:4").text
    assert "12 images, finished" in page and f"/sheet/{name_run(store, 'made')}?at=0," in page


# Tasks


def test_a_command_is_watched_stopped_and_continued(
    client: TestClient, store: Store, started: list[list[str]]
):
    run = "generate-aaaaaaaaaaaa"
    commands.start_command(run, ["generate", "drawer"], store)
    for _ in range(100):
        if client.get(f"/tasks/{run}", headers={"HX-Request": "true"}).headers.get("HX-Refresh"):
            break
        time.sleep(0.05)
    page = client.get(f"/tasks/{run}?back=/generate").text
    assert "stopped" in page and "mien generate drawer --store" in page and "Continue" in page
    status, _ = post(client, f"/tasks/{run}/continue", back="/generate")
    assert status == 200 and started[1] == started[0]
    assert post(client, f"/tasks/{run}/stop", back="https://elsewhere.example/")[0] == 200
    answer = client.post(
        f"/tasks/{run}/stop",
        data={"csrf": read_secret(client), "back": "//elsewhere.example/"},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/"
    assert client.get("/tasks/generate-bbbbbbbbbbbb").status_code == 404
    assert client.get("/tasks/..%2fx").status_code in (400, 404)


# Review


def test_decisions_are_saved_and_undone(client: TestClient, store: Store):
    queue = name_run(store, "queue")
    assert "Who reviews?" in client.get(f"/review/{queue}").text
    page = client.get(f"/review/{queue}?reviewer=ada").text
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key and "0 of 12 decided" in page and "Image 1: is this" in page

    # The next image follows; a relabel and a rejection come back as the library takes them
    status, text = post(
        client, f"/review/{queue}", reviewer="ada", key=key[1], answer="sadness", at="0"
    )
    assert status == 200 and "1 of 12 decided" in text and "Image 2: is this" in text
    second = re.search(r'name="key" value="([^"]+)"', text)
    assert second
    post(client, f"/review/{queue}", reviewer="ada", key=second[1], answer="reject", at="1")
    table = read_decisions(store.root / "reviews" / queue / "ada.csv")
    assert set(table.table["key"]) == {key[1], second[1]}
    status, text = post(client, f"/review/{queue}", reviewer="ada", answer="undo", at="7")
    assert "1 of 12 decided" in text and "Image 2: is this" in text

    # Without a place, the first undecided image is shown
    assert "Image 2: is this" in client.get(f"/review/{queue}?reviewer=ada").text

    # Another reviewer agrees on the one image that both decided
    post(client, f"/review/{queue}", reviewer="ben", key=key[1], answer="sadness", at="0")
    page = client.get(f"/review/{queue}?reviewer=ben").text
    row = re.search(r'<th scope="row">ada</th><td>(\d+)</td><td>(\d+)</td><td>([^<]+)<', page)
    assert row and row.groups() == ("1", "1", "cannot tell")


def test_a_wrong_decision_or_name_has_a_message(client: TestClient, store: Store):
    queue = name_run(store, "queue")
    status, text = post(client, f"/review/{queue}", reviewer="ada", key="x", answer="anger", at="0")
    assert status == 400 and "has no image &#39;x&#39;" in text
    for name in ("../../x", ".", "a b"):
        answer = client.get(f"/review/{queue}", params={"reviewer": name})
        assert answer.status_code == 400 and "name of a reviewer must be" in answer.text
    assert not list(store.root.glob("*.csv"))


def test_a_queue_of_synthetic_faces_needs_judges(
    client: TestClient, store: Store, started: list[list[str]]
):
    status, text = post(client, "/review", faces="train", number="five")
    assert status == 400 and "must be a whole number" in text and started == []

    # People whom the generator never saw, if nobody is chosen
    words = ["review", "queue", name_run(store, "made"), "--number", "5", "--store-only"]
    for judges, expected in (("train", "train"), ("", name_run(store, "test"))):
        assert post(client, "/review", faces="made", judges=judges, number="5")[0] == 200
        assert started.pop() == [*words, "--judges", expected, "--store", str(store.root)]


# Audit, study, release


def test_an_audit_shows_each_check_with_number_limit_and_reason(client: TestClient, store: Store):
    run = store.run("audit")
    content = run.read_json("audit.json")
    page = client.get(f"/audit/{run.name}").text
    assert all(check["name"] in page for check in content["checks"])
    assert "One is enough." in page and "95 %" in page
    assert all(question["title"] in page for question in content["questions"])


def test_an_audit_is_started_with_the_sides_that_the_store_knows(
    client: TestClient, store: Store, started: list[list[str]]
):
    assert post(client, "/audit", synthetic="made")[0] == 200
    names = [name_run(store, name) for name in ("made", "train", "test")]
    words = ["audit", names[0], "--train", names[1], "--test", names[2]]
    assert started == [[*words, "--store", str(store.root)]]
    status, text = post(client, "/audit", synthetic="made", train="nobody")
    assert status == 400 and "there is no run" in text


def test_a_study_shows_cells_beside_controls_and_failures_with_their_error(
    client: TestClient, store: Store, started: list[list[str]]
):
    done, broken = name_run(store, "done"), name_run(store, "broken")
    page = client.get(f"/study/{done}").text
    assert "4 of 4 trials done" in page and "constant answer" in page and "Scores" in page
    charts = re.findall(r'src="(/study/[^"]+\.svg)', page)
    assert charts and client.get(charts[0]).text.count("<svg") == 1
    assert client.get(f"/study/{done}/chart/99.svg").status_code == 404
    page = client.get(f"/study/{broken}").text
    assert "the loss is &lt;b&gt;not&lt;/b&gt; a number" in page and "Try again" in page
    assert post(client, f"/study/{broken}/run")[0] == 200
    assert started == [["study", "run", broken, "--store", str(store.root)]]


def test_a_release_shows_its_gates_and_writes_the_answers(client: TestClient, store: Store):
    made = name_run(store, "made")
    page = client.get(f"/release/{made}").text
    assert all(f'<th scope="row">{gate}</th>' in page for gate in ("audit", "licence", "sources"))
    path = store.root / "releases" / made / "dataset.toml"
    assert not path.exists() and "open" in page

    # What was written comes back, in the form and for the library
    answers = {
        "dataset.title": 'Faces of "nobody"\x7f',
        "dataset.authors": "Lovelace, Ada\nHopper, Grace",
        "dataset.test_share": "0.2",
        "dataset.date": "2026-11-28",
        "people.shown": "Eight drawn people.\nNobody real.",
    }
    status, page = post(client, f"/release/{made}", **answers)
    assert status == 200 and "The answers are saved" in page
    stored = read_spec(Answers, read_toml(path), "dataset.toml")
    assert stored.dataset.title == 'Faces of "nobody"\x7f' and stored.dataset.test_share == 0.2
    assert stored.dataset.authors == ("Lovelace, Ada", "Hopper, Grace")
    assert stored.people.shown == "Eight drawn people.\nNobody real."
    assert "Hopper, Grace" in client.get(f"/release/{made}").text
    with pytest.raises(Exception, match=r"uses\.intended"):
        read_answers(path, trace_origin(made, store))

    # A reason that a person wrote stays; a wrong answer is refused, and is not lost
    reason = {
        "gate": "audit",
        "reason": "These faces are drawn, and show nobody.",
        "by": "Ada",
        "date": "2026-11-28",
        "reference": "letter 7",
    }
    lines = "\n".join(f'{name} = "{text}"' for name, text in reason.items())
    path.write_text(f"{path.read_text()}\n[[override]]\n{lines}\n")
    status, page = post(client, f"/release/{made}", **answers | {"dataset.date": "soon"})
    assert status == 400 and "must be a day" in page and 'value="soon"' in page
    post(client, f"/release/{made}", **answers)
    stored = read_spec(Answers, read_toml(path), "dataset.toml")
    assert [one.gate for one in stored.override] == ["audit"]
    assert "opened by a reason" in client.get(f"/release/{made}").text or "letter 7" in page


# Try


def encode(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def test_a_picture_is_named_in_memory(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
):
    (classifier,) = (name for name in store.list_names() if name.startswith("judge-"))
    fields = {"csrf": read_secret(client), "classifier": classifier}
    face = Faces.load(store.run("train").path).images[0][0]
    large = np.tile(face, (64, 64))  # over a megabyte, which would go to a temporary file
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    before = sorted(store.root.rglob("*"))
    for image in (face, large):
        answer = client.post("/try", data=fields, files={"picture": ("x.png", encode(image))})
        assert answer.status_code == 200 and "The picture shows: " in answer.text
    assert sorted(store.root.rglob("*")) == before and "not what the person feels" in answer.text
    address = re.search(r'src="(/try/face/[^"]+)"', answer.text)
    assert address and client.get(address[1]).headers["cache-control"] == "no-store"
    assert client.get(address[1]).status_code == 404  # it was given out once


@pytest.mark.parametrize(
    ("content", "classifier", "message"),
    [
        (b"MZ a program", "judge", "the picture"),
        (b"", "judge", "a picture must be given"),
        (encode(np.zeros((30, 30), np.uint8)), "train", "a classifier of the list"),
        (encode(np.zeros((30, 30), np.uint8)), "../../x", "a classifier of the list"),
    ],
)
def test_what_cannot_be_named_has_a_message(
    client: TestClient, store: Store, content: bytes, classifier: str, message: str
):
    judge = next(name for name in store.list_names() if name.startswith("judge-"))
    fields = {
        "csrf": read_secret(client),
        "classifier": judge if classifier == "judge" else classifier,
    }
    answer = client.post("/try", data=fields, files={"picture": ("x.png", content)})
    assert answer.status_code == 400 and message in answer.text


def test_the_table_of_a_review_is_not_changed_by_looking(client: TestClient, store: Store):
    queue = store.run("queue")
    client.get(f"/review/{queue.name}?reviewer=looker&at=3")
    assert not (store.root / "reviews" / queue.name / "looker.csv").exists()
    assert len(pd.read_csv(queue.find_file("queue.csv"))) == 12


# Chosen faces in the gallery


def test_the_gallery_shows_the_faces_that_were_chosen_on_a_map(client: TestClient, store: Store):
    made = name_run(store, "made")
    answer = client.get("/gallery/order", params={"set": made, "only": f"{made}:1-3,7"}).json()
    assert answer["positions"] == [1, 2, 3, 7]
    page = client.get("/gallery", params={"set": made, "only": f"{made}:1-3,7"}).text
    assert "Show all, not only the chosen ones" in page and f'value="{made}:1-3,7"' in page

    # Positions of another set choose nothing here; what is no position has a message
    other = client.get("/gallery/order", params={"set": made, "only": "train:1"}).json()
    assert len(other["positions"]) == 12
    for text in ("x", "3-1", "1,", "12", "1-12", "-1", ""):
        answer = client.get("/gallery", params={"set": made, "only": f"{made}:{text}"})
        assert answer.status_code == 400 and "must be positions" in answer.text


# Ways from one page to another


def test_a_number_alone_is_that_of_each_class(client: TestClient):
    page = client.get("/generate?generator=drawer&counts=4").text
    assert "--counts each:4" in page and "12 images, finished" in page


def test_the_page_of_a_run_leads_to_what_opens_it(client: TestClient, store: Store):
    leads = {
        "made": "/release/{}",
        "drawer": "/generate?generator={}",
        "audit": "/audit/{}",
        "map": "/map/{}",
        "queue": "/review/{}",
        "done": "/study/{}",
    }
    overview = client.get("/").text
    for alias, address in leads.items():
        run = name_run(store, alias)
        link = f'href="{address.format(run)}"'
        assert link in client.get(f"/runs/{run}").text and link in overview
        assert client.get(address.format(run)).status_code == 200


def test_an_empty_store_is_told_from_that_of_the_demo(tmp_path: Path):
    import socket

    from worlds import run_inside

    (tmp_path / "mien-demo" / "store").mkdir(parents=True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        _, text = run_inside(tmp_path, "studio", "--no-open", "--port", port)
    assert "mien studio --store mien-demo/store" in text.replace("\n", " ")
