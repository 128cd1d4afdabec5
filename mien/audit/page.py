"""The page of an audit: one file that opens without a network, verdict first, then the four
questions.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from mien import charts, figures
from mien.audit.verdict import ORDER, QUESTIONS
from mien.charts import Dot
from mien.faces import Faces
from mien.progress import many
from mien.stats import Record

NOTHING = 1e-9  # what rounding leaves of 0
SUSPECTS = 12  # images a class
WORST = 20  # rows of a table of single images
SERIES = {"": "synthetic", "_heldout": "held-out people", "_floor": "real against real"}
MEANINGS = {
    "fidelity.frechet": "Fréchet distance of Gaussians fitted to features on the 32 axes where "
    "real ones vary "
    "most, and to how far off them images lie; 0 is the same.",
    "fidelity.kernel": (
        "Unbiased MMD² with the kernel (x·y/d + 1)³; about 0 for two draws of one source, or below."
    ),
    "fidelity.precision": (
        "Share of synthetic images within reach (5th nearest neighbour) of a real one."
    ),
    "fidelity.density": (
        "Of how many real images' reaches a synthetic one lies within, over 5; "
        "about 1 for real ones."
    ),
    "variety.recall": "Share of real images within reach of a synthetic one.",
    "variety.coverage": "Share of real images with a synthetic one within their reach.",
    "variety.similarity": (
        "Mean cosine of all pairs, seen from the mean real image; 1 is one image again and again."
    ),
    "variety.vendi": (
        "How many different images there are in effect (Vendi score, exponential of an entropy)."
    ),
    "memorisation.copied": "Share of images nearer to one clip, against the nearest of any other "
    "clip, than 99 of 100 "
    "images of held-out people are.",
    "memorisation.person": "The same against the nearest image of any other person.",
    "memorisation.authentic": (
        "Share of images further from their nearest training image than that is from its own."
    ),
    "memorisation.membership": (
        "Chance that a trained person lies nearer to the synthetic faces than an untrained one."
    ),
    "labels.agreement": (
        "Share of images whose label is the likeliest class to judges trained on other real people."
    ),
    "labels.ceiling": "What the same judges reach on real people whom they have not seen.",
    "labels.amplification": "Synthetic images for each real one of the class.",
    "nuisance.all": (
        "Mean recall of the label from brightness, contrast, sharpness and border pixels alone."
    ),
}


def render(
    told: Mapping[str, Any],
    records: Sequence[Record],
    rows: pd.DataFrame,
    pictures: Mapping[str, Image.Image],
) -> str:
    """Return the page as HTML; `told` is what audit.json holds, `pictures` are shown under their
    names.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1] / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number}
    environment.globals["many"] = many
    drawn = _charts(records)
    content = {
        **told,
        "title": told["synthetic"],
        "counted": {name: sum(one["verdict"] == name for one in told["checks"]) for name in ORDER},
        "questions": [_question(one, told["checks"], drawn) for one in told["questions"]],
        "pictures": {
            name: {"data": embedded(one), "width": one.width} for name, one in pictures.items()
        },
        "records": [_line(one) for one in records if not one.part],
        "sources": _sources(records),
        "worst": _worst(rows),
        "meanings": MEANINGS,
    }
    return environment.get_template("audit.html").render(content)


