"""Runs that mien made for other runs, whose names a user hardly needs."""

from contextlib import suppress

from mien.errors import StoreError
from mien.runs.store import Run, Store
from mien.study.plan_file import read_record

# Runs of these stages are made for other runs, and a command never prints their names
INTERNAL_STAGES = ("features", "judge", "matches", "measures", "trial", "weights", "sampler")


def find_made_for_others(store: Store) -> set[str]:
    """Return the runs that mien made for others: parts of audits, and what studies planned."""
    names = store.list_names()
    internal = {name for name in names if Run(name, store.root).stage in INTERNAL_STAGES}
    for name in names:
        run = Run(name, store.root / "runs" / name)
        if run.stage == "study":
            internal |= _list_planned(run)

    # The generators of databases that a study planned, which are not all in its plan
    for name in internal & set(names):
        run = Run(name, store.root / "runs" / name)
        with suppress(StoreError):  # `mien verify` reports what cannot be read
            internal |= {str(run.spec.get("generator", ""))} if run.stage == "generate" else set()
    return internal & set(names)


def _list_planned(study: Run) -> set[str]:
    """Return the splits, generators and databases in the plan of a study."""
    try:
        databases = read_record(study).databases
    except StoreError:
        return set()
    return {name for record in databases for name in (record.split, *record.runs)}
