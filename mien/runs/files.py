"""Files of the store: read, hashed, and written whole or not at all."""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from mien.errors import UsageError
from mien.outside import read_text


def hash_file(path: Path, flush: bool = False) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits; if `flush`, write it to disk first."""
    with path.open("rb") as file:
        if flush:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None if there is no such file, or it is not JSON."""
    try:
        return json.loads(read_text(path))
    except (UsageError, ValueError, RecursionError):
        return None


def read_error(path: Path) -> str:
    """Return the error that a JSON file holds; empty if it holds none."""
    note = read_json(path)
    return str(note.get("error", "")) if isinstance(note, dict) else ""


def write_file(path: Path, text: str) -> None:
    """Write a file completely or not at all, by a rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_file(path: Path, value: Any) -> None:
    """Write a value as indented JSON with sorted keys, whole or not at all."""
    write_file(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it appears complete or not at all: a temporary file, then a rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# Files


def write_indented_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
