"""The engine: jobs are done here, in processes, or on a cluster.

A job is a function of a module and its arguments, and makes a run of the store. Each has an
operating-system process of its own (but in `Local(0)`, for debuggers), so what crashes or is killed
costs one job. Whoever does it, it is done by the same function, `perform`, and no number depends on
where: what does depend on threads has their count in its spec.

The store is all that engines share. What is done there is never done again, and what another
process is at is left to it, so any number of commands on any number of machines may work on one
study.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

from mien.errors import MienError, StoreError, UsageError
from mien.runs import stopping
from mien.runs.claims import HeartbeatWatch
from mien.runs.jobs import NOT_BEGUN_PREFIX, POLL_S, Engine, Job, Outcome, note_failure, read_log
from mien.runs.local import Local
from mien.runs.progress import duration, say
from mien.runs.ray import Ray
from mien.runs.store import Store

REPORT_EVERY_S = 60.0  # how often long jobs are reported

# Jobs that need each other


def run_jobs(jobs: Sequence[Job], store: Store, engine: Engine) -> dict[str, str]:
    """Do the jobs, each as soon as what it needs is there; return the error of each that failed.

    What other processes are at is left to them, and taken over if their heart stops. Ctrl-C and
    SIGTERM let what runs keep its checkpoint, a second one ends it at once; both raise
    KeyboardInterrupt. Where the disk of the store is full, what runs may end, nothing more is
    begun, and StoreError is raised.
    """
    board = _Queue(list(jobs), store)
    try:
        with stopping.signals_deferred():
            while board.left or board.running:
                if stopping.stop_requested():
                    _stop_and_collect(board, engine)
                    stopping.raise_if_asked()
                for outcome in engine.ended(0.0 if board.fill(engine) else POLL_S):
                    board.take(outcome)
                if board.full:
                    _stop_and_collect(board, engine)
                    raise StoreError(board.full)
                board.tell()
    finally:
        engine.stop(now=True)
    store.remove_leftovers()
    if board.idle:
        say(f"{board.idle} of {len(jobs)} were not begun, because what they need failed")
    return board.failed


def _stop_and_collect(board: "_Queue", engine: Engine) -> None:
    engine.stop(now=False)
    while board.running:
        for outcome in engine.ended(POLL_S):
            board.take(outcome)


class _Queue:
    """What is left, what runs, what was made and what failed."""

    def __init__(self, jobs: list[Job], store: Store) -> None:
        self.left, self.total, self.store = jobs, len(jobs), store
        self.ours = {job.run for job in jobs}
        self.running: dict[str, tuple[Job, float]] = {}
        self.made: set[str] = set()
        self.failed: dict[str, str] = {}
        self.full = ""
        self.idle, self.count, self.told = 0, 0, time.monotonic()
        self.pulses: dict[str, HeartbeatWatch] = defaultdict(HeartbeatWatch)

    def fill(self, engine: Engine) -> bool:
        """Begin what can be begun; return whether anything was."""
        begun = False
        for job in list(self.left):
            if len(self.running) >= engine.slots:
                break
            lacking = next((name for name in job.after if name in self.failed), None)
            if lacking is not None:
                self.left.remove(job)
                reason = f"{NOT_BEGUN_PREFIX}{self.failed[lacking].removeprefix(NOT_BEGUN_PREFIX)}"
                self.failed[job.run] = note_failure(self.store, job.run, MienError(reason))
                self.idle, self.count = self.idle + 1, self.count + 1
            elif self.store.done(job.run) and not self.store.explain_alteration(job.run):
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
        claim = self.store.read_claim(name)
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
        if time.monotonic() - self.told < REPORT_EVERY_S:
            return
        self.told = time.monotonic()
        for job, _ in self.running.values():
            lines = read_log(self.store, job.run).splitlines()
            if lines:
                say(f"  {job.label}: {lines[-1]}")


def make_engine(
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
