"""Memorisation as a part of an audit: its numbers, and a strip of copies."""

from dataclasses import replace

from mien.audit.memorisation.measure import measure_copies, measure_memorisation
from mien.audit.memorisation.strips import draw_strips
from mien.audit.part import Part, PartInput, PartResult, try_measure

MEMORISATION_MEANINGS = {
    "memorisation.copied": (
        "Share of images nearer to one clip, compared with the nearest image of any other clip, "
        "than 99 of 100 images of held-out people are."
    ),
    "memorisation.person": "The same, compared with the nearest image of any other person.",
    "memorisation.authentic": (
        "Share of images farther from their nearest training image than that image is from its "
        "own nearest one."
    ),
    "memorisation.membership": (
        "Chance that a training person is nearer to the synthetic faces than a held-out person."
    ),
}


def measure_part(part_input: PartInput) -> PartResult:
    """Return the numbers of memorisation; if they cannot be compared, those of copies alone."""
    measured = PartResult()
    train, test, synthetic = part_input.train, part_input.test, part_input.require_synthetic()
    # Pixels are always compared, from the matches
    feature_spaces = {name: sides for name, sides in part_input.spaces.items() if name != "pixels"}
    memorisation = try_measure(
        measured,
        "memorisation",
        lambda: measure_memorisation(train, test, synthetic, feature_spaces, part_input.find),
    )
    if memorisation is not None:
        measured.records += memorisation.records
        measured.notes += memorisation.notes
        measured.rows = memorisation.rows.drop(columns="emotion")
        measured.picture = draw_strips(synthetic, train, memorisation)
        return measured
    return replace(measure_copied_images(part_input), notes=measured.notes)


def measure_copied_images(part_input: PartInput) -> PartResult:
    """Return how many images copy a training image, which needs no held-out people."""
    records, rows = measure_copies(part_input.require_synthetic(), part_input.train)
    return PartResult(records=records, rows=rows.drop(columns="emotion"))


PART = Part(
    measure_part,
    question="Is it new?",
    families=("memorisation",),
    meanings=MEMORISATION_MEANINGS,
    needs_held_out=True,
    measure_alone=measure_copied_images,
    needs_spaces=True,
    needs_matches=True,
    picture="strips",
    version=2,  # copies are found directly
)
