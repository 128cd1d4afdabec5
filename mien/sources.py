"""The sets of real faces behind a run: the ingestions that it was made from, and what their owners
allow.
"""

import pandas as pd

from mien import licences
from mien.errors import StoreError
from mien.licences import Terms
from mien.spec import parents
from mien.store import Run, Store

INDEX = "index.parquet"
SHOWN = frozenset({"by", "sa"})
"""What a licence may ask for where real people are shown unasked: no more than a name and the same
terms.
"""


def ancestors(run: Run, store: Store) -> tuple[Run, ...]:
    """Return every run that `run` was made from, each before what was made from it, and itself
    last.
    """
    found: dict[str, Run] = {}

    def visit(one: Run) -> None:
        for parent in parents(one.spec):
            if parent not in found:
                visit(store.run(parent))
        found[one.name] = one

    visit(run)
    return tuple(found.values())


def terms(run: Run, index: pd.DataFrame) -> Terms:
    """Return what the owners of an ingested set allow, and no more than was known when it was
    ingested.
    """
    spec = run.spec
    now = licences.terms(spec["reader"], spec["dataset"], spec.get("licence"), licence_of(index))
    return licences.stricter(now, run.summary.get("terms"))


def licence_of(index: pd.DataFrame) -> str:
    """Return the licences of the images of an index, in one text."""
    return " and ".join(sorted(set(index["licence"])))


def withheld(run: Run, store: Store) -> list[str]:
    """Return the sources of a run of faces, by name and licence, whose pictures not everybody may
    show.

    What is not known to be free is not free: a source that the store no longer holds is among them.
    """
    index = pd.read_parquet(run.file(INDEX))
    carried = {
        (str(dataset), str(licence))
        for dataset, licence in index[["dataset", "licence"]].to_numpy()
    }
    found = {
        f"{one[0]} ({one[1]})": licences.terms("", one[0], None, one[1]) for one in sorted(carried)
    }
    shut = [name for name, one in found.items() if not _free(one)]
    try:
        read = [one for one in ancestors(run, store) if one.stage == "ingest"]
    except StoreError:
        return [*shut, f"what {run.name} was made from, which the store no longer holds"]
    for one in read:
        own = pd.read_parquet(one.file(INDEX))
        if not _free(terms(one, own)):
            shut.append(f"{one.spec['dataset']} ({licence_of(own)})")
    return list(dict.fromkeys(shut))


def _free(one: Terms) -> bool:
    return (
        one.originals == "yes"
        and not one.withdrawn
        and not one.blocked
        and set(one.conditions) <= SHOWN
    )
