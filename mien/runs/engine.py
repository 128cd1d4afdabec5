"""The engine: jobs are done here, in processes, or on a cluster.

A job is a function of a module with its arguments, and makes one run of the store. Each job has an
operating-system process of its own (except in `Local(0)`, for debuggers), so a crash or a kill
costs one job only. All engines call the same function, `perform`, and no number depends on where
it runs: results that depend on the number of threads have that number in their spec.

Engines share nothing but the store. A run that the store holds is never made again, and a run that
another process is making is left to it. Any number of commands, on any number of machines, may
therefore work on one study.
"""

import time
from collections import defaultdict
from collections.abc import Sequence

from mien.errors import MienError, StoreError, UsageError
from mien.runs import stopping
from mien.runs.claims import HeartbeatWatch
from mien.runs.jobs import NOT_BEGUN_PREFIX, POLL_S, Engine, Job, Outcome, note_failure, read_log
from mien.runs.local import Local
from mien.runs.progress import format_duration, say
from mien.runs.ray import Ray
from mien.runs.store import Store

REPORT_EVERY_S = 60.0  # how often long jobs are reported

# Jobs that need each other


def run_jobs(jobs: Sequence[Job], store: Store, engine: Engine) -> dict[str, str]:
    """Do the jobs, each as soon as the runs that it needs exist; return the error of each failure.

    Runs that other processes are making are left to them, and taken over if their heartbeat stops.
    After Ctrl-C or SIGTERM the jobs that run write their checkpoints and end; a second signal ends
    them at once. Both raise KeyboardInterrupt. If the disk of the store is full, running jobs may
    end, no further job begins, and StoreError is raised.
    """
    # Begin jobs and record how they end, until none is left
    job_queue = _Queue(list(jobs), store)
    try:
        with stopping.defer_signals():
            while job_queue.waiting or job_queue.running:
                if stopping.stop_requested():
                    _stop_and_collect(job_queue, engine)
                    stopping.raise_if_asked()
                for outcome in engine.collect_ended(
                    0.0 if job_queue.begin_jobs(engine) else POLL_S
                ):
                    job_queue.record(outcome)
                if job_queue.disk_full_error:
                    _stop_and_collect(job_queue, engine)
                    raise StoreError(job_queue.disk_full_error)
                job_queue.report_logs()
    finally:
        engine.stop(now=True)

    # Tidy up, and report the jobs that could not begin
    store.remove_leftovers()
    if job_queue.not_begun:
        say(f"{job_queue.not_begun} of {len(jobs)} were not begun, because what they need failed")
    return job_queue.failed


def _stop_and_collect(job_queue: "_Queue", engine: Engine) -> None:
    engine.stop(now=False)
    while job_queue.running:
        for outcome in engine.collect_ended(POLL_S):
            job_queue.record(outcome)


class _Queue:
    """The jobs of one command: those that wait, run, are made or failed."""

    def __init__(self, jobs: list[Job], store: Store) -> None:
        self.waiting, self.total, self.store = jobs, len(jobs), store
        self.run_names = {job.run for job in jobs}
        self.running: dict[str, tuple[Job, float]] = {}
        self.made: set[str] = set()
        self.failed: dict[str, str] = {}
        self.disk_full_error = ""
        self.not_begun, self.ended_count, self.reported_at = 0, 0, time.monotonic()
        self.heartbeats: dict[str, HeartbeatWatch] = defaultdict(HeartbeatWatch)

    def begin_jobs(self, engine: Engine) -> bool:
        """Begin the jobs that can begin; return whether any did."""
        begun = False
        for job in list(self.waiting):
            if len(self.running) >= engine.slots:
                break

            # A job whose parent failed cannot begin
            lacking = next((name for name in job.after if name in self.failed), None)
            if lacking is not None:
                self.waiting.remove(job)
                reason = f"{NOT_BEGUN_PREFIX}{self.failed[lacking].removeprefix(NOT_BEGUN_PREFIX)}"
                self.failed[job.run] = note_failure(self.store, job.run, MienError(reason))
                self.not_begun, self.ended_count = self.not_begun + 1, self.ended_count + 1

            # A run that exists needs no job
            elif self.store.is_done(job.run) and not self.store.explain_alteration(job.run):
                self.waiting.remove(job)
                self.made.add(job.run)
                self.say(job, "made by another process", 0.0)

            # The others begin as soon as all that they need exists
            elif all(self.is_made(name) for name in job.after) and not self.is_made_elsewhere(
                job.run
            ):
                self.waiting.remove(job)
                self.running[job.run] = job, time.monotonic()
                engine.begin(job, self.store)
                begun = True
        return begun

    def is_made(self, name: str) -> bool:
        """Whether a run that a job needs exists, made by this command or before it."""
        return name in self.made or (name not in self.run_names and self.store.is_done(name))

    def is_made_elsewhere(self, name: str) -> bool:
        """Whether another process, which is alive, is making the run."""
        claim = self.store.read_claim(name)
        return bool(claim) and not self.heartbeats[name].has_stopped(claim)

    def record(self, outcome: Outcome) -> None:
        """Record how a job ended."""
        job, began = self.running.pop(outcome.run)
        if outcome.stopped:
            return
        if outcome.disk_full:
            self.disk_full_error = outcome.error
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
        """Print how a job ended."""
        self.ended_count += 1
        say(f"[{self.ended_count}/{self.total}] {job.label}: {text} ({format_duration(seconds)})")

    def report_logs(self) -> None:
        """Print the last line of each running job, once a minute."""
        if time.monotonic() - self.reported_at < REPORT_EVERY_S:
            return
        self.reported_at = time.monotonic()
        for job, _ in self.running.values():
            lines = read_log(self.store, job.run).splitlines()
            if lines:
                say(f"  {job.label}: {lines[-1]}")


def make_engine(
    name: str = "local", workers: int | None = None, gpus: float = 1.0, device: str = "auto"
) -> Engine:
    """Return the engine called local or ray.

    Raises UsageError if there is no such engine, or if it lacks the workers or cards asked for.
    """
    if name not in ("local", "ray"):
        raise UsageError(f"the engine must be local or ray; given: '{name}'")
    if name == "ray":
        return Ray(None, workers, gpus, device)
    return Local(workers, gpus, device)
