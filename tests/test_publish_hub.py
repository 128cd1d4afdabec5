"""Sending a release, to a stand-in that speaks the few endpoints of a hub, on this machine
alone.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from release_world import world

from mien.errors import DataError, GateRefused, UsageError
from mien.publish.hub import push
from mien.publish.release import build

huggingface_hub = pytest.importorskip(
    "huggingface_hub", reason="huggingface_hub is not installed: pip install 'mien[hub]'"
)


@dataclass
class Hub:
    """What a hub holds: repositories by name, each with its files and whether it is open, and what
    it was asked.
    """

    address: str = ""
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    gated: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # at each commit: whether the repository was private
    seen: list[bool] = field(default_factory=list)
    breaks: bool = False  # whether it loses a byte of what it is sent


class Answers(BaseHTTPRequestHandler):
    """Answers as the hub's interface does, in the parts that huggingface_hub uses for a folder of
    small files.
    """

    hub: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"GET {path}")
        if "/tree/" in path:
            repository = path.removeprefix("/api/datasets/").partition("/tree/")[0]
            self.say([self.entry(name, data) for name, data in self.hub.files[repository].items()])
        elif path.startswith("/api/datasets/"):
            repository = "/".join(path.removeprefix("/api/datasets/").split("/")[:2])
            self.say(
                {
                    "id": repository,
                    "private": self.hub.private[repository],
                    "sha": "0" * 40,
                    "siblings": [],
                }
            )
        else:
            self.say({"error": "not here"}, 404)

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        repository = (
            path.removeprefix("/api/datasets/").partition("/preupload")[0].partition("/commit")[0]
        )
        if path == "/api/repos/create":
            told = json.loads(body)
            name = f"{told.get('organization') or 'me'}/{told['name']}"
            if name in self.hub.files:
                self.say(
                    {
                        "error": "You already created this dataset repo",
                        "url": f"{self.hub.address}/datasets/{name}",
                    },
                    409,
                )
                return
            self.hub.files[name], self.hub.private[name] = {}, told["visibility"] == "private"
            self.say({"url": f"{self.hub.address}/datasets/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self.say({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            asked = json.loads(body)["files"]
            self.say(
                {
                    "files": [
                        {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for one in asked
                    ]
                }
            )
        elif "/commit/" in path:
            self.hub.seen.append(self.hub.private[repository])
            for line in body.splitlines():
                self.change(repository, json.loads(line))
            address = f"{self.hub.address}/datasets/{repository}/commit/{'1' * 40}"
            self.say(
                {
                    "commitUrl": address,
                    "commitOid": "1" * 40,
                    "pullRequestUrl": None,
                    "success": True,
                }
            )
        else:
            self.say({"error": "not here"}, 404)

    def do_PUT(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"PUT {path}")
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        repository = path.removeprefix("/api/datasets/").removesuffix("/settings")
        self.hub.private[repository] = told["visibility"] == "private"
        self.hub.gated[repository] = told.get("gated")
        self.say({})

    def change(self, repository: str, line: dict[str, Any]) -> None:
        value = line["value"]
        if line["key"] == "file":
            data = base64.b64decode(value["content"])
            self.hub.files[repository][value["path"]] = data[:-1] if self.hub.breaks else data
        elif line["key"] == "deletedFile":
            del self.hub.files[repository][value["path"]]

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"type": "file", "path": name, "size": len(data), "oid": git}

    def say(self, content: Any, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of one's own, and a huggingface_hub that knows no other."""
    own = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Answers,), {"hub": own}))
    own.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", own.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    yield own
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = world(tmp_path_factory.mktemp("world"))
    return build("made", home.root / "release", home.store, home.answers)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_dry_run_sends_nothing(hub: Hub, release: Path):
    steps = push(release, "me/faces", "gated", dry_run=True)
    assert not hub.asked and "private" in steps[0] and steps[-1].startswith("open it: gated")


def test_a_release_arrives_whole_and_stays_private(hub: Hub, release: Path):
    push(release, "me/faces")
    assert hub.files["me/faces"] == contents(release)
    assert hub.private["me/faces"] and hub.seen == [True] and not hub.gated


def test_it_is_opened_only_after_all_has_arrived(hub: Hub, release: Path):
    push(release, "me/faces", "gated")
    assert hub.seen == [True] and hub.gated["me/faces"] == "manual"
    order = [asked.split("/")[-1] for asked in hub.asked]
    assert hub.asked[-1].startswith("PUT") and any("/tree/" in asked for asked in hub.asked[-2:]), (
        order
    )
    push(release, "me/open", "public")
    assert hub.private["me/open"] is False and hub.gated["me/open"] is False


def test_what_does_not_arrive_whole_stays_private(hub: Hub, release: Path):
    hub.breaks = True
    with pytest.raises(DataError, match="not as they are here"):
        push(release, "me/faces", "public")
    assert hub.private["me/faces"] and not any(asked.startswith("PUT") for asked in hub.asked)


def test_files_of_an_older_version_go(hub: Hub, release: Path):
    hub.files["me/faces"], hub.private["me/faces"] = {"data/old.parquet": b"x"}, True
    push(release, "me/faces")
    assert hub.files["me/faces"] == contents(release)


def test_an_open_repository_takes_nothing_private(hub: Hub, release: Path):
    hub.files["me/faces"], hub.private["me/faces"] = {}, False
    with pytest.raises(UsageError, match="open already"):
        push(release, "me/faces")
    assert not hub.seen


def test_a_damaged_release_is_not_sent(hub: Hub, release: Path, tmp_path: Path):
    for name, data in contents(release).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "LICENSE").write_text("do what you like")
    with pytest.raises(DataError, match="LICENSE"):
        push(tmp_path, "me/faces")
    assert not hub.asked


def test_what_systems_leave_is_not_sent(
    hub: Hub,
    release: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
):
    for name, data in [
        *contents(release).items(),
        ("sheets/Thumbs.db", b"x"),
        (".cache/huggingface/a/b.lock", b""),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    push(tmp_path, "me/faces")
    assert hub.files["me/faces"] == contents(release)
    said = capfd.readouterr().err
    assert "ignored, and not sent: .cache/huggingface, sheets/Thumbs.db" in said
    assert len(said.splitlines()) <= 5 and not caplog.records  # no bars, no lines of the hub's own


def test_a_private_build_is_never_opened(hub: Hub, tmp_path: Path):
    home = world(tmp_path / "w", name="casme2")
    folder = build("made", tmp_path / "out", home.store, home.answers, private=True)
    for access in ("gated", "public"):
        with pytest.raises(GateRefused):
            push(folder, "me/faces", access)
    assert not hub.asked
    push(folder, "me/faces")
    assert hub.private["me/faces"]


@pytest.mark.parametrize("repository", ["faces", "a/b/c", "/faces", "me/"])
def test_a_repository_has_an_owner_and_a_name(release: Path, repository: str):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        push(release, repository, dry_run=True)


def test_access_is_one_of_three(release: Path):
    with pytest.raises(UsageError, match="private, gated, public"):
        push(release, "me/faces", "secret", dry_run=True)


@pytest.mark.parametrize("repository", ["me/faces", "me/--"])
def test_without_a_hub_it_is_one_message(
    release: Path, monkeypatch: pytest.MonkeyPatch, repository: str
):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    with pytest.raises(UsageError, match="Check network, name and HF_TOKEN"):
        push(release, repository)
