"""Charts: bars of accuracies and numbers with intervals, as SVG that is the same each time."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    "published": "#9aa0a8",
    "frame": "#e69f00",
    "clip": "#56b4e9",
    "subject": "#0072b2",
    "dataset": "#009e73",
}  # Okabe and Ito's
OTHERS = ("#009e73", "#cc79a7", "#d55e00", "#f0e442")
MARKERS = ("_", "o", "^", "v", "s", "D", "P", "X")
WIDTH = 0.84  # of a group of bars, where 1 is the distance between groups
TOP = 114  # room above 100 % for the numbers
SIGN, DIGITS = 3.0, 7.0  # half the height of a sign and the height of a number, in per cent
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "mien",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": "#1d2430",
}


@dataclass(frozen=True)
class Bar:
    """Height and standard deviation (nan for none), in per cent; `floors` are what its controls
    reach, by name.
    """

    height: float
    sd: float
    floors: Mapping[str, float]


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar | None]]) -> str:
    """Return a bar chart as SVG: a group of bars for each of `groups`, one for each of `series`,
    nothing for a hole.

    What the controls of a bar reach is marked on the bar, with one sign for each control.
    """
    names = dict.fromkeys(
        name for values in series.values() for bar in values if bar for name in bar.floors
    )
    signs = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(names)}
    spare = iter(OTHERS * len(series))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.8, 3.6), layout="constrained")
        axes = figure.add_subplot()
        width = WIDTH / max(1, len(series))
        for number, (label, values) in enumerate(series.items()):
            colour = COLOURS.get(label) or next(spare)
            axes.bar(
                [0], [0], width, color=colour, label=label
            )  # for the legend, where the first bar is a hole too
            for group, bar in enumerate(values):
                _draw(
                    axes,
                    group - WIDTH / 2 + (number + 0.5) * width,
                    0.92 * width,
                    bar,
                    colour,
                    signs,
                )
        for name, sign in signs.items():
            axes.plot(
                [], [], sign, color="white", markeredgecolor="black", markersize=5, label=name
            )
        _frame(axes, title, groups)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw(
    axes: Axes, x: float, width: float, bar: Bar | None, colour: str, signs: Mapping[str, str]
) -> None:
    """Draw one bar with its spread, its number above, and the signs of its controls side by
    side.
    """
    if bar is None:
        axes.text(
            x, 1.5, "not run", rotation=90, ha="center", va="bottom", fontsize=8, color="#5b6675"
        )
        return
    spread = None if math.isnan(bar.sd) else bar.sd
    axes.bar(x, bar.height, width, yerr=spread, color=colour, error_kw={"lw": 1, "capsize": 2})
    above = bar.height + (spread or 0) + 2
    for sign in sorted(bar.floors.values()):
        if above - SIGN < sign < above + DIGITS:
            above = sign + SIGN
    axes.text(x, above, f"{bar.height:.1f}", ha="center", va="bottom", fontsize=8)
    places = list(signs)
    for name, height in bar.floors.items():
        shift = ((places.index(name) + 0.5) / len(places) - 0.5) * 0.9 * width
        axes.plot(
            x + shift,
            height,
            signs[name],
            color="white",
            markeredgecolor="black",
            markersize=5,
            zorder=4,
        )


def _frame(axes: Axes, title: str, groups: Sequence[str]) -> None:
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(0, TOP)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy, %")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def gaps(
    title: str,
    what: str,
    seen: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    chosen: float | None,
) -> str:
    """Return loss curves over images seen as SVG: a small plot for each of `curves`, (training,
    held out).

    `what` names what tells the curves apart; a line stands at `chosen`.
    """
    with mpl.rc_context(SETTINGS):
        columns = min(3, len(curves))
        figure = Figure(
            figsize=(2.6 * columns, 2.1 * -(-len(curves) // columns) + 0.5), layout="constrained"
        )
        plots = figure.subplots(-(-len(curves) // columns), columns, squeeze=False).flat
        for axes, (name, (train, held)) in zip(plots, curves.items(), strict=False):
            axes.plot(seen, train, color=COLOURS["frame"], label="training people")
            axes.plot(seen, held, color=COLOURS["subject"], label="held-out people")
            if chosen is not None:
                axes.axvline(chosen, color="black", linewidth=0.8, linestyle=":", label="chosen")
            axes.set_title(f"{what} {name}", fontsize=9, loc="left")
            axes.set_ylim(bottom=0)
            axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
            axes.spines[["top", "right"]].set_visible(False)
        for axes in list(figure.axes)[len(curves) :]:
            axes.set_visible(False)
        figure.suptitle(f"{title}, over images seen", fontsize=10, x=0.01, ha="left")
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
        )
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class Dot:
    """A number with its interval (nan for none)."""

    value: float
    low: float
    high: float


def dots(
    title: str, unit: str, rows: Sequence[str], series: Mapping[str, Sequence[Dot | None]]
) -> str:
    """Return numbers with their intervals as SVG: a row for each of `rows`, a sign in it for each
    of `series`.

    A logarithmic axis where positive numbers span more than a factor of 30.
    """
    colours = [COLOURS["subject"], *OTHERS[2::-1]]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.8, 0.9 + 0.34 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for number, (label, found) in enumerate(series.items()):
            shift = (number - (len(series) - 1) / 2) * 0.22
            there = [
                (place, dot)
                for place, dot in enumerate(found)
                if dot is not None and math.isfinite(dot.value)
            ]
            colour, sign = colours[number % len(colours)], MARKERS[1 + number]
            axes.plot([dot.value for _, dot in there], [place + shift for place, _ in there], sign, color=colour,
                      markersize=5, label=label)  # fmt: skip
            for place, dot in there:
                axes.plot([dot.low, dot.high], [place + shift] * 2, color=colour, linewidth=1.2)
        values = [dot.value for found in series.values() for dot in found if dot is not None]
        if values and min(values) > 0 and max(values) > 30 * min(values):
            axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize=10, loc="left")
        axes.grid(axis="x", color="#d9dee5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
