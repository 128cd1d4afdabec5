"""FoundAdvice: whether synthetic faces should be added, within a budget of minutes."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from worlds import blobs, inside, keep, run_inside, show_as, written_study

import mien
from mien.errors import UsageError
from mien.faces import Faces
from mien.report.advise import request as asked
from mien.report.advise.arms import WAYS, list_amounts, list_ways
from mien.report.advise.budget import (
    LEAST_UPDATES,
    PLANNED_SHARE,
    Budget,
    Size,
    estimate_seconds,
    find_least_budget,
    fit_budget,
    require_minutes,
)
from mien.report.advise.request import Request, make_fields
from mien.report.advise.rule import count_people_needed
from mien.report.advise.run import FoundAdvice, read_advice
from mien.report.advise.words import describe_advice, describe_answer
from mien.report.worth import ask_if_a_way_is_best
from mien.runs.files import write_file
from mien.runs.store import Store
from mien.study.cost import UnitCosts
from mien.study.specs import TrialRow

# The rule, on answers that are drawn by lot


def lottery(
    folder: Path,
    name: str,
    gains: dict[str, float],
    people: int = 30,
    channels: tuple[str, ...] = ("gray",),
) -> FoundAdvice:
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
        8 * -(-people // 2),
        "smoke",
    )

    def skill(row: TrialRow, test: str) -> float:
        kinds = {
            "strong": row.ablation == "strong",
            "copies": row.control == "copycat",
            "synthetic": row.arm.train == "both",
            "filtered": row.arm.use.startswith("filtered"),
            "plain": True,
        }
        return 0.6 + sum(gain for kind, gain in gains.items() if kinds[kind])

    written_study(store, skill, **fields)
    return read_advice(f"advise-{name}", store)


def test_a_planted_gain_is_advised_in_the_way_that_has_it(tmp_path: Path):
    advice = lottery(tmp_path, "gain", {"synthetic": 0.05, "filtered": 0.25})
    assert advice.decision.answer == "add"
    assert WAYS[advice.decision.chosen].use.startswith("filtered")
    assert 0 < advice.decision.gain.low < advice.decision.gain.value < 0.4
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
    assert advice.decision.answer != "add"
    assert advice.decision.chosen == advice.decision.rival == "copies"


def test_strong_augmentation_is_advised_where_it_is_best(tmp_path: Path):
    advice = lottery(tmp_path, "strong", {"strong": 0.2, "synthetic": -0.1})
    assert (advice.decision.answer, advice.decision.chosen) == ("do not add", "strong")


def test_clips_are_compared_in_the_ways_that_need_no_plain_pictures(tmp_path: Path):
    advice = lottery(tmp_path, "clips", {"filtered": 0.35}, 20, ("onset", "apex"))
    compared = {score.way for score in advice.scores}
    assert compared == {name for name, way in WAYS.items() if way.ablation != "strong"}
    assert advice.missing == [] and advice.decision.answer == "add"
    assert "strong" not in describe_advice(advice)


ANSWERS = {"yes": "add", "no": "do not add", "cannot tell": "cannot tell"}


@pytest.mark.parametrize("gain", [-0.3, 0.02, 0.3])
def test_advice_and_report_give_one_answer_in_the_same_words(tmp_path: Path, gain: float):
    advice = lottery(tmp_path, "same", {"synthetic": gain}, 12)
    (conclusion,) = ask_if_a_way_is_best(advice.study)
    assert advice.decision.answer == ANSWERS[conclusion.answer]
    assert (advice.decision.gain, advice.people) == (conclusion.estimate, 12)
    told = conclusion.sentence.split(": ", 1)[1].split("corrected for")[0]
    assert told[1:] in describe_answer(advice)


def test_an_uncertain_gain_cannot_be_told_and_says_what_to_do_until_then(tmp_path: Path):
    advice = lottery(tmp_path, "little", {"synthetic": 0.06}, 8)
    decision = advice.decision
    assert decision.answer == "cannot tell" and WAYS[decision.chosen].is_cheap
    assert decision.gain.value > 0 and count_people_needed(decision, 8) > 8
    text = describe_answer(advice)
    assert "people would be enough" in text and "Until then, train on" in text


def test_fewer_than_six_people_cannot_tell(tmp_path: Path):
    advice = lottery(tmp_path, "five", {"filtered": 0.4}, 5)
    assert advice.decision.answer == "cannot tell" and "6 people or more" in describe_answer(advice)


def test_ways_that_only_guess_need_more_faces(tmp_path: Path):
    kinds = {"plain": -0.35}
    advice = lottery(tmp_path, "guess", kinds, 12)
    assert advice.decision.answer == "cannot tell" and advice.decision.at_chance
    assert "better than guessing" in describe_answer(advice)


def test_from_python_advice_has_the_answer_the_ways_and_a_page(tmp_path: Path):
    advice = mien.Advice(lottery(tmp_path, "python", {"filtered": 0.35}, 20))
    assert advice.answer == "add" and advice.text.startswith("Yes: ")
    assert set(advice.ways["way"]) == set(WAYS) and advice.study.run.stage == "study"
    assert advice.text in repr(advice) and "<table" in advice._repr_html_()
    page = advice.write_page(tmp_path / "advice.html")
    assert "What was tried" in page.read_text(encoding="utf-8")


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
        require_minutes(0.5, TASK, COSTS, 2)
    least = float(str(refused.value).split("must be ")[1].split()[0])
    require_minutes(least, TASK, COSTS, 2)
    assert fit_budget(least, TASK, COSTS, 2).updates == LEAST_UPDATES
    with pytest.raises(UsageError):
        require_minutes(least - 0.2, TASK, COSTS, 2)


def test_a_machine_that_is_too_slow_for_the_minutes_does_the_least():
    slow = replace(COSTS, seen=1.0, drawn=10.0)
    assert fit_budget(5, TASK, slow, 2) == find_least_budget(TASK)


def test_folds_are_not_given_up_if_their_people_are_needed_for_an_answer():
    assert fit_budget(3, TASK, COSTS, 2).folds == 1
    needed = replace(TASK, least_folds=3)
    with pytest.raises(UsageError, match="3 folds, 100 updates"):
        require_minutes(3, needed, COSTS, 2)
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


def test_the_speed_of_the_machine_decides_neither_for_nor_against_a_refusal(folder: Path):
    memo = folder / "store" / "memo"
    memo.mkdir(exist_ok=True)
    refusals = set()
    for speed in (1e-15, 1e-3):  # seconds of an operation, as if measured on this machine
        for name in ("product", "number"):
            write_file(memo / f"rates-cpu-1-{name}.json", str(speed))
        code, text = run_inside(folder, *["advise", "train", "--minutes", "0.05", "--workers", "0"])
        assert code == 2 and "--minutes must be" in text
        refusals.add(text)
    shutil.rmtree(memo)
    assert len(refusals) == 1


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
    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_trial", None)
        assert mien.ask_advice("train", device="cpu", store=folder / "store").text == again["text"]
