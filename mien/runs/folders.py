"""Folders that are handed out: they appear whole, or not at all."""

import glob
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mien.errors import UsageError
from mien.outside import describe_system_error, expand_home

# how a folder in the making is named, after the name that it is to have
UNFINISHED_PATTERN = re.compile(r"[0-9a-f]{32}")

UNLOCKED_S = 2.0  # for which a folder may be made, and not be locked yet


def require_free(out: Path) -> Path:
    """Return the absolute path of `out`, a folder to be made; nothing is made here.

    Raises UsageError unless it does not exist yet, or is an empty folder, and can be written.
    """
    out = _make_absolute(out)
    if _read_state(out) and (not out.is_dir() or any(out.iterdir())):
        state = "holds files" if out.is_dir() else "is a file"
        raise UsageError(
            f"--out must be a folder that does not exist yet, or is empty, and {out} {state}"
        )
    _require_writable(out.parent, out.name)
    return out


def require_fillable(out: Path, option: str = "--out") -> Path:
    """Return the absolute path of a folder to be made or added to.

    Raises UsageError unless it can be written.
    """
    out = _make_absolute(out)
    if _read_state(out) and not out.is_dir():
        raise UsageError(f"{option} must be a folder, and {out} is a file; give another path")
    if out.is_dir():
        _require_writable(out, "", option)
    else:
        _require_writable(out.parent, out.name, option)
    return out


def require_free_file(out: Path) -> Path:
    """Return the absolute path of a file to be made.

    Raises UsageError unless it does not exist yet and can be written.
    """
    out = _make_absolute(out)
    if _read_state(out):
        raise UsageError(
            f"--out must be a file that does not exist yet, and {out} is there already; give "
            "another path"
        )
    _require_writable(out.parent, out.name)
    return out


def _make_absolute(out: Path) -> Path:
    """Return the absolute path; links are followed up to the last part."""
    out = expand_home(out)
    try:
        return (
            out.resolve()
            if out.is_dir()
            else out.parent.resolve() / out.name
            if out.name
            else out.resolve()
        )
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # ValueError: a NUL; RuntimeError: a link to itself
        reason = (
            describe_system_error(error, out)
            if isinstance(error, OSError)
            else f"{out}: {error}; check the path"
        )
        raise UsageError(f"--out must be a path that can be written; {reason}") from None


def _read_state(out: Path) -> os.stat_result | None:
    """Return the state of what exists at a path, also of a broken link; None if nothing does."""
    try:
        return out.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = (
            describe_system_error(error, out)
            if isinstance(error, OSError)
            else f"{out}: {error}; check the path"
        )
        raise UsageError(f"--out must be a path that can be written; {reason}") from None


def _require_writable(parent: Path, name: str, option: str = "--out") -> None:
    """Raise UsageError unless a file can be made in `parent`; nothing of the trial is left."""
    new_folders = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    trial = parent / f".{name}.{uuid.uuid4().hex}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        trial.mkdir()
    except OSError as error:
        raise UsageError(
            f"{option} must be a path that can be written; "
            f"{describe_system_error(error, parent / name)}"
        ) from None
    finally:
        for folder in (trial, *new_folders):
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def write_whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder next to `out`, which becomes `out` at the end.

    After an error nothing of it is left.
    """
    # A hidden folder, locked for as long as this process lives
    new_folders = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        folder = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
        folder.mkdir()
    except OSError as error:
        raise UsageError(
            f"--out must be a folder that can be written; {describe_system_error(error, out)}"
        ) from None
    lock = _lock(folder)

    # Let it be filled, and rename it
    try:
        yield folder
        try:
            if out.exists():
                out.rmdir()  # free() found it empty; if it no longer is, this fails
            folder.replace(out)
        except OSError:
            raise UsageError(
                f"--out must be a folder that nobody else writes, and {out} has been filled "
                "meanwhile by another command; it is as that one made it"
            ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for parent in new_folders:
            with suppress(OSError):
                parent.rmdir()  # if nothing came to lie in it


def _lock(folder: Path) -> int | None:
    """Lock a folder while this process lives; return the lock, or None where it cannot be had."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(out: Path) -> None:
    """Delete the hidden folders that killed processes left next to `out`."""
    for old in out.parent.glob(f".{glob.escape(out.name)}.*"):
        aged = (
            UNFINISHED_PATTERN.fullmatch(old.name.removeprefix(f".{out.name}."))
            and old.is_dir()
            and not old.is_symlink()
        )
        if aged and time.time() - old.stat().st_mtime > UNLOCKED_S:
            lock = _lock(old)
            if lock is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(lock)
