"""What a study found, in sentences, each with the numbers that it rests on."""

import math

from mien.pages.tables import EMPTY_CELL
from mien.report.words import format_cell_name, format_classifier, format_score, format_test_size
from mien.runs.progress import format_duration, quantify
from mien.stats import Interval
from mien.study.cells import Comparison, ResultCell
from mien.study.results import StudyResults
from mien.study.settings import SOURCES, describe_arm, find_setting, list_mixed_settings
from mien.study.uses.table import MIXED

NOTICES = {
    "frame": (
        "As published: test frames seen in training",
        "Single frames are split at random, so each test frame has neighbours from the same clip "
        "of the same person in the training set, and one generator was trained on all frames, "
        "including those of the tests. Any method that remembers faces scores high here. These "
        "numbers say nothing about people who were not in the training set.",
    ),
    "clip": (
        "Test clips unseen, people seen",
        "No clip is on both sides of a split, and each fold has its own generator, which was "
        "trained only on the training side of that fold. The people in the tests also occur in "
        "training, in other clips.",
    ),
    "subject": (
        "Test people held out",
        "Nobody is on both sides of a split, and each fold has its own generator, which was "
        "trained only on the training side of that fold. Every test on real faces was checked "
        "for this before it was made.",
    ),
    "dataset": (
        "Test datasets unseen",
        "No dataset is on both sides of a split: each fold is tested on people, cameras and "
        "coders that neither the classifier nor the generator has seen. Names cannot show "
        "whether somebody was photographed for two of the datasets. Intervals are over people, "
        "and say nothing about further datasets.",
    ),
}

SYNTHETIC_TEST = (
    "Tests on synthetic faces show whether the classifier and the generator agree, not how well "
    "the classifier reads people: the synthetic test images come from a generator that learnt "
    "from the training side."
)

LEAK_ADVICE = (
    "Accuracies above 95 % on held-out people are rare, and a leak is more likely. Look for the "
    "same person under two names; for near-duplicate images across people; for borders, stamps or "
    "compression in the images that reveal the label; for a folder that was ingested twice under "
    "two names; and for synthetic images from outside this study, whose generator saw the test "
    "people."
)

MINUS = "\u2212"


def has_synthetic_test(study: StudyResults) -> bool:
    """Whether a setting of the study tests on synthetic images."""
    return any(sources.test == "synthetic" for sources in study.plan.settings.values())


def describe_state(study: StudyResults) -> str:
    """Return how many trials are done, failed and to come, and the time of those that are done."""
    total, done, failed = len(study.runs), len(study.done), len(study.failed)
    to_come = total - done - failed
    texts = [f"{done} of {quantify(total, 'trial')} {'is' if total == 1 else 'are'} done"]
    if failed:
        texts.append(f"{failed} failed")
    if to_come:
        texts.append(f"{to_come} {'is' if to_come == 1 else 'are'} still to come")
    return f"{', '.join(texts)}. The finished runs took {format_duration(study.seconds)}."


# Sentences


def copy_alarms(study: StudyResults) -> list[str]:
    """Return a sentence for each accuracy that is so high that a leak is likely."""
    return [
        f"{find_setting(cell.setting).label}, {format_cell_name(study, cell)}: "
        f"{_format_accuracy(cell)} right by {cell.level[:-1]} on held-out people "
        f"({format_test_size(cell)})."
        for cell in study.find_too_good()
    ]


def describe_findings(study: StudyResults) -> list[str]:
    """Return a sentence on each classifier's tests on real faces, in the first ablation.

    Cells with a hole are left out, and so are other ways of use than mixing the images of all
    people, which the table of arms has.
    """
    mixed = [
        name
        for name in study.settings
        if (arm := find_setting(name).arm).use == MIXED and arm.people is None
    ]
    sentences = []
    for classifier in study.classifiers:
        cells = [study.find_cell(setting, classifier) for setting in mixed]
        complete = [cell for cell in cells if cell is not None and cell.whole]
        real = [cell for cell in complete if study.plan.settings[cell.setting].test == "real"]
        if real:
            scores = "; ".join(
                f"{find_setting(cell.setting).label} {_format_scores(cell)}" for cell in real
            )
            floor = format_score(real[0].score_constant_answer("accuracy"), "accuracy")
            sentences.append(
                f"{format_cell_name(study, real[0])} on {format_test_size(real[0])}: {scores}. On "
                f"the same tests, always answering the commonest class gets {floor} %."
            )
    return sentences


