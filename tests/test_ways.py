"""Reports of ways of use: the best way against the best cheap alternative, and tables of arms."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from worlds import keep, more_blobs, written_study

from mien.report.answers import Answer, Conclusion
from mien.report.arm_curves import plot_arm_curves
from mien.report.arm_tables import collect_arms, describe_updates, make_arm_table
from mien.report.arms import list_arms
from mien.report.conclusions import draw_conclusions
from mien.report.plots import plot_accuracies
from mien.report.programs import list_csv_rows
from mien.report.terminal import make_terminal_table, print_table
from mien.report.worth import describe_range
from mien.report.write import write_report
from mien.runs.store import Store
from mien.stats import draw_resamples
from mien.study.best import BestComparison, RecallScore, compare_best, divide_recall, score_recall
from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import list_mixed_settings
from mien.study.specs import TrialRow

WAYS = {
    "settings": ["real_to_real", "both_to_real"],
    "uses": ["mixed", "pretrain"],
    "ratios": [0.5, 1.0],
    "counts": "each:60",
    "controls": ["copycat"],
    "trials": 2,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = Store(tmp_path_factory.mktemp("home") / "store")
    keep(more_blobs(240, 10), home, "blobs")
    return home


def gain_by(points: float, base: float = 0.5):
    """Trials of one way are right more often by so many points than all others."""

    def skill(row: TrialRow, test: str) -> float:
        best = row.arm.use == "pretrain" and row.arm.ratio == 1 and not row.control
        return base + points / 100 * best

    return skill


def study(store: Store, name: str, skill: Any, **changes: Any) -> StudyResults:
    return written_study(store, skill, **{**WAYS, "name": name, **changes})


@pytest.fixture(scope="module")
def planted(store: Store) -> StudyResults:
    return study(store, "planted", gain_by(35))


def answer(study: StudyResults, question: str) -> Conclusion:
    (found,) = [one for one in draw_conclusions([study]) if one.question == question]
    return found


# Choosing the best of many


def draw_cell(rng: np.random.Generator, skills: np.ndarray, classes: int = 4) -> ResultCell:
    """A cell of one trial whose people are right as often as `skills` says, six images a class."""
    people = len(skills)
    counts = np.zeros((1, people, classes, classes))
    right = rng.binomial(6, np.clip(skills, 0, 1)[:, None], (people, classes))
    for place in range(classes):
        counts[0, :, place, place] = right[:, place]
        counts[0, :, place, (place + 1) % classes] = 6 - right[:, place]
    units = tuple(f"p{number}" for number in range(people))
    return ResultCell("", "", "", "", "", "images", (), counts, units, "subject", 0)


def draw_score(rng: np.random.Generator, skills: np.ndarray) -> RecallScore:
    """The recall of people who are right as often as `skills` says, in 24 images each."""
    people = len(skills)
    parts = rng.binomial(24, np.clip(skills, 0, 1)) / (24 * people)
    return RecallScore(float(parts.sum()), draw_resamples(people, "people") @ parts, parts)


def hold(seed: int, gain: float = 0.0, ways: int = 20, alternatives: int = 3) -> BestComparison:
    """The best of many ways, one of which may be better, against equal alternatives."""
    rng = np.random.default_rng(seed)
    people = rng.normal(0.5, 0.1, 20)
    arms = [draw_score(rng, people + gain * (number == 0)) for number in range(ways + alternatives)]
    return compare_best(arms[:ways], arms[ways:], "people")


def hold_uncorrected(seed: int) -> BestComparison:
    """The best of twenty equal ways, taken for the only one, against one alternative."""
    rng = np.random.default_rng(seed)
    people = rng.normal(0.5, 0.1, 20)
    arms = [draw_score(rng, people) for _ in range(21)]
    best = max(arms[:20], key=lambda one: one.value)
    return compare_best([best], arms[20:], "people")


def is_gain(found: BestComparison) -> bool:
    return found.gap.low > 0 and found.p < 0.05 and found.above_all


def test_the_best_of_twenty_equal_ways_is_seldom_called_a_gain():
    corrected = [is_gain(hold(seed, alternatives=1)) for seed in range(30)]
    assert np.mean(corrected) <= 0.05
    assert np.mean([is_gain(hold(seed)) for seed in range(30)]) <= 0.05
    # Without the correction it often is
    assert np.mean([is_gain(hold_uncorrected(seed)) for seed in range(30)]) > 0.15


def test_a_large_gain_of_one_of_twenty_ways_is_found():
    found = [hold(seed, 0.2) for seed in range(10)]
    assert all(one.way == 0 for one in found) and sum(map(is_gain, found)) >= 9


def test_what_people_add_sums_to_the_mean_recall():
    cell = draw_cell(np.random.default_rng(0), np.linspace(0.2, 0.9, 7))
    chosen = np.array([True, False, True, False])
    for kept in (None, chosen):
        assert divide_recall(cell, kept).sum() == pytest.approx(score_recall([cell], kept).value)
    per_class = np.einsum("tgii->i", cell.counts) / cell.counts.sum(axis=(0, 1, 3))
    assert score_recall([cell], chosen).value == pytest.approx(per_class[chosen].mean())


def test_one_way_and_one_alternative_need_no_correction(planted: StudyResults):
    arms = {one.name(planted): one.cells["tiny"] for one in list_arms(planted)}
    first, second = arms["real + synthetic (pretrain, 1 per real image)"], arms["real alone"]
    found = compare_best([score_recall([first])], [score_recall([second])], first.draw)
    assert found.gap.value == pytest.approx(
        first.average_trials("uar") - second.average_trials("uar")
    )
    assert found.above_all is (found.gap.low > 0)


# The answers


def test_a_planted_gain_is_found_and_named(planted: StudyResults):
    one = answer(planted, "ways")
    assert one.answer == "yes" and one.estimate is not None and one.estimate.low > 0
    assert one.sentence.startswith(
        "Yes: real + synthetic (pretrain, 1 per real image), the best of 4 ways, differs in UAR "
        "by clip from "
    )
    assert "the best of 5 alternatives, by +" in one.sentence
    assert "10 held-out people, 2 trials; corrected for the choice of the best)" in one.sentence
    best = max(
        (arm for arm in list_arms(planted) if arm.kind in ("real", "copies")),
        key=lambda arm: arm.cells["tiny"].average_trials("uar"),
    )
    assert f"from {best.name(planted)}, the best" in one.sentence


def test_without_a_gain_nothing_can_be_told(store: Store):
    one = answer(study(store, "equal", gain_by(0)), "ways")
    assert one.answer == "cannot tell" and one.sentence.startswith("Cannot tell: real + synthetic")
    assert "; the interval includes zero)" in one.sentence


def test_ways_that_do_harm_are_called_worse(store: Store):
    def skill(row: TrialRow, test: str) -> float:
        return 0.95 if row.arm.train == "real" else 0.3

    one = answer(study(store, "harm", skill), "ways")
    assert one.answer == "no" and one.sentence.startswith("No, it is worse: ")
    assert one.estimate is not None and one.estimate.high < 0


def test_rare_classes_are_reported_apart(tmp_path: Path):
    home = Store(tmp_path / "store")
    faces = more_blobs(600, 10)
    rare = (faces.index["emotion"] != "sadness") | (faces.index["frame"] // 40 % 5 == 0)
    keep(faces.select(rare.to_numpy()), home, "blobs")

    def skill(row: TrialRow, test: str) -> float:
        return 0.95 if row.arm.train == "both" and not row.control else 0.3

    one = answer(study(home, "rare", skill, ratios=[1.0]), "ways")
    assert one.answer == "yes" and "It helps rare classes: the mean recall of those with" in (
        one.sentence
    )
    assert "fewer than 50 real training images (sadness 15)" in one.sentence


def test_the_other_questions_use_mixed_images_at_the_ratio_nearest_to_one(planted: StudyResults):
    assert list_mixed_settings(planted.settings, "both_to_real") == [
        "both_to_real:x1",
        "both_to_real:x0.5",
    ]
    helps, copies = answer(planted, "synthetic"), answer(planted, "copies")
    assert "adding synthetic faces (1 per real image) to the real ones" in helps.sentence
    assert "adding synthetic faces (1 per real image) instead of copies" in copies.sentence


def test_a_study_without_mixed_images_says_what_it_lacks(store: Store):
    found = study(store, "unmixed", gain_by(0), uses=["pretrain"], ratios=[1.0])
    assert "add mixed to `uses`" in answer(found, "synthetic").sentence


def test_studies_of_one_way_have_no_such_question_and_no_such_table(store: Store):
    plain = written_study(store, name="one", settings=["real_to_real", "both_to_real"])
    assert "ways" not in {one.question for one in draw_conclusions([plain])}
    assert collect_arms(plain) == []


def test_a_study_that_has_only_begun_has_no_answer_about_ways(store: Store):
    begun = study(store, "begun", gain_by(0), done=lambda row: row.arm.train == "real")
    one = answer(begun, "ways")
    assert one.answer == "cannot tell" and one.estimate is None
    partial = study(store, "partial", gain_by(0), done=lambda row: row.arm.use != "pretrain")
    assert "without 4 arms that are not done yet" in answer(partial, "ways").basis
    sheet = make_arm_table(partial)
    assert sheet is not None and sum(row.entries[1].hole for row in sheet.lines) == 4


# The tables


def test_the_table_of_arms_has_a_row_for_each_with_its_difference(planted: StudyResults):
    sheet = make_arm_table(planted)
    assert sheet is not None and len(sheet.lines) == len(list_arms(planted)) == 9
    rows = {row.entries[0].text: row.entries for row in sheet.lines}
    assert [entries[4].text for entries in rows.values()].count("best alternative") == 1
    arms = {one.name(planted): one.cells["tiny"] for one in list_arms(planted)}
    (best,) = [name for name, entries in rows.items() if entries[4].text == "best alternative"]
    for name, entries in rows.items():
        assert entries[2].text == f"{arms[name].average_trials('uar'):.3f}"
        if name != best:
            gap = arms[name].average_trials("uar") - arms[best].average_trials("uar")
            assert abs(float(entries[4].text.replace("\u2212", "-")) - 100 * gap) < 0.051


def test_unequal_updates_are_said(planted: StudyResults, monkeypatch: pytest.MonkeyPatch):
    for row in planted.trials:  # as runs of trainings record it
        size = 20 if row.train == "real" else 40
        summary = {**planted.done[row.run].summary, "trained": size}
        monkeypatch.setitem(planted.done[row.run].__dict__, "summary", summary)
    text = describe_updates(planted)
    assert text.startswith("The arms differ in their number of updates, from 3 (real alone) to 6 (")


def test_filters_are_tabulated_by_class_and_fold(store: Store):
    found = study(store, "filters", gain_by(0), uses=["mixed", "filtered"], ratios=[0.5])
    (sheet,) = [one for one in collect_arms(found) if one.caption.startswith("What filters keep")]
    assert [row.entries[0].text for row in sheet.lines] == ["filtered, fold 0", "filtered, fold 1"]
    assert sheet.lines[0].entries[1].text == "30 of 60"
    assert sheet.lines[0].entries[1].small == "29 / 1 / 0; 1 kept do not pass"


def test_the_report_has_the_ways_in_all_its_forms(planted: StudyResults, tmp_path: Path):
    folder = write_report("planted", planted.store, tmp_path / "report").parent
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "Ways of using synthetic faces, by clip" in text and "best alternative" in text
    assert r"Ways of using synthetic faces, by clip" in (folder / "tables.tex").read_text("utf-8")


# Numbers of people, and ratios


@pytest.fixture(scope="module")
def shares(store: Store) -> StudyResults:
    """A way helps only at the smaller number of people."""

    def skill(row: TrialRow, test: str) -> float:
        helps = row.arm.train == "both" and not row.control and row.arm.people == 0.4
        return 0.9 if helps else 0.4

    changes = {"uses": ["mixed"], "ratios": [1.0], "people": [0.4, 1.0], "trials": 1}
    return study(store, "shares", skill, **changes)


def test_it_says_from_how_many_people_on_a_way_no_longer_helps(shares: StudyResults):
    one = answer(shares, "people")
    assert one.answer == "yes" and one.sentence.startswith(
        "Yes, with up to 2 people (48 images); from 5 people (120 images) on no gain is certain."
    )
    assert "2 people (48 images) +" in one.sentence and "10 held-out people" in one.sentence
    assert "% of the people" not in one.sentence


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (["yes", "yes", "yes"], "Yes: it helps at every number that was tried, a to c."),
        (["no", "no", "no"], "No: it does harm at every number that was tried."),
        (["cannot tell", "no", "no"], "Cannot tell: at no number that was tried is the gain"),
        (["yes", "no", "no"], "Yes, with up to a; from b on it does harm."),
        (["no", "yes", "cannot tell"], "Yes, but only with b of the numbers that were tried."),
    ],
)
def test_a_range_of_people_is_put_into_one_sentence(answers: list[Answer], text: str):
    assert describe_range(dict(zip("abc", answers, strict=True))).startswith(text)


def test_the_curve_over_people_has_a_line_for_each_arm(shares: StudyResults, tmp_path: Path):
    (chart,) = plot_arm_curves(shares)
    assert chart["numbers"].head == (
        "real training people", "real alone", "real + copies", "real + synthetic"
    )  # fmt: skip
    rows = {row.entries[0].text: row.entries for row in chart["numbers"].lines}
    assert list(rows) == ["2", "5"]
    (few,) = [arm for arm in list_arms(shares, 0.4) if arm.kind == "way"]
    assert rows["2"][3].text.startswith(f"{100 * few.cells['tiny'].average_trials('uar'):.1f} [")
    folder = write_report("shares", shares.store, tmp_path / "report").parent
    assert "real + synthetic" in (folder / "figures" / "uar-people-shares.svg").read_text("utf-8")
    assert "UAR over the number of real training people" in (folder / "report.md").read_text(
        "utf-8"
    )


def test_smaller_shares_of_the_people_are_folded(shares: StudyResults, tmp_path: Path):
    page = write_report("shares", shares.store, tmp_path / "report")
    folded = "<details><summary>By image, with shares of the people</summary>"
    assert folded in page.read_text(encoding="utf-8")
    (group, *_) = plot_accuracies(shares)["groups"]
    assert group["name"] == "real → real"


def test_the_table_for_programs_has_way_ratio_and_share(shares: StudyResults):
    rows = [row for row in list_csv_rows(shares) if row["source"] in ("mean", "record")]
    found = {(row["use"], row["ratio"], row["people"]) for row in rows}
    assert found == {("", "", 0.4), ("", "", 1), ("mixed", 1.0, 0.4), ("mixed", 1.0, 1)}


def test_the_curve_over_ratios_has_real_faces_as_a_level_line(planted: StudyResults):
    (chart,) = plot_arm_curves(planted)
    first, second = chart["numbers"].lines
    assert [row.entries[0].text for row in (first, second)] == ["0.5", "1"]
    assert first.entries[1].text == second.entries[1].text
    assert first.entries[4].text != second.entries[4].text


def test_the_terminal_shows_ways_in_80_columns(
    planted: StudyResults, shares: StudyResults, capsys: pytest.CaptureFixture[str]
):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(make_terminal_table("planted", planted.store))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "(pretrain," in text and "1 per real" in text
    print_table("shares", shares.store)
    printed = capsys.readouterr().out
    assert "With how many real people do synthetic faces help? Yes, with up to" in printed
    assert "40 % of the people" not in printed.split("by image, means")[0]
