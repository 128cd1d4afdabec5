"""Leakage meets the store, or a folder: its numbers, table and page."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mien.audit.labels.nuisance import measure_nuisance
from mien.audit.leakage.measure import (
    LeakageMeasurements,
    format_percentage,
    measure_leakage,
    name_images,
)
from mien.audit.leakage.page import list_real_licences, render_page
from mien.audit.leakage.sides import ComparedSides
from mien.audit.specs import LeakageSpec
from mien.errors import DataError
from mien.faces import Faces
from mien.findings import Finding
from mien.pages.escape import write_csv
from mien.prepare.specs import Unit
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import quantify, say
from mien.runs.store import Run, RunSummary, Store

# the files of a report that --out copies
REPORT_FILES = ("index.html", "leakage.json", "images.csv", "pairs.csv", "people.csv")


def run_leakage(
    sides: ComparedSides, store: Store, by: Unit = "subject", *, alias: str | None = None
) -> Run:
    """Make the run of what two sides share: index.html with pictures, leakage.json, and tables.

    The tables are records.parquet and CSV files. Nuisance leakage of the training side is included
    if it can be measured. Pictures of real people stay in the store.
    """
    # The sides, their table and their names make up the name of the run
    spec = LeakageSpec(
        train=sides.train.name,
        test=sides.test.name,
        table=sides.digest,
        by=by,
        one_dataset=sides.one_dataset,
        names=sides.names,
    )

    def build(out: Path, scratch: Path) -> RunSummary:
        train, test = sides.load_faces()
        measurements = measure_leakage(train, test, by)
        try:
            measurements = replace(
                measurements, records=(*measurements.records, *measure_nuisance(train))
            )
        except DataError as error:
            note = Finding("note", "nuisance not measured", "the training side", str(error))
            measurements = replace(measurements, findings=(*measurements.findings, note))
        _write_report(measurements, train, test, out, sides.names)
        (out / "index.html").write_text(
            render_page(measurements, train, test, sides.names), encoding="utf-8"
        )
        images = quantify(len(measurements.rows), name_images(test))
        return {"holds": f"{measurements.affected:,} of {images} affected"}

    return store.make(spec, build, alias)


def copy_report(run: Run, out: Path | None) -> Path:
    """Return the path of a report's page; with `out`, the report is first copied to that folder.

    The report is copied whole or not at all. Raises UsageError unless `out` is new or an empty
    folder, and can be written.
    """
    if out is None:
        return run.find_file("index.html")
    with write_whole_folder(require_free(out)) as folder:
        for name in REPORT_FILES:
            shutil.copyfile(run.find_file(name), folder / name)
    about = run.read_json("leakage.json")
    if about["licences"]:
        say(
            f"{out} contains images that are not synthetic "
            f"({_format_licences(about['licences'])}): they are now outside the store too"
        )
    return out / "index.html"


def list_leakage_lines(run: Run) -> Iterator[str]:
    """Yield the results of a leakage run as a few lines for a terminal."""
    # The sides, and how much of the test side was seen
    about = run.read_json("leakage.json")
    total, affected, image = about["test_images"], about["affected"], about["what"]
    share_text = "none was found to have been seen in training"
    if affected:
        share_text = (
            f"{format_percentage(affected, total, image)} {_choose_was(affected)} seen in training"
        )
    names_of, training_images = about["names"], quantify(about["training_images"], "training image")
    yield (
        f"{names_of['test']} ({quantify(total, image)}) against {names_of['train']} "
        f"({training_images}), no {about['by']} to be shared:"
    )
    yield share_text

    # The findings
    for finding in about["findings"]:
        yield (
            f"  {finding['severity']}: {finding['kind']}: "
            f"{finding['what']}{' (' + finding['where'] + ')' if finding['where'] else ''}"
        )

    # What memory and nuisances alone score
    values = {record["metric"]: record for record in about["records"] if not record["part"]}
    for name, on in (("nearest", f"all {image}s"), ("nearest_unaffected", "those not affected")):
        record = values[f"leakage.{name}"]
        if record["n"]:
            yield (
                f"  one nearest neighbour on {on}: accuracy {_format_percent(record)}, n = "
                f"{record['n']:,}"
            )
    if "nuisance.all" in values:
        record, chance = values["nuisance.all"], values["nuisance.all_chance"]
        yield (
            "  the label predicted only from brightness, contrast, sharpness and border: mean "
            f"recall {_format_percent(record)}; by chance {_format_percent(chance)}"
        )


def _format_percent(record: dict[str, Any]) -> str:
    bounds = (
        f" [{100 * record['low']:.1f}, {100 * record['high']:.1f}]"
        if record["low"] is not None
        else ""
    )
    return f"{100 * record['value']:.1f} %{bounds}"


def _write_report(
    measurements: LeakageMeasurements,
    train: Faces,
    test: Faces,
    out: Path,
    side_names: tuple[str, str],
) -> None:
    # The tables
    pd.DataFrame([asdict(record) for record in measurements.records]).to_parquet(
        out / "records.parquet", index=False
    )
    for name, table in (
        ("images", measurements.rows),
        ("pairs", measurements.pairs),
        ("people", measurements.people),
    ):
        write_csv(table, out / f"{name}.csv")

    # The content for programs
    about = {
        "by": measurements.by,
        "names": dict(zip(("train", "test"), side_names, strict=True)),
        "what": name_images(test),
        "training_images": len(train),
        "test_images": len(test),
        "affected": measurements.affected,
        "licences": sorted(
            {licence for faces in (train, test) for licence in list_real_licences(faces)}
        ),
        "findings": [asdict(finding) for finding in measurements.findings],
        "records": [asdict(record) for record in measurements.records],
    }
    (out / "leakage.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _format_licences(licences: list[str]) -> str:
    return "licence unknown" if licences == ["unknown"] else f"licence: {'; '.join(licences)}"


def _choose_was(count: int) -> str:
    return "was" if count == 1 else "were"
