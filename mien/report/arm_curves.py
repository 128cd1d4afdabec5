"""Curves of UAR over the number of real training people, and over the ratio."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mien import stats
from mien.pages import charts
from mien.pages.charts import Dot, make_figure
from mien.pages.tables import EMPTY_CELL, ReportTable, make_row
from mien.report.arms import ALTERNATIVES, ReportArm, choose_classifiers, list_arms
from mien.report.words import format_classifier
from mien.study.best import score_recall
from mien.study.results import StudyResults
from mien.study.settings import rank_ratio
from mien.study.uses.table import MIXED

Line = dict[float, Dot]
"""The points of a line, by their place on the horizontal axis; values are in per cent."""


def plot_arm_curves(study: StudyResults) -> list[dict[str, Any]]:
    """Return the charts of UAR over people and over ratios; those with two points or more."""
    figures = [_plot_people(study), _plot_ratios(study)] if not study.units else []
    return [figure for figure in figures if figure is not None]


def list_shares(study: StudyResults) -> list[float | None]:
    """Return the shares of the training people from the smallest on; None is all of them."""
    return [None if share == 1 else share for share in sorted(study.spec.get("people", []))]


def _plot_people(study: StudyResults) -> dict[str, Any] | None:
    """Return the chart of UAR over the number of real training people, or None."""
    shares = list_shares(study)
    arms = {share: _select_arms(study, list_arms(study, share)) for share in shares}
    classifiers = choose_classifiers(
        study, [report_arm for of_share in arms.values() for report_arm in of_share]
    )
    if len(shares) < 2 or not classifiers:
        return None

    # A line for each arm, at the ratio that is nearest to one
    lines: dict[str, Line] = {}
    for share, of_share in arms.items():
        people = study.count_training(share).people
        for name, arm in _choose_ratio(study, of_share).items():
            if arm.finished_for(classifiers):
                lines.setdefault(name, {})[people] = _measure(arm, classifiers)
    ratios = {report_arm.arm.ratio for of_share in arms.values() for report_arm in of_share} - {
        None
    }
    ratio = f" There are {min(ratios, key=rank_ratio):g} of them per real image." if ratios else ""
    return _draw(
        study,
        "people",
        "UAR over the number of real training people",
        "real training people",
        lines,
        f"{_describe(study, classifiers)}. Copies are mixed with the real images, as synthetic "
        f"faces are without another way.{ratio}",
    )


def _plot_ratios(study: StudyResults) -> dict[str, Any] | None:
    """Return the chart of UAR over the number of synthetic images per real one, or None."""
    ratios = sorted(study.spec.get("ratios", []))
    arms = _select_arms(study, list_arms(study))
    classifiers = choose_classifiers(study, arms)
    if len(ratios) < 2 or not classifiers:
        return None

    # Real faces alone have no ratio: a level line
    lines: dict[str, Line] = {}
    for arm in (arm for arm in arms if arm.finished_for(classifiers)):
        line_ratios = ratios if arm.kind == "real" else [arm.arm.ratio]
        dot = _measure(arm, classifiers)
        for ratio in (ratio for ratio in line_ratios if ratio is not None):
            lines.setdefault(_name_line(study, arm), {})[ratio] = dot
    return _draw(
        study,
        "ratio",
        "UAR over the number of synthetic images per real one",
        "synthetic images (or copies) per real image",
        lines,
        f"{_describe(study, classifiers)}. Real faces alone have the same UAR at each ratio.",
    )


def _select_arms(study: StudyResults, arms: Sequence[ReportArm]) -> list[ReportArm]:
    """Return the arms of the curves: real alone in each ablation, the others in the first one.

    Of copies only mixed ones are drawn.
    """
    first = study.ablations[0]
    return [
        arm
        for arm in arms
        if arm.kind == "real"
        or (
            arm.ablation == first
            and (arm.kind == "way" or (arm.kind in ALTERNATIVES and arm.arm.use == MIXED))
        )
    ]


def _choose_ratio(study: StudyResults, arms: Sequence[ReportArm]) -> dict[str, ReportArm]:
    """Return one arm for each line, by its name: that with the ratio nearest to one."""
    chosen: dict[str, ReportArm] = {}
    for arm in sorted(arms, key=lambda arm: rank_ratio(arm.arm.ratio)):
        chosen.setdefault(_name_line(study, arm), arm)
    return {name: chosen[name] for arm in arms if (name := _name_line(study, arm)) in chosen}


def _name_line(study: StudyResults, arm: ReportArm) -> str:
    """Return the name of an arm without its ratio and share."""
    bare = replace(arm, arm=replace(arm.arm, ratio=None, people=None))
    return bare.name(study)


def _measure(arm: ReportArm, classifiers: Sequence[str]) -> Dot:
    """Return the UAR of an arm in per cent, the mean over classifiers, with its interval."""
    score = score_recall(arm.list_cells(classifiers))
    bounds = stats.make_interval(score.value, score.draws)
    return Dot(100 * bounds.value, 100 * bounds.low, 100 * bounds.high)


def _describe(study: StudyResults, classifiers: Sequence[str]) -> str:
    """Return what each point is, as the beginning of a sentence."""
    names = ", ".join(format_classifier(study, name) for name in classifiers)
    mean = "the mean of " if len(classifiers) > 1 else ""
    return (
        f"Each point is the UAR on held-out people of {mean}{names}; bands are 95 % intervals over "
        "people"
    )


def _draw(
    study: StudyResults, key: str, title: str, x_label: str, lines: Mapping[str, Line], text: str
) -> dict[str, Any] | None:
    """Return a chart with the table of its numbers, or None without two places on its axis."""
    positions = sorted({position for line in lines.values() for position in line})
    if len(positions) < 2:
        return None
    level = next(iter(list_arms(study)[0].cells.values())).level[:-1]
    caption = f"{title}, by {level}, {study.title}"
    rows = [
        make_row(f"{position:g}", *(_format_dot(line.get(position)) for line in lines.values()))
        for position in positions
    ]
    numbers = ReportTable(f"{caption}: numbers in per cent", (x_label, *lines), tuple(rows))
    svg = charts.draw_bands(caption, x_label, "UAR, %", lines)
    return make_figure(f"uar-{key}-{study.title}", caption, svg, numbers, text)


def _format_dot(dot: Dot | None) -> str:
    """Return a value with its interval as text."""
    return EMPTY_CELL if dot is None else f"{dot.value:.1f} [{dot.low:.1f}, {dot.high:.1f}]"
