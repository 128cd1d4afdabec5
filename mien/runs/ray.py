"""The Ray engine: jobs on a cluster of machines that share the store."""

import math
import os
import time
from pathlib import Path
from typing import Any

from mien.errors import UsageError, WorkerDied
from mien.runs import devices
from mien.runs.jobs import POLL_S, Job, Outcome, note_failure
from mien.runs.local import Local, require_share
from mien.runs.progress import say
from mien.runs.store import Store

RAY_RETRIES = 3  # of a job whose worker was lost with its machine, on Ray

# On a cluster


class Ray:
    """Jobs on a Ray cluster: at `address`, else at RAY_ADDRESS, else on this machine alone.

    Each worker of the cluster does a job as `Local(1)` does. Ray repeats a job if its worker was
    lost, never after an error. The store must be in a folder that all machines share.
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
            raise UsageError(
                f"a cluster needs one worker or more; given: {workers}. Give --workers 1 or more"
            )
        self._ray = import_ray()
        self._address, self._workers, self._gpus, self._device = address, workers, gpus, device
        self._task: Any = None
        self._slots = 0
        self._running: dict[Any, tuple[Job, Store]] = {}

    @property
    def slots(self) -> int:
        """How many jobs run at once: as many as were asked for, or as the cluster has room for.

        The first use joins the cluster, which takes half a minute.
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

        # The cards of the cluster must be enough for one job
        resources = ray.cluster_resources()
        cards, needed = (
            resources.get("GPU", 0.0),
            self._device.startswith("cuda") or (self._device == "auto" and "GPU" in resources),
        )
        if needed and cards < self._gpus:
            raise UsageError(
                f"the cluster must have {self._gpus:g} cards or more for a job, and has {cards:g}"
            )

        # A job whose machine is lost is done again; its own errors are not retried
        how = {
            "num_cpus": 1,
            "num_gpus": self._gpus if needed else 0,
            "max_retries": RAY_RETRIES,
            "retry_exceptions": False,
        }
        self._task = ray.remote(_perform_on_cluster).options(scheduling_strategy="SPREAD", **how)

        # How many jobs run at a time
        most = math.floor(cards / self._gpus if needed else resources.get("CPU", 1))
        slots = max(1, most if self._workers is None else min(most, self._workers))
        machines = sum(node["Alive"] for node in ray.nodes())
        say(f"Ray: {machines} machine{'s' * (machines != 1)}, {slots} jobs at a time")
        return slots

    def begin(self, job: Job, store: Store) -> None:
        """Hand a job to the cluster."""
        self._running[self._task.remote(job, str(store.root.resolve()))] = job, store

    def collect_ended(self, seconds: float) -> list[Outcome]:
        """Return how the jobs ended that have, after so many seconds at the latest."""
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._read_outcome(reference) for reference in ready]

    def _read_outcome(self, reference: Any) -> Outcome:
        job, store = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (errors.TaskCancelledError, KeyboardInterrupt):
            return Outcome(job.run, stopped=True)
        except (
            errors.RayTaskError
        ) as error:  # before the job began: mien is not there, or another one
            message = f"the worker could not begin: {type(error.cause).__name__}: {error.cause}"
            return Outcome(job.run, error=note_failure(store, job.run, WorkerDied(message)))
        except errors.RayError as error:
            message = (
                f"its worker was lost {RAY_RETRIES + 1} times ({type(error).__name__}). The same "
                "command tries it again"
            )
            return Outcome(job.run, error=note_failure(store, job.run, WorkerDied(message)))

    def stop(self, now: bool) -> None:
        """End all jobs: after they have saved their state, or now."""
        for reference in self._running:
            self._ray.cancel(reference, force=now)
        if now:
            self._running.clear()


def import_ray() -> Any:
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


def _perform_on_cluster(job: Job, root: str) -> Outcome:
    """Do a job in a process of its own on this machine; if cancelled, let it save its state."""
    store, cards = Store(Path(root)), len(devices.list_gpus("auto"))
    local = Local(1, float(max(1, cards)), cores=1)
    local.begin(job, store)
    while True:
        try:
            outcomes = local.collect_ended(POLL_S)
            if outcomes:
                return outcomes[0]
        except KeyboardInterrupt:
            local.stop(now=False)
