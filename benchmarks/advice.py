"""How often `mien advise` is right, on drawn sets and on people held out from them.

    python benchmarks/advice.py FOLDER --minutes 20
    python benchmarks/advice.py FOLDER --quick

For each set, people are drawn, and advice is asked for them alone. Then the same ways of training,
with the same budget, are trained on all of these people and tested on others, whom the advice never
saw: their UAR is the truth, as far as so many people and trials show it. The advice is right

    add            if the true UAR of the advised way is not below that of the best way without
                   synthetic faces by more than 1 point;
    do not add     if no way with synthetic faces truly gains more than 1 point over that way.

"cannot tell" is counted by itself. What was finished lies in the folder, and is not done again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from mien.errors import UsageError
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.prepare.joins import run_join
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.report.advise.arms import WAYS
from mien.report.advise.request import Request
from mien.report.advise.rule import WayScore, read_scores
from mien.report.advise.run import FoundAdvice, ask_advice
from mien.runs.engine import make_engine
from mien.runs.jobs import Engine
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store
from mien.study.file import read_study_fields
from mien.study.results import StudyResults
from mien.study.run import run_study

PEOPLE = (8, 10, 12, 16, 20, 24, 32, 40, 50, 60)
"""The people of each set; each has seven clips, one of each expression."""

QUICK_PEOPLE = (8, 10)

WORTHWHILE_GAIN = 0.01  # in UAR; the error that still counts as right

CLIPS_PER_PERSON, TRUE_PEOPLE, TRUE_TRIALS = 7, 60, 3


@dataclass(frozen=True)
class Scale:
    """How much is done: held-out people, trials and pixels of the truth, and minutes of advice."""

    minutes: float
    true_people: int = TRUE_PEOPLE
    true_trials: int = TRUE_TRIALS
    size: int = 48


def draw_faces(folder: Path, name: str, people: int, seed: int, size: int, store: Store) -> Run:
    """Return the apex frames of drawn people, as the set `name`."""
    drawn = folder / f"{name}-{people}-{seed}"
    if not drawn.exists():
        dataset.draw(drawn, people, people * CLIPS_PER_PERSON, seed, balance="even", window=1)
    read = run_ingest("casme2", drawn, store, name=name)
    fields = {"faces": read.name, "frames": "apex", "window": 1, "size": size}
    return run_preprocess(read_spec(PreprocessSpec, fields, "benchmark"), store)


def measure_truth(
    advice: FoundAdvice, held_out: Run, scale: Scale, engine: Engine
) -> list[WayScore]:
    """Return the UAR of each way of training after training on all people of the advice."""
    store, spec = advice.study.store, advice.study.spec
    joined = run_join(
        read_spec(JoinSpec, {"faces": (spec["faces"], held_out.name)}, "benchmark"), store
    )
    same = (
        *("settings", "ablations", "controls", "ratios", "cells", "generate", "seed"),
        "generator",
    )
    updates = next(iter(next(iter(spec["classifiers"].values())).values()))["updates"]
    fields = {
        **{name: spec[name] for name in same},
        "uses": list(spec["uses"]),
        "name": f"truth-{advice.study.title}",
        "faces": joined.name,
        "protocol": "dataset",
        "only_folds": [0],  # in the order of names: held-out, then trained
        "trials": scale.true_trials,
        "classifiers": list(spec["classifiers"]),
        "classifier": {"updates": updates},
        "counts": f"balanced:{round(advice.largest * len(advice.study.faces)) + 1}",
    }
    study = read_study_fields(fields, store, Path(fields["name"]))
    run_study(study, store, engine=engine)
    return read_scores(StudyResults(study.name, store), advice.largest)


def judge(advice: FoundAdvice, truth: list[WayScore]) -> tuple[str, float, float]:
    """Return whether the advice is right, and two true gains in UAR over the best cheap way.

    The first is that of the advised way, and the second that of the best way with synthetic faces.
    """
    value = {score.way: score.value for score in truth}
    cheap = max(uar for way, uar in value.items() if WAYS[way].is_cheap)
    best = max(uar for way, uar in value.items() if not WAYS[way].is_cheap) - cheap
    advised = value.get(advice.decision.chosen, 0.0) - cheap
    if advice.decision.answer == "cannot tell":
        return "cannot tell", advised, best
    right = (
        advised >= -WORTHWHILE_GAIN if advice.decision.answer == "add" else best <= WORTHWHILE_GAIN
    )
    return "right" if right else "wrong", advised, best


def main() -> None:
    """Ask for advice on each set, measure the truth, and print a table."""
    parser = argparse.ArgumentParser(description="How often `mien advise` is right.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--people", type=int, nargs="+", default=list(PEOPLE))
    parser.add_argument("--quick", action="store_true", help="two tiny sets of small pictures")
    parser.add_argument("--workers", type=int, default=None)
    wanted = parser.parse_args()
    scale = Scale(wanted.minutes)
    people = wanted.people
    if wanted.quick:
        scale, people = Scale(wanted.minutes, 10, 1, 24), list(QUICK_PEOPLE)

    # The table: one row for each set
    store = Store(wanted.folder / "store")
    engine = make_engine("local", wanted.workers)
    print("| people | answer | advised | expected gain | true gain of it | best true gain | is |")
    print("| --: | --- | --- | --: | --: | --: | --- |")
    found = []
    for number, count in enumerate(people):
        train = draw_faces(wanted.folder, "trained", count, 2 * number, scale.size, store)
        held_out = draw_faces(
            wanted.folder, "held-out", scale.true_people, 2 * number + 1, scale.size, store
        )
        store.set_alias(f"people-{count}", train.name)
        try:
            advice = ask_advice(Request(f"people-{count}", scale.minutes), store, engine=engine)
        except UsageError as error:
            print(f"| {count} | refused: {error} | | | | | |", flush=True)
            continue
        answer, advised, best = judge(advice, measure_truth(advice, held_out, scale, engine))
        found.append(answer)
        decision = advice.decision
        print(
            f"| {count} | {decision.answer} | {decision.chosen} | {100 * decision.gain.value:+.1f} "
            f"| {100 * advised:+.1f} | {100 * best:+.1f} | {answer} |",
            flush=True,
        )
    print(
        f"\nright in {found.count('right')} of {len(found)}, wrong in {found.count('wrong')}, "
        f"cannot tell in {found.count('cannot tell')}; true people {scale.true_people}, trials "
        f"{scale.true_trials}, minutes {scale.minutes:g}"
    )


if __name__ == "__main__":
    main()
