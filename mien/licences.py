"""Licences: what the owners of a set allow, and what a release must keep.

What is not known to be allowed is `unknown`, never `yes`. Terms change: read the agreement that you
signed; it applies where this list differs.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Permission = Literal["yes", "no", "unknown"]

CONDITIONS = {
    "by": "name the source",
    "sa": "share under the same licence",
    "nd": "share no changed version",
    "nc": "no commercial use",
    "research": "research only",
    "agreement": "a signed agreement with the owners",
}
"""The conditions of licences: of two licences, the one with fewer conditions is the looser one."""

# The conditions of single licences; families are parsed below.
LICENCE_CONDITIONS: Mapping[str, tuple[str, ...]] = {
    "public-domain": (),
    "pddl": (),
    "mit": ("by",),
    "apache-2.0": ("by",),
    "bsd-3-clause": ("by",),
    "odc-by": ("by",),
}

LICENCE_LINKS = {
    "cc0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "mit": "https://opensource.org/license/mit",
    "apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "bsd-3-clause": "https://opensource.org/license/bsd-3-clause",
    "odc-by": "https://opendatacommons.org/licenses/by/1-0/",
    "pddl": "https://opendatacommons.org/licenses/pddl/1-0/",
}

_CREATIVE = re.compile(r"^cc-by((?:-nc)?(?:-sa|-nd)?)(?:-([0-9]\.[0-9]))?\Z")

_ZERO = re.compile(r"^cc-?0(?:-1\.0)?\Z")


@dataclass(frozen=True)
class Terms:
    """What the owners of a set allow.

    `originals` and `derived`: whether its images, and what was made from them, may be passed on.
    `conditions` are keys of CONDITIONS. `blocked` are people, by the set's own names, whose
    images must not be published. `withdrawn` says why a set is no longer distributed. `source`
    says where all of this was read.
    """

    name: str
    originals: Permission = "unknown"
    derived: Permission = "unknown"
    conditions: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    withdrawn: str = ""
    source: str = ""


_ON_REQUEST_CONDITIONS = ("by", "nc", "research", "agreement")

_LOOSEST_FIRST = ("yes", "unknown", "no")


def make_request_terms(
    name: str, source: str, derived: Permission = "unknown", blocked: tuple[str, ...] = ()
) -> Terms:
    """Return the terms of a set that its owners give out on request, for research only."""
    return Terms(name, "no", derived, _ON_REQUEST_CONDITIONS, blocked, source=source)


def _make_withdrawn_terms(name: str, why: str) -> Terms:
    return Terms(name, "no", "no", _ON_REQUEST_CONDITIONS, withdrawn=why, source="arXiv 2111.04424")


# Sets that no reader reads, by their names in lower-case letters and digits only. The terms of all
# other sets are in their readers.
SETS_WITHOUT_READER: Mapping[str, Terms] = {
    "rafce": make_request_terms(
        "RAF-CE", "whdeng.cn: no redistribution of images or of derived data", derived="no"
    ),
    "celeba": make_request_terms(
        "CelebA",
        "its terms: images and derived data for research only, not passed on",
        derived="no",
    ),
    "msceleb1m": _make_withdrawn_terms("MS-Celeb-1M", "withdrawn by its owner in 2019"),
    "megaface": _make_withdrawn_terms("MegaFace", "withdrawn by its owner in 2020"),
    "dukemtmc": _make_withdrawn_terms("DukeMTMC", "withdrawn by its owner in 2019"),
}


def choose_stricter_terms(terms: Terms, stored: Any) -> Terms:
    """Return the stricter of two terms, field by field.

    `stored` has the other terms as `make_terms_json` writes them; anything else in it is ignored.
    """
    required = {"originals", "derived", "conditions", "blocked"}
    if not isinstance(stored, dict) or not stored.keys() >= required:
        return terms
    permissions = {
        name: max(getattr(terms, name), stored[name], key=_LOOSEST_FIRST.index)
        for name in ("originals", "derived")
    }
    lists = {
        name: (*dict.fromkeys([*getattr(terms, name), *stored[name]]),)
        for name in ("conditions", "blocked")
    }
    return replace(terms, **permissions, **lists)


def find_conditions(licence: str) -> tuple[str, ...] | None:
    """Return the conditions of a licence, None if it is not known.

    `cc-by-nc-4.0` has the conditions by and nc.
    """
    name = normalise_licence(licence)
    creative = _CREATIVE.match(name)
    if creative:
        return ("by", *(condition for condition in creative[1].split("-") if condition))
    return () if _ZERO.match(name) else LICENCE_CONDITIONS.get(name)


def make_licence_link(licence: str) -> str:
    """Return the address of the text of a licence, "" if it is not known."""
    name = normalise_licence(licence)
    creative = _CREATIVE.match(name)
    if creative:
        return f"https://creativecommons.org/licenses/by{creative[1]}/{creative[2] or '4.0'}/"
    return LICENCE_LINKS["cc0"] if _ZERO.match(name) else LICENCE_LINKS.get(name, "")


def normalise_licence(licence: str) -> str:
    """Return a licence's name as it is compared: `CC BY-NC 4.0` as `cc-by-nc-4.0`."""
    return re.sub(r"[\s_]+", "-", licence.strip().lower())


def find_missing_conditions(
    ours: tuple[str, ...], sources: Mapping[str, tuple[str, ...]]
) -> list[str]:
    """Return what each source asks for and `ours` does not; empty if ours is as strict."""
    missing = {
        name: [condition for condition in conditions if condition not in ours]
        for name, conditions in sources.items()
    }
    return [
        f"{name} asks for: {', '.join(CONDITIONS[condition] for condition in lacking)}"
        for name, lacking in missing.items()
        if lacking
    ]
