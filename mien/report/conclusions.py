"""Conclusions: what studies found, as questions, each with one answer.

The questions are whether synthetic faces help, whether they help more than copies of the real
ones, whether anything is above its controls, and what a random split of frames would have said.
Studies whose target is action units answer one question: whether the units are recognised.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.report.answers import (
    HELD_OUT_PROTOCOLS,
    Answer,
    Conclusion,
    Question,
    correct_by_holm,
    decide,
    describe_basis,
    describe_design,
    describe_people,
    find_seen_people,
    leave_open,
    pool_pairs,
)
from mien.report.sentences import MINUS, format_gap, format_points, format_signed
from mien.report.units import name_unit_cell
from mien.report.words import format_cell_name, format_classifier, format_score
from mien.report.worth import ask_if_a_way_is_best, ask_where_a_way_helps
from mien.runs.progress import quantify
from mien.stats import Interval
from mien.study.cells import MIN_PEOPLE, SIGNIFICANT_P, ResultCell
from mien.study.fields import draws_clips
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS, SOURCES, describe_arm, find_setting, list_mixed_settings
from mien.study.unit_scores import UnitCell, estimate_gap
from mien.study.uses.table import MIXED


def draw_conclusions(studies: Sequence[StudyResults]) -> list[Conclusion]:
    """Return the answers to STUDY_QUESTIONS, in their order.

    There is at least one for each question that is about the target of a study. All but
    the last are answered by each study with held-out people, the last by each study whose frames
    were split at random, compared with the first study with held-out people. An answer needs both
    an interval that excludes zero and p < 0.05 of a sign-flip test over people, which fewer than
    MIN_PEOPLE cannot reach. Differences are means over the trials and the classifiers of the first
    ablation, paired by person. Studies of action units are compared with their controls by mean F1,
    with a p from the bootstrap over people.
    """
    of_units = [_ask_if_units_are_recognised(study) for study in studies if study.units]
    studies = [study for study in studies if not study.units]
    if not studies:
        return of_units
    held_out = [study for study in studies if study.protocol in HELD_OUT_PROTOCOLS]
    by_frame = [study for study in studies if study.protocol == "frame"]
    askers = (
        _ask_if_synthetic_helps,
        _ask_if_more_than_copies,
        ask_if_a_way_is_best,
        ask_where_a_way_helps,
        _ask_if_above_controls,
    )
    conclusions = [
        conclusion
        for ask in askers
        for study in held_out or studies[:1]
        for conclusion in ask(study)
    ]
    return [*conclusions, *_ask_about_random_splits(by_frame, held_out), *of_units]


# Do synthetic faces help, and more than copies do?


def _ask_if_synthetic_helps(study: StudyResults) -> list[Conclusion]:
    """Return the comparison of real + synthetic with real faces alone."""
    if seen := find_seen_people(study, "synthetic"):
        return [seen]
    mixed = _find_mixed_setting(study)
    if mixed is None or "real_to_real" not in study.settings:
        return [
            leave_open(study, "synthetic", f"the study lacks {_name_lacking(study)} in its file")
        ]
    pairs = [
        (cell, study.find_cell("real_to_real", cell.classifier, cell.level, cell.ablation))
        for cell in _list_main_cells(study, mixed)
    ]
    complete = [(cell, base) for cell, base in pairs if base is not None]
    change = f"adding synthetic faces{describe_arm(find_setting(mixed).arm)} to the real ones"
    return [_conclude_from_pairs(study, "synthetic", complete, change)]


def _ask_if_more_than_copies(study: StudyResults) -> list[Conclusion]:
    """Return the comparison of synthetic faces with each source of copies, both added to real."""
    if seen := find_seen_people(study, "copies"):
        return [seen]
    sources = [name for name in SOURCES if name in study.plan.controls]
    mixed = _find_mixed_setting(study)
    if mixed is None or not sources:
        lacking = (
            f"the control {' or '.join(_list_fitting_sources(study))}; add it to `controls`"
            if mixed is not None
            else _name_lacking(study, ("both_to_real",))
        )
        return [leave_open(study, "copies", f"the study lacks {lacking} in its file")]

    # The pairs of each source: a cell, and the same with its images in place of synthetic ones
    pairs = {
        name: [
            (cell, control)
            for cell in _list_main_cells(study, mixed)
            for control in study.find_controls(mixed, cell.level)
            if (control.control, control.classifier) == (name, cell.classifier)
        ]
        for name in sources
    }
    return [
        _conclude_from_pairs(
            study,
            "copies",
            pairs[name],
            f"adding synthetic faces{describe_arm(find_setting(mixed).arm)} instead of "
            f"{SOURCES[name].images}",
        )
        for name in sources
    ]


def _find_mixed_setting(study: StudyResults) -> str | None:
    """Return real + synthetic → real with mixed images of all people, or None.

    Of several ratios it is the one that is nearest to one synthetic image per real one.
    """
    return next(iter(list_mixed_settings(study.settings, "both_to_real")), None)


def _list_fitting_sources(study: StudyResults) -> list[str]:
    """Return the sources of copies that fit what the generator draws: faces, or movements."""
    moves = draws_clips(study.spec["generator"])
    return [name for name, source in SOURCES.items() if draws_clips(source.generator) == moves]


def _name_lacking(
    study: StudyResults, needed: tuple[str, ...] = ("both_to_real", "real_to_real")
) -> str:
    """Return the settings that a study lacks of those needed, and what to add to its file."""
    bases = {name.partition(":")[0] for name in study.settings}
    lacking = [find_setting(name).label for name in needed if name not in bases]
    if not lacking:
        return f"real + synthetic → real with all images mixed; add {MIXED} to `uses`"
    return f"{' and '.join(lacking)}; add it to `settings`"


def _list_main_cells(study: StudyResults, setting: str) -> list[ResultCell]:
    """Return the cells of a setting in the first ablation, by clip where clips are scored."""
    cells = [study.find_scored_cell(setting, name) for name in study.classifiers]
    return [cell for cell in cells if cell is not None]


def _conclude_from_pairs(
    study: StudyResults,
    question: Question,
    pairs: Sequence[tuple[ResultCell, ResultCell]],
    change: str,
) -> Conclusion:
    """Return whether the first cells of the pairs are better than the second ones."""
    finished = [(ours, theirs) for ours, theirs in pairs if ours.whole and theirs.whole]
    if not finished:
        return leave_open(study, question, "not all trials that this needs are done yet")

    # The answer, and why there is none
    gap, p = pool_pairs(finished)
    first = finished[0][0]
    answer, reason = decide(gap, p, first)
    lead = {"yes": "Yes: ", "no": "No, it is worse: ", "cannot tell": "Cannot tell: "}[answer]
    sentence = (
        f"{lead}{change} changes accuracy by {first.level[:-1]} by {format_gap(gap, p)} "
        f"({describe_people(study, first)}{reason})."
    )

    # Classifiers that were pooled, each with its own difference
    names = [
        f"{format_classifier(study, ours.classifier)} "
        f"{format_signed(ours.average_trials('accuracy') - theirs.average_trials('accuracy'))}"
        for ours, theirs in finished
    ]
    return Conclusion(
        question,
        answer,
        sentence,
        describe_basis(study, first, names if len(names) > 1 else []),
        describe_design(study),
        gap,
        len(first.units),
        first.grouped,
        study.title,
    )


# Is anything above its controls?


@dataclass(frozen=True)
class _Margin:
    """The smallest difference of a cell from a control, with its p.

    `low` and `high` are the lowest bounds, and `largest_p` the largest p, of the differences from
    all controls.
    """

    cell: ResultCell
    control: str
    gap: Interval
    p: float
    low: float
    high: float
    largest_p: float


def _ask_if_above_controls(study: StudyResults) -> list[Conclusion]:
    """Return whether a cell with tests on real faces is above all its controls."""
    if seen := find_seen_people(study, "controls"):
        return [seen]
    cells = [
        cell
        for setting in study.settings
        if study.plan.settings[setting].test == "real"
        for name in study.classifiers
        for ablation in study.ablations
        if (cell := study.find_scored_cell(setting, name, ablation)) is not None and cell.whole
    ]
    margins = [margin for cell in cells if (margin := _measure_margin(study, cell)) is not None]
    if not margins:
        reason = "no result on real faces has all of its trials and controls yet"
        return [leave_open(study, "controls", reason)]

    # A cell is above its controls if it is after Holm's correction for the number of cells
    clear = [
        margin
        for margin, p in zip(
            margins, correct_by_holm([margin.largest_p for margin in margins]), strict=True
        )
        if margin.low > 0 and p < SIGNIFICANT_P
    ]
    best = max(clear or margins, key=lambda margin: (margin.low, margin.gap.value))
    enough = best.cell.grouped == "subject" and len(best.cell.units) >= MIN_PEOPLE
    certain = enough and all(margin.high <= 0 for margin in margins)
    answer: Answer = "yes" if clear else "no" if certain else "cannot tell"

    # The sentence: how many are above, and the clearest of them
    number = f"{len(clear)} of {quantify(len(margins), 'result')} on real faces"
    count, which = {
        "yes": (f"Yes: {number}", "clearest"),
        "no": (f"No: {number}", "nearest"),
        "cannot tell": (f"Cannot tell: {number} for certain", "nearest"),
    }[answer]
    _, reason = decide(best.gap, best.p, best.cell)
    if answer == "cannot tell" and not reason:
        reason = f"; p is not below {SIGNIFICANT_P} after Holm's correction for all results"
    sentence = (
        f"{count}; the {which}, {find_setting(best.cell.setting).label} by "
        f"{format_cell_name(study, best.cell)}, differs from {best.control}, its strongest "
        f"control, by {format_gap(best.gap, best.p)} ({describe_people(study, best.cell)}"
        f"{reason if answer == 'cannot tell' else ''})."
    )
    missing = study.missing_controls
    without = [f"without these controls: {', '.join(missing)}"] if missing else []
    conclusion = Conclusion(
        "controls",
        answer,
        sentence,
        ", ".join([describe_basis(study, best.cell), *without]),
        describe_design(study),
        best.gap,
        len(best.cell.units),
        best.cell.grouped,
        study.title,
    )
    return [conclusion]


def _measure_margin(study: StudyResults, cell: ResultCell) -> _Margin | None:
    """Return the smallest difference of a cell from its controls, or None if one is not done.

    To be above all controls the cell must be above each of them, so the largest p counts.
    """
    controls = study.list_compared_controls(cell)
    if any(not control.whole for _, control in controls):
        return None
    gaps = [(name, *pool_pairs([(cell, control)])) for name, control in controls]
    name, gap, p = min(gaps, key=lambda entry: (entry[1].value, _get_low_or_value(entry[1])))
    ps = [control_p for _, _, control_p in gaps]
    return _Margin(
        cell,
        name,
        gap,
        p,
        low=min(_get_low_or_value(control_gap) for _, control_gap, _ in gaps),
        high=min(control_gap.high for _, control_gap, _ in gaps),
        largest_p=math.nan if any(map(math.isnan, ps)) else max(ps),
    )


def _get_low_or_value(gap: Interval) -> float:
    """Return the lower bound of a gap, or its value if it has no interval."""
    return gap.value if math.isnan(gap.low) else gap.low


# What would a random split of frames have said?


def _ask_about_random_splits(
    by_frame: Sequence[StudyResults], held_out: Sequence[StudyResults]
) -> list[Conclusion]:
    """Return how much higher real → real is if frames are split at random."""
    if not by_frame:
        name = held_out[0].title if held_out else "the study"
        sentence = (
            "Cannot tell: this report has no study with such a split. To run one, copy the file of "
            f'{name}, set `protocol = "frame"` and another `name`, and give both names to '
            "`mien report`."
        )
        return [Conclusion("split", "cannot tell", sentence)]
    return [_compare_split(study, held_out[0] if held_out else None) for study in by_frame]


def _compare_split(study: StudyResults, other: StudyResults | None) -> Conclusion:
    """Return the difference in real → real of a study by frame from one with held-out people."""
    ours = _find_images(study)
    if not ours:
        return leave_open(study, "split", "real → real is not done yet")

    # The classifiers that both studies have, if they have the same faces
    comparable = other is not None and study.spec["faces"] == other.spec["faces"]
    theirs = _find_images(other) if other is not None and comparable else {}
    shared = [(cell, theirs[name]) for name, cell in ours.items() if name in theirs]
    score = float(
        np.mean([pair[0].average_trials("accuracy") for pair in shared or zip(ours.values())])
    )
    alone = f"a random split of frames gives real → real {format_score(score, 'accuracy')} %"
    if other is None or not shared:
        reason = f"{alone}, and no study of the same faces and classifiers holds people out"
        return leave_open(study, "split", reason)

    # The difference; people are the same in both studies unless few folds are tested
    gap, _ = pool_pairs(shared)
    held = float(np.mean([pair[1].average_trials("accuracy") for pair in shared]))
    people = min((cell for pair in shared for cell in pair), key=lambda cell: len(cell.units))
    few = people.grouped != "subject" or len(people.units) < MIN_PEOPLE
    is_clear = not few and (gap.low > 0 or gap.high < 0)
    answer: Answer = "cannot tell" if not is_clear else "yes" if gap.low > 0 else "no"
    lead = {"yes": "Yes: ", "no": "No: ", "cannot tell": "Cannot tell: "}[answer]
    reason = "" if is_clear else decide(gap, math.nan, people)[1]
    sentence = (
        f"{lead}{alone} by image and {describe_people(other, shared[0][1])} "
        f"{format_score(held, 'accuracy')} %, a difference of {format_points(gap)}"
        f"{f' ({reason[2:]})' if reason else ''}."
    )
    names = ", ".join(format_classifier(study, cell.classifier) for cell, _ in shared)
    return Conclusion(
        "split",
        answer,
        sentence,
        names,
        f"{describe_design(study)}; {describe_design(other)}",
        gap,
        len(people.units),
        people.grouped,
        study.title,
    )


def _find_images(study: StudyResults) -> dict[str, ResultCell]:
    """Return the finished cells of real → real by image and first ablation, by classifier."""
    cells = [study.find_cell("real_to_real", name) for name in study.classifiers]
    return {cell.classifier: cell for cell in cells if cell is not None and cell.whole}


# Are action units recognised?


@dataclass(frozen=True)
class _UnitMargin:
    """The smallest difference of a cell in mean F1 from a control, and the largest p of all."""

    cell: UnitCell
    control: str
    score: float
    gap: Interval
    high: float
    largest_p: float


def _ask_if_units_are_recognised(study: StudyResults) -> Conclusion:
    """Return whether a network exceeds the constant answer, and its controls, in mean F1."""
    if seen := find_seen_people(study, "units"):
        return seen
    margins = [margin for cell in study.unit_cells if (margin := _measure_unit_margin(study, cell))]
    if not margins:
        return leave_open(study, "units", "no network has all of its trials and controls yet")

    # A network is above its controls if it is after Holm's correction for the number of networks
    ps = correct_by_holm([margin.largest_p for margin in margins])
    enough = all(
        margin.cell.grouped == "subject" and margin.cell.groups >= MIN_PEOPLE for margin in margins
    )
    clear = [
        margin
        for margin, p in zip(margins, ps, strict=True)
        if enough and margin.gap.low > 0 and p < SIGNIFICANT_P
    ]
    best = max(
        clear or margins, key=lambda margin: (_get_low_or_value(margin.gap), margin.gap.value)
    )
    answer: Answer = "cannot tell"
    if clear:
        answer = "yes"
    elif enough and all(margin.high <= 0 for margin in margins):
        answer = "no"

    # The sentence, with the reason where there is no answer
    cell, p = best.cell, ps[margins.index(best)]
    reason = "" if answer != "cannot tell" else _explain_open_units(best, p)
    number = f"{len(clear)} of {quantify(len(margins), 'result')}"
    certain = " for certain" if answer == "cannot tell" else ""
    mean = format_score(cell.mean_f1.value if cell.mean_f1 else math.nan, "f1")
    people = "people" if cell.grouped == "subject" else f"{cell.grouped}s"
    sentence = (
        f"{answer.capitalize()}: {number} above the controls{certain}; the "
        f"{'clearest' if clear else 'nearest'}, by {name_unit_cell(study, cell)}, has a mean F1 of "
        f"{mean} over {quantify(len(study.units), 'action unit')}, and {best.control}, its "
        f"strongest control, has {format_score(best.score, 'f1')}: a difference of "
        f"{_format_f1_gap(best.gap)} ({cell.groups:,} held-out {people}{reason})."
    )
    basis = f"{name_unit_cell(study, cell)}, {quantify(cell.n, cell.level[:-1])}"
    return Conclusion(
        "units", answer, sentence, basis, describe_design(study), best.gap, cell.groups,
        cell.grouped, study.title,
    )  # fmt: skip


def _measure_unit_margin(study: StudyResults, cell: UnitCell) -> _UnitMargin | None:
    """Return the smallest difference of a cell from its controls, or None if one is not done."""
    controls = [control for control in study.unit_controls if control.classifier == cell.classifier]
    against = [("always yes", cell.mean_constant, estimate_gap(cell))]
    against += [
        (CONTROLS[control.control].label, control.mean_f1, estimate_gap(cell, control))
        for control in controls
    ]
    measured = [
        (name, score.value, gap)
        for name, score, gap in against
        if score is not None and gap is not None
    ]
    if len(measured) < len(against):
        return None
    name, score, gap = min(
        measured, key=lambda entry: (entry[2].value, _get_low_or_value(entry[2]))
    )

    # Draws of people: how often the order of cell and control is the other one
    draws = [cell.constant_draws, *(control.mean_draws for control in controls)]
    ps = [
        math.nan if cell.mean_draws is None or other is None else _count_reversals(
            cell.mean_draws - other
        )
        for other in draws
    ]  # fmt: skip
    largest = math.nan if any(map(math.isnan, ps)) else max(ps)
    return _UnitMargin(
        cell, name, score, gap, min(unit_gap.high for _, _, unit_gap in measured), largest
    )


def _count_reversals(gaps: np.ndarray) -> float:
    """Return the two-sided p of a bootstrap: twice the share of draws on the other side of zero.

    One is added to the number of draws on each side, so that p is never zero (Davison and Hinkley
    1997, Equation 4.11).
    """
    known = gaps[~np.isnan(gaps)]
    fewer = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (fewer + 1) / (len(known) + 1))


def _explain_open_units(best: _UnitMargin, p: float) -> str:
    """Return why the largest difference in mean F1 is no answer."""
    if best.cell.grouped != "subject":
        return "; it is not known which images are of one person"
    if best.cell.groups < MIN_PEOPLE:
        return f"; fewer than {MIN_PEOPLE} are not enough"
    if best.gap.low <= 0 <= best.gap.high or math.isnan(best.gap.low):
        return "; the interval includes zero"
    if p >= SIGNIFICANT_P:
        return f"; p is not below {SIGNIFICANT_P} after Holm's correction for all results"
    return "; other results may be above their controls"


def _format_f1_gap(gap: Interval) -> str:
    """Return a difference in F1 with its interval, such as +0.210, 95 % interval +0.1 to +0.3."""
    texts = [f"{value:+.3f}".replace("-", MINUS) for value in (gap.value, gap.low, gap.high)]
    if math.isnan(gap.low):
        return texts[0]
    return f"{texts[0]}, 95 % interval {texts[1]} to {texts[2]}"
