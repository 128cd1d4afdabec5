"""--json: one object on standard output and nothing else, with the keys of docs/json.md."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from worlds import SMALL_FIELDS, blobs, keep

from mien.cli import main
from mien.cli.base import print_json
from mien.export.album import write_album
from mien.runs.store import Store

PAGE = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")

RUN_KEYS = {"name", "aliases", "stage", "holds", "made", "seconds", "path"}

STUDY = f"""
name = "small"
faces = "blobs"
protocol = "subject"
folds = 2
only_folds = [0]
trials = 1
settings = ["real_to_real"]
classifiers = ["tiny"]
controls = ["nearest"]

[classifier]
size = {SMALL_FIELDS["size"]}
epochs = 1
batch = 16
"""


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process; return its exit code, standard output and standard error."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("MIEN_STORE", str(folder / "store"))
        patch.setattr(sys, "argv", ["mien", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    assert "Traceback" not in err.getvalue()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def ask(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run a command with --json, expect its exit code, and return the object that it prints."""
    ended, out, err = run(folder, *arguments, "--json")
    assert ended == code, out + err
    answer = json.loads(out)
    assert isinstance(answer, dict) and out.isascii()
    assert bool(re.search("^mien: ", err, re.MULTILINE)) is bool(code)
    return answer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store of faces and a study of them, of which nothing is done."""
    folder = tmp_path_factory.mktemp("place")
    keep(blobs(64), Store(folder / "store"), "blobs")
    (folder / "study.toml").write_text(STUDY)
    yield folder


def test_ls_and_show_print_the_keys_of_runs(place: Path):
    listed = ask(place, "ls")
    assert Path(listed["store"]) == place / "store"
    (run,) = [run for run in listed["runs"] if run["aliases"] == ["blobs"]]
    assert set(run) == RUN_KEYS and run["stage"] == "made" and Path(run["path"]).is_dir()
    assert ask(place, "ls", "audit")["runs"] == []
    shown = ask(place, "show", "blobs")
    assert {key: shown[key] for key in RUN_KEYS} == run
    assert shown["files"]["images.npy"]["size"] > 0 and shown["spec"]["what"] == "blobs 64"


def test_readers_and_studies_are_lists(place: Path):
    readers = ask(place, "readers")["readers"]
    assert {"casme2", "folder"} <= {reader["name"] for reader in readers}
    (one,) = ask(place, "readers", "casme2")["readers"]
    assert one in readers and one["labels"]["happiness"] == "happiness"
    (smoke,) = [one for one in ask(place, "study", "list")["studies"] if one["name"] == "smoke"]
    assert Path(smoke["path"]).is_file() and smoke["about"]


def test_a_study_is_planned_run_and_looked_at(place: Path):
    plan = ask(place, "study", "plan", "study.toml", "--workers", "2")
    assert plan["study"] == "small" and plan["selected_trials"] == 2
    assert plan["seconds"] == pytest.approx(sum(cost["seconds"] for cost in plan["costs"]))
    assert plan["seconds"] > 0
    ends = {"seconds", "least_seconds", "most_seconds"}
    assert all(set(cost) == {"what", "runs", "timed", *ends} for cost in plan["costs"])
    for times in (plan, plan["workers"], *plan["costs"]):
        assert times["least_seconds"] == pytest.approx(times["seconds"] / 2)
        assert times["most_seconds"] == pytest.approx(times["seconds"] * 2)
    assert plan["workers"]["number"] == 2 and 0 < plan["workers"]["busy"] <= 1
    run(place, "study", "run", "study.toml", "--workers", "0")
    status = ask(place, "study", "status", "small")
    assert all(f"`{key}`" in PAGE for key in status), "keys are those of docs/json.md"
    assert status["run"] == plan["run"] and status["done"] == status["trials"] == 2
    assert status["cells"] == status["controls"] == {"done": 1, "total": 1}
    assert status["databases"] == {"done": 0, "total": 0} and status["seconds_to_come"] is None
    after = ask(place, "study", "plan", "study.toml")
    assert after["selected_trials_done"] == 2 and after["costs"] == [] and after["workers"] is None


def test_an_audit_and_leakage_print_what_their_files_hold(place: Path):
    store = Store(place / "store")
    for name in ("faces", "copies"):
        write_album(store.run("blobs"), store, place / name, True)
    found = ask(place, "leakage", "faces", "copies")
    assert set(found) >= RUN_KEYS and found["affected"] == found["test_images"] == 64
    assert Path(found["page"]).is_file()
    refused = ask(place, "leakage", "faces", "copies", "--fail", code=4)
    assert refused["affected"] == 64
    audit = ask(place, "audit", "copies", "--train", "faces", "--spaces", "pixels", code=4)
    assert set(audit) >= RUN_KEYS and audit["verdict"] == "fail"
    assert {"fail", "cannot tell"} <= {check["verdict"] for check in audit["checks"]}


def test_verify_prints_the_state_of_each_run_and_of_an_image(place: Path, tmp_path: Path):
    keep(blobs(16), Store(tmp_path / "store"), "few")
    assert ask(tmp_path, "verify")["as_made"] is True
    images = Store(tmp_path / "store").run("few").path / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    for more in ((), ("few",)):
        changed = ask(tmp_path, "verify", *more, code=2)
        (state,) = changed["runs"]
        assert not changed["as_made"] and state["remedy"]
        assert state["faults"] == ["images.npy does not match its sha256"]
    (tmp_path / "picture.png").write_bytes(next((place / "faces").glob("*/*.png")).read_bytes())
    answer = ask(tmp_path, "verify", "picture.png", code=2)
    assert set(answer) == {"file", "ours", "image", "text"} and answer["ours"] == "no"


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "nothing"],
        ["show", "blobs", "--open"],
        ["readers", "nothing"],
        ["verify", "nothing"],
        ["study", "plan", "missing.toml"],
        ["study", "status", "nothing"],
        ["audit", "blobs"],
        ["leakage", "blobs", "nothing"],
        ["ls", "--nothing"],
    ],
    ids=" ".join,
)
def test_an_error_is_on_standard_error_alone(place: Path, arguments: list[str]):
    code, out, err = run(place, *arguments, "--json")
    assert (code, out) == (2, "") and err
    assert (code, err) == run(place, *arguments)[::2] or "--open" in arguments


def test_every_command_with_json_is_on_the_page_and_its_keys_are_named(place: Path):
    headings = set(re.findall(r"^## `mien (.*?) (?:NAME )?--json`", PAGE, re.MULTILINE))
    assert headings == {
        *("ls", "show", "readers", "doctor", "verify", "audit", "leakage"),
        *("study list", "study plan", "study status", "advise"),
    }
    (place / "study.toml").write_text(STUDY)
    for command in (["ls"], ["show", "blobs"], ["readers"], ["doctor"], ["verify"]):
        for key in ask(place, *command):
            assert f"`{key}`" in PAGE, key
    for key in ask(place, "study", "plan", "study.toml"):
        assert f"`{key}`" in PAGE, key


def test_numbers_that_are_not_finite_become_null(capsys: pytest.CaptureFixture[str]):
    print_json({"a": [float("nan"), 1.5], "b": {"c": float("inf")}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": None}}
