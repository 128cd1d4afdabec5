"""How often the audit of movement objects to clips of strangers, and to controls of movement.

    python benchmarks/audit_movement.py --sets 9 --people 12 --clips 48

Each set has drawn people of its own. Training people, held-out people and strangers in place of
generated clips are three neighbouring sets, in rotation. Controls are made of the training clips:
movements pasted on other faces, movements of other classes, and no movement. The table has, for
each check, its outcomes and the median of its number.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from mien.audit import verdict
from mien.audit.memorisation.matches import Matches
from mien.audit.movement.part import measure_part
from mien.audit.part import PartInput
from mien.errors import DataError
from mien.faces import Faces
from mien.ingest.run import run_ingest
from mien.ingest.toy import dataset
from mien.prepare.movement import CHANGES, make_control_clips
from mien.runs.progress import mute_progress
from mien.runs.store import Store

CONTROL_CLIPS = 12  # of each class

CHECKS = ("flow", "labels_kept", "course", "still", "drift", "copied")

NUMBERS = ("units", "units_heldout", "origin")  # without a limit


def draw_set(store: Store, root: Path, seed: int, people: int, clips: int, size: int) -> Faces:
    """Return the frames of clips of drawn people."""
    folder = root / f"toy{seed}"
    dataset.draw(folder, subjects=people, clips=clips, seed=seed, workers=1, balance="even")
    run = run_ingest("casme2", folder, store, size=size, name=f"toy{seed}", workers=1)
    return Faces.load(run.path)


def find_no_matches() -> Matches:
    """Raise DataError: the part that measures movement asks for no matches of images."""
    raise DataError("the matches of images play no part in movement, and were asked for")


def audit(train: Faces, test: Faces, made: Faces) -> tuple[dict[str, str], dict[str, float]]:
    """Return the outcome of each check of movement, and each number over all classes."""
    sides = PartInput(train, test, made, {}, find_no_matches)
    records = measure_part(sides).records
    limits = {
        name: fields
        for name, fields in verdict.read_thresholds().items()
        if name.startswith("movement.")
    }
    people = verdict.HeldOut(test.index["subject"].nunique())
    checks = verdict.judge(records, limits, people)
    outcomes = {check.name.removeprefix("movement."): check.verdict for check in checks}
    numbers = {
        record.metric.removeprefix("movement."): record.value
        for record in records
        if not record.part
    }
    return outcomes, numbers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, usual in (("sets", 9), ("people", 12), ("clips", 48), ("size", 48)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    given = parser.parse_args()
    began = time.process_time()

    # Sets of drawn people, and the audits of each rotation
    found: dict[str, list[tuple[dict[str, str], dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as place, mute_progress():
        store = Store(Path(place) / "store")
        sets = [
            draw_set(store, Path(place), seed, given.people, given.clips, given.size)
            for seed in range(1, given.sets + 1)
        ]
        for number in range(given.sets):
            train, test, strangers = (sets[(number + step) % given.sets] for step in range(3))
            counts = dict.fromkeys(train.classes, CONTROL_CLIPS)
            arms = {"strangers": strangers} | {
                change: make_control_clips(train, counts, number, "generate-000000000000", change)
                for change in CHANGES
            }
            for arm, made in arms.items():
                found.setdefault(arm, []).append(audit(train, test, made))

    # The table
    print(f"{given.sets} audits of each kind; {given.people} people and {given.clips} clips a set")
    print(f"| clips | {' | '.join((*CHECKS, *NUMBERS))} |")
    print(f"| --- |{' --- |' * (len(CHECKS) + len(NUMBERS))}")
    for arm, audits in found.items():
        cells = []
        for name in (*CHECKS, *NUMBERS):
            values = [numbers[name] for _, numbers in audits if name in numbers]
            counted = Counter(outcomes[name] for outcomes, _ in audits if name in outcomes)
            told = ", ".join(f"{outcome} {count}" for outcome, count in counted.most_common())
            median = f"{np.median(values):.2f}" if values else "-"
            cells.append(f"{told} ({median})" if told else median)
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"{time.process_time() - began:.0f} CPU-seconds")


if __name__ == "__main__":
    main()
