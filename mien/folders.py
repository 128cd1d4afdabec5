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
from mien.outside import expanded, told

LEFT = re.compile(r"[0-9a-f]{32}")  # how a folder in the making is named, after the name that it is to have
YOUNG_S = 2.0  # for which a folder may be made, and not be locked yet


def free(out: Path) -> Path:
    """Return the absolute path of `out`; raises UsageError unless it does not exist yet, or is an empty folder."""
    out = expanded(out).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        state = "holds files" if out.is_dir() else "is a file"
        raise UsageError(f"--out must be a folder that does not exist yet, or is empty, and {out} {state}")
    return out


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its place at the end; nothing is left if that is not reached."""
    made = [place for place in out.parents if not place.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        folder = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
        folder.mkdir()
    except OSError as error:
        raise UsageError(f"--out must be a folder that can be written; {told(error, out)}") from None
    held = _hold(folder)
    try:
        yield folder
        try:
            if out.exists():
                out.rmdir()  # free() found it empty; if it no longer is, this fails
            folder.replace(out)
        except OSError:
            raise UsageError(
                f"--out must be a folder that nobody else writes, and {out} has been filled meanwhile by another "
                "command; it is as that one made it"
            ) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)
        for place in made:
            with suppress(OSError):
                place.rmdir()  # if nothing came to lie in it


def _hold(folder: Path) -> int | None:
    """Lock a folder for as long as this process lives, and return what closes it; nothing where that cannot be done."""
    try:
        import fcntl

        held = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def _sweep(out: Path) -> None:
    """Delete what killed processes left of `out`: folders of its hidden names that no living process holds."""
    for old in out.parent.glob(f".{glob.escape(out.name)}.*"):
        aged = LEFT.fullmatch(old.name.removeprefix(f".{out.name}.")) and old.is_dir() and not old.is_symlink()
        if aged and time.time() - old.stat().st_mtime > YOUNG_S:
            held = _hold(old)
            if held is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(held)
