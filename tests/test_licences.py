"""Licences: what the owners of a set allow, and which licence is looser than which."""

import pytest

from mien import licences
from mien.ingest.readers import READERS
from mien.ingest.readers.casme2 import FREE_LICENCE
from mien.ingest.terms import KNOWN_TERMS, find_terms, make_terms_json
from mien.licences import CONDITIONS, Terms


def test_a_known_set_keeps_its_owners_terms_whatever_is_said_at_ingest():
    said = find_terms("casme2", "mine", "CC0 1.0", "CC0 1.0")
    assert (said.name, said.originals, said.derived) == ("CASME II", "no", "unknown")
    assert (
        said
        == find_terms("folder", "CASME-II", "CC0", "CC0")
        == find_terms("folder", "casme2", None, "x")
    )


def test_drawn_faces_in_the_layout_of_a_known_set_are_free():
    drawn = find_terms("casme2", "drawn", None, FREE_LICENCE)
    assert (drawn.derived, drawn.conditions, drawn.blocked) == ("yes", (), ())


def test_what_nobody_knows_is_not_allowed():
    for licence in ("unknown", "", "ask me", "free", "all rights reserved"):
        assert find_terms("folder", "mine", None, licence).derived == "unknown"


def test_a_licence_without_derivatives_keeps_derived_data_in():
    assert find_terms("folder", "mine", "CC BY-ND 4.0", "CC BY-ND 4.0").derived == "no"


def test_people_of_casme2_must_not_be_shown():
    assert find_terms("casme2", "mine", None, "unknown").blocked == ("sub12", "sub22")


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("CAS(ME)^2", "CAS(ME)^2"),  # not CASME II, with which it shares letters and digits
        ("casme-squared", "CAS(ME)^2"),
        ("CASME-II", "CASME II"),
        ("FER+", "FER+"),  # not FER2013
        ("fer", "FER2013"),
        ("CK+48", "CK+"),
        ("Oulu_CASIA", "Oulu-CASIA"),
        ("MS-Celeb-1M", "MS-Celeb-1M"),
    ],
)
def test_a_set_is_known_by_each_of_its_names(name: str, title: str):
    assert find_terms("folder", name, None, "unknown").name == title


@pytest.mark.parametrize("name", KNOWN_TERMS)
def test_no_known_set_is_said_to_be_free(name: str):
    assert (
        KNOWN_TERMS[name].derived != "yes"
        and KNOWN_TERMS[name].originals != "yes"
        and KNOWN_TERMS[name].source
    )
    assert find_terms(name, "x", None, "some agreement") == KNOWN_TERMS[name]
    assert set(KNOWN_TERMS[name].conditions) <= set(CONDITIONS)


def test_every_reader_of_a_restricted_set_is_known():
    restricted = [
        name for name, module in READERS.items() if "no redistribution" in module.READER.licence
    ]
    assert (
        restricted
        and [name for name in restricted if find_terms(name, "", None, "").originals != "no"] == []
    )


@pytest.mark.parametrize(
    ("licence", "asks"),
    [
        ("CC0 1.0", ()),
        ("cc0", ()),
        ("CC BY 4.0", ("by",)),
        ("cc-by-nc-sa-4.0", ("by", "nc", "sa")),
        ("CC_BY-ND", ("by", "nd")),
        ("MIT", ("by",)),
        ("public domain", ()),
        ("cc-by-xx", None),
        ("cc", None),
        ("research only", None),
    ],
)
def test_what_a_licence_asks_for(licence: str, asks: tuple[str, ...] | None):
    assert licences.find_conditions(licence) == asks


def test_every_open_licence_has_a_link():
    for name in ("cc0-1.0", "cc-by-4.0", "mit", "apache-2.0", "odc-by"):
        assert licences.make_licence_link(name).startswith("https://")
    assert (
        licences.make_licence_link("CC BY-NC 4.0")
        == "https://creativecommons.org/licenses/by-nc/4.0/"
    )
    assert licences.make_licence_link("other") == ""


def test_a_licence_that_asks_for_less_is_looser():
    assert licences.find_missing_conditions((), {"a": ("by",)}) == ["a asks for: name the source"]
    assert licences.find_missing_conditions(("by", "nc"), {"a": ("by",), "b": ()}) == []
    assert len(licences.find_missing_conditions(("by",), {"a": ("by", "nc"), "b": ("sa",)})) == 2


def test_of_what_was_known_then_and_is_known_now_the_stricter_holds():
    now = Terms("x", "yes", "yes", ("by",))
    kept = make_terms_json("folder", "rafdb", None, "x")
    assert (
        licences.choose_stricter_terms(now, kept).derived == "no"
        and licences.choose_stricter_terms(now, kept).originals == "no"
    )
    assert set(licences.choose_stricter_terms(now, kept).conditions) == {
        "by",
        "nc",
        "research",
        "agreement",
    }
    assert (
        licences.choose_stricter_terms(now, None)
        == licences.choose_stricter_terms(now, {"derived": "no"})
        == now
    )