def describe_missing(study: StudyResults) -> str:
    """Return a sentence on the controls that were not run, so that nobody takes them for passed."""
    if not study.missing_controls:
        return ""
    names = ", ".join(study.missing_controls)
    return f"The study has no trials of these controls, so no cell is compared with them: {names}."


def _format_scores(cell: ResultCell) -> str:
    """Return accuracy and UF1 of a cell as part of a sentence."""
    return f"{_format_accuracy(cell)} right (UF1 {format_score(cell.average_trials('uf1'), 'uf1')})"


def _format_accuracy(cell: ResultCell) -> str:
    """Return the mean accuracy of a cell with its spread over trials, in per cent."""
    summary = cell.summarise("accuracy")
    if summary is None:
        return EMPTY_CELL
    sd = "" if summary.n == 1 else f" ± {format_score(summary.sd, 'accuracy')}"
    return f"{format_score(summary.mean, 'accuracy')}{sd} %"


def describe_differences(study: StudyResults) -> list[str]:
    """Return what synthetic images change, a sentence per classifier and ablation.

    `conclusions.draw_conclusions` answers the questions; these are the differences behind it.
    """
    # Mixed images of all people, at each ratio
    mixed = {
        describe_arm(find_setting(name).arm): name
        for name in list_mixed_settings(study.settings, "both_to_real")
    }

    # Synthetic images alone are compared in the first ablation only
    synthetic_only = [
        comparison
        for name in list_mixed_settings(study.settings, "synthetic_to_real")[:1]
        for comparison in study.compare(name)
        if comparison.ablation == study.ablations[0]
    ]
    changes = [
        *(
            (f"Adding synthetic images{text} to the real ones", study.compare(setting))
            for text, setting in mixed.items()
        ),
        *(
            (
                f"Adding synthetic images{text} instead of {source.images}",
                study.compare_with_control(name, setting),
            )
            for text, setting in mixed.items()
            for name, source in SOURCES.items()
        ),
        ("Training on synthetic images instead of real ones", synthetic_only),
    ]

    return [
        f"{change} changes {_format_difference(study, comparison)}"
        for change, comparisons in changes
        for comparison in comparisons
    ]


def _format_difference(study: StudyResults, comparison: Comparison) -> str:
    """Return the end of a sentence: whose accuracy changes by how much, with interval, p, sizes."""
    ablation = f", {comparison.ablation}," if len(study.ablations) > 1 else ""
    groups = quantify(comparison.groups, comparison.grouped)
    return (
        f"the accuracy of {format_classifier(study, comparison.classifier)}{ablation} by "
        f"{comparison.level[:-1]} by {format_gap(comparison.gap, comparison.p)} ({groups}, "
        f"{quantify(comparison.trials, 'trial')})."
    )


def format_gap(gap: Interval, p: float) -> str:
    """Return a difference in accuracy in points with its interval, and its p if that is known."""
    p_text = "" if math.isnan(p) else ", p < 0.001" if p < 0.001 else f", p = {p:.3f}"
    return f"{format_points(gap)}{p_text}"


def format_points(gap: Interval) -> str:
    """Return a difference in accuracy with its interval, in points."""
    bounds = (
        f", 95 % interval {format_signed(gap.low)} to {format_signed(gap.high)}"
        if not math.isnan(gap.low)
        else ""
    )
    return f"{format_signed(gap.value)} points{bounds}"


def format_signed(share: float) -> str:
    """Return a difference in points with its sign, or without one if it rounds to zero."""
    text = f"{100 * share:+.1f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def list_failure_reasons(study: StudyResults) -> list[str]:
    """Return a sentence for each marked cell: the controls that it is not above, and the gaps."""
    sentences = []
    for cell in (cell for cell in study.cells if cell.level == "images"):
        controls = [
            f"{verdict.control} ({format_points(verdict.gap)})"
            for verdict in study.give_verdicts(cell)
            if verdict.cleared is False and verdict.gap is not None
        ]
        if controls:
            sentences.append(
                f"{find_setting(cell.setting).label}, {format_cell_name(study, cell)}: not above "
                f"{'; '.join(controls)}."
            )
    return sentences
