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


def measure_part(given: PartInput) -> PartResult:
    """Return the numbers of memorisation; if they cannot be compared, those of copies alone."""
    measured = PartResult()
    train, test, made = given.train, given.test, given.made
    # Pixels are always compared, from the matches
    others = {name: sides for name, sides in given.spaces.items() if name != "pixels"}
    result = try_measure(
        measured,
        "memorisation",
        lambda: measure_memorisation(train, test, made, others, given.find),
    )
    if result is not None:
        measured.records += result.records
        measured.notes += result.notes
        measured.rows = result.rows.drop(columns="emotion")
        measured.picture = draw_strips(made, train, result)
        return measured
    return replace(measure_copied_images(given), notes=measured.notes)


def measure_copied_images(given: PartInput) -> PartResult:
    """Return how many images copy a training image, which needs no held-out people."""
    records, rows = measure_copies(given.made, given.train)
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
