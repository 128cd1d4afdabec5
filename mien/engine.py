"""The engine: jobs that need each other, done in this process, in processes beside it, or on a Ray
cluster.

A job is a function of a module and its arguments, and makes a run of the store. Each has an
operating-system process of its own (but in `Local(0)`, for debuggers), so what crashes or is killed
costs one job. Whoever does it, it is done by the same function, `perform`, and no number depends on
where: what does depend on threads has their count in its spec.

The store is all that engines share. What is done there is never done again, and what another
process is at is left to it, so any number of commands on any number of machines may work on one
study.
"""

import faulthandler
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from mien import stopping, training
from mien.errors import MienError, StoreError, UsageError, WorkerDied
from mien.outside import no_room, told
from mien.progress import duration, say
from mien.spec import RUN_NAME
from mien.store import Pulse, Store, read_error, read_json

FAILED = "failed.json"  # in the work folder of a run that could not be made: its first error
NOT_BEGUN = "what it needs could not be made: "
LOOK_S = 0.2  # how often other processes' work is looked at
TELL_S = 60.0  # how often it is told what long jobs are at
WORKER_BYTES = 4 << 30  # memory that a worker should have; no more are started by default
RETRIES = 3  # of a job whose worker was lost with its machine, on Ray
START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
# What workers find loaded when they are forked; the last two are what the first step and the first
# file would load.
PRELOADED = ["mien.study", "torch._dynamo", "pyarrow.parquet"]


