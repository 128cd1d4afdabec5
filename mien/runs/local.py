"""The local engine: jobs in this process, or in processes on this machine."""

import faulthandler
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from mien.errors import UsageError, WorkerDied
from mien.runs import devices, stopping
from mien.runs.jobs import (
    START_METHOD,
    Job,
    Outcome,
    defer_interrupts,
    name_log_file,
    note_failure,
    perform,
    read_log,
)
from mien.runs.machine import count_usable_cores
from mien.runs.store import Store

WORKER_BYTES = 4 << 30  # memory that a worker should have; no more are started by default

# What workers find loaded when they are forked: the jobs, what their first step, baselines and
# their first file would load, and last what keeps all of this shared.
PRELOADED_MODULES = [
    *("mien.study.run", "torch._dynamo", "sklearn.neighbors", "pyarrow.parquet"),
    "mien.runs.freezing",
]

# In processes of this machine


class Local:
    """Jobs in `workers` processes of this machine, each for one job; 0 means in this process.

    By default there are as many workers as graphics cards, or, without cards, as many as cores and
    memory allow. Each job has `gpus` of a card: 0.5 lets two jobs share one. `cores` is the number
    of cores that each may use, by default an equal share.
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
        # As many workers as the cards allow
        require_share(gpus)
        cards = [] if workers == 0 else devices.list_gpus(device)
        if workers is None:
            workers = math.floor(len(cards) / gpus) if cards else choose_worker_count()
        if cards and workers * gpus > len(cards):
            raise UsageError(
                f"{workers} workers with {gpus:g} of a card each need {math.ceil(workers * gpus)} "
                f"cards, and there are {len(cards)}; give fewer --workers, or a smaller "
                "--gpus-per-trial"
            )

        # The cards and cores of each worker
        self.inline, self.slots = workers == 0, max(1, workers)
        self._cards_by_slot = {slot: select_cards(slot, gpus, cards) for slot in range(self.slots)}
        self._cores = cores or max(1, count_usable_cores() // self.slots)
        self._running: dict[str, _Process] = {}
        self._done: list[Outcome] = []

    def begin(self, job: Job, store: Store) -> None:
        """Start a job in a process; without workers, do it."""
        if self.inline:
            self._done.append(perform(job, store))
            return
        used_slots = {process.slot for process in self._running.values()}
        slot = next(number for number in self._cards_by_slot if number not in used_slots)
        self._running[job.run] = _Process(job, store, slot, self._cards_by_slot[slot], self._cores)

    def collect_ended(self, seconds: float) -> list[Outcome]:
        """Return the outcomes of the jobs that have ended, after `seconds` at the latest."""
        outcomes, self._done = self._done, []
        if self._running:
            wait(
                [process.answer for process in self._running.values()], 0.0 if outcomes else seconds
            )
        elif not outcomes:
            time.sleep(seconds)
        for name, process in list(self._running.items()):
            if not process.alive:
                outcomes.append(self._running.pop(name).read_outcome())
        return outcomes

    def stop(self, now: bool) -> None:
        """End all jobs: after they have saved their state, or now."""
        for process in self._running.values():
            process.stop(now)
        if now:
            for process in self._running.values():
                process.read_outcome()
            self._running.clear()


class _Process:
    """A job in a process of its own, forked from a server that has only loaded modules."""

    def __init__(self, job: Job, store: Store, slot: int, cards: str | None, cores: int) -> None:
        self.job, self.store, self.slot, self._stop_requested = job, store, slot, False
        if cards is not None and str(job.arguments.get("device", "")).startswith("cuda:"):
            # it sees that card alone
            job = replace(job, arguments={**job.arguments, "device": "cuda"})
        (store.root / "work").mkdir(parents=True, exist_ok=True)
        context: Any = multiprocessing.get_context(START_METHOD)
        context.set_forkserver_preload(PRELOADED_MODULES)
        self.answer, worker_end = context.Pipe(duplex=False)
        visible_cards = {} if cards is None else {"CUDA_VISIBLE_DEVICES": cards}
        log_file = name_log_file(store, job.run)
        arguments = (job, store.root, log_file, visible_cards, cores, worker_end)
        self._process = context.Process(target=_perform_in_process, args=arguments, daemon=True)
        with _hide_main(), defer_interrupts():
            self._process.start()
        worker_end.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs: nothing comes through its pipe before it ends."""
        return not self.answer.poll()

    def stop(self, now: bool) -> None:
        """Ask the process to save its state and end, or kill it now."""
        self._stop_requested = True
        (self._process.kill if now else self._process.terminate)()

    def read_outcome(self) -> Outcome:
        """Return how the job ended; it waits for the end of the process."""
        with self.answer, suppress(EOFError, OSError):
            if self.answer.poll() or not self._stop_requested:
                outcome: Outcome = self.answer.recv()
                if not outcome.error:
                    name_log_file(self.store, self.job.run).unlink(missing_ok=True)
                return outcome
        self._process.join()
        if self._stop_requested:
            return Outcome(self.job.run, stopped=True)
        return note_death(self.job, self.store, self._process.exitcode)


@contextmanager
def _hide_main() -> Iterator[None]:
    """Hide the main program from the processes that are started in this context.

    They would import it, which takes a command line or a Ray worker seconds, and would run a script
    a second time. Jobs are functions of modules, so they do not need it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _perform_in_process(
    job: Job,
    root: Path,
    log: Path,
    environment: Mapping[str, str],
    cores: int,
    answer: "Connection[Any, Any]",
) -> None:
    """Do one job in this process, which ends with its parent."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a terminal sends it to all; the command passes it on, as SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # which the fork server has blocked
    with stopping.defer_signals():
        with suppress(OSError), log.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        faulthandler.enable()
        os.environ.update(environment)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        with devices.limit_cores(cores), suppress(KeyboardInterrupt):
            answer.send(perform(job, Store(root)))
            return
        answer.send(Outcome(job.run, stopped=True))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def note_death(job: Job, store: Store, code: int | None) -> Outcome:
    """Note that the process of a job ended without an answer, and return that outcome."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        why = {
            "SIGKILL": (
                "was killed (SIGKILL): by a person, or by the system because memory was full"
            ),
            "SIGSEGV": "crashed in native code (SIGSEGV)",
            "SIGBUS": "crashed in native code, or on a full disk (SIGBUS)",
        }.get(name, f"was ended by {name}")
    else:
        why = f"ended with exit code {code}"
    log_note = f"; its output is in work/{job.run}.log" if read_log(store, job.run) else ""
    error = WorkerDied(f"its process {why}{log_note}. The same command tries it again")
    return Outcome(job.run, error=note_failure(store, job.run, error))


def require_share(gpus: float) -> None:
    """Raise UsageError unless a job can use this share of a card, or this number of cards."""
    if not 0 < gpus <= 64 or (gpus > 1 and gpus != round(gpus)):
        raise UsageError(
            f"the share of a card must be above 0 and up to 1, or a whole number; given: {gpus:g}"
        )


def choose_worker_count() -> int:
    """Return how many workers suit this machine: one per core, if memory is sufficient."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 1
    return max(1, min(count_usable_cores(), memory // WORKER_BYTES))


def select_cards(slot: int, gpus: float, cards: Sequence[str]) -> str | None:
    """Return the cards of a worker: 0.5 of a card each gives 0, 0, 1, 1; two cards each 0,1 and
    2,3.
    """
    if not cards:
        return None
    first = math.floor(slot * gpus + 1e-9)
    return ",".join(cards[first : first + max(1, math.ceil(gpus))])
