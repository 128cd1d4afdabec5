"""Conclusions: each question has the answer that the trials were made to have."""

import math
from pathlib import Path
from typing import Any

import pytest
from worlds import ALL_CONTROLS, FIVE_SETTINGS, blobs, keep, more_blobs, written_study

from mien.faces import Faces
from mien.report.answers import (
    MIN_PEOPLE,
    STUDY_QUESTIONS,
    Conclusion,
    Question,
    correct_by_holm,
    decide,
    pool_pairs,
)
from mien.report.conclusions import draw_conclusions
from mien.runs.store import Store
from mien.stats import Interval
from mien.study.results import StudyResults
from mien.study.specs import TrialRow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = Store(tmp_path_factory.mktemp("home") / "store")
    keep(more_blobs(192, 8), home, "blobs")
    keep(blobs(48, size=8, subjects=3), home, "few")
    return home


def skilled(**by_training: float):
    """Trials that are right as often as their training set says; controls are at chance."""

    def skill(row: TrialRow, test: str) -> float:
        if row.control == "copycat" or "copycat" in (row.spec.train, test):
            return by_training.get("both_copycat", 0.25)
        return 0.25 if row.control else by_training.get(row.spec.train, 0.5)

    return skill


def study(store: Store, name: str, skill=None, **changes: Any) -> StudyResults:
    fields = {"settings": FIVE_SETTINGS, "controls": ALL_CONTROLS, "trials": 1, "name": name}
    return written_study(store, skill or skilled(), **{**fields, **changes})


def answer(studies: list[StudyResults], question: Question) -> Conclusion:
    (found,) = [one for one in draw_conclusions(studies) if one.question == question]
    return found


def test_every_question_has_an_answer_in_order(store: Store):
    found = draw_conclusions([study(store, "plain", trials=2)])
    assert [one.question for one in found] == [
        name for name in STUDY_QUESTIONS if name not in ("ways", "people", "units")
    ]
    for one in found[:3]:
        assert one.estimate is not None and one.n == 8 and one.unit == "subject"
        assert "8 held-out people" in one.sentence and "95 % interval" in one.sentence
        assert one.basis == "tiny, 32 clips"
        assert one.design.startswith("study plain, protocol subject, 2 folds, 2 trials, seed ")


@pytest.mark.parametrize(
    ("both", "expected", "lead"),
    [
        (0.95, "yes", "Yes: adding synthetic faces to the real ones changes accuracy by clip by +"),
        (0.1, "no", "No, it is worse: adding synthetic faces"),
        (0.5, "cannot tell", "Cannot tell: adding synthetic faces"),
    ],
)
def test_synthetic_faces_help_or_not_as_the_trials_say(
    store: Store, both: float, expected: str, lead: str
):
    few = {"settings": ["real_to_real", "both_to_real"], "controls": ["nearest"], "trials": 2}
    one = answer([study(store, f"adds-{both}", skilled(both=both), **few)], "synthetic")
    assert one.answer == expected and one.sentence.startswith(lead)
    assert one.estimate is not None
    assert f"{100 * abs(one.estimate.value):.1f} points" in one.sentence
    low, high = one.estimate.low, one.estimate.high
    assert (low > 0, high < 0) == (expected == "yes", expected == "no")
    assert ("the interval includes zero" in one.sentence) is (expected == "cannot tell")


@pytest.mark.parametrize(
    ("both", "copies", "expected"),
    [(0.95, 0.3, "yes"), (0.95, 0.95, "cannot tell"), (0.3, 0.95, "no")],
)
def test_synthetic_faces_are_compared_with_copies(
    store: Store, both: float, copies: float, expected: str
):
    skill = skilled(both=both, both_copycat=copies)
    few = {"settings": ["real_to_real", "both_to_real"], "controls": ["copycat"]}
    found = study(store, f"copies-{both}-{copies}", skill, **few)
    one = answer([found], "copies")
    assert one.answer == expected
    assert "adding synthetic faces instead of copies of the real images" in one.sentence


def test_an_answer_needs_the_interval_and_p(store: Store):
    cell = study(store, "plain").find_scored_cell("both_to_real", "tiny")
    assert cell is not None

    def said(low: float, high: float, p: float) -> tuple[str, str]:
        return decide(Interval((low + high) / 2, low, high), p, cell)

    assert said(0.01, 0.2, 0.01) == ("yes", "") and said(-0.2, -0.01, 0.01) == ("no", "")
    assert said(0.01, 0.2, 0.11) == ("cannot tell", "; p is not below 0.05")
    assert said(-0.1, 0.2, 0.04) == ("cannot tell", "; the interval includes zero")
    assert said(math.nan, math.nan, 1.0)[0] == "cannot tell"


def test_a_result_above_its_controls_is_found_and_named(store: Store):
    one = answer([study(store, "above", skilled(both=0.95, real=0.3, synthetic=0.3))], "controls")
    assert one.answer == "yes"
    assert one.sentence.startswith("Yes: 1 of 3 results on real faces; the clearest, ")
    assert "real + synthetic → real by tiny, differs from " in one.sentence


def test_the_control_that_is_named_has_the_smallest_difference(store: Store):
    found = study(store, "above", skilled(both=0.95, real=0.3, synthetic=0.3))
    cell = found.find_scored_cell("both_to_real", "tiny")
    assert cell is not None
    gaps = {
        name: cell.average_trials("accuracy") - control.average_trials("accuracy")
        for name, control in found.list_compared_controls(cell)
    }
    strongest = min(gaps, key=lambda name: gaps[name])
    text = (
        f"differs from {strongest}, its strongest control, by {100 * gaps[strongest]:+.1f} points"
    )
    assert text in answer([found], "controls").sentence


