"""The store among others: forged, littered by systems, killed in the middle of a deletion, full,
and refused.
"""

import errno
import json
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from notes import Note, write
from worlds import inside

from mien.errors import DataError, StoreError, TrainingError
from mien.runs.claims import name_machine
from mien.runs.files import hash_file
from mien.runs.spec import compute_digest
from mien.runs.store import STALE_S, Run, Store, digest_content


def forge(run: Run, name: str, data: bytes) -> None:
    """Write another file in a run, and a manifest that agrees with it."""
    (run.path / name).write_bytes(data)
    files = run.manifest["files"] | {
        name: {"sha256": hash_file(run.path / name), "size": (run.path / name).stat().st_size}
    }
    text = json.dumps({"content": digest_content(files), "files": files}, indent=1, sort_keys=True)
    (run.path / "manifest.json").write_text(text + "\n")


# Forged


@pytest.mark.parametrize(
    "fields", [{"text": "other"}, {"version": 2}, {"stage": "note"}, {"more": 1}, {"parent": []}]
)
def test_a_spec_that_was_forged_together_with_the_manifest_is_named(
    store: Store, fields: dict[str, Any]
):
    run = store.make(Note(), write("hello"))
    forge(run, "spec.json", json.dumps({**run.spec, **fields}).encode())
    with pytest.raises(StoreError, match="named by"):
        Store(store.root).run(run.name)


def test_a_spec_of_an_earlier_version_of_mien_is_no_forgery(store: Store):
    old = {"stage": "letter", "text": "hello", "a field that is gone": 0.1, "version": 1}
    run = store.make(Note(), write("hello"))
    forge(run, "spec.json", json.dumps(old, indent=2).encode())
    name = f"letter-{compute_digest(old)}"
    run.path.rename(run.path.with_name(name))
    assert store.run(name).spec == old


def test_a_size_that_was_forged_is_named(store: Store):
    run = store.make(Note(), write("hello"))
    path = run.path / "manifest.json"
    path.write_text(path.read_text().replace('"size": 5', '"size": 6'))
    assert store.find_faults(Run(run.name, run.path)) == [
        "text.txt does not match its size in manifest.json"
    ]


@pytest.mark.parametrize(
    ("forged", "fault"),
    [
        (lambda path: (path / "more").symlink_to("/etc/passwd"), "more is a link"),
        (lambda path: (path / "more").mkdir(), "more is not one of its folders"),
        (lambda path: (path / "more").symlink_to(path.parent), "more is a link"),
        (lambda path: os.mkfifo(path / "more"), "more is not one of its files"),
        (
            lambda path: (
                (path / "text.txt").rename(path.parent / "x")
                and (path / "text.txt").symlink_to("../x")
            ),
            "link",
        ),
        (
            lambda path: (path / "text.txt").unlink() or (path / "text.txt").mkdir(),
            "text.txt is missing",
        ),
        (
            lambda path: (path / "manifest.json").unlink() or os.mkfifo(path / "manifest.json"),
            "cannot be read",
        ),
    ],
)
def test_links_pipes_and_folders_in_a_run_are_named(
    store: Store, forged: Callable[[Path], Any], fault: str
):
    run = store.make(Note(), write("hello"))
    forged(run.path)
    assert any(fault in each for each in store.find_faults(Run(run.name, run.path)))


def test_a_manifest_that_leads_out_of_the_run_is_named(store: Store):
    run = store.make(Note(), write("hello"))
    (run.path.parent / "secret").write_text("x")
    forge(run, "../secret", b"x")
    assert any(
        "is not a path in the run" in fault for fault in store.find_faults(Run(run.name, run.path))
    )


# Littered


