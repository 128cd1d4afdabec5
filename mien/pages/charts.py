"""Charts as SVG: bars, intervals, curves and points, in light and dark."""

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from mien.pages.tables import ReportTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's
COLOURS = {
    "published": "#9aa0a8",
    "frame": "#e69f00",
    "clip": "#56b4e9",
    "subject": "#0072b2",
    "dataset": "#009e73",
}

SPARE_COLOURS = ("#009e73", "#cc79a7", "#d55e00", "#f0e442")

LINE_COLOURS = (COLOURS["subject"], COLOURS["frame"], *SPARE_COLOURS[:3])

BAND_COLOURS = (
    *("#5b6675", "#1d2430", "#e69f00", "#0072b2", "#009e73"),
    *("#d55e00", "#cc79a7", "#56b4e9", "#f0e442"),
)
"""The colours of many lines in one plot, the alternatives first."""

PLOT_INCHES = (4.3, 3.4)  # of a plot whose text can still be read on a telephone

MARKERS = ("_", "o", "^", "v", "s", "D", "P", "X")

GROUP_WIDTH = 0.84  # width of a group of bars; the distance between groups is 1

AXIS_TOP_PERCENT = 114  # upper end of the axis in per cent, with room for numbers above 100

# half the height of a marker and the height of a number, in per cent
MARKER_HALF_PERCENT, NUMBER_HEIGHT_PERCENT = (3.0, 7.0)

MATPLOTLIB_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "mien",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": "#1d2430",
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), "#1d2430"),
}

# the colours of charts: the variable of mien's pages for each, and its values in light and dark
THEME = {
    "#1d2430": ("ink", "#1d2430", "#e4e8ee"),
    "#000000": ("ink", "#1d2430", "#e4e8ee"),
    "#ffffff": ("paper", "#ffffff", "#14181e"),
    "#d9dee5": ("line", "#d9dee5", "#333c48"),
    "#5b6675": ("soft", "#5b6675", "#a3aebc"),
    "#9aa0a8": ("gray", "#7d848d", "#9aa0a8"),
    "#0072b2": ("blue", "#0072b2", "#4aa3df"),
    "#e69f00": ("orange", "#b87a00", "#e69f00"),
    "#009e73": ("green", "#00805d", "#35b98f"),
    "#d55e00": ("red", "#c25300", "#f07f2e"),
    "#cc79a7": ("pink", "#b55a8e", "#d98fb8"),
    "#56b4e9": ("sky", "#2a8cc4", "#56b4e9"),
    "#f0e442": ("yellow", "#8f8500", "#f0e442"),
}


def follow_theme(svg: str) -> str:
    """Return a chart whose colours are variables of mien's pages, light or dark as the page is."""
    for colour, (name, *_) in THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def embed(svg: str) -> str:
    """Return a chart as the address of an `img` element; it is dark where the reader prefers it."""
    light, dark = (
        "; ".join(f"--{entry[0]}: {entry[column]}" for entry in THEME.values()) for column in (1, 2)
    )
    style = (
        f"<style>:root {{ {light} }} @media screen and (prefers-color-scheme: dark) "
        f"{{ :root {{ {dark} }} }}</style>"
    )
    themed = follow_theme(svg[svg.index("<svg") :])
    end = themed.index(">") + 1
    encoded = base64.b64encode(f"{themed[:end]}{style}{themed[end:]}".encode()).decode()
    return f"data:image/svg+xml;base64,{encoded}"


def make_figure(
    name: str, caption: str, svg: str, numbers: ReportTable, text: str = ""
) -> dict[str, Any]:
    """Return a chart for a page: its file's name, texts, picture, and the table of its numbers."""
    return {
        "name": name,
        "caption": caption,
        "svg": svg,
        "image": embed(svg),
        "alt": f"{caption}. The table below the chart has its numbers.",
        "text": text,
        "numbers": numbers,
    }


@dataclass(frozen=True)
class Bar:
    """Height, standard deviation (nan for none) and scores of controls, all in per cent."""

    height: float
    sd: float
    controls: Mapping[str, float]


