"""Plots of what benchmarks/quality.py and benchmarks/sampling.py have left in a folder.

    python benchmarks/plots.py bench docs

Writes quality-steps.png, distance and agreement against sampling steps with the same weights, and
quality-time.png, against seconds of training, for all lengths that are there.
"""

import argparse
import json
import re
import statistics
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
PANELS = (
    ("fd_test", "Fréchet distance to held-out people"),
    ("agreement", "share of labels that the judge shares"),
)
Curves = Mapping[str, Mapping[float, Mapping[str, list[float]]]]


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser(description="Plots of the benchmarks of generators.")
    parser.add_argument("folder", type=Path, help="that of benchmarks/quality.py")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, rows, across in (
        ("quality-steps", steps(given.folder), "calls of the network an image"),
        ("quality-time", times(given.folder), "processor seconds of training"),
    ):
        if rows:
            draw(rows, across).savefig(given.out / f"{name}.png", dpi=110)
            print(given.out / f"{name}.png")


def steps(folder: Path) -> Mapping[str, Curves]:
    """Return the figures of each sampler by its calls of the network, for each kind of
    generator.
    """
    found: dict[str, dict[str, dict[float, dict[str, list[float]]]]] = {}
    for path in sorted(folder.glob("sampling-*.json")):
        for name, values in json.loads(path.read_text()).items():
            sampler, _, number = name.rpartition(" ")
            calls = 2 * float(number) - 1 if "heun" in sampler else float(number)
            sampler = sampler.removesuffix(", the reference").removesuffix("Scheduler")
            found.setdefault(path.name.split("-")[1], {}).setdefault(sampler, {})[calls] = values
    return found


def times(folder: Path) -> Mapping[str, Curves]:
    """Return the figures of each side by its seconds of training."""
    found: dict[str, dict[float, dict[str, list[float]]]] = {}
    for path in sorted(folder.glob("*s-*-*-*.json")):
        told = re.fullmatch(r"(.+)-([\d.]+)s-\d+-\d+-\d+", path.stem)
        if told and not path.name.startswith("sampling"):
            held = json.loads(path.read_text()).items()
            values = found.setdefault(told[1], {}).setdefault(float(told[2]), {})
            for key, value in held:  # a file is a seed
                values.setdefault(key, []).extend(value if isinstance(value, list) else [value])
    several = {side: curve for side, curve in found.items() if len(curve) > 1}
    return {"": several} if several else {}


def draw(rows: Mapping[str, Curves], across: str) -> Figure:
    """Return a row of two panels for each group of curves."""
    figure = Figure(figsize=(12, 4.2 * len(rows)), layout="constrained")
    for row, (title, curves) in zip(
        figure.subplots(len(rows), 2, squeeze=False), rows.items(), strict=True
    ):
        for axes, (key, asked) in zip(row, PANELS, strict=True):
            for place, (name, curve) in enumerate(sorted(curves.items())):
                _curve(
                    axes,
                    name,
                    {x: values[key] for x, values in curve.items()},
                    COLOURS[place % len(COLOURS)],
                )
            axes.set_xscale("log")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(ScalarFormatter())
            axes.set_xticks(sorted({x for curve in curves.values() for x in curve}), minor=False)
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.tick_params(axis="x", labelsize=8)
            axes.set_xlabel(across)
            axes.set_title(f"{title}: {asked}" if title else asked, fontsize=10, loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            axes.set_ylim(bottom=0)
        row[1].set_ylim(0, 1.02)
        row[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _curve(axes: Axes, name: str, curve: Mapping[float, list[float]], colour: str) -> None:
    points = sorted(curve.items())
    means = [statistics.mean(values) for _, values in points]
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
    theirs = "diffusers" in name
    axes.errorbar(
        [x for x, _ in points],
        means,
        spread,
        label=name,
        color=colour,
        markersize=4,
        capsize=2,
        linewidth=1.3,
        linestyle="--" if theirs else "-",
        marker="s" if theirs else "o",
    )


if __name__ == "__main__":
    main()
