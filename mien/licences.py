"""Licences: what the owners of a set allow, and what a release must keep of that.

What is not known to be allowed is `unknown`, never `yes`. Terms change: read the agreement that you
signed; it applies where this list differs.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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


def _terms_on_request(
    name: str, source: str, derived: Permission = "unknown", blocked: tuple[str, ...] = ()
) -> Terms:
    """Return the terms of a set that its owners give out on request, for research only."""
    return Terms(name, "no", derived, _ON_REQUEST_CONDITIONS, blocked, source=source)


def _withdrawn_terms(name: str, why: str) -> Terms:
    return Terms(name, "no", "no", _ON_REQUEST_CONDITIONS, withdrawn=why, source="arXiv 2111.04424")


# By the name of a reader or of a dataset, in lower-case letters and digits only.
KNOWN_TERMS: Mapping[str, Terms] = {
    "casme": _terms_on_request("CASME", "http://casme.psych.ac.cn/casme/e1"),
    "casme2": _terms_on_request(
        "CASME II", "http://casme.psych.ac.cn/casme/e2", blocked=("sub12", "sub22")
    ),
    "casmesq": _terms_on_request("CAS(ME)^2", "http://casme.psych.ac.cn/casme/e3"),
    "casme3": _terms_on_request("CAS(ME)^3", "http://casme.psych.ac.cn/casme/e4"),
    "samm": _terms_on_request("SAMM", "the form of Manchester Metropolitan University"),
    "smic": _terms_on_request("SMIC", "the form of the University of Oulu"),
    "mmew": _terms_on_request("MMEW", "the form of its authors"),
    "4dme": _terms_on_request("4DME", "the form of the University of Oulu"),
    "ckplus": _terms_on_request("CK+", "the agreement with CMU and Pitt"),
    "jaffe": _terms_on_request("JAFFE", "https://zenodo.org/records/3451524"),
    "kdef": _terms_on_request("KDEF", "the terms of Karolinska Institutet"),
    "oulucasia": _terms_on_request("Oulu-CASIA", "the form of the University of Oulu"),
    "mmi": _terms_on_request("MMI", "registration with its owners"),
    "affectnet": _terms_on_request("AffectNet", "given to heads of laboratories only"),
    "rafdb": _terms_on_request(
        "RAF-DB", "whdeng.cn: no redistribution of images or of derived data", derived="no"
    ),
    "rafce": _terms_on_request(
        "RAF-CE", "whdeng.cn: no redistribution of images or of derived data", derived="no"
    ),
    "celeba": _terms_on_request(
        "CelebA",
        "its terms: images and derived data for research only, not passed on",
        derived="no",
    ),
    "fer2013": Terms(
        "FER2013", source="gathered from the web; no licence of the pictures' owners is known"
    ),
    "ferplus": Terms(
        "FER+", source="gathered from the web; no licence of the pictures' owners is known"
    ),
    "msceleb1m": _withdrawn_terms("MS-Celeb-1M", "withdrawn by its owner in 2019"),
    "megaface": _withdrawn_terms("MegaFace", "withdrawn by its owner in 2020"),
    "dukemtmc": _withdrawn_terms("DukeMTMC", "withdrawn by its owner in 2019"),
}

_OTHER_NAMES = {
    "casmeii": "casme2",
    "cas(me)^2": "casmesq",
    "casmesquared": "casmesq",
    "ck": "ckplus",
    "ck+": "ckplus",
}

_OTHER_NAMES |= {
    "casmecubed": "casme3",
    "cas(me)^3": "casme3",
    "fourdme": "4dme",
    "ckplus48": "ckplus",
}

_OTHER_NAMES |= {
    "fer+": "ferplus",
    "fer": "fer2013",
    "raf": "rafdb",
    "ck48": "ckplus",
    "ck+48": "ckplus",
}


def find_terms(reader: str, dataset: str, given: str | None, licence: str) -> Terms:
    """Return the terms of a set that was ingested by `reader` under the name `dataset`.

    `licence` is the licence of its images; `given` is the licence that was given by hand at
    ingest, if any. A set that is known by name has its owners' terms, whatever was given by hand;
    only a licence in the folder itself (drawn faces in its layout) takes precedence. For all other
    sets a known licence decides, and otherwise nothing is known.
    """
    known = _find_known(reader) or _find_known(dataset)
    licence_conditions = find_conditions(licence)
    if known is not None and (given is not None or licence_conditions is None):
        return known
    if licence_conditions is None:
        return Terms(dataset, source=f"no terms are known for the licence '{licence}'")
    source = "as said at ingest" if given is not None else "as the folder says"
    return Terms(
        dataset,
        "yes",
        "no" if "nd" in licence_conditions else "yes",
        licence_conditions,
        source=source,
    )


def terms_as_json(reader: str, dataset: str, given: str | None, licence: str) -> dict[str, Any]:
    """Return the terms of a set as JSON, as they are stored with what was ingested."""
    return asdict(find_terms(reader, dataset, given, licence))


def stricter_terms(one: Terms, kept: Any) -> Terms:
    """Return the stricter of two terms, field by field: `one`, and `kept` as `recorded` returned.

    Anything else than such terms in `kept` is ignored.
    """
    required = {"originals", "derived", "conditions", "blocked"}
    if not isinstance(kept, dict) or not kept.keys() >= required:
        return one
    permissions = {
        name: max(getattr(one, name), kept[name], key=_LOOSEST_FIRST.index)
        for name in ("originals", "derived")
    }
    lists = {
        name: (*dict.fromkeys([*getattr(one, name), *kept[name]]),)
        for name in ("conditions", "blocked")
    }
    return replace(one, **permissions, **lists)


def find_conditions(licence: str) -> tuple[str, ...] | None:
    """Return the conditions of a licence, None if it is not known.

    `cc-by-nc-4.0` has the conditions by and nc.
    """
    name = normalise_licence(licence)
    creative = _CREATIVE.match(name)
    if creative:
        return ("by", *(part for part in creative[1].split("-") if part))
    return () if _ZERO.match(name) else LICENCE_CONDITIONS.get(name)


def licence_link(licence: str) -> str:
    """Return the address of the text of a licence, "" if it is not known."""
    name = normalise_licence(licence)
    creative = _CREATIVE.match(name)
    if creative:
        return f"https://creativecommons.org/licenses/by{creative[1]}/{creative[2] or '4.0'}/"
    return LICENCE_LINKS["cc0"] if _ZERO.match(name) else LICENCE_LINKS.get(name, "")


def normalise_licence(licence: str) -> str:
    """Return a licence's name as it is compared: `CC BY-NC 4.0` as `cc-by-nc-4.0`."""
    return re.sub(r"[\s_]+", "-", licence.strip().lower())


def missing_conditions(ours: tuple[str, ...], sources: Mapping[str, tuple[str, ...]]) -> list[str]:
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


def _find_known(name: str) -> Terms | None:
    lower = name.strip().lower()
    letters_and_digits = re.sub(r"[^a-z0-9]", "", lower)
    return KNOWN_TERMS.get(
        _OTHER_NAMES.get(lower, _OTHER_NAMES.get(letters_and_digits, letters_and_digits))
    )
