"""The real sets behind a run, and what their licences allow to be shown."""

import pandas as pd

from mien.errors import StoreError
from mien.ingest.terms import find_terms
from mien.licences import Terms, choose_stricter_terms
from mien.runs.spec import list_parents
from mien.runs.store import Run, Store

INDEX_FILE = "index.parquet"

SHOWABLE_CONDITIONS = frozenset({"by", "sa"})
"""The conditions that a licence may have if its real faces are shown by default."""


def find_ancestors(run: Run, store: Store) -> tuple[Run, ...]:
    """Return every run that `run` was made from, parents first, and itself last."""
    visited: dict[str, Run] = {}

    def visit(current: Run) -> None:
        for parent in list_parents(current.spec):
            if parent not in visited:
                visit(store.run(parent))
        visited[current.name] = current

    visit(run)
    return tuple(visited.values())


def read_terms(run: Run, index: pd.DataFrame) -> Terms:
    """Return the terms of an ingested set: the stricter of those now and those at its ingest."""
    spec = run.spec
    known_terms = find_terms(
        spec["reader"], spec["dataset"], spec.get("licence"), find_licence(index)
    )
    return choose_stricter_terms(known_terms, run.summary.get("terms"))


def find_licence(index: pd.DataFrame) -> str:
    """Return the licences of the images of an index, in one text."""
    return " and ".join(sorted(set(index["licence"])))


def find_withheld_sources(run: Run, store: Store) -> list[str]:
    """Return the sources of a run of faces whose pictures not everybody may show, with licences.

    A source that is not known to be free is not free, nor is one that the store no longer holds.
    """
    # The sets that the images name
    index = pd.read_parquet(run.find_file(INDEX_FILE))
    named = {
        (str(dataset), str(licence))
        for dataset, licence in index[["dataset", "licence"]].to_numpy()
    }
    withheld_names = [
        f"{dataset} ({licence})"
        for dataset, licence in sorted(named)
        if not _may_be_shown(find_terms("", dataset, None, licence))
    ]

    # The sets that were ingested on the way
    try:
        ingested = [parent for parent in find_ancestors(run, store) if parent.stage == "ingest"]
    except StoreError:
        return [*withheld_names, f"what {run.name} was made from, which the store no longer holds"]
    for parent in ingested:
        parent_index = pd.read_parquet(parent.find_file(INDEX_FILE))
        if not _may_be_shown(read_terms(parent, parent_index)):
            withheld_names.append(f"{parent.spec['dataset']} ({find_licence(parent_index)})")
    return list(dict.fromkeys(withheld_names))


def _may_be_shown(set_terms: Terms) -> bool:
    """Whether everybody may show the images of a set."""
    return (
        set_terms.originals == "yes"
        and not set_terms.withdrawn
        and not set_terms.blocked
        and set(set_terms.conditions) <= SHOWABLE_CONDITIONS
    )
