"""Activity: which runs are being made now, how far, and how to stop one."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mien.errors import StoreError
from mien.runs.claims import DEAD_AFTER_S, is_dead, name_machine, read_claimed_progress
from mien.runs.jobs import read_log
from mien.runs.progress import Reached
from mien.runs.store import Store

FORK_SERVER = b"multiprocessing.forkserver"


@dataclass(frozen=True)
class Activity:
    """A run that a process makes now.

    `is_here` says whether that is on this machine, so that this process can stop it. `last_line` is
    the last line of the job's output, for jobs that an engine has begun.
    """

    run: str
    machine: str
    pid: int
    is_here: bool
    reached: Reached | None
    last_line: str


def list_activity(store: Store) -> list[Activity]:
    """Return the runs that are being made now, by their names.

    A claim counts if its process is alive, or, on another machine, if its heartbeat was written in
    the last minute by the clock of the file server.
    """
    folder = store.root / "work"
    paths = sorted(folder.glob("*.claim")) if folder.is_dir() else []
    return [found for path in paths if (found := _read_activity(path, store)) is not None]


def _read_activity(path: Path, store: Store) -> Activity | None:
    """Return what a claim says, None if it does not belong to a process that works."""
    claim = store.read_claim(path.stem)
    machine, pid = [*claim.split(maxsplit=2), "", ""][:2]
    if not pid.isdigit() or is_dead(claim) or store.is_done(path.stem):
        return None
    is_here = machine == name_machine()
    with suppress(OSError):
        if not is_here and time.time() - path.stat().st_mtime > DEAD_AFTER_S:
            return None
    lines = read_log(store, path.stem).splitlines()
    return Activity(
        path.stem,
        machine.partition("/")[0],
        int(pid),
        is_here,
        read_claimed_progress(claim),
        lines[-1] if lines else "",
    )


def request_stop_of(store: Store, run: str) -> Activity:
    """Ask the command that makes a run to stop, as Ctrl-C does: it first saves its state.

    Returns what was stopped. Raises StoreError if nobody makes the run, or another machine does.
    """
    found = next((activity for activity in list_activity(store) if activity.run == run), None)
    if found is None:
        raise StoreError(f"{run} must be a run that is being made now, and is not")
    if not found.is_here:
        raise StoreError(
            f"{run} is being made on {found.machine}; stop process {found.pid} on that machine"
        )

    # The command itself; a process that ignores Ctrl-C, as in the background, heeds SIGTERM
    pid = find_command(found.pid)
    try:
        os.kill(pid, signal.SIGTERM if _ignores_interrupts(pid) else signal.SIGINT)
    except ProcessLookupError:
        raise StoreError(
            f"{run} must be a run that is being made now, and has just ended"
        ) from None
    except PermissionError:
        raise StoreError(f"{run} is made by a process of another user; ask that user") from None
    return found


def find_command(pid: int) -> int:
    """Return the process of the command to which a worker belongs, else the process itself."""
    parent = _read_parent(pid)
    if parent and FORK_SERVER in _read_process_file(parent, "cmdline"):
        return _read_parent(parent) or pid
    return pid


def _read_parent(pid: int) -> int:
    """Return the parent of a process, 0 if it is not known."""
    fields = _read_process_file(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _ignores_interrupts(pid: int) -> bool:
    """Whether a process ignores SIGINT, as far as the system says."""
    for line in _read_process_file(pid, "status").splitlines():
        name, _, mask = line.partition(b":")
        if name == b"SigIgn":
            return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)
    return False


def _read_process_file(pid: int, name: str) -> bytes:
    """Return what Linux says about a process, nothing on other systems."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""