def test_what_systems_leave_is_passed_over_and_told(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = store.make(Note(), write("hello"), "mine")
    for place in (".", "runs", "aliases", "work", f"runs/{run.name}"):
        for name in (".DS_Store", "._text.txt", "Thumbs.db", "desktop.ini", ".nfs00000000abcd1234"):
            (store.root / place / name).write_bytes(b"\0\1")
        (store.root / place / "@eaDir").mkdir()
        (store.root / place / "@eaDir" / "text.txt").write_text("x")
    assert (
        Store(store.root).run("mine") == run
        and store.find_broken_runs() == []
        and store.find_broken_aliases() == {}
    )
    text = inside(tmp_path, "verify")
    assert text.count("ignored") == 1 and "runs/.DS_Store" in text and "as it was made" in text
    store.make(Note(text="next"), write("next"))
    assert "letter" in inside(tmp_path, "ls")
    assert inside(tmp_path, "rm", "mine") == f"deleted mine\ndeleted runs/{run.name}\n"


def test_what_somebody_put_into_a_run_is_to_be_moved_and_the_run_kept(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = store.make(Note(), write("hello"), "mine")
    (run.path / "notes.txt").write_text("mine")
    (run.path / "sub").mkdir()
    for command in ("show", "verify"):
        text = inside(tmp_path, command, "mine", code=2)
        assert "notes.txt" in text and "out of" in text and "Delete" not in text


def test_copies_of_runs_and_strangers_among_them_are_told(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = store.make(Note(), write("hello"))
    (store.root / "runs" / f"{run.name} copy").mkdir()
    (store.root / "runs" / f"{run.name} copy" / "manifest.json").write_text("{}")
    (store.root / "runs" / "notes\x1b[31m.txt").write_text("x")
    assert store.list_names() == [run.name]
    text = inside(tmp_path, "verify", code=2)
    assert (
        f"{run.name} copy: not a complete run: its name is not that of a run" in text
        and r"notes\x1b[31m.txt" in text
    )


# Aliases


def test_an_alias_that_is_no_file_of_ours_is_never_printed(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = store.make(Note(), write("hello"), "mine")
    aliases = store.root / "aliases"
    (tmp_path / "secret").write_text("secret words\n")
    (aliases / "link").symlink_to(tmp_path / "secret")
    (aliases / "circle").symlink_to("circle")
    (aliases / "folder").mkdir()
    (aliases / "large").write_bytes(b"secret words " * 400_000)
    (aliases / "binary").write_bytes(bytes(range(256)))
    (aliases / "lines").write_text(f"{run.name}\nsecret words\n")
    os.mkfifo(aliases / "pipe")
    for command in ("ls", "verify"):
        text = inside(tmp_path, command)
        assert "secret words" not in text and "\x1b" not in text
    for name in ("link", "circle", "folder", "large", "binary", "lines", "pipe"):
        assert f"alias {name}: " in text
        used = inside(tmp_path, "show", name, code=2)
        assert "must be a file with the name of a run" in used and "secret words" not in used
    with pytest.raises(StoreError, match="is a folder"):
        store.make(Note(text="other"), lambda out, scratch: pytest.fail("built"), "folder")
    assert store.make(Note(), write("hello"), "link") == run
    assert (tmp_path / "secret").read_text() == "secret words\n" and store.resolve(
        "link"
    ) == run.name


# Deleting


def test_what_is_not_there_cannot_be_deleted(tmp_path: Path):
    run = Store(tmp_path / "store").make(Note(), write("hello"), "mine")
    near = run.name[:-1] + ("0" if run.name[-1] != "0" else "1")
    assert f"Did you mean '{run.name}'" in inside(tmp_path, "rm", near, code=2)
    for name in ("letter-000000000000", "mime", "", "../x", ".", "*"):
        assert "no run or alias" in inside(tmp_path, "rm", name, code=2)
    assert Store(tmp_path / "store").list_names() == [run.name]


@pytest.mark.parametrize("moment", range(12))
def test_a_deletion_that_was_killed_is_ended_by_the_same_command(
    store: Store, tmp_path: Path, moment: int
):
    def build(out: Path, scratch: Path) -> None:
        for name in ("a", "b", "c/d"):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text("a face")

    run = store.make(Note(), build, "mine")
    store.set_alias("second", run.name)
    kept = store.make(Note(text="kept"), write("kept"), "kept")
    code = f"""
        import os, sys
        from pathlib import Path
        from mien.runs.store import Store
        left = [{moment}]
        def killing(call):
            def other(*arguments, **named):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), 9)
                return call(*arguments, **named)
            return other
        for name in ("rename", "unlink", "rmdir"):
            setattr(os, name, killing(getattr(os, name)))
        Store(Path({str(store.root)!r})).remove("mine")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    again = Store(store.root)
    if (
        done.returncode == 0 or "mine" not in again.read_aliases()
    ):  # all that can be left is the other alias
        again.remove("second") if "second" in again.read_aliases() else None
    else:
        again.remove("mine")
    assert (
        again.list_names() == [kept.name]
        and again.read_aliases() == {"kept": kept.name}
        and again.find_broken_runs() == []
    )
    assert not [
        path for path in store.root.rglob("*") if path.is_file() and path.read_bytes() == b"a face"
    ]


def test_half_a_deletion_is_not_listed_but_told_and_ended_by_the_next_command(tmp_path: Path):
    store = Store(tmp_path / "store")
    run = store.make(Note(), write("a face"))
    grave = run.path.with_name(f".{run.name}.{'0' * 32}")
    run.path.rename(grave)
    assert run.name not in inside(tmp_path, "ls")
    assert "whose deletion was interrupted" in inside(tmp_path, "verify", code=2)
    inside(tmp_path, "rm", run.name)
    old = run.path.with_name(f".{'a' * 32}")
    old.mkdir()
    (old / "images.npy").write_text("a face")
    store.make(Note(text="next"), write("next"))
    assert not grave.exists() and not old.exists()


def test_a_parent_is_kept_while_a_child_is_made_from_it(store: Store):
    run = store.make(Note(), write("hello"))
    begun, go_on = threading.Event(), threading.Event()

    def build(out: Path, scratch: Path) -> None:
        begun.set()
        go_on.wait(60)
        (out / "text.txt").write_text("child")

    child = threading.Thread(target=store.make, args=(Note(parent=run.name), build))
    child.start()
    begun.wait(60)
    with pytest.raises(StoreError, match="is being made"):
        Store(store.root).remove(run.name)
    go_on.set()
    child.join()
    with pytest.raises(StoreError, match="must not have been used"):
        store.remove(run.name)


def test_a_child_is_refused_whose_parent_is_deleted_at_that_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    run, kept = store.make(Note(), write("hello")), Store.note_spec

    def too_late(self: Store, spec: Note) -> None:
        Store(self.root).remove(run.name)
        kept(self, spec)

    monkeypatch.setattr(Store, "note_spec", too_late)
    with pytest.raises(StoreError, match="was deleted just now"):
        store.make(Note(parent=run.name), lambda out, scratch: pytest.fail("built"))
    assert store.list_names() == [] and not list((store.root / "work").iterdir())


def test_what_an_unfinished_child_copied_goes_with_its_parent(store: Store):
    run = store.make(Note(), write("a face"))
    work = store.root / "work" / Note(parent=run.name).name

    def stopped(out: Path, scratch: Path) -> None:
        (scratch / "checkpoint").write_text("a face")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.make(Note(parent=run.name), stopped)
    assert (work / "scratch" / "checkpoint").exists()
    assert f"work/{work.name}" in store.remove(run.name)
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_of_a_run_that_is_a_link_only_the_link_is_deleted(store: Store, tmp_path: Path):
    run = store.make(Note(), write("hello"), "mine")
    run.path.rename(tmp_path / "elsewhere")
    run.path.symlink_to(tmp_path / "elsewhere")
    assert store.run("mine").find_file("text.txt").read_text() == "hello"
    assert store.remove("mine") == ["mine", f"runs/{run.name}"]
    assert (tmp_path / "elsewhere" / "text.txt").read_text() == "hello" and not list(
        (store.root / "runs").iterdir()
    )


# Refused, stopped, failed


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (DataError("no face"), False),
        (StoreError("a parent was altered"), True),
        (TrainingError("diverged"), True),
        (ValueError("a fault"), True),
        (KeyboardInterrupt(), True),
    ],
)
def test_a_refusal_leaves_nothing_and_all_else_keeps_its_checkpoints(
    store: Store, error: BaseException, kept: bool
):
    def build(out: Path, scratch: Path) -> None:
        (out / "half").write_text("half")
        (scratch / "checkpoint").write_text("half")
        raise error

    with pytest.raises(type(error)):
        store.make(Note(), build)
    left = sorted(
        str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()
    )
    work = f"work/{Note().name}"
    assert left == ([f"{work}/scratch/checkpoint", f"{work}/spec.json"] if kept else [])
    assert store.root.exists() == kept


def test_a_refusal_keeps_the_checkpoints_of_the_command_before(store: Store):
    def stopped(out: Path, scratch: Path) -> None:
        (scratch / "checkpoint").write_text("hours of work")
        raise KeyboardInterrupt

    def refused(out: Path, scratch: Path) -> None:
        raise DataError("the weights are another file")

    with pytest.raises(KeyboardInterrupt):
        store.make(Note(), stopped)
    with pytest.raises(DataError):
        store.make(Note(), refused)
    assert (store.make_scratch(Note().name) / "checkpoint").read_text() == "hours of work"


def test_what_the_dead_left_is_swept_by_any_later_command(store: Store):
    done = store.make(Note(), write("hello"))
    work, other = store.root / "work", Note(text="never finished").name
    dead = f"{name_machine()} {2**22 + 1} token 3"
    for name in (done.name, other):
        (work / name / f"out-{'0' * 32}").mkdir(parents=True)
        (work / name / f"out-{'0' * 32}" / "images.npy").write_text("a face")
        (work / f"{name}.claim").write_text(dead)
    (work / f"{other}.0000128.claim").write_text(dead)
    alive = work / "letter-aaaaaaaaaaaa.claim"
    alive.write_text("another-machine/0 1 token 3")
    store.make(Note(text="next"), write("next"))
    assert list(work.iterdir()) == [alive]


# Full disks


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("2048 requested and 512 written"),
    ],
)
def test_a_disk_that_fills_up_says_where_and_keeps_the_checkpoints(store: Store, error: OSError):
    def build(out: Path, scratch: Path) -> None:
        (scratch / "checkpoint").write_text("half")
        raise error

    with pytest.raises(StoreError, match="make room") as caught:
        store.make(Note(), build)
    assert str(store.root) in str(caught.value)
    assert (store.make_scratch(Note().name) / "checkpoint").exists()


def test_a_limit_on_files_is_one_message_whatever_writes(tmp_path: Path):
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from notes import Note
        from mien.runs.store import Store
        def build(out, scratch):
            np.save(out / "images.npy", np.zeros(100_000, np.uint8))
        try:
            Store(Path("store")).make(Note(), build)
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = subprocess.run(
        [sys.executable, "-B", "-c", textwrap.dedent(code)],  # byte code would be cut off, and kept
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 0 and done.stdout.startswith("StoreError") and "make room" in done.stdout
    )
    assert not list((tmp_path / "store").rglob("images.npy"))


# Half-written files


@pytest.mark.parametrize("folder", ["aliases", "memo", "work"])
def test_what_dead_processes_were_writing_is_swept_and_young_and_other_files_are_not(
    store: Store, folder: str
):
    store.make(Note(), write("hello"), "greeting")
    place = store.root / folder
    place.mkdir(exist_ok=True)
    dead, young, other = (place / f".greeting.{end}" for end in ("0a" * 16, "1b" * 16, "notes"))
    for path, age in ((dead, 2 * STALE_S), (young, 0.0), (other, 2 * STALE_S)):
        path.write_text("half")
        then = time.time() - age
        os.utime(path, (then, then))
    store.remove_leftovers()
    assert not dead.exists() and young.exists() and other.exists()
    assert (
        store.read_aliases().keys() == {"greeting"}
        and young.name not in store.find_broken_aliases()
    )


@pytest.mark.parametrize("text", ["", "another-machine/0123 17 abc 4", "another-mach"])
def test_an_old_claim_on_a_finished_run_goes_whatever_its_text_is(store: Store, text: str):
    run = store.make(Note(), write("hello"))
    claim, log = (store.root / "work" / f"{run.name}.{end}" for end in ("claim", "log"))
    claim.parent.mkdir(exist_ok=True)
    for path in (claim, log):
        path.write_text(text)
    store.remove_leftovers()
    assert claim.exists() is bool(text)  # somebody may have just finished it
    then = time.time() - 2 * STALE_S
    if text:
        os.utime(claim, (then, then))
    store.remove_leftovers()
    assert not claim.exists() and not log.exists()


@pytest.mark.parametrize("end", ["", "/below", "/deep/below"])
def test_a_store_that_is_a_file_or_lies_below_one_is_refused_at_once(tmp_path: Path, end: str):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="the store must be a folder"):
        Store(Path(f"{tmp_path / 'file'}{end}"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError, match="the store must be a folder"):
        Store(tmp_path / "loop")
    assert (tmp_path / "file").read_text() == "mine"
