"""Commands of mien in processes that outlive the one that starts them."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import StoreError, UsageError
from mien.runs.claims import name_machine
from mien.runs.files import read_json, write_json_file
from mien.runs.store import Store

COMMANDS_FOLDER = "commands"  # in the store: a note and a log for each command

COMMAND_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{12}\Z")  # that of a run, which it makes

LOG_BYTES = 20_000  # of the end of a log, which is shown

_children: dict[int, subprocess.Popen[bytes]] = {}  # those that this process started


@dataclass(frozen=True)
class Command:
    """A command that was started: what it makes, its words, and whether it still runs.

    `run` names the run that it makes, or belongs to. `began` is in seconds since 1970. `code` is
    the exit code, None while it runs, or if the process that started it has ended.
    """

    run: str
    words: tuple[str, ...]
    pid: int
    began: float
    running: bool
    code: int | None
    log: str

    @property
    def text(self) -> str:
        """The command as it is typed in a shell."""
        return shlex.join(self.words)

    @property
    def last_line(self) -> str:
        """The last line that it printed, or an empty text."""
        lines = [line for line in self.log.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def write_command(arguments: Sequence[str], store: Store) -> tuple[str, ...]:
    """Return the words of a command on a store, as they are typed: mien, the arguments, --store."""
    return ("mien", *arguments, "--store", str(store.root))


def start_command(run: str, arguments: Sequence[str], store: Store) -> Command:
    """Start `mien ARGUMENTS` on a store, unless the command of this run is still running.

    The process goes on if this one ends or is killed. What it prints is kept in the store; the same
    call, or the same command in a shell, resumes what was stopped. `run` names the run that it
    makes.

    Raises UsageError for a name that is not that of a run, and StoreError if the store cannot be
    written.
    """
    now = read_command(run, store)
    if now is not None and now.running:
        return now

    # The log is written by the process itself, so that nobody has to read from a pipe
    folder, words = store.root / COMMANDS_FOLDER, write_command(arguments, store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{run}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mien", *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
            )
    except OSError as error:
        raise StoreError(f"the command could not be started: {error}") from error

    # The note, by which any process finds it again
    _children[process.pid] = process
    note = {
        "words": list(words),
        "pid": process.pid,
        "machine": name_machine(),
        "process": _identify_process(process.pid),
        "began": time.time(),
    }
    write_json_file(folder / f"{run}.json", note)
    command = read_command(run, store)
    assert command is not None
    return command


def read_command(run: str, store: Store) -> Command | None:
    """Return the last command that was started for a run, or None if there is none.

    Raises UsageError for a name that is not that of a run.
    """
    _require_run_name(run)
    folder = store.root / COMMANDS_FOLDER
    note = read_json(folder / f"{run}.json")
    if not isinstance(note, dict) or not isinstance(note.get("words"), list):
        return None
    pid = int(note.get("pid", 0))
    child = _children.get(pid)
    code = None if child is None else child.poll()
    # Of a child, the code decides: while it ends, its first thread can have ended already
    running = _is_running(note) if child is None else code is None
    return Command(
        run=run,
        words=tuple(map(str, note["words"])),
        pid=pid,
        began=float(note.get("began", 0)),
        running=running,
        code=code,
        log=_read_end(folder / f"{run}.log"),
    )


def list_commands(store: Store) -> list[Command]:
    """Return all commands that were started on a store, the latest first."""
    folder = store.root / COMMANDS_FOLDER
    names = [path.stem for path in folder.glob("*.json")] if folder.is_dir() else []
    commands = [read_command(name, store) for name in names if COMMAND_NAME.match(name)]
    return sorted((one for one in commands if one is not None), key=lambda one: -one.began)


def stop_command(run: str, store: Store, now: bool = False) -> bool:
    """Ask the command of a run to save its state and stop, or end it `now`; return whether it ran.

    Only a command that `start_command` started on this machine is stopped.
    """
    command = read_command(run, store)
    if command is None or not command.running:
        return False
    with suppress(ProcessLookupError):
        if now:
            os.killpg(command.pid, signal.SIGKILL)
        else:
            os.kill(command.pid, signal.SIGTERM)  # it stops its own workers, which save first
    return True


def _require_run_name(run: str) -> None:
    if not COMMAND_NAME.match(run):
        raise UsageError(f"the name of a run must be given, such as edm-0123456789ab; given: {run}")


def _is_running(note: dict[str, Any]) -> bool:
    """Whether the process of a note runs on this machine, and is no later one of its number."""
    pid = int(note.get("pid", 0))
    if note.get("machine") != name_machine() or pid < 2:
        return False
    identity = _identify_process(pid)
    return bool(identity) and identity == note.get("process")


def _identify_process(pid: int) -> str:
    """Return when a process began, in the ticks of the system; empty if it has ended.

    Without /proc it is `running` for each process that there is.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():
        try:
            os.kill(pid, 0)
        except OSError:
            return ""
        return "running"
    try:
        fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _read_end(path: Path) -> str:
    """Return the end of a log, without the part of a line at its beginning."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text if size <= LOG_BYTES else text.partition("\n")[2]
