"""Verdicts: limits, intervals and small numbers decide as they say they do, and files are read
strictly.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.audit import multiplicity, verdict
from mien.audit.parts import PARTS
from mien.audit.verdict import ORDER, group_families
from mien.errors import SpecError
from mien.stats import Record

LIMIT = {"side": "above", "warn": 0.1, "fail": 0.2, "reason": "a test"}


def outcome(record: Record, *others: Record, **fields) -> str:
    return verdict.judge([record, *others], {record.metric: {**LIMIT, **fields}})[0].verdict


def record(
    value: float, low: float | None = None, high: float | None = None, n: int = 100, part: str = ""
) -> Record:
    return Record("labels.odd", value, n, low=low, high=high, part=part)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record(0.1), "pass"),
        (record(0.15), "warn"),
        (record(0.3), "fail"),
        (record(0.3, 0.15, 0.45), "cannot tell"),  # part of the interval does not fail
        (record(0.3, 0.21, 0.45), "fail"),
        (record(0.05, 0.0, 0.15), "pass"),
        (record(0.05, 0.0, 0.9), "cannot tell"),  # part of the interval fails
        (record(0.15, 0.05, 0.9), "cannot tell"),
        (record(0.15, 0.11, 0.9), "cannot tell"),
        (record(0.15, 0.11, 0.2), "warn"),  # the interval ends at the failing limit
        (record(0.3, n=19), "cannot tell"),  # too few to fail
    ],
)
def test_the_whole_interval_must_lie_beyond_the_limit_to_fail(one: Record, expected: str):
    assert outcome(one) == expected


@settings(max_examples=300, deadline=None)
@given(
    numbers=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted),
    limits=st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted),
    looser_by=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    n=st.sampled_from([5, 100]),
    wide=st.sampled_from(["cannot tell", "warn", "pass"]),
    side=st.sampled_from(["above", "below"]),
    tested=st.booleans(),
)
def test_a_looser_limit_never_makes_a_check_worse(
    numbers: list[float],
    limits: list[float],
    looser_by: tuple[float, float],
    n: int,
    wide: str,
    side: str,
    tested: bool,
):
    # Below is the mirror of above: all numbers change their sign
    low, value, high = numbers
    warn, fail = limits
    looser_warn = min(warn + looser_by[0], fail)
    looser_fail = fail + looser_by[1]
    sign = 1 if side == "above" else -1
    low, high = (low, high) if side == "above" else (-high, -low)

    def judge_with(warn: float, fail: float) -> int:
        fields = {"side": side, "warn": sign * warn, "fail": sign * fail, "wide": wide}
        fields["tested"] = tested
        return ORDER.index(outcome(record(sign * value, low, high, n), **fields))

    strict = judge_with(warn, fail)
    assert judge_with(looser_warn, fail) <= strict
    assert judge_with(warn, looser_fail) <= strict
    assert judge_with(looser_warn, looser_fail) <= strict


@settings(max_examples=150, deadline=None)
@given(
    numbers=st.lists(
        st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted), min_size=3, max_size=3
    ),
    warn=st.floats(0, 1),
    fail_beyond=st.floats(0, 1),
    looser_by=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    wide=st.sampled_from(["cannot tell", "warn", "pass"]),
)
def test_a_looser_limit_makes_neither_another_test_nor_the_answer_worse(
    numbers: list[list[float]],
    warn: float,
    fail_beyond: float,
    looser_by: tuple[float, float],
    wide: str,
):
    records = [
        record(value, low, high, part=part)
        for part, (low, value, high) in zip(("", "fear", "disgust"), numbers, strict=True)
    ]
    other = replace(record(0.4, 0.3, 0.5), metric="labels.other")

    def judge_with(warn: float, fail: float) -> list[int]:
        fields = {**LIMIT, "warn": warn, "fail": fail, "wide": wide, "tested": True, "each": True}
        fixed = {**LIMIT, "warn": 0.32, "fail": 0.9, "tested": True}
        checks = verdict.judge([*records, other], {"labels.odd": fields, "labels.other": fixed})
        outcomes = {(check.name, check.part): check.verdict for check in checks}
        answer = next(
            question.verdict
            for question in verdict.answer_questions(checks)
            if "label" in question.title
        )
        return [ORDER.index(name) for name in (answer, outcomes["labels.other", ""])]

    fail = warn + fail_beyond
    strict = judge_with(warn, fail)
    for looser in (
        (min(warn + looser_by[0], fail), fail),
        (warn, fail + looser_by[1]),
        (warn + looser_by[0], fail + looser_by[0] + looser_by[1]),
    ):
        assert all(
            one <= before for one, before in zip(judge_with(*looser), strict, strict=True)
        ), looser


def test_p_values_are_adjusted_for_their_number():
    adjusted = multiplicity.adjust_p_values([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm's own steps
    assert multiplicity.adjust_p_values([]) == []
    p_value = multiplicity.measure_p_value(0.3, 0.1, 0.1, 1)
    assert p_value == pytest.approx(0.025, abs=1e-4)  # the interval ends at the limit
    assert multiplicity.measure_p_value(-0.3, -0.1, -0.1, -1) == pytest.approx(p_value)
    assert multiplicity.measure_p_value(0.3, None, 0.1, 1) == 0
    assert multiplicity.measure_p_value(0.1, None, 0.1, 1) == 1


def test_a_dozen_tests_warn_together_for_one_in_twenty_sets_without_faults():
    """The numbers are 0 in truth and depend on each other; one of them is 0.6 in the last sets."""
    rng, metrics = np.random.default_rng(0), [f"labels.n{number}" for number in range(12)]

    def share_with_warning(fault: float, **fields) -> float:
        limit = {"side": "above", "warn": 0.0, "fail": 5.0, "reason": "a test", **fields}
        warned = []
        for _ in range(200):
            drawn = 0.1 * (0.6 * rng.normal() + 0.8 * rng.normal(size=12)) + fault * (
                np.arange(12) == 3
            )
            records = [
                Record(metric, value, 100, low=value - 0.196, high=value + 0.196)
                for metric, value in zip(metrics, drawn, strict=True)
            ]
            checks = verdict.judge(records, dict.fromkeys(metrics, limit))
            warned.append(any(check.verdict == "warn" for check in checks))
        return float(np.mean(warned))

    assert share_with_warning(0.0) > 0.9
    assert share_with_warning(0.0, tested=True) < 0.08
    assert share_with_warning(0.6, tested=True) > 0.95


def test_a_class_that_cannot_tell_warns_in_a_test_only_on_evidence():
    limits = {"labels.odd": {**LIMIT, "tested": True, "each": True}}
    whole, unclear, clear = (
        record(0.05, 0.02, 0.08),
        record(0.12, 0.02, 0.25, part="fear"),
        record(0.2, 0.18, 0.22, part="fear"),
    )
    for of_class, expected in ((unclear, "pass"), (clear, "warn")):
        checks = verdict.judge([whole, of_class], limits)
        assert {check.part: check.verdict for check in checks}["fear"] == "cannot tell"
        answers = {one.title: one.verdict for one in verdict.answer_questions(checks)}
        assert answers["Does it show what its label says?"] == expected
    assert verdict.count_tests(checks).convert_to_json()["tests"] == 2


def test_a_test_needs_the_value_that_it_tests_against():
    with pytest.raises(SpecError, match="tested needs warn"):
        verdict.judge([], {"labels.odd": {**LIMIT, "warn": None, "tested": True}})


def test_below_is_the_mirror_of_above():
    fields = {"side": "below", "warn": 0.8, "fail": 0.5}
    assert outcome(record(0.9, 0.85, 0.95), **fields) == "pass"
    assert outcome(record(0.7, 0.6, 0.8), **fields) == "warn"
    assert outcome(record(0.4, 0.3, 0.49), **fields) == "fail"
    assert outcome(record(0.4, 0.3, 0.51), **fields) == "cannot tell"


def test_limits_may_be_of_a_ratio_or_a_difference_to_another_number():
    one, other = (
        Record(f"fidelity.frechet{tail}.judge", value, 50)
        for tail, value in (("", 6.0), ("_heldout", 2.0))
    )
    ratio = {"against": "heldout", "warn": 2.0, "fail": 5.0}
    assert outcome(one, other, **ratio) == "warn"  # three times as far
    check = verdict.judge([one, other], {one.metric: {**LIMIT, **ratio}})[0]
    assert (check.value, check.reference, check.relative) == (6.0, 2.0, 3.0)
    assert outcome(one, other, **{**ratio, "by": "difference", "fail": 3.9}) == "fail"  # four more
    assert outcome(one, **ratio) == "cannot tell"  # nothing to compare it with is not passed over


def test_chance_is_one_for_a_family_and_all_its_classes():
    chance = Record("memorisation.chance", 0.1, 8)
    one = Record("memorisation.copied.pixels", 0.15, 100, low=0.12, high=0.2, part="fear")
    fields = {"against": "chance", "by": "difference", "warn": 0.0, "each": True}
    assert outcome(one, chance, **{**fields, "fail": 0.01}) == "fail"
    assert outcome(one, chance, **{**fields, "fail": 0.1}) == "warn"


def test_each_class_is_a_check_where_the_threshold_says_so():
    records = [record(0.0), record(0.3, part="fear"), record(0.0, part="disgust")]
    assert [one.part for one in verdict.judge(records, {"labels.odd": LIMIT})] == [""]
    checks = verdict.judge(records, {"labels.odd": {**LIMIT, "each": True}})
    assert [(one.part, one.verdict) for one in checks] == [
        ("fear", "fail"),
        ("", "pass"),
        ("disgust", "pass"),
    ]
    assert verdict.find_worst_verdict(checks) == "fail"


def test_what_was_not_measured_cannot_tell_and_says_why():
    assert outcome(record(float("nan"))) == "cannot tell"
    why = {"labels": "too few clips", "fidelity": "another reason"}
    (check,) = verdict.judge([], {"labels.odd": LIMIT}, missing=why)
    assert check.verdict == "cannot tell" and check.value is None
    assert check.note == "nothing was measured under this name: too few clips"


@pytest.mark.parametrize(
    ("people", "expected"), [(0, "cannot tell"), (6, "cannot tell"), (7, "pass"), (30, "pass")]
)
def test_a_check_that_needs_more_held_out_people_than_there_are_cannot_tell(
    people: int, expected: str
):
    limits = {"labels.odd": {**LIMIT, "people": 7}}
    (check,) = verdict.judge([record(0.05, 0.0, 0.1)], limits, verdict.HeldOut(people))
    assert check.verdict == expected
    if expected == "cannot tell":
        assert "7 are needed" in check.note and "at least 7 held-out people" in check.enough
    assert (
        verdict.judge([record(0.5, 0.4, 0.6)], limits, verdict.HeldOut(people))[0].verdict == "fail"
    )


def test_people_who_are_not_known_are_no_people():
    limits = {"labels.odd": {**LIMIT, "people": 5}}
    (check,) = verdict.judge([record(0.0)], limits, verdict.HeldOut(0, unknown=400))
    assert (
        check.verdict == "cannot tell" and "not known whom the held-out images show" in check.note
    )


def test_a_number_may_say_that_its_question_cannot_be_answered():
    fields = {
        "side": "below",
        "warn": None,
        "fail": None,
        "cannot_tell": 0.05,
        "reason": "a test of evidence",
    }
    assert outcome(record(0.04), **fields) == "cannot tell"
    assert outcome(record(0.3), **fields) == "pass"


def test_each_question_has_an_answer_and_one_without_checks_is_open():
    checks = verdict.judge([record(0.0)], {"labels.odd": LIMIT})
    answers = {one.title: one.verdict for one in verdict.answer_questions(checks)}
    assert answers.pop("Does it show what its label says?") == "pass"
    assert set(answers.values()) == {"cannot tell"} and len(answers) == 3
    assert verdict.find_worst_verdict(checks) == "cannot tell"  # also where no check is left at all
    assert verdict.find_worst_verdict([]) == "cannot tell"


def test_a_single_class_of_which_nothing_can_be_told_is_a_warning_and_no_more():
    limits = {"labels.odd": {**LIMIT, "each": True}}
    checks = verdict.judge([record(0.0), record(0.05, 0.0, 0.9, part="fear")], limits)
    assert [one.verdict for one in checks] == ["cannot tell", "pass"]
    labels = next(
        one for one in verdict.answer_questions(checks) if one.title.startswith("Does it show")
    )
    assert labels.verdict == "warn"


@pytest.mark.parametrize(
    ("text", "looser"),
    [
        ('["memorisation.copied.pixels"]\nfail = 0.5\n', True),
        ('["memorisation.copied.pixels"]\nfail = 0.01\n', False),
        ('["labels.kept"]\nfail = 0.1\n', True),
        ('["labels.kept"]\nfail = 0.4\n', False),
        ('["variety.coverage.judge"]\noff = true\n', True),
        ('["memorisation.exact"]\nleast = 30\n', True),
        ('["memorisation.person.pixels"]\npeople = 1\n', True),
        ('["memorisation.person.pixels"]\npeople = 40\n', False),
        ('["fidelity.frechet.judge"]\nagainst = "floor"\n', True),
        ('["variety.vendi.random"]\neach = false\n', True),
        ('["fidelity.kernel.random"]\nside = "above"\nfail = 3\n', False),
    ],
)
def test_changed_thresholds_are_told_and_whether_they_make_passing_easier(
    text: str, looser: bool, tmp_path: Path
):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    found = verdict.find_changes(verdict.read_thresholds(path))
    assert found and any(one.looser for one in found) == looser
    assert all(one.metric == text.split('"')[1] and one.metric in one.text for one in found)
    assert verdict.find_changes(verdict.read_thresholds()) == []


def test_the_defaults_hold_and_each_has_its_reason():
    known = verdict.read_thresholds()
    assert {name.partition(".")[0] for name in known} == set(verdict.FAMILIES)
    assert all(len(fields["reason"]) > 30 for fields in known.values())


def test_a_users_file_changes_adds_and_takes_away(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '["memorisation.exact"]\nfail = 0.5\n["labels.kept"]\noff = true\n'
        '["memorisation.ct.pixels"]\nside = "below"\nfail = -3\n'
    )
    found, known = verdict.read_thresholds(path), verdict.read_thresholds()
    assert found["memorisation.exact"] == {**known["memorisation.exact"], "fail": 0.5}
    assert "labels.kept" not in found and found["memorisation.ct.pixels"]["fail"] == -3
    assert {
        **found,
        **{name: known[name] for name in ("memorisation.exact", "labels.kept")},
    }.keys() - known.keys() == {"memorisation.ct.pixels"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[memorisation.exact]\nfail = 1\n", r'quotes: \["memorisation.exact"\]'),
        ('["memorized.exact"]\nfail = 1\n', "Did you mean 'memorisation.exact'"),
        ('["labels.kept"]\nfial = 1\n', "no field 'fial'. Did you mean 'fail'"),
        ('["labels.kept"]\nside = "above"\n', "fail must be above warn"),
        ('["labels.kept"]\nfail = "low"\n', "labels.kept: fail: must be a number"),
        ('["labels.new"]\nfail = 1\n', "labels.new: side: must be given"),
        ('["labels.new"]\nside = "above"\n', "warn, fail or cannot_tell must be given"),
        ('["labels.kept"]\noff = 1\n', "off must be true or false"),
        ("labels = 3\n", "a threshold must be a table"),
        ("[[[", "must be a TOML file"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_with_its_place(
    text: str, complaint: str, tmp_path: Path
):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=complaint) as error:
        verdict.read_thresholds(path)
    assert "mine.toml" in str(error.value)


def test_parts_that_share_a_question_keep_all_their_families():
    shared = replace(PARTS["labels"], question=PARTS["fidelity"].question)
    families = group_families([PARTS["fidelity"], shared])
    assert families == {shared.question: ("fidelity", "variety", "labels", "nuisance")}
