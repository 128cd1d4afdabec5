"""Labels as a part of an audit: agreement of judges, and nuisance leakage."""

from dataclasses import replace

from mien.audit.labels import nuisance
from mien.audit.labels.measure import Labels, find_seen, measure_labels
from mien.audit.labels.units import measure_units
from mien.audit.part import Part, PartInput, PartResult, list_findings, try_measure
from mien.stats import Record

LABEL_MEANINGS = {
    "labels.agreement": (
        "Share of images whose label is the likeliest class, by judges trained on other real "
        "people."
    ),
    "labels.ceiling": "What the same judges reach on real people whom they did not learn from.",
    "labels.amplification": "Number of synthetic images for each real image of the class.",
    "labels.units": (
        "F1 of the action units with which images were drawn, by a judge trained on the training "
        "people."
    ),
    "labels.units_real": "F1 of the same judge on held-out real people, whose units were coded.",
    "nuisance.all": (
        "Mean recall of the label predicted only from brightness, contrast, sharpness and border."
    ),
}


def measure_part(part_input: PartInput) -> PartResult:
    """Return the numbers of labels, and what predicts the label without the expression."""
    measured = PartResult()
    synthetic, train = part_input.require_synthetic(), part_input.train
    labels = try_measure(
        measured, "labels", lambda: measure_labels(synthetic, train, part_input.test)
    )
    if labels is not None:
        measured.records += [*labels.records, *_rescale_agreement(labels)]
        measured.notes += list_findings(labels.findings)
        measured.rows = labels.rows.drop(columns="emotion")

    # Action units, if the images were drawn with some
    units = try_measure(
        measured,
        "units",
        lambda: measure_units(
            synthetic, train, part_input.test.select(~find_seen(part_input.test, train, synthetic))
        ),
    )
    if units is not None:
        measured.records += units[0]
        measured.notes += list_findings(units[1])
    for suffix, faces in (("", synthetic), ("_train", train)):
        records = (
            try_measure(measured, "nuisance", lambda faces=faces: nuisance.measure_nuisance(faces))
            or ()
        )
        measured.records += [replace(record, metric=record.metric + suffix) for record in records]
    return measured


def _rescale_agreement(labels: Labels) -> list[Record]:
    """Return agreement on a scale from chance (0) to what the judges reach on real people (1).

    The first record is the length of that scale: the judges' ceiling less chance.
    """
    overall = {record.metric: record for record in labels.records if not record.part}
    agreement, ceiling = overall.get("labels.agreement"), overall.get("labels.ceiling")
    if agreement is None or ceiling is None:
        return []
    classes = sum(record.metric == "labels.ceiling" for record in labels.records) - 1
    chance = 1 / max(2, classes)
    scale = _rescale_record(ceiling, "labels.ceiling_above_chance", chance, 1.0)
    if scale.value <= 0:
        return [scale]
    return [scale, _rescale_record(agreement, "labels.kept", chance, scale.value)]


def _rescale_record(record: Record, name: str, zero: float, length: float) -> Record:
    """Return a record under another name, on a scale from `zero` in units of `length`."""
    low, high = (
        None if bound is None else (bound - zero) / length for bound in (record.low, record.high)
    )
    return Record(name, (record.value - zero) / length, record.n, record.unit, low, high)


PART = Part(
    measure_part,
    question="Does it show what its label says?",
    families=("labels", "nuisance"),
    meanings=LABEL_MEANINGS,
    sees_channels=True,
)
