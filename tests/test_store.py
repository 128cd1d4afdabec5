"""The store: runs are whole or absent, and what was altered is named."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest
from notes import Note, write

from mien.errors import SpecError, StoreError
from mien.runs.files import read_error
from mien.runs.spec import list_parents, read_spec
from mien.runs.store import Run, Store


def test_a_run_is_built_once(store: Store):
    calls = []

    def build(out: Path, scratch: Path) -> None:
        calls.append(1)
        (out / "text.txt").write_text("hello")

    first, second = store.make(Note(), build), store.make(Note(), build)
    assert first == second
    assert calls == [1]
    assert first.name == f"letter-{Note().digest()}"


class Postcard(Note):
    stage: ClassVar[str] = "postcard"
    summary_indent: ClassVar[int | None] = None


@pytest.mark.parametrize(
    ("spec", "text"),
    [(Note(), '{\n "holds": "a greeting"\n}\n'), (Postcard(), '{"holds": "a greeting"}\n')],
    ids=["indented", "on one line"],
)
def test_what_build_returns_is_stored_as_the_summary(store: Store, spec: Note, text: str):
    run = store.make(spec, lambda out, scratch: {"holds": "a greeting"})
    assert run.find_file("summary.json").read_text() == text
    assert run.summary == {"holds": "a greeting"} and store.find_faults(run, thorough=True) == []


def test_a_run_of_which_nothing_is_said_has_no_summary(store: Store):
    run = store.make(Note(), write("hello"))
    assert sorted(run.manifest["files"]) == ["spec.json", "text.txt"] and run.summary == {}


def test_digest_is_a_golden_value_and_depends_on_fields_alone():
    assert Note().digest() == Note(parent="", text="hello").digest() == "1aaf4657508b"
    assert Note(text="other").digest() != Note().digest()
    assert Note(version=2).digest() != Note().digest()


def test_an_unknown_field_is_refused_with_the_nearest_known_one():
    with pytest.raises(SpecError, match="Did you mean 'parent'"):
        read_spec(Note, {"perent": "x"}, "test")


def test_a_build_that_fails_leaves_no_run_and_keeps_its_scratch(store: Store):
    def fail(out: Path, scratch: Path) -> None:
        (scratch / "checkpoint").write_text("half")
        (out / "half").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        store.make(Note(), fail)
    assert store.list_names() == []

    def go_on(out: Path, scratch: Path) -> None:
        assert not list(out.iterdir())
        (out / "text.txt").write_text((scratch / "checkpoint").read_text() + " and half")

    run = store.make(Note(), go_on)
    assert run.find_file("text.txt").read_text() == "half and half"
    assert not list((store.root / "work").iterdir())


def test_an_altered_file_is_named_and_refused(store: Store):
    run = store.make(Note(), write("hello"), alias="mine")
    assert store.find_faults(run) == []
    (run.path / "text.txt").write_text("hellO")
    with pytest.raises(StoreError, match=r"text\.txt does not match its sha256"):
        store.run("mine")
    (run.path / "text.txt").unlink()
    assert "text.txt is missing" in store.find_faults(run)[0]
    (run.path / "text.txt").write_text("hello")
    (run.path / "more.txt").write_text("!")
    assert store.find_faults(run) == ["more.txt is not one of its files"]


def test_an_altered_manifest_is_noticed(store: Store):
    run = store.make(Note(), write("hello"))
    path = run.path / "manifest.json"
    path.write_text(path.read_text().replace('"content": "', '"content": "0'))
    with pytest.raises(StoreError, match="does not add up"):
        Store(store.root).run(run.name)
    path.write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        Store(store.root).run(run.name)


def test_names_resolve_by_run_alias_and_unique_beginning(store: Store):
    run = store.make(Note(), write("hello"), alias="mine")
    assert (
        store.resolve("mine") == store.resolve(run.name) == store.resolve(run.name[:9]) == run.name
    )
    with pytest.raises(StoreError, match="Did you mean 'mine'"):
        store.resolve("mime")
    store.make(Note(text="other"), write("other"))
    with pytest.raises(StoreError, match="must be the beginning of one run"):
        store.resolve("letter")


@pytest.mark.parametrize("alias", ["", "../up", "a b", "letter-0123456789ab", ".hidden", "x" * 81])
def test_a_bad_alias_is_refused_before_any_work(store: Store, alias: str):
    with pytest.raises(StoreError, match="an alias must be"):
        store.make(Note(), lambda out, scratch: pytest.fail("built"), alias=alias)


def test_a_parent_cannot_be_removed_before_its_children(store: Store):
    run = store.make(Note(), write("hello"), alias="mine")
    child = store.make(Note(parent=run.name), write("child"))
    assert list_parents(child.spec) == [run.name]
    with pytest.raises(StoreError, match=child.name):
        store.remove("mine")
    store.remove(child.name)
    store.remove("mine")
    assert store.list_names() == [] and store.read_aliases() == {}


def test_a_memo_is_measured_once(store: Store):
    assert store.measure_once("speed", lambda: 3.0) == 3.0
    assert store.measure_once("speed", lambda: pytest.fail("measured again")) == 3.0


def test_a_store_that_cannot_be_written_is_one_message(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"the store must be a folder, and .*file is not one"):
        Store(tmp_path / "file").make(Note(), write("hello"))


def slow_build(root: Path, log: Path) -> None:
    def build(out: Path, scratch: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.5)
        (out / "text.txt").write_text("hello")

    Store(root).make(Note(), build)


def test_two_processes_do_not_make_the_same_run_twice(store: Store, tmp_path: Path):
    log = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=slow_build, args=(store.root, log)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "built\n"
    assert len(store.list_names()) == 1


def test_a_killed_process_is_taken_over_at_once(store: Store):
    code = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from notes import Note
        from mien.runs.store import Store
        def build(out, scratch):
            (scratch / "checkpoint").write_text("half")
            print("ready", flush=True)
            time.sleep(60)
        Store(Path({str(store.root)!r})).make(Note(), build)
    """
    worker = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    with worker.stdout:
        assert worker.stdout.readline() == b"ready\n"
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()

    def build(out: Path, scratch: Path) -> None:
        (out / "text.txt").write_text((scratch / "checkpoint").read_text())

    began = time.monotonic()
    assert store.make(Note(), build).find_file("text.txt").read_text() == "half"
    assert time.monotonic() - began < 5


