"""What comes from outside: files that may be anything, names that may hold anything, a system that
refuses.
"""

import errno
import os
from pathlib import Path

import pytest

from mien.errors import DataError, UsageError
from mien.outside import (
    describe_system_error,
    expand_home,
    is_disk_full,
    is_foreign,
    read_text,
    show_controls,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë, 李, naïve café", "Zoë, 李, naïve café"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("bell\x07, back\x08, \x9b1m", r"bell\x07, back\x08, \x9b1m"),
        ("left\u202eright\u2066", r"left\u202eright\u2066"),
        ("zero\u200bwidth\ufeff\u00ad", r"zero\u200bwidth\ufeff\xad"),
        ("a\rb\u2028c", r"a\rb\u2028c".replace(r"\r", r"\x0d")),
        ("tag\U000e0041", r"tag\U000e0041"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
    ],
)
def test_control_and_direction_characters_are_printed_visibly(text: str, shown: str):
    assert show_controls(text) == shown


def test_a_line_can_be_kept_one_line():
    assert show_controls("a\nb", keep="") == r"a\x0ab"


@pytest.mark.parametrize(
    "name",
    (
        *(
            ".DS_Store",
            "._images.npy",
            "Thumbs.db",
            "THUMBS.DB",
            "desktop.ini",
            ".nfs0000000012ab34cd",
        ),
        *(
            "@eaDir/images.npy@SynoEAStream",
            ".Trash-1000/files/x",
            ".~lock.labels.csv#",
            "part/.DS_Store",
        ),
    ),
)
def test_what_systems_leave_in_folders_is_known(name: str):
    assert is_foreign(name) and is_foreign(Path(name))


@pytest.mark.parametrize(
    "name", ["images.npy", ".hidden.csv", "DS_Store", "thumbs.dbx", ".nfs", "_images.npy", ".a.b"]
)
def test_what_anybody_may_have_put_there_is_not_taken_for_the_systems(name: str):
    assert not is_foreign(name)


def test_a_text_is_read_with_and_without_a_mark(tmp_path: Path):
    for place, data in enumerate((b"a,b\r\nc", b"\xef\xbb\xbfa,b\r\nc")):
        path = tmp_path / f"{place}.csv"
        path.write_bytes(data)
        assert read_text(path) == "a,b\r\nc"


def test_what_is_no_text_is_refused_and_said(tmp_path: Path):
    (tmp_path / "latin.csv").write_bytes(b"a\nb\nM\xfcller\n")
    (tmp_path / "binary.csv").write_bytes(b"a\0b")
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    faults = {
        "latin.csv": "line 3 is not",
        "binary.csv": "holds NUL bytes",
        "folder.csv": "is a folder",
        "pipe.csv": "is a pipe",
        "loop.csv": "that can be read",
        "none.csv": "there is none",
        "latin.csv/x": "that can be read",
        "n" * 300: "that can be read",
        "nul\0.csv": "that can be read",
    }
    for name, fault in faults.items():
        with pytest.raises(DataError, match=fault):
            read_text(tmp_path / name, "a table")
    with pytest.raises(DataError, match="device"):
        read_text(Path("/dev/zero"))


def test_no_more_is_read_than_the_limit(tmp_path: Path):
    with (tmp_path / "sparse.toml").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match="at most 2 MB"):
        read_text(tmp_path / "sparse.toml", "a TOML file", 2 << 20)


def test_a_home_of_nobody_is_one_message():
    assert expand_home(Path("~")) == Path.home()
    with pytest.raises(UsageError, match="who is not known here"):
        expand_home(Path("~nobody-of-this-name/x"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        OSError("4096 requested and 1024 written"),
        OSError(
            "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"
        ),
    ],
)
def test_a_full_disk_is_known_however_it_is_told(error: OSError):
    assert is_disk_full(error)
    assert "make room" in describe_system_error(
        error, "/store"
    ) and "/store" in describe_system_error(error, "/store")


def test_other_errors_of_the_system_say_where_and_what_to_do():
    long = OSError(errno.ENAMETOOLONG, "File name too long", "/x" * 200)
    assert (
        not is_disk_full(long)
        and "choose a shorter path" in describe_system_error(long)
        and "/x/x" in describe_system_error(long)
    )
    assert "make it readable" in describe_system_error(
        PermissionError(errno.EACCES, "Permission denied", "/a"), "/b"
    )
    assert (
        describe_system_error(OSError("odd"), "/b") == "/b: odd; fix that, or choose another path"
    )
