"""The parts of an audit: what each member of PARTS must hold, and the numbers of a small audit."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from drawn import keep, people

from mien.audit import verdict
from mien.audit.memorisation import matches
from mien.audit.part import PartInput, make_empty_side
from mien.audit.parts import PARTS, find_part, measure_part, run_part
from mien.audit.run import run_audit
from mien.audit.specs import AuditSpec, PartName, PartSpec
from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.runs.store import Store

GOLDEN = Path(__file__).with_name("golden_audit.json")

FIELDS = ("value", "low", "high")

SIDES = {"train": range(8), "test": range(8, 16), "made": range(16, 24)}


@cache
def side(name: str) -> Faces:
    """The faces of one side, drawn when a test first needs them."""
    return people(SIDES[name], clips=1, frames=2, size=16)


def given(held_out: bool = True, synthetic: bool = True) -> PartInput:
    """What a part is measured on; the features of its spaces are not needed here."""
    return PartInput(
        side("train"),
        side("test") if held_out else make_empty_side(side("train")),
        side("made") if synthetic else None,
        {},
        lambda: matches.find_matches(side("train"), side("test"), side("made")),
    )


def test_a_name_that_is_no_part_is_refused_with_the_nearest_name_before_any_work(tmp_path: Path):
    store, train = Store(tmp_path / "store"), "faces-0123456789ab"
    with pytest.raises(SpecError, match=r"given: 'label'\. Did you mean 'labels'"):
        run_part(PartSpec(part="label", train=train), store)
    assert not store.list_names()
    assert [find_part(name) for name in PARTS] == [*PARTS.values()]


def test_parts_answer_five_questions_by_families_of_their_own():
    families = [family for part in PARTS.values() for family in part.families]
    assert len(set(families)) == len(families) and all(families)
    assert len({part.question for part in PARTS.values()}) == 5
    for part in PARTS.values():
        assert {metric.partition(".")[0] for metric in part.meanings} <= set(part.families)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_measures_numbers_of_its_families_and_its_picture(name: PartName):
    part = PARTS[name]
    # tests/test_audit_movement.py has clips, and tests/test_recogniser.py has recognisers
    if part.needs_clips or part.needs_recogniser:
        return
    measured = measure_part(name, given(synthetic=part.needs_synthetic))
    assert {record.metric.partition(".")[0] for record in measured.records} <= set(part.families)
    assert measured.records or part.needs_spaces
    assert (measured.picture is not None) == bool(part.picture)
    if len(measured.rows):
        assert list(measured.rows["key"]) == list(side("made").index["key"])


@pytest.mark.parametrize("name", PARTS)
def test_without_held_out_people_a_part_that_needs_them_says_so_and_no_other(name: PartName):
    measured = measure_part(name, given(held_out=False))
    said = any("nobody was held out" in note for note in measured.notes)
    assert said == PARTS[name].needs_held_out


def test_copies_of_training_images_are_found_without_held_out_people():
    first = side("train").select(np.arange(3))
    sides = PartInput(
        side("train"), make_empty_side(side("train")), first, {}, lambda: pytest.fail("no matches")
    )
    measured = measure_part("memorisation", sides)
    assert {record.metric: record.value for record in measured.records} == {
        "memorisation.exact": 1.0,
        "memorisation.copies": 1.0,
    }
    assert list(measured.rows["copy_of"]) == list(first.index["key"])
    strangers = measure_part("memorisation", given(held_out=False))
    assert all(record.value == 0 for record in strangers.records) and len(strangers.records) == 2


@pytest.mark.parametrize("name", PARTS)
def test_only_a_part_of_the_real_sides_is_measured_without_synthetic_images(name: PartName):
    if PARTS[name].needs_synthetic:
        with pytest.raises(DataError, match="needs synthetic images"):
            measure_part(name, given(synthetic=False))
    else:
        alone, beside = (measure_part(name, given(synthetic=has)) for has in (False, True))
        assert alone.records == beside.records


@pytest.mark.parametrize("name", PARTS)
def test_the_default_thresholds_judge_every_family(name: PartName):
    judged = {metric.partition(".")[0] for metric in verdict.read_thresholds()}
    assert set(PARTS[name].families) <= judged


def test_a_small_audit_has_the_same_verdict_and_numbers_as_ever(tmp_path: Path):
    """Names, verdicts and sizes are equal; numbers are equal to three digits on any machine."""
    store = Store(tmp_path / "store")
    train, test, made = (
        keep(faces, store, name) for name, faces in ((name, side(name)) for name in SIDES)
    )
    spec = AuditSpec(
        synthetic=made.name,
        train=train.name,
        test=test.name,
        thresholds=verdict.read_thresholds(),
        spaces=("pixels",),
    )
    run = run_audit(spec, store)
    contents = run.read_json("audit.json")
    checks = {
        f"{check['name']} {check['part']}".strip(): [
            check["verdict"],
            check["n"],
            *(None if check[field] is None else f"{check[field]:.4g}" for field in FIELDS),
        ]
        for check in contents["checks"]
    }
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert (run.name, contents["verdict"]) == (expected["run"], expected["verdict"])
    assert list(checks) == list(expected["checks"])
    for name, (outcome, n, *numbers) in expected["checks"].items():
        assert checks[name][:2] == [outcome, n], name
        for number, known in zip(checks[name][2:], numbers, strict=True):
            assert (number is None) == (known is None), name
            if number is not None and known is not None:
                assert float(number) == pytest.approx(float(known), rel=2e-3, abs=1e-6), name

    # The page has a map of all three sets, and says how many tests are judged together
    page = (run.path / "index.html").read_text(encoding="utf-8")
    tables = page.partition("Real and synthetic faces in the plane: numbers</caption>")[2]
    rows = re.findall(r"<th[^>]*>([^<]+)</th>\s*<td[^>]*>([\d,]+)", tables.partition("</table>")[0])
    assert {name: int(count) for name, count in rows if "real" in name or name == "synthetic"} == {
        "real training": len(side("train")),
        "real held-out": len(side("test")),
        "synthetic": len(side("made")),
    }
    assert contents["tests"]["tests"] > 1
    assert f"{contents['tests']['tests']} checks of memorisation are tests" in page