def test_a_claim_from_another_machine_is_taken_over_when_its_heart_stops(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mien.runs.claims.DEAD_AFTER_S", 0.5)
    (store.root / "work").mkdir(parents=True)
    (store.root / "work" / f"{Note().name}.claim").write_text("elsewhere 1 token 7")
    assert store.make(Note(), write("hello")).find_file("text.txt").read_text() == "hello"


@pytest.mark.parametrize("name", ["spec.json", "about.json", "manifest.json"])
@pytest.mark.parametrize("text", ["", "[[[", "3", '{"files": {"text.txt": 3}}', "\udcff"])
def test_a_file_that_was_overwritten_is_named_and_the_run_can_be_deleted(
    store: Store, name: str, text: str
):
    run = store.make(Note(), write("hello"), "mine")
    (run.path / name).write_bytes(text.encode(errors="surrogateescape"))
    again = Store(store.root)
    faults = again.find_faults(Run(run.name, run.path), thorough=True)
    assert any(fault.startswith(name) for fault in faults) or (name, text[:1]) == (
        "about.json",
        "{",
    )
    if name != "about.json":
        with pytest.raises(StoreError, match="altered after it was made"):
            again.run("mine")
    assert again.list_names() == [run.name]
    assert again.remove("mine") == ["mine", f"runs/{run.name}"]


def test_a_run_without_its_manifest_is_told(store: Store):
    run = store.make(Note(), write("hello"))
    assert store.find_broken_runs() == []
    (run.path / "manifest.json").unlink()
    assert store.find_broken_runs() == [run.name]


def test_an_alias_that_names_no_run_is_told_and_hinders_nothing_else(store: Store):
    run = store.make(Note(), write("hello"), "mine")
    (store.root / "aliases" / "bad").write_bytes(b"\xff\xfe")
    (store.root / "aliases" / "up").write_text("../../elsewhere")
    (store.root / "aliases" / "folder").mkdir()
    assert store.run("mine") == run
    for name in ("bad", "up"):
        with pytest.raises(
            StoreError, match=f"the alias '{name}' must be a file with the name of a run"
        ):
            store.run(name)
    with pytest.raises(StoreError, match="is not a file"):
        store.run("folder")


@pytest.mark.parametrize(
    "text, error",
    [('{"error": "no room"}', "no room"), ("3", ""), ("[[[", ""), ("{}", ""), ("", "")],
)
def test_an_error_is_read_from_what_was_noted_and_is_nothing_where_that_is_broken(
    tmp_path: Path, text: str, error: str
):
    (tmp_path / "failed.json").write_text(text)
    assert read_error(tmp_path / "failed.json") == error
    assert read_error(tmp_path / "missing.json") == ""


@pytest.mark.parametrize(
    "text, seconds", [('{"seconds": 2.5}', 2.5), ('{"seconds": "long"}', 0.0), ("[1]", 0.0)]
)
def test_how_long_a_run_took_is_known_or_nothing(store: Store, text: str, seconds: float):
    run = store.make(Note(), write("hello"))
    (run.path / "about.json").write_text(text)
    assert Run(run.name, run.path).seconds == seconds


def test_who_was_asleep_while_another_took_over_makes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mien.runs.claims.DEAD_AFTER_S", 0.5)
    claim, calls = store.root / "work" / f"{Note().name}.claim", []

    def build(out: Path, scratch: Path) -> None:
        calls.append(out)
        (out / "text.txt").write_text(f"call {len(calls)}")
        if len(calls) == 1:
            claim.write_text("elsewhere 1 token 7")  # whose heart stands still, too

    assert store.make(Note(), build).find_file("text.txt").read_text() == "call 2"
    assert len(set(calls)) == 2
    assert not list((store.root / "work").iterdir())


def test_what_fails_after_the_claim_was_lost_is_no_failure(store: Store):
    claim = store.root / "work" / f"{Note().name}.claim"

    def finish_elsewhere() -> None:
        other = Store(store.root.parent / "other")
        other.make(Note(), write("from elsewhere"))
        (store.root / "runs").mkdir()
        (other.root / "runs" / Note().name).rename(store.root / "runs" / Note().name)
        claim.unlink()

    def build(out: Path, scratch: Path) -> None:
        claim.write_text("elsewhere 1 token 7")
        finish_elsewhere()
        raise OSError("the folder was swept away")

    assert store.make(Note(), build).find_file("text.txt").read_text() == "from elsewhere"


def test_what_a_sleeper_swept_away_is_made_again(store: Store):
    calls = []

    def build(out: Path, scratch: Path) -> None:
        calls.append(out)
        if len(calls) == 1:
            out.rmdir()
        (out / "text.txt").write_text(f"call {len(calls)}")

    assert store.make(Note(), build).find_file("text.txt").read_text() == "call 2"


def test_a_heart_that_beats_is_waited_for_whatever_the_clocks_say(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mien.runs.claims.DEAD_AFTER_S", 0.5)
    claim = store.root / "work" / f"{Note().name}.claim"
    claim.parent.mkdir(parents=True)
    claim.write_text("elsewhere 1 token 0")
    stop = threading.Event()

    def beat() -> None:
        for count in range(8):
            new = claim.with_suffix(".new")
            new.write_text(f"elsewhere 1 token {count}")
            os.utime(new, (0, 0) if count % 2 else (4e9, 4e9))
            new.replace(claim)
            stop.wait(0.2)

    began, heart = time.monotonic(), threading.Thread(target=beat)
    heart.start()
    store.make(Note(), write("hello"))
    heart.join()
    assert time.monotonic() - began > 1.6


def test_a_full_disk_leaves_neither_run_nor_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = Store(tmp_path / "store")
    kept = os.fsync

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="make room"):
        store.make(Note(), write("hello"))
    monkeypatch.setattr(os, "fsync", kept)
    assert store.list_names() == []
    assert store.make(Note(), write("hello")).find_file("text.txt").read_text() == "hello"
    assert not list((store.root / "work").iterdir())