@dataclass(frozen=True)
class Job:
    """A run to be made by `make(store, **arguments)`, which returns what to say of it; a function
    of a module.

    `after` are the runs that it cannot be made without.
    """

    run: str
    label: str
    make: Callable[..., str]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a text, with an error, or `stopped` because that was asked for.

    `full` is an error that all other jobs would meet too: the store's disk has no room left.
    """

    run: str
    text: str = ""
    error: str = ""
    stopped: bool = False
    full: bool = False


@runtime_checkable
class Engine(Protocol):
    """Where jobs are done: `slots` at a time, no more.

    `begin` starts one, `ended` returns those that have ended, after `seconds` at the latest, and
    `stop` ends all that run: once they have kept what they have, or `now`.
    """

    @property
    def slots(self) -> int:
        """How many jobs at a time."""
        ...

    def begin(self, job: Job, store: Store) -> None:
        """Start a job."""
        ...

    def ended(self, seconds: float) -> list[Outcome]:
        """Return how jobs ended."""
        ...

    def stop(self, now: bool) -> None:
        """End all jobs."""
        ...


def perform(job: Job, store: Store) -> Outcome:
    """Do a job in this process: the one worker function of all engines. Its error is noted in the
    store, not raised.
    """
    try:
        return Outcome(job.run, job.make(store, **job.arguments))
    except Exception as error:
        return Outcome(job.run, error=note_failure(store, job.run, error), full=no_room(error))


# Jobs that need each other


def work(jobs: Sequence[Job], store: Store, engine: Engine) -> dict[str, str]:
    """Do the jobs, each as soon as what it needs is there; return the error of each that failed.

    What other processes are at is left to them, and taken over if their heart stops. Ctrl-C and
    SIGTERM let what runs keep its checkpoint, a second one ends it at once; both raise
    KeyboardInterrupt. Where the disk of the store is full, what runs may end, nothing more is
    begun, and StoreError is raised.
    """
    board = _Board(list(jobs), store)
    try:
        with stopping.heeded():
            while board.left or board.running:
                if stopping.asked():
                    _wind_up(board, engine)
                    stopping.obey()
                for outcome in engine.ended(0.0 if board.fill(engine) else LOOK_S):
                    board.take(outcome)
                if board.full:
                    _wind_up(board, engine)
                    raise StoreError(board.full)
                board.tell()
    finally:
        engine.stop(now=True)
    store.sweep()
    if board.idle:
        say(f"{board.idle} of {len(jobs)} were not begun, for want of what failed before them")
    return board.failed


def _wind_up(board: "_Board", engine: Engine) -> None:
    engine.stop(now=False)
    while board.running:
        for outcome in engine.ended(LOOK_S):
            board.take(outcome)


class _Board:
    """What is left, what runs, what was made and what failed."""

    def __init__(self, jobs: list[Job], store: Store) -> None:
        self.left, self.total, self.store = jobs, len(jobs), store
        self.ours = {job.run for job in jobs}
        self.running: dict[str, tuple[Job, float]] = {}
        self.made: set[str] = set()
        self.failed: dict[str, str] = {}
        self.full = ""
        self.idle, self.count, self.told = 0, 0, time.monotonic()
        self.pulses: dict[str, Pulse] = defaultdict(Pulse)

    def fill(self, engine: Engine) -> bool:
        """Begin what can be begun; return whether anything was."""
        begun = False
        for job in list(self.left):
            if len(self.running) >= engine.slots:
                break
            lacking = next((name for name in job.after if name in self.failed), None)
            if lacking is not None:
                self.left.remove(job)
                reason = f"{NOT_BEGUN}{self.failed[lacking].removeprefix(NOT_BEGUN)}"
                self.failed[job.run] = note_failure(self.store, job.run, MienError(reason))
                self.idle, self.count = self.idle + 1, self.count + 1
            elif self.store.done(job.run) and not self.store.altered(job.run):
                self.left.remove(job)
                self.made.add(job.run)
                self.say(job, "made by another process", 0.0)
            elif all(self.there(name) for name in job.after) and not self.elsewhere(job.run):
                self.left.remove(job)
                self.running[job.run] = job, time.monotonic()
                engine.begin(job, self.store)
                begun = True
        return begun

    def there(self, name: str) -> bool:
        """Whether what a job needs is made, by us or before us."""
        return name in self.made or (name not in self.ours and self.store.done(name))

    def elsewhere(self, name: str) -> bool:
        """Whether another process is at it, and alive."""
        claim = self.store.claimed(name)
        return bool(claim) and not self.pulses[name].stopped(claim)

    def take(self, outcome: Outcome) -> None:
        """Take in how a job ended."""
        job, began = self.running.pop(outcome.run)
        if outcome.stopped:
            return
        if outcome.full:
            self.full = outcome.error
        if outcome.error:
            self.failed[job.run] = outcome.error
        else:
            self.made.add(job.run)
        self.say(
            job,
            f"failed: {outcome.error}" if outcome.error else outcome.text,
            time.monotonic() - began,
        )

    def say(self, job: Job, text: str, seconds: float) -> None:
        """Say how a job ended."""
        self.count += 1
        say(f"[{self.count}/{self.total}] {job.label}: {text} ({duration(seconds)})")

    def tell(self) -> None:
        """Say now and then what the jobs that run say themselves."""
        if time.monotonic() - self.told < TELL_S:
            return
        self.told = time.monotonic()
        for job, _ in self.running.values():
            lines = log_of(self.store, job.run).splitlines()
            if lines:
                say(f"  {job.label}: {lines[-1]}")


# Failures


def note_failure(store: Store, run: str, error: Exception) -> str:
    """Write an error beside the unfinished run that it stopped, and return it in one line.

    What mien did not raise on purpose is written with its traceback. The note goes when the run is
    made: the store then removes the run's work folder. A full disk keeps the note from being
    written, and nothing else.
    """
    text, code, trace = str(error).strip() or type(error).__name__, UsageError.exit_code, []
    if isinstance(error, MienError):
        text, code = text.splitlines()[0], error.exit_code
    elif isinstance(error, OSError):
        text = told(error, store.root)
    else:
        text, code = f"{type(error).__name__}: {text.splitlines()[0]}", MienError.exit_code
        trace = traceback.format_exception(error)
    note = {"error": text, "exit_code": code, "traceback": "".join(trace).splitlines()}
    if RUN_NAME.match(run):
        with suppress(OSError):
            folder = store.root / "work" / run
            folder.mkdir(parents=True, exist_ok=True)
            training.write_whole(folder / FAILED, (json.dumps(note, indent=1) + "\n").encode())
    return text


def failure(store: Store, run: str) -> str:
    """Return the error that stopped an unfinished run, or nothing."""
    return read_error(store.root / "work" / run / FAILED)


def error_of(store: Store, run: str, text: str) -> MienError:
    """Return the error of a job, for a command that cannot go on without its run: with the exit
    code that it had.

    What was noted of a refusal is deleted: the same command can only be refused again.
    """
    path = store.root / "work" / run / FAILED
    note = read_json(path)
    error = MienError(text)
    if isinstance(note, dict) and isinstance(note.get("exit_code"), int):
        error.exit_code = note["exit_code"]
    if error.exit_code == UsageError.exit_code:
        path.unlink(missing_ok=True)
        store.tidy(run)
    return error


def log_of(store: Store, run: str) -> str:
    """Return what the process of a job has said so far, nothing if it has no log."""
    try:
        return _log(store, run).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _log(store: Store, run: str) -> Path:
    return store.root / "work" / f"{run}.log"


# In processes of this machine


class Local:
    """Jobs in `workers` processes of this machine, each forked for one job; 0 does them in this
    process.

    By default there are as many as cards (each job has `gpus` of one: 0.5 lets two share it) or,
    without cards, as cores and memory allow. `cores` is what each may use of the processor, a fair
    share by default.
    """

    def __init__(
        self,
        workers: int | None = None,
        gpus: float = 1.0,
        device: str = "auto",
        cores: int | None = None,
    ) -> None:
        if workers is not None and workers < 0:
            raise UsageError(
                f"the number of workers must be 0 (this process) or more; given: {workers}"
            )
        require_share(gpus)
        cards = [] if workers == 0 else training.cards(device)
        if workers is None:
            workers = math.floor(len(cards) / gpus) if cards else usual_workers()
        if cards and workers * gpus > len(cards):
            raise UsageError(
                f"{workers} workers with {gpus:g} of a card each need {math.ceil(workers * gpus)} "
                "cards, and there are "
                f"{len(cards)}; give fewer --workers, or a smaller --gpus-per-trial"
            )
        self.inline, self.slots = workers == 0, max(1, workers)
        self._places = {place: _cards_of(place, gpus, cards) for place in range(self.slots)}
        self._cores = cores or max(1, usable_cores() // self.slots)
        self._running: dict[str, _Process] = {}
        self._done: list[Outcome] = []

    def begin(self, job: Job, store: Store) -> None:
        """Start a job in a process; without workers, do it."""
        if self.inline:
            self._done.append(perform(job, store))
            return
        taken = {process.place for process in self._running.values()}
        place = next(place for place in self._places if place not in taken)
        self._running[job.run] = _Process(job, store, place, self._places[place], self._cores)

    def ended(self, seconds: float) -> list[Outcome]:
        """Return how the jobs ended that have, after so many seconds at the latest."""
        done, self._done = self._done, []
        if self._running:
            wait([process.answer for process in self._running.values()], 0.0 if done else seconds)
        elif not done:
            time.sleep(seconds)
        for name, process in list(self._running.items()):
            if not process.alive:
                done.append(self._running.pop(name).outcome())
        return done

    def stop(self, now: bool) -> None:
        """End all jobs: once they have kept what they have, or now."""
        for process in self._running.values():
            process.stop(now)
        if now:
            for process in self._running.values():
                process.outcome()
            self._running.clear()


class _Process:
    """A job in a process of its own, forked from a server that has everything loaded but has done
    nothing yet.
    """

    def __init__(self, job: Job, store: Store, place: int, cards: str | None, cores: int) -> None:
        self.job, self.store, self.place, self._asked = job, store, place, False
        if cards is not None and str(job.arguments.get("device", "")).startswith("cuda:"):
            job = replace(
                job, arguments={**job.arguments, "device": "cuda"}
            )  # it sees that card alone
        (store.root / "work").mkdir(parents=True, exist_ok=True)
        context: Any = multiprocessing.get_context(START)
        context.set_forkserver_preload(PRELOADED)
        self.answer, theirs = context.Pipe(duplex=False)
        seen = {} if cards is None else {"CUDA_VISIBLE_DEVICES": cards}
        arguments = (job, store.root, _log(store, job.run), seen, cores, theirs)
        self._process = context.Process(target=_in_process, args=arguments, daemon=True)
        with _no_main(), _no_interrupt():
            self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        """Whether it still has something to say: the end of its pipe is that of the process,
        whoever started it.
        """
        return not self.answer.poll()

    def stop(self, now: bool) -> None:
        """Ask it to keep what it has and end, or end it."""
        self._asked = True
        (self._process.kill if now else self._process.terminate)()

    def outcome(self) -> Outcome:
        """Return how it ended, once it has."""
        with self.answer, suppress(EOFError, OSError):
            if self.answer.poll() or not self._asked:
                outcome: Outcome = self.answer.recv()
                if not outcome.error:
                    _log(self.store, self.job.run).unlink(missing_ok=True)
                return outcome
        self._process.join()
        if self._asked:
            return Outcome(self.job.run, stopped=True)
        return died(self.job, self.store, self._process.exitcode)


@contextmanager
def _no_main() -> Iterator[None]:
    """Hide the program that runs from the processes that it starts inside.

    They would import it, which costs a command line or a Ray worker seconds, and runs a script once
    more. Jobs are functions of modules, so nothing is missed.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back inside, in this process for the moment, and in the fork server that may
    begin here for good.

    A terminal sends it to the fork server too, which would end in the middle of loading, with a
    traceback. It ends with this process anyway.
    """
    if START == "forkserver":
        resource_tracker.ensure_running()  # which lets Ctrl-C through once it has begun
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_process(
    job: Job,
    root: Path,
    log: Path,
    environment: Mapping[str, str],
    cores: int,
    answer: "Connection[Any, Any]",
) -> None:
    """Do a job as the whole life of this process, which ends with the one that started it."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal sends it to all; the command passes it on, as SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the fork server has blocked
    with stopping.heeded():
        with suppress(OSError), log.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        faulthandler.enable()
        os.environ.update(environment)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        with training.cores(cores), suppress(KeyboardInterrupt):
            answer.send(perform(job, Store(root)))
            return
        answer.send(Outcome(job.run, stopped=True))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def died(job: Job, store: Store, code: int | None) -> Outcome:
    """Return, and note, that the process of a job ended without an answer."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        why = {
            "SIGKILL": "was killed (SIGKILL), by hand or by the system for want of memory",
            "SIGSEGV": "crashed in native code (SIGSEGV)",
            "SIGBUS": "crashed in native code, or on a full disk (SIGBUS)",
        }.get(name, f"was ended by {name}")
    else:
        why = f"ended with exit code {code}"
    kept = f"; what it said is in work/{job.run}.log" if log_of(store, job.run) else ""
    error = WorkerDied(f"its process {why}{kept}. The same command tries it again")
    return Outcome(job.run, error=note_failure(store, job.run, error))


def require_share(gpus: float) -> None:
    """Raise UsageError unless a job can have so many cards."""
    if not 0 < gpus <= 64 or (gpus > 1 and gpus != round(gpus)):
        raise UsageError(
            f"the share of a card must be above 0 and up to 1, or a whole number; given: {gpus:g}"
        )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """Return how many workers suit this machine's processor: one a core, as long as each has memory
    enough.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 1
    return max(1, min(usable_cores(), memory // WORKER_BYTES))


def _cards_of(place: int, gpus: float, cards: Sequence[str]) -> str | None:
    """Return the cards of a worker: 0.5 of a card each gives 0, 0, 1, 1; two cards each 0,1 and
    2,3.
    """
    if not cards:
        return None
    first = math.floor(place * gpus + 1e-9)
    return ",".join(cards[first : first + max(1, math.ceil(gpus))])


# On a cluster


class Ray:
    """Jobs on a Ray cluster: at `address`, else at RAY_ADDRESS, else on a small one of this machine
    alone.

    Each worker of the cluster does a job as `Local(1)` does. Ray tries a job again if its worker
    was lost, never after an error. The store has to lie in a folder that all machines share.
    """

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        gpus: float = 1.0,
        device: str = "auto",
    ) -> None:
        require_share(gpus)
        if workers is not None and workers < 1:
            raise UsageError(f"on a cluster there must be one worker or more; given: {workers}")
        self._ray = _imported()
        self._address, self._workers, self._gpus, self._device = address, workers, gpus, device
        self._task: Any = None
        self._slots = 0
        self._running: dict[Any, tuple[Job, Store]] = {}

    @property
    def slots(self) -> int:
        """How many jobs the cluster has room for, or as many as were asked for; joins it, which
        takes half a minute.
        """
        self._slots = self._slots or self._join()
        return self._slots

    def _join(self) -> int:
        ray = self._ray
        if not ray.is_initialized():
            say("joining the Ray cluster, or starting one of this machine alone")
            ray.init(
                address=self._address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        there = ray.cluster_resources()
        cards, wanted = (
            there.get("GPU", 0.0),
            self._device.startswith("cuda") or (self._device == "auto" and "GPU" in there),
        )
        if wanted and cards < self._gpus:
            raise UsageError(
                f"the cluster must have {self._gpus:g} cards or more for a job, and has {cards:g}"
            )
        how = {
            "num_cpus": 1,
            "num_gpus": self._gpus if wanted else 0,
            "max_retries": RETRIES,
            "retry_exceptions": False,
        }
        self._task = ray.remote(_on_cluster).options(scheduling_strategy="SPREAD", **how)
        most = math.floor(cards / self._gpus if wanted else there.get("CPU", 1))
        slots = max(1, most if self._workers is None else min(most, self._workers))
        machines = sum(node["Alive"] for node in ray.nodes())
        say(f"Ray: {machines} machine{'s' * (machines != 1)}, {slots} jobs at a time")
        return slots

    def begin(self, job: Job, store: Store) -> None:
        """Hand a job to the cluster."""
        self._running[self._task.remote(job, str(store.root.resolve()))] = job, store

    def ended(self, seconds: float) -> list[Outcome]:
        """Return how the jobs ended that have, after so many seconds at the latest."""
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        job, store = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.TaskCancelledError, KeyboardInterrupt):
            return Outcome(job.run, stopped=True)
        except (
            errors.RayTaskError
        ) as error:  # before the job began: mien is not there, or another one
            told = f"the worker could not begin: {type(error.cause).__name__}: {error.cause}"
            return Outcome(job.run, error=note_failure(store, job.run, WorkerDied(told)))
        except errors.RayError as error:
            told = (
                f"its worker was lost {RETRIES + 1} times ({type(error).__name__}). The same "
                "command tries it again"
            )
            return Outcome(job.run, error=note_failure(store, job.run, WorkerDied(told)))

    def stop(self, now: bool) -> None:
        """End all jobs: once they have kept what they have, or now."""
        for reference in self._running:
            self._ray.cancel(reference, force=now)
        if now:
            self._running.clear()


def _imported() -> Any:
    """Return ray, which tells nobody that it is used."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # else it speaks of a change to come
    try:
        import ray
    except ImportError:
        raise UsageError("--engine ray needs Ray: pip install 'mien[ray]'") from None
    return ray


def _on_cluster(job: Job, root: str) -> Outcome:
    """Do a job in a process of its own, on whatever machine this is; cancelled, let it keep what it
    has.
    """
    store, cards = Store(Path(root)), len(training.cards("auto"))
    local = Local(1, float(max(1, cards)), cores=1)
    local.begin(job, store)
    while True:
        try:
            found = local.ended(LOOK_S)
            if found:
                return found[0]
        except KeyboardInterrupt:
            local.stop(now=False)


def engine(
    name: str = "local", workers: int | None = None, gpus: float = 1.0, device: str = "auto"
) -> Engine:
    """Return the engine of a name, local or ray; raises UsageError if it cannot be had as asked
    for.
    """
    if name not in ("local", "ray"):
        raise UsageError(f"the engine must be local or ray; given: '{name}'")
    if name == "ray":
        return Ray(None, workers, gpus, device)
    return Local(workers, gpus, device)
