"""Jobs: the run that each makes, its outcome, and the contract of engines."""

import json
import multiprocessing
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mien.errors import MienError, UsageError
from mien.outside import describe_system_error, is_disk_full
from mien.runs.files import read_error, read_json, write_whole
from mien.runs.spec import RUN_NAME
from mien.runs.store import Store

FAILURE_FILE = "failed.json"  # in the work folder of a run that could not be made: its first error

NOT_BEGUN_PREFIX = "what it needs could not be made: "

POLL_S = 0.2  # how often other processes' work is looked at

START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


@dataclass(frozen=True)
class Job:
    """A run to be made by `make(store, **arguments)`, which returns a line about it.

    `make` is a function of a module, so that other processes can import it. `after` names the runs
    that must exist before.
    """

    run: str
    label: str
    make: Callable[..., str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a text, with an error, or `stopped` on request.

    `disk_full` means that the error is a full disk of the store, which all other jobs would meet
    too.
    """

    run: str
    text: str = ""
    error: str = ""
    stopped: bool = False
    disk_full: bool = False


@runtime_checkable
class Engine(Protocol):
    """Where jobs are done: `slots` at a time, no more.

    `begin` starts a job. `collect_ended` returns those that have ended, after `seconds` at the
    latest. `stop` ends all running jobs: after they have saved their state, or `now`.
    """

    @property
    def slots(self) -> int:
        """How many jobs at a time."""
        ...

    def begin(self, job: Job, store: Store) -> None:
        """Start a job."""
        ...

    def collect_ended(self, seconds: float) -> list[Outcome]:
        """Return how jobs ended."""
        ...

    def stop(self, now: bool) -> None:
        """End all jobs."""
        ...


def perform(job: Job, store: Store) -> Outcome:
    """Do a job in this process, as all engines do; its error is noted in the store, not raised."""
    try:
        return Outcome(job.run, job.make(store, **job.arguments))
    except Exception as error:
        return Outcome(
            job.run, error=note_failure(store, job.run, error), disk_full=is_disk_full(error)
        )


# Failures


def note_failure(store: Store, run: str, error: Exception) -> str:
    """Write an error beside the unfinished run that it stopped, and return it in one line.

    What mien did not raise on purpose is written with its traceback. The note goes when the run is
    made: the store then removes the run's work folder. A full disk keeps the note from being
    written, and nothing else.
    """
    # What to say of the error, and the exit code
    text, code, trace = str(error).strip() or type(error).__name__, UsageError.exit_code, []
    if isinstance(error, MienError):
        text, code = text.splitlines()[0], error.exit_code
    elif isinstance(error, OSError):
        text = describe_system_error(error, store.root)
    else:
        text, code = f"{type(error).__name__}: {text.splitlines()[0]}", MienError.exit_code
        trace = traceback.format_exception(error)

    # Write it next to the unfinished run
    note = {"error": text, "exit_code": code, "traceback": "".join(trace).splitlines()}
    if RUN_NAME.match(run):
        with suppress(OSError):
            folder = store.root / "work" / run
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / FAILURE_FILE, (json.dumps(note, indent=1) + "\n").encode())
    return text


def read_failure(store: Store, run: str) -> str:
    """Return the error that stopped an unfinished run, or nothing."""
    return read_error(store.root / "work" / run / FAILURE_FILE)


def restore_error(store: Store, run: str, text: str) -> MienError:
    """Return the error of a job, for a command that cannot go on without its run: with the exit
    code that it had.

    What was noted of a refusal is deleted: the same command can only be refused again.
    """
    path = store.root / "work" / run / FAILURE_FILE
    note = read_json(path)
    error = MienError(text)
    if isinstance(note, dict) and isinstance(note.get("exit_code"), int):
        error.exit_code = note["exit_code"]
    if error.exit_code == UsageError.exit_code:
        path.unlink(missing_ok=True)
        store.remove_useless_work(run)
    return error


def read_log(store: Store, run: str) -> str:
    """Return what the process of a job has said so far, nothing if it has no log."""
    try:
        return name_log_file(store, run).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def name_log_file(store: Store, run: str) -> Path:
    """Return the path of the file that holds what a job printed."""
    return store.root / "work" / f"{run}.log"


@contextmanager
def defer_interrupts() -> Iterator[None]:
    """Block Ctrl-C in this context, and for good in the fork server, if that starts here.

    A terminal sends the signal to the fork server too, which would end with a traceback while it
    loads modules. It ends with this process anyway.
    """
    if START_METHOD == "forkserver":
        resource_tracker.ensure_running()  # which lets Ctrl-C through once it has begun
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
