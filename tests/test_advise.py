"""Advice: whether synthetic faces should be added, within a budget of minutes."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from worlds import blobs, inside, keep, run_inside, show_as, written_study

from mien.errors import UsageError
from mien.faces import Faces
from mien.runs.store import Store
from mien.study.advise import request as asked
from mien.study.advise.arms import WAYS, list_amounts, list_ways
from mien.study.advise.budget import (
    LEAST_UPDATES,
    PLANNED_SHARE,
    Budget,
    Size,
    estimate_seconds,
    fit_budget,
)
from mien.study.advise.request import Request, make_fields
from mien.study.advise.rule import WayScore, count_people_needed, decide
from mien.study.advise.run import Advice, read_advice
from mien.study.advise.words import describe_advice, describe_answer
from mien.study.cost import UnitCosts
from mien.study.specs import TrialRow

# The rule, on answers that are drawn by lot


def lottery(
    folder: Path,
    name: str,
    gains: dict[str, float],
    people: int = 30,
    channels: tuple[str, ...] = (),
) -> Advice:
    """The advice about a study of `people` whose networks are right so much more often than 60 % in
    each kind of training: strong, copies, synthetic, filtered.
    """
    store = Store(folder / name)
    faces = blobs(people * 8, size=8, subjects=people)
    faces = show_as(faces, channels) if channels else faces
    run = keep(faces, store, name)
    fields = make_fields(
        Request(name, folds=2),
        run.name,
        list(list_ways(faces.shown).values()),
        Budget(2, 1, 5, 64, 1.0),
        people * 4,
        "smoke",
    )

    def skill(row: TrialRow, test: str) -> float:
        kinds = {
            "strong": row.ablation == "strong",
            "copies": row.control == "copycat",
            "synthetic": row.arm.train == "both",
            "filtered": row.arm.use.startswith("filtered"),
        }
        return 0.6 + sum(gain for kind, gain in gains.items() if kinds[kind])

    written_study(store, skill, **fields)
    return read_advice(f"advise-{name}", store)


def test_a_planted_gain_is_advised_in_the_way_that_has_it(tmp_path: Path):
    advice = lottery(tmp_path, "gain", {"synthetic": 0.05, "filtered": 0.25})
    assert advice.decision.answer == "add"
    assert WAYS[advice.decision.chosen].use.startswith("filtered")
    assert 0 < advice.decision.least < advice.decision.gain.value < 0.4
    assert describe_answer(advice).startswith("Yes: ") and "30 held-out people" in (
        describe_answer(advice)
    )


def test_no_gain_is_no_reason_to_add_synthetic_faces(tmp_path: Path):
    advice = lottery(tmp_path, "nothing", {"strong": 0.05})
    assert advice.decision.answer != "add" and WAYS[advice.decision.chosen].is_cheap


def test_a_planted_harm_is_a_reason_not_to_add_them(tmp_path: Path):
    advice = lottery(tmp_path, "harm", {"synthetic": -0.3})
    assert advice.decision.answer == "do not add" and advice.decision.gain.high < 0
    assert describe_answer(advice).startswith("Do not add synthetic faces: ")


def test_a_gain_that_copies_have_too_is_not_one_of_synthetic_faces(tmp_path: Path):
    advice = lottery(tmp_path, "copies", {"synthetic": 0.05, "copies": 0.3})
    assert advice.decision.answer == "do not add"
    assert advice.decision.chosen == advice.decision.rival == "copies"


def test_strong_augmentation_is_advised_where_it_is_best(tmp_path: Path):
    advice = lottery(tmp_path, "strong", {"strong": 0.2, "synthetic": -0.1})
    assert (advice.decision.answer, advice.decision.chosen) == ("do not add", "strong")


def test_clips_are_compared_in_the_ways_that_need_no_plain_pictures(tmp_path: Path):
    advice = lottery(tmp_path, "clips", {"filtered": 0.3}, 8, ("onset", "apex"))
    compared = {score.way for score in advice.scores}
    assert compared == {name for name, way in WAYS.items() if way.ablation != "strong"}
    assert advice.missing == [] and advice.decision.answer == "add"
    assert "strong" not in describe_advice(advice)


def scores(**values: float) -> list[WayScore]:
    """Scores of ways with draws that spread by 5 points around these values, each on its own."""
    rng = np.random.default_rng(0)
    return [
        WayScore(way, value, math.nan, value + 0.05 * rng.standard_normal(2000))
        for way, value in values.items()
    ]


def test_a_gain_that_is_large_but_uncertain_cannot_be_told():
    decision = decide(scores(real=0.5, few=0.53), 12, 0.25)
    assert (decision.answer, decision.chosen) == ("cannot tell", "real")
    assert count_people_needed(decision, 12) > 12


def test_fewer_than_six_people_cannot_tell():
    assert decide(scores(real=0.5, few=0.9), 5, 0.25).answer == "cannot tell"
    assert decide(scores(real=0.5, few=0.9), 6, 0.25).answer == "add"


def test_ways_that_only_guess_are_not_compared():
    decision = decide(scores(real=0.25, few=0.26), 40, 0.25)
    assert decision.answer == "cannot tell" and decision.is_at_chance


def test_the_best_of_many_equal_ways_is_expected_to_gain_less_than_it_seems():
    few = decide(scores(real=0.5, few=0.54), 40, 0.25)
    many = decide(scores(real=0.5, few=0.54, many=0.54, filtered=0.54, pretrain=0.54), 40, 0.25)
    assert few.optimism < 0.005 < 0.02 < many.optimism
    assert many.gain.value < few.gain.value


# The budget

COSTS = UnitCosts(
    seen=0.01,
    drawn=0.1,
    updates={("tiny", "plain"): 0.05, ("tiny", "strong"): 0.07},
    predicted={("tiny", "plain"): 0.001, ("tiny", "strong"): 0.001},
)
TASK = Size(train=400, test=200, folds=3, updates=400, images_seen=80_000)


@pytest.mark.parametrize("minutes", [6, 10, 20, 60, 300])
def test_a_budget_uses_most_of_its_minutes_and_no_more(minutes: float):
    budget = fit_budget(minutes, TASK, COSTS, 2)
    seconds = estimate_seconds(budget, TASK, COSTS, 2)
    largest = Budget(3, 5, 400, 80_000, 8.0)
    assert seconds <= 60 * minutes * PLANNED_SHARE
    assert budget == largest or seconds > 0.5 * 60 * minutes * PLANNED_SHARE


def test_more_minutes_never_give_less():
    budgets = [fit_budget(minutes, TASK, COSTS, 2) for minutes in (6, 20, 60, 300)]
    for less, more in pairwise(budgets):
        assert less.folds <= more.folds and less.updates <= more.updates
    assert budgets[-1] == Budget(3, 5, 400, 80_000, 8.0)


def test_too_few_minutes_are_refused_with_the_smallest_number_that_is_enough():
    with pytest.raises(UsageError, match=r"must be [0-9.]+ or more") as refused:
        fit_budget(0.5, TASK, COSTS, 2)
    least = float(str(refused.value).split("must be ")[1].split()[0])
    assert fit_budget(least, TASK, COSTS, 2).updates == LEAST_UPDATES
    with pytest.raises(UsageError):
        fit_budget(least - 0.2, TASK, COSTS, 2)


def test_folds_are_not_given_up_if_their_people_are_needed_for_an_answer():
    assert fit_budget(3, TASK, COSTS, 2).folds == 1
    needed = replace(TASK, least_folds=3)
    with pytest.raises(UsageError, match="for 3 folds with 100 updates"):
        fit_budget(3, needed, COSTS, 2)
    assert fit_budget(20, needed, COSTS, 2).folds == 3


def test_seconds_are_those_of_generators_filters_and_trials():
    budget = Budget(folds=2, trials=3, updates=100, images_seen=10_000, ratio=1.0)
    alone = estimate_seconds(budget, TASK, COSTS, 1)
    generators = 2 * (10_000 * 0.01 + 400 * 0.1)
    trials = 2 * 3 * (6 * (1 + 5 + 0.2) + 2 * (1 + 7 + 0.2))
    assert alone == pytest.approx(generators + trials + 2 * (4 + 0.002 * 800))
    assert estimate_seconds(budget, TASK, COSTS, 2) == pytest.approx(alone / 2)


def test_a_filter_has_twice_as_many_images_to_choose_from_as_it_keeps():
    for largest in (0.5, 1.0, 2.0, 8.0):
        amounts = list_amounts(largest)
        assert amounts["few"] <= 1 and amounts["few"] <= amounts["middle"] == largest / 2


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has the blobs of eight people, and sets that nothing can be said of."""
    folder = tmp_path_factory.mktemp("advice")
    store = Store(folder / "store")
    faces = blobs(64, subjects=8)
    keep(faces, store, "train")

    def change(name: str, **columns: str) -> None:
        keep(Faces(faces.images, faces.index.assign(**columns)), store, name)

    change("nobody", subject="")
    change("one-person", subject="blobs:s0")
    change("one-class", emotion="fear")
    change("drawn", source="generate-1")
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the minutes are, there is only the work of seconds."""

    def fit(minutes: float, size: Size, costs: UnitCosts, workers: int) -> Budget:
        assert costs.seen > 0 and costs.drawn > 0 and len(costs.updates) == 2
        return Budget(1, 1, 3, 32, 0.5)

    monkeypatch.setattr(asked, "fit_budget", fit)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "subject of each face must be known"),
        (["one-person"], "6 subjects or more"),
        (["one-class"], "two classes or more"),
        (["drawn"], "must be real"),
        (["missing"], "missing"),
        (["train", "--folds", "1"], "--folds must be from 2"),
        (["train", "--folds", "9"], "--folds must be from 2"),
        (["train", "--minutes", "0"], "--minutes must be finite and above 0"),
        (["train", "--minutes", "inf"], "--minutes must be finite and above 0"),
        (["train", "--classifier", "svm"], "must be a network"),
        (["train", "--classifier", "tinny"], "tiny"),
        (["train", "--weights", "nowhere.pt"], "nowhere.pt"),
        (["train", "--out", "no/such/page.html"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_refused_at_once(
    folder: Path, small: None, arguments: list[str], message: str
):
    code, text = run_inside(folder, "advise", *arguments, "--workers", "0")
    assert code == 2 and message in text
    assert text.count("mien: ") == 1


def test_the_command_answers_writes_a_page_and_returns_at_once_the_second_time(
    folder: Path, small: None, monkeypatch: pytest.MonkeyPatch
):
    command = ["advise", "train", "--workers", "0", "--device", "cpu"]

    # Interrupted after some trials, it goes on with the others
    from mien.study import run as engine

    original, made = engine.run_trial, list[str]()

    def stop_after_three(spec, store, device="auto"):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(spec.name)
        return original(spec, store, device)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_trial", stop_after_three)
        assert run_inside(folder, *command)[0] == 130

    def count(spec, store, device="auto"):
        made.append(spec.name)
        return original(spec, store, device)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_trial", count)
        text = inside(folder, *command, "--out", "advice.html")
    assert len(made) == len(set(made)) >= len(WAYS) - 3
    assert "next: mien report advise-train" in text and "Intervals are 95 %" in text
    page = (folder / "advice.html").read_text(encoding="utf-8")
    assert "What was tried" in page and "copies" in page

    # A second time, nothing is trained, and the answer is the same
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_trial", None)
        printed = inside(folder, *command, "--json")
    again = json.loads(printed[printed.index("{") :])
    assert again["text"] in text.replace("\n", " ") and again["study"] == "advise-train"
