"""The terms of every known set, by the names that it has, from the readers."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mien.ingest.readers import READERS
from mien.licences import SETS_WITHOUT_READER, Terms, find_conditions


def find_terms(reader: str, dataset: str, given_licence: str | None, licence: str) -> Terms:
    """Return the terms of a set that was ingested by `reader` under the name `dataset`.

    `licence` is the licence of its images; `given_licence` is the licence that was given by hand at
    ingest, if any. A set that is known by name has its owners' terms, whatever was given by hand;
    only a licence in the folder itself (drawn faces in its layout) takes precedence. For all other
    sets a known licence decides, and otherwise nothing is known.
    """
    # The terms of the owners
    owner_terms = _find_known(reader) or _find_known(dataset)
    licence_conditions = find_conditions(licence)
    if owner_terms is not None and (given_licence is not None or licence_conditions is None):
        return owner_terms

    # The terms of the licence
    if licence_conditions is None:
        return Terms(dataset, source=f"no terms are known for the licence '{licence}'")
    source = "as said at ingest" if given_licence is not None else "as the folder says"
    return Terms(
        dataset,
        "yes",
        "no" if "nd" in licence_conditions else "yes",
        licence_conditions,
        source=source,
    )


def make_terms_json(
    reader: str, dataset: str, given_licence: str | None, licence: str
) -> dict[str, Any]:
    """Return the terms of a set as JSON, as they are stored with what was ingested."""
    return asdict(find_terms(reader, dataset, given_licence, licence))


def _list_known_terms() -> dict[str, Terms]:
    """Return the terms of each known set by its names: of its reader, its dataset, and others."""
    terms_of = dict(SETS_WITHOUT_READER)
    for reader, module in READERS.items():
        about = module.READER
        if about.terms is not None:
            names = (_reduce_name(reader), _reduce_name(about.dataset), *about.other_names)
            for name in names:
                terms_of[name] = about.terms
    return terms_of


def _find_known(name: str) -> Terms | None:
    lower = name.strip().lower()
    return KNOWN_TERMS.get(lower, KNOWN_TERMS.get(_reduce_name(lower)))


def _reduce_name(name: str) -> str:
    """Return a name in lower-case letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


KNOWN_TERMS: Mapping[str, Terms] = _list_known_terms()
"""The terms of the sets that are known by name. Names are in lower-case letters and digits only,
except where two sets would then have one name: CAS(ME)^2 is not casme2.
"""