def number(value: float | None) -> str:
    """Return a number with three significant digits, a dash for none, 0 for what rounding left of
    it.
    """
    if value is None or not np.isfinite(value):
        return "\u2013"
    if abs(value) < NOTHING:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def embedded(image: Image.Image) -> str:
    """Return a picture as text that a page can hold."""
    buffer = io.BytesIO()
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(
        buffer, "PNG", optimize=True
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _question(
    asked: Mapping[str, Any],
    checks: Sequence[Mapping[str, Any]],
    drawn: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    families = QUESTIONS[asked["title"]]
    return {
        **asked,
        "name": families[0],
        "checks": [one for one in checks if one["family"] in families],
        "charts": [chart for family in families for chart in drawn.get(family, ())],
    }


def _line(one: Record) -> dict[str, Any]:
    return {
        "name": one.metric,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "n": one.n,
        "unit": one.unit,
    }


# Charts


def _charts(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the charts of each family, by class, as SVG."""
    found = {(one.metric, one.part): one for one in records}
    parts = list(dict.fromkeys(one.part for one in records if one.metric.startswith("fidelity")))
    spaces = list(
        dict.fromkeys(
            one.metric.split(".")[2] for one in records if one.metric.startswith("fidelity")
        )
    )
    drawn: dict[str, list[str]] = {"fidelity": [], "memorisation": [], "labels": []}
    for title, metric in (
        ("Fréchet distance", "fidelity.frechet"),
        ("precision", "fidelity.precision"),
        ("coverage", "variety.coverage"),
    ):
        for space in [name for name in spaces if name != "pixels"] or spaces:
            series = {label: f"{metric}{suffix}.{space}" for suffix, label in SERIES.items()}
            drawn["fidelity"].append(_chart(f"{title}, {space}", "", parts, series, found))
    copied = [name for name in ("pixels", *spaces) if (f"memorisation.copied.{name}", "") in found]
    if copied:
        series = {name: f"memorisation.copied.{name}" for name in dict.fromkeys(copied)}
        drawn["memorisation"].append(
            _chart("nearer to one clip than held-out people are", "share", parts, series, found)
        )
    if ("labels.agreement", "") in found:
        series = {"synthetic": "labels.agreement", "real held-out people": "labels.ceiling"}
        drawn["labels"].append(_chart("agreement with the label", "share", parts, series, found))
    names = [
        name
        for name in ("brightness", "contrast", "sharpness", "border", "all")
        if (f"nuisance.{name}", "") in found
    ]
    if names:
        dots = {
            label: [_dot(found.get((f"nuisance.{name}{suffix}", ""))) for name in names]
            for suffix, label in {
                "": "synthetic",
                "_train": "real",
                "_chance": "labels dealt out anew",
            }.items()
        }
        drawn["labels"].append(
            charts.dots(
                "what tells the label without a look at the face", "mean recall", names, dots
            )
        )
    return drawn


def _chart(
    title: str,
    unit: str,
    parts: Sequence[str],
    series: Mapping[str, str],
    found: Mapping[tuple[str, str], Record],
) -> str:
    dots = {
        label: [_dot(found.get((metric, part))) for part in parts]
        for label, metric in series.items()
    }
    return charts.dots(title, unit, [part or "all" for part in parts], dots)


def _dot(one: Record | None) -> Dot | None:
    if one is None:
        return None
    return Dot(
        one.value, *(float("nan") if bound is None else bound for bound in (one.low, one.high))
    )


# Tables and pictures


def _sources(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return what stands behind each class: its images, effective clips and subjects, images for
    each real one.
    """
    names = ("labels.amplification", "labels.clips", "labels.subjects")
    found = {(one.metric, one.part): one for one in records if one.metric in names}
    rows = []
    for (metric, part), one in found.items():
        if metric == "labels.amplification":
            clips, subjects = (found.get((name, part)) for name in names[1:])
            behind = {
                "clips": clips.value if clips else None,
                "subjects": subjects.value if subjects else None,
            }
            rows.append({"class": part, "images": one.n, "amplification": one.value, **behind})
    return rows


def _worst(rows: pd.DataFrame) -> Sequence[Mapping[Any, Any]]:
    """Return the images nearest to one clip of the training set."""
    if "ratio_clip" not in rows:
        return []
    columns = ["key", "emotion", "nearest", "ratio_clip", "alarm"]
    return rows.loc[:, columns].sort_values(["ratio_clip", "key"]).head(WORST).to_dict("records")


def suspects(rows: pd.DataFrame, made: Faces) -> Image.Image | None:
    """Return a sheet of the images whose label is likeliest wrong, a row a class; nothing where
    none was judged.
    """
    if "rank" not in rows or not (rows["rank"] > 0).any():
        return None
    titles, pictures = [], []
    for emotion, part in rows[rows["rank"] > 0].groupby("emotion", sort=True):
        worst = part.sort_values("rank").head(SUSPECTS)
        seen = ", ".join(dict.fromkeys(worst["predicted"]))
        titles.append(f"{emotion}   judged {seen}")
        pictures.append(np.asarray(made.images[worst.index.to_numpy()]))
    return figures.rows(titles, pictures, SUSPECTS)
