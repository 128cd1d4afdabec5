"""Folders that are handed out: whole or not at all, and nothing is left of those that were not."""

import os
import uuid
from pathlib import Path

import pytest

from mien.errors import UsageError
from mien.folders import whole


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(tmp_path: Path):
    dead = tmp_path / f".out.{uuid.uuid4().hex}"
    for name in (dead, tmp_path / ".out.notes", tmp_path / f".other.{uuid.uuid4().hex}"):
        name.mkdir()
        os.utime(name, (1, 1))
    with whole(tmp_path / "out") as first:
        os.utime(first, (1, 1))
        with pytest.raises(UsageError, match="filled meanwhile"), whole(tmp_path / "out") as second:
            (second / "x").write_text("x")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "y").write_text("y")
        assert first.exists() and not dead.exists()
        (tmp_path / "out" / "y").unlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_refusal_leaves_no_folder_behind(tmp_path: Path):
    with pytest.raises(ValueError, match="no"), whole(tmp_path / "a" / "b" / "out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())
