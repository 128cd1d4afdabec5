"""Output that is closed, full, ASCII only or read by nobody, names that would act on a terminal,
and faults in mien.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from worlds import inside

from mien.cli.base import print_table
from mien.ingest.readers import folder


def shell(where: Path, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "MIEN": f"{sys.executable} -m mien",
        "MIEN_STORE": str(where / "store"),
        **more,
    }
    return subprocess.run(
        ["bash", "-c", line],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$MIEN --help > /dev/full", 2, "free some space"),
        ("$MIEN readers >&-", 0, "`mien readers NAME`"),
        ("$MIEN --version 2>&-", 0, ""),
        ("$MIEN nothing 2>/dev/full", 2, ""),
        ("for n in {1..4}; do $MIEN --help; done | head -c 1; exit ${PIPESTATUS[0]}", 0, ""),
        ("$MIEN --version <&- >&- 2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_one_message_or_none(
    tmp_path: Path, line: str, code: int, said: str
):
    done = shell(tmp_path, line)
    assert done.returncode == code
    assert (
        said in done.stderr
        and "Traceback" not in done.stderr
        and "Exception ignored" not in done.stderr
    )


def test_letters_that_the_output_lacks_are_replaced(tmp_path: Path):
    done = shell(
        tmp_path,
        "$MIEN show 'Zoë 李'; $MIEN --help",
        PYTHONIOENCODING="ascii",
        LC_ALL="C",
        PYTHONUTF8="0",
    )
    assert (
        "Traceback" not in done.stderr
        and "no run or alias 'Zo" in done.stderr
        and "Usage" in done.stdout
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "\x1b]0;title\x07"],
        ["study", "run", "\x1b[2J.toml"],
        ["\x9b31m"],
        ["ingest", "folder", "a\u202eb"],
    ],
)
def test_what_would_act_on_a_terminal_is_shown(tmp_path: Path, arguments: list[str]):
    text = inside(tmp_path, *arguments, code=2)
    assert text.isprintable() or set(text) - set("\n") == {
        char for char in text if char.isprintable()
    }
    assert "\\x" in text or "\\u202e" in text


def test_a_table_shows_brackets_and_control_characters_as_they_are(
    capsys: pytest.CaptureFixture[str],
):
    table = Table("a[/b]", "[bold]x", box=None)
    table.add_row("[link=http://x]", "\x1b[5m:smile:")
    print_table(table)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("a[/b]", "[bold]x", "[link=http://x]", r"\x1b[5m:smile:"))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ZeroDivisionError("division by zero"),
            1,
            "a fault in mien itself: ZeroDivisionError: division by zero",
        ),
        (MemoryError(), 2, "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
            2,
            "not enough memory",
        ),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (
            RuntimeError("Symlink loop from '/x/y'"),
            2,
            "/x/y: Too many levels of symbolic links; the link leads back",
        ),
        (
            PermissionError(13, "Permission denied", "/x/y"),
            2,
            "/x/y: Permission denied; make it readable",
        ),
        (OSError("2145024 requested and 913280 written"), 2, "make room"),
    ],
)
def test_what_nobody_expected_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, said: str
):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(folder, "scan", fail)
    (tmp_path / "faces").mkdir()
    text = inside(tmp_path, "ingest", "folder", "faces", code=code)
    assert said in text and len(text.splitlines()) == 1


def test_where_a_fault_arose_is_printed_when_asked_for(tmp_path: Path):
    done = shell(tmp_path, "$MIEN --traceback show nothing")
    assert done.returncode == 2 and "Traceback" in done.stderr and "resolve" in done.stderr


@pytest.mark.parametrize("alias", ["b\n", "../x", "-x", "Zo\u00eb", "x" * 81, "edm-0123456789ab"])
@pytest.mark.parametrize(
    "command", [["ingest", "folder", "nowhere"], ["generate", "nothing"], ["join", "a", "b"]]
)
def test_a_bad_alias_is_refused_before_anything_else_is_looked_at(
    tmp_path: Path, command: list[str], alias: str
):
    assert "an alias must be" in inside(tmp_path, *command, f"--as={alias}", code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "device", ["tpu", "cuda:x", "cuda:-1", "cpu:0", "cuda:99", "CPU", "", "cpu\n", "mps:1"]
)
def test_a_device_that_is_not_there_is_refused_before_anything_else_is_looked_at(
    tmp_path: Path, device: str
):
    for command in (["train", "nothing"], ["study", "run", "nothing.toml"], ["demo"]):
        assert "the device" in inside(tmp_path, *command, "--device", device, code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "{a=" * 3000])
def test_a_setting_without_an_end_is_refused(tmp_path: Path, value: str):
    assert "too long or nested too deeply" in inside(
        tmp_path, "train", "nothing", "--set", f"batch={value}", code=2
    )


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 20_000,
        "x = " + "7" * 5000,
        "a = 1\0",
        "[a" + ".a" * 20_000 + "]\n",
        "x = 2024-13-40",
    ],
)
def test_a_study_that_no_reader_can_take_is_one_message(tmp_path: Path, text: str):
    (tmp_path / "study.toml").write_text(text)
    assert "study.toml" in inside(tmp_path, "study", "plan", "study.toml", code=2)


def test_a_study_that_is_no_file_is_one_message_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loud.toml").symlink_to("/dev/zero")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    for name in ("pipe.toml", "folder.toml", "loud.toml", "latin.toml"):
        assert "must be a TOML file" in inside(tmp_path, "study", "run", name, code=2)