def draw_bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar | None]]) -> str:
    """Return a bar chart as SVG: for each of `groups` one bar per series, None for a hole.

    The values that the controls of a bar reach are marked on it, with one marker per control.
    """
    names = dict.fromkeys(
        name for values in series.values() for bar in values if bar for name in bar.controls
    )
    markers = {name: MARKERS[number % len(MARKERS)] for number, name in enumerate(names)}
    spare_colours = iter(SPARE_COLOURS * len(series))
    with _open_figure() as figure:
        axes = figure.add_subplot()

        # The bars of each series, next to each other within a group
        width = GROUP_WIDTH / max(1, len(series))
        for number, (label, values) in enumerate(series.items()):
            colour = COLOURS.get(label) or next(spare_colours)
            # An empty bar, for the legend of a series that begins with a hole
            axes.bar([0], [0], width, color=colour, label=label)
            for group, bar in enumerate(values):
                x = group - GROUP_WIDTH / 2 + (number + 0.5) * width
                _draw_bar(axes, x, 0.92 * width, bar, colour, markers)

        # The legend of the controls
        for name, marker in markers.items():
            axes.plot(
                [], [], marker, color="white", markeredgecolor="black", markersize=5, label=name
            )
        _set_axes(axes, title, groups)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return _render_svg(figure)


@contextmanager
def _open_figure(inches: tuple[float, float] = PLOT_INCHES) -> Iterator["Figure"]:
    """Provide an empty figure of this width and height, with the settings of all charts.

    matplotlib is loaded here, since many processes that draw no chart load this file: it takes 20
    MB in each.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(MATPLOTLIB_SETTINGS):
        yield Figure(figsize=inches, layout="constrained")


def _render_svg(figure: "Figure") -> str:
    """Return a figure as SVG, without the date, so that its bytes are the same each time."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _draw_bar(
    axes: "Axes", x: float, width: float, bar: Bar | None, colour: str, signs: Mapping[str, str]
) -> None:
    """Draw one bar with its standard deviation, its number, and the markers of its controls."""
    if bar is None:
        axes.text(x, 1.5, "\u2013", ha="center", va="bottom", fontsize=8, color="#5b6675")
        return
    spread = None if math.isnan(bar.sd) else bar.sd
    axes.bar(x, bar.height, width, yerr=spread, color=colour, error_kw={"lw": 1, "capsize": 2})

    # The number, moved up where a marker would cover it
    above = bar.height + (spread or 0) + 2
    for score in sorted(bar.controls.values()):
        if above - MARKER_HALF_PERCENT < score < above + NUMBER_HEIGHT_PERCENT:
            above = score + MARKER_HALF_PERCENT
    axes.text(x, above, f"{bar.height:.1f}", ha="center", va="bottom", fontsize=8)

    # The markers, next to each other
    names = list(signs)
    for name, height in bar.controls.items():
        shift = ((names.index(name) + 0.5) / len(names) - 0.5) * 0.9 * width
        axes.plot(
            x + shift,
            height,
            signs[name],
            color="white",
            markeredgecolor="black",
            markersize=5,
            zorder=4,
        )


def _set_axes(axes: "Axes", title: str, groups: Sequence[str]) -> None:
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(0, AXIS_TOP_PERCENT)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy, %")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def draw_loss_curves(
    title: str,
    varied_quantity: str,
    images_seen: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    chosen: float | None,
) -> str:
    """Return loss curves over images seen as SVG: one plot for each of `curves`.

    Each of `curves` is (training, held out). `varied_quantity` names the quantity that
    distinguishes the plots; a vertical line marks `chosen`.
    """
    # A grid of at most three columns
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    with _open_figure((2.6 * columns, 2.1 * rows + 0.5)) as figure:
        plots = figure.subplots(rows, columns, squeeze=False).flat

        # Training and held-out loss
        for axes, (name, (train, held_out)) in zip(plots, curves.items(), strict=False):
            axes.plot(images_seen, train, color=COLOURS["frame"], label="training people")
            axes.plot(images_seen, held_out, color=COLOURS["subject"], label="held-out people")
            if chosen is not None:
                axes.axvline(chosen, color="black", linewidth=0.8, linestyle=":", label="chosen")
            axes.set_title(f"{varied_quantity} {name}", fontsize=9, loc="left")
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
        return _render_svg(figure)