def test_chance_is_not_above_its_controls(store: Store):
    chance = skilled(both=0.25, real=0.25, synthetic=0.25)
    one = answer([study(store, "chance", chance)], "controls")
    assert one.answer == "cannot tell" and "0 of 3 results on real faces" in one.sentence
    worse = skilled(both=0.0, real=0.0, synthetic=0.0)
    one = answer([study(store, "worse", worse)], "controls")
    assert one.answer == "no" and "0 of 3 results on real faces" in one.sentence


def test_few_people_cannot_answer_anything(store: Store):
    """Everything is perfect here, and three people are still too few."""
    found = study(store, "three", skilled(both=1.0, real=0.3), faces="few")
    for one in draw_conclusions([found])[:3]:
        assert one.answer == "cannot tell" and one.n == 3
        assert "3 held-out people" in one.sentence
        assert f"fewer than {MIN_PEOPLE} cannot give p below 0.05" in one.sentence


def test_without_names_of_people_nothing_can_be_told(tmp_path: Path):
    home, faces = Store(tmp_path / "store"), more_blobs(96, 6)
    keep(Faces(faces.images, faces.index.assign(subject="")), home, "blobs")
    found = study(home, "nameless", skilled(both=1.0), protocol="clip")
    one = answer([found], "synthetic")
    assert one.answer == "cannot tell" and "the people of its tests were also in" in one.sentence


def test_a_random_split_is_compared_with_people_held_out(store: Store):
    few = {"controls": ["nearest"]}
    honest = study(store, "held", skilled(real=0.4), **few)
    leaky = study(store, "leaky", skilled(real=0.99), protocol="frame", folds=2, **few)
    one = answer([leaky, honest], "split")
    assert one.answer == "yes" and one.estimate is not None and one.estimate.low > 0.4
    assert "a random split of frames gives real → real 9" in one.sentence
    assert "by image and 8 held-out people " in one.sentence
    assert "study leaky, protocol frame" in one.design and "study held, protocol" in one.design
    # the other three questions are answered by the people who were held out
    assert {one.study for one in draw_conclusions([leaky, honest])[:3]} == {"held"}


def test_alone_a_random_split_tells_nothing_about_new_people(store: Store):
    leaky = study(store, "only", skilled(real=0.99, both=1.0), protocol="frame", folds=2)
    found = draw_conclusions([leaky])
    assert [one.answer for one in found] == ["cannot tell"] * 4
    assert "were also in training" in found[0].sentence
    assert "no study of the same faces and classifiers holds people out" in found[3].sentence


def test_what_was_left_out_is_said_with_the_way_to_get_it(store: Store):
    bare = written_study(store, name="bare")
    found = {one.question: one.sentence for one in draw_conclusions([bare])}
    assert "lacks real + synthetic → real; add it to `settings`" in found["synthetic"]
    assert "add it to `settings`" in found["copies"]
    assert 'set `protocol = "frame"`' in found["split"] and "file of bare" in found["split"]
    uncopied = study(store, "uncopied", controls=["nearest"])
    assert "the control copycat; add it to `controls`" in answer([uncopied], "copies").sentence
    moving = study(store, "moving", controls=["nearest"])
    moving.spec["generator"] = {"kind": "motion"}
    assert "the control pasted or shuffled; add" in answer([moving], "copies").sentence
    assert "without these controls: majority class" in answer([uncopied], "controls").basis


def test_a_study_that_has_only_begun_cannot_tell(store: Store):
    begun = written_study(
        store, name="begun", done=lambda row: False, settings=FIVE_SETTINGS, controls=ALL_CONTROLS
    )
    found = draw_conclusions([begun])
    assert [one.answer for one in found] == ["cannot tell"] * 4
    assert all(one.estimate is None for one in found)


def test_classifiers_are_pooled_into_one_estimate(store: Store):
    fields = {"tiny": {"name": "tiny", "size": 16}, "twin": {"name": "tiny", "size": 16}}
    found = study(
        store,
        "pooled",
        skilled(both=0.9),
        classifiers=["tiny", "twin"],
        classifier=fields,
        controls=["nearest"],
    )
    one = answer([found], "synthetic")
    singles = [single.gap.value for single in found.compare("both_to_real")]
    assert len(singles) == 2 and one.estimate is not None
    assert one.estimate.value == pytest.approx(sum(singles) / 2)
    assert one.basis.startswith("mean of tiny +") and ", twin (tiny) +" in one.basis


def test_one_pair_is_the_comparison_of_its_cells(store: Store):
    found = study(store, "pair", skilled(both=0.8), controls=["nearest"])
    (single,) = found.compare("both_to_real")
    cells = [found.find_scored_cell(name, "tiny") for name in ("both_to_real", "real_to_real")]
    gap, p = pool_pairs([(cells[0], cells[1])])  # pyright: ignore[reportArgumentType]
    assert gap == single.gap and p == single.p


@pytest.mark.parity
def test_holms_correction_is_that_of_the_worked_example():
    assert correct_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_by_holm([float("nan"), 0.01]) == pytest.approx([1.0, 0.02])
    assert correct_by_holm([]) == []
