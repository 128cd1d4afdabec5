"""Folders that are handed out: whole or not at all, and nothing is left of those that were not."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.errors import UsageError
from mien.runs.folders import require_fillable, require_free, require_free_file, write_whole_folder


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_holds_is_not(tmp_path: Path):
    dead = tmp_path / f".out.{uuid.uuid4().hex}"
    for name in (dead, tmp_path / ".out.notes", tmp_path / f".other.{uuid.uuid4().hex}"):
        name.mkdir()
        os.utime(name, (1, 1))
    with write_whole_folder(tmp_path / "out") as first:
        os.utime(first, (1, 1))
        with (
            pytest.raises(UsageError, match="filled meanwhile"),
            write_whole_folder(tmp_path / "out") as second,
        ):
            (second / "x").write_text("x")
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "y").write_text("y")
        assert first.exists() and not dead.exists()
        (tmp_path / "out" / "y").unlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_refusal_leaves_no_folder_behind(tmp_path: Path):
    with pytest.raises(ValueError, match="no"), write_whole_folder(tmp_path / "a" / "b" / "out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("check", [require_free, require_fillable, require_free_file])
def test_a_path_that_cannot_be_written_is_refused_and_nothing_is_made(
    tmp_path: Path, check: Callable[[Path], Path]
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("file/x", "file/x/y", "new/" + "n" * 256, "n" * 240, "nul\0", "loop/x"):
        with pytest.raises(UsageError, match="must be a path that can be written"):
            check(tmp_path / name)
    with pytest.raises(UsageError, match=r"must be a .*, and .*file is"):
        check(tmp_path / "file")
    assert check(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_a_folder_that_holds_files_can_be_added_to_and_is_not_free(tmp_path: Path):
    (tmp_path / "there").mkdir()
    assert (
        require_free(tmp_path / "there")
        == require_fillable(tmp_path / "there")
        == tmp_path / "there"
    )
    (tmp_path / "there" / "mine").write_text("mine")
    assert require_fillable(tmp_path / "there") == tmp_path / "there"
    with pytest.raises(UsageError, match="holds files"):
        require_free(tmp_path / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine"]