def draw_curves(
    title: str,
    x_label: str,
    y_label: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> str:
    """Return curves as SVG in one plot; each of `curves` is (x, y), and y begins at zero."""
    with _open_figure() as figure:
        axes = _start_plot(figure, title, x_label, y_label)
        for number, (name, (xs, ys)) in enumerate(curves.items()):
            axes.plot(
                xs,
                ys,
                MARKERS[1 + number % (len(MARKERS) - 1)] + "-",
                color=LINE_COLOURS[number % len(LINE_COLOURS)],
                markersize=3,
                linewidth=1.2,
                label=name,
            )
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return _render_svg(figure)


@dataclass(frozen=True)
class Dot:
    """A number with its interval (nan for none)."""

    value: float
    low: float
    high: float


def draw_bands(
    title: str, x_label: str, y_label: str, lines: Mapping[str, Mapping[float, Dot]]
) -> str:
    """Return lines with the bands of their intervals as SVG; the x axis is logarithmic.

    Each of `lines` has its points by their place on the x axis, which has a tick for each place.
    """
    with _open_figure((5.4, 3.6 + 0.16 * len(lines))) as figure:
        axes = _start_plot(figure, title, x_label, y_label)
        for number, (name, line) in enumerate(lines.items()):
            xs = sorted(line)
            colour = BAND_COLOURS[number % len(BAND_COLOURS)]
            axes.plot(
                xs,
                [line[x].value for x in xs],
                MARKERS[1 + number % (len(MARKERS) - 1)] + ("-", "--")[number % 2],
                color=colour,
                markersize=4,
                linewidth=1.4,
                label=name,
            )
            axes.fill_between(
                xs,
                [line[x].low for x in xs],
                [line[x].high for x in xs],
                color=colour,
                alpha=0.1,
                linewidth=0,
            )

        # A tick for each place
        places = sorted({x for line in lines.values() for x in line})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{x:g}" for x in places])
        axes.set_xticks([], minor=True)
        figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)
        return _render_svg(figure)


def draw_points(
    title: str, x_label: str, y_label: str, groups: Mapping[str, Float[np.ndarray, "n 2"]]
) -> str:
    """Return the points of each group in one plot as SVG, all axes in the same scale."""
    with _open_figure() as figure:
        axes = _start_plot(figure, title, x_label, y_label)
        for number, (name, points) in enumerate(groups.items()):
            axes.plot(
                points[:, 0],
                points[:, 1],
                MARKERS[1 + number],
                color=LINE_COLOURS[number],
                markersize=3,
                markerfacecolor="none",
                markeredgewidth=0.7,
                label=name,
            )
        axes.set_aspect("equal", "datalim")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return _render_svg(figure)


def _start_plot(figure: "Figure", title: str, x_label: str, y_label: str) -> "Axes":
    """Return the axes of the figure, with its title, labels and grid."""
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9, loc="left", wrap=True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#d9dee5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_intervals(
    title: str,
    unit: str,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Dot | None]],
    marks: Sequence[float] = (),
    width: float = 5.8,
) -> str:
    """Return numbers with their intervals as SVG: for each of `rows` one marker per series.

    The axis includes each of `marks`, at a dashed line. It is logarithmic if all numbers are
    positive and span more than a factor of 30. `width` is in inches.
    """
    colours = [COLOURS["subject"], *SPARE_COLOURS[2::-1]]
    height = 0.9 + 0.15 * unit.count("\n") + 0.34 * len(rows)
    with _open_figure((width, height)) as figure:
        axes = figure.add_subplot()

        # Markers and intervals, one series below the other within a row
        for number, (label, values) in enumerate(series.items()):
            shift = (number - (len(series) - 1) / 2) * 0.22
            drawn = [
                (row + shift, dot)
                for row, dot in enumerate(values)
                if dot is not None and math.isfinite(dot.value)
            ]
            colour, marker = colours[number % len(colours)], MARKERS[1 + number]
            axes.plot(
                [dot.value for _, dot in drawn],
                [y for y, _ in drawn],
                marker,
                color=colour,
                markersize=5,
                label=label,
            )
            for y, dot in drawn:
                axes.plot([dot.low, dot.high], [y] * 2, color=colour, linewidth=1.2)
        for mark in marks:
            axes.axvline(mark, color="#5b6675", linewidth=1, linestyle="--", zorder=1.5)

        # The axes
        numbers = [dot.value for values in series.values() for dot in values if dot is not None]
        if numbers and min(numbers) > 0 and max(numbers) > 30 * min(numbers):
            axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(unit)
        axes.set_title(title, fontsize=9, loc="left", wrap=True)
        axes.grid(axis="x", color="#d9dee5", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
        return _render_svg(figure)
