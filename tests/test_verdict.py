"""Verdicts: limits, intervals and small numbers decide as they say they do, and files are read strictly."""

from pathlib import Path

import pytest

from mien.audit import verdict
from mien.errors import SpecError
from mien.stats import Record

LIMIT = {"side": "above", "warn": 0.1, "fail": 0.2, "reason": "a test"}


def outcome(record: Record, *others: Record, **fields) -> str:
    return verdict.judge([record, *others], {record.metric: {**LIMIT, **fields}})[0].verdict


def record(value: float, low: float | None = None, high: float | None = None, n: int = 100, part: str = "") -> Record:
    return Record("labels.odd", value, n, low=low, high=high, part=part)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (record(0.1), "pass"),
        (record(0.15), "warn"),
        (record(0.3), "fail"),
        (record(0.3, 0.15, 0.45), "warn"),  # the interval reaches below the limit
        (record(0.3, 0.21, 0.45), "fail"),
        (record(0.05, 0.0, 0.9), "pass"),
        (record(0.3, n=19), "warn"),  # too few to fail
    ],
)
def test_the_whole_interval_must_lie_beyond_the_limit_to_fail(one: Record, expected: str):
    assert outcome(one) == expected


def test_below_is_the_mirror_of_above():
    fields = {"side": "below", "warn": 0.8, "fail": 0.5}
    assert outcome(record(0.9, 0.85, 0.95), **fields) == "pass"
    assert outcome(record(0.7, 0.6, 0.8), **fields) == "warn"
    assert outcome(record(0.4, 0.3, 0.49), **fields) == "fail"
    assert outcome(record(0.4, 0.3, 0.51), **fields) == "warn"


def test_limits_may_be_of_a_ratio_or_a_difference_to_another_number():
    one, other = (Record(f"fidelity.frechet{tail}.judge", value, 50) for tail, value in (("", 6.0), ("_heldout", 2.0)))
    ratio = {"against": "heldout", "warn": 2.0, "fail": 5.0}
    assert outcome(one, other, **ratio) == "warn"  # three times as far
    check = verdict.judge([one, other], {one.metric: {**LIMIT, **ratio}})[0]
    assert (check.value, check.reference, check.relative) == (6.0, 2.0, 3.0)
    assert outcome(one, other, **{**ratio, "by": "difference", "fail": 3.9}) == "fail"  # four more
    assert outcome(one, **ratio) == "warn"  # nothing to hold it against is not passed over


def test_chance_is_one_for_a_family_and_all_its_classes():
    chance = Record("memorisation.chance", 0.1, 8)
    one = Record("memorisation.copied.pixels", 0.15, 100, low=0.12, high=0.2, part="fear")
    fields = {"against": "chance", "by": "difference", "warn": 0.0, "each": True}
    assert outcome(one, chance, **{**fields, "fail": 0.01}) == "fail"
    assert outcome(one, chance, **{**fields, "fail": 0.03}) == "warn"


def test_each_class_is_a_check_where_the_threshold_says_so():
    records = [record(0.0), record(0.3, part="fear"), record(0.0, part="disgust")]
    assert [one.part for one in verdict.judge(records, {"labels.odd": LIMIT})] == [""]
    checks = verdict.judge(records, {"labels.odd": {**LIMIT, "each": True}})
    assert [(one.part, one.verdict) for one in checks] == [("fear", "fail"), ("", "pass"), ("disgust", "pass")]
    assert verdict.worst(checks) == "fail" and verdict.worst([]) == "pass"


def test_what_was_not_measured_warns():
    assert outcome(record(float("nan"))) == "warn"
    checks = verdict.judge([], {"labels.odd": LIMIT})
    assert checks[0].verdict == "warn" and checks[0].value is None and "nothing was measured" in checks[0].note


def test_the_defaults_hold_and_each_has_its_reason():
    known = verdict.thresholds()
    assert {name.partition(".")[0] for name in known} == set(verdict.FAMILIES)
    assert all(len(fields["reason"]) > 30 for fields in known.values())


def test_a_users_file_changes_adds_and_takes_away(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '["memorisation.exact"]\nfail = 0.5\n["labels.kept"]\noff = true\n'
        '["memorisation.ct.pixels"]\nside = "below"\nfail = -3\n'
    )
    found, known = verdict.thresholds(path), verdict.thresholds()
    assert found["memorisation.exact"] == {**known["memorisation.exact"], "fail": 0.5}
    assert "labels.kept" not in found and found["memorisation.ct.pixels"]["fail"] == -3
    assert {**found, **{name: known[name] for name in ("memorisation.exact", "labels.kept")}}.keys() - known.keys() == {
        "memorisation.ct.pixels"
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[memorisation.exact]\nfail = 1\n", r'quotes: \["memorisation.exact"\]'),
        ('["memorized.exact"]\nfail = 1\n', "Did you mean 'memorisation.exact'"),
        ('["labels.kept"]\nfial = 1\n', "no field 'fial'. Did you mean 'fail'"),
        ('["labels.kept"]\nside = "above"\n', "fail must lie above warn"),
        ('["labels.kept"]\nfail = "low"\n', "labels.kept: fail: must be a number"),
        ('["labels.new"]\nfail = 1\n', "labels.new: side: must be given"),
        ('["labels.new"]\nside = "above"\n', "warn or fail must be given"),
        ('["labels.kept"]\noff = 1\n', "off must be true or false"),
        ("labels = 3\n", "a threshold must be a table"),
        ("[[[", "must be a TOML file"),
    ],
)
def test_a_file_that_does_not_hold_is_refused_with_its_place(text: str, complaint: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=complaint) as error:
        verdict.thresholds(path)
    assert "mine.toml" in str(error.value)
