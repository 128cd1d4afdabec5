"""Folders that are handed out: they appear whole, or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mien.errors import UsageError


def free(out: Path) -> Path:
    """Return the absolute path of `out`; raises UsageError unless it does not exist yet, or is an empty folder."""
    out = out.expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        state = "holds files" if out.is_dir() else "is a file"
        raise UsageError(f"--out must be a folder that does not exist yet, or is empty, and {out} {state}")
    return out


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its place at the end; nothing is left if that is not reached."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    folder.mkdir()
    try:
        yield folder
        if out.exists():
            out.rmdir()  # free() found it empty; if it no longer is, this fails
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
