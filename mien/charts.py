"""Charts: bars of accuracies, as SVG that is the same each time."""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ("#8a8f98", "#2f6fbf", "#e08214", "#1b7f5c", "#9b4f96")  # apart for colour-blind readers, too
STYLES = ("--", ":", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)))
WIDTH = 0.8  # of a group of bars, where 1 is the distance between groups

Bar = tuple[float, float] | None
"""Height and standard deviation (nan for none), in per cent; nothing where there is no number."""


def bars(title: str, groups: Sequence[str], series: Mapping[str, Sequence[Bar]], floors: Mapping[str, float]) -> str:
    """Return a bar chart as SVG: a group of bars for each of `groups`, one for each of `series`.

    `floors` are drawn as level lines: what controls reach.
    """
    with mpl.rc_context({"svg.hashsalt": "mien", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        width = WIDTH / max(1, len(series))
        for number, (label, values) in enumerate(series.items()):
            colour = COLOURS[number % len(COLOURS)]
            for group, bar in enumerate(values):
                x = group - WIDTH / 2 + (number + 0.5) * width
                name = label if group == 0 else "_"
                if bar is None:
                    axes.bar(x, 0, width, color=colour, label=name)
                    axes.text(x, 1.5, "not run", rotation=90, ha="center", va="bottom", fontsize=7, color="#666666")
                    continue
                spread = None if bar[1] != bar[1] else bar[1]
                axes.bar(x, bar[0], width * 0.92, yerr=spread, color=colour, label=name, error_kw={"lw": 1})
                axes.text(x, bar[0] + (spread or 0) + 1, f"{bar[0]:.1f}", ha="center", va="bottom", fontsize=7)
        for number, (label, height) in enumerate(floors.items()):
            axes.axhline(height, color="#333333", lw=1, ls=STYLES[number % len(STYLES)], label=f"{label} {height:.1f}")
        axes.set_xticks(range(len(groups)), groups)
        axes.set_ylim(0, 112)
        axes.set_yticks(range(0, 101, 20))
        axes.set_ylabel("accuracy, %")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
