"""Leakage as a part: what real sides share, and what the generator saw."""

from dataclasses import replace

from mien.audit.leakage.measure import measure_leakage
from mien.audit.part import Part, PartInput, PartResult, list_findings, try_measure
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.prepare import splits
from mien.runs.progress import quantify
from mien.stats import Record


def measure_part(part_input: PartInput) -> PartResult:
    """Return what the real sides share; it is the same for every synthetic set."""
    measurements = measure_leakage(part_input.train, part_input.test)
    return PartResult([*measurements.records], list_findings(measurements.findings))


def add_generator_overlap(
    leaks: PartResult, synthetic: Faces, train: Faces, test: Faces
) -> PartResult:
    """Return the leakage of the real sides, and how much of `test` and beyond `train` was seen.

    "Seen" means seen by the generator. The leakage of the real sides is measured once for all
    databases that are audited against them.
    """
    measured = replace(leaks, records=[*leaks.records], notes=[*leaks.notes])
    if not len(test):
        return measured

    # Nothing can be compared for a generator that nobody knows
    if (synthetic.index["source"] == UNKNOWN_SOURCE).any():
        measured.notes.append("what the generator saw: the generator of these images is not known")
        return measured

    # Held-out people whom the generator was trained on
    overlap = try_measure(
        measured, "what the generator saw", lambda: splits.measure_overlap(synthetic, test)
    )
    if overlap is not None:
        share = float(max(overlap["frames_share"], overlap["subjects_share"]))
        measured.records.append(
            Record("leakage.generator_saw", share, len(test), unit="share of test images")
        )

    # Training images of the generator that `train` lacks
    unseen = try_measure(
        measured,
        "whether --train is what the generator saw",
        lambda: splits.find_seen_beyond(synthetic, train),
    )
    if unseen is not None:
        total = len(synthetic.seen) if synthetic.seen is not None else 0
        unit = "share of the images that the generator saw"
        measured.records.append(
            Record("leakage.other_training", len(unseen) / max(1, total), total, unit=unit)
        )
        if len(unseen):
            measured.notes.append(
                f"--train is not what the generator was trained on: it lacks {len(unseen):,} of "
                f"{quantify(total, 'image')} that the generator saw, so copies of these cannot be "
                "found. Name the set that it was trained on"
            )
    return measured


PART = Part(
    measure_part,
    question="Would we know?",
    families=("leakage",),
    needs_held_out=True,
    needs_synthetic=False,
)
