"""Checking a release: every form of it is loaded back and compared with all others, whoever built it.

Checksums find what was damaged; what they cannot find, because whoever changed a file wrote them anew, is found by
holding against each other what stands in the release more than once: pixels, labels, hashes, marks, counts, documents.
"""

import hashlib
import importlib.util
import json
import re
import tarfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml

from mien.errors import DataError, UsageError
from mien.hashes import perceptual_hash
from mien.progress import say, track
from mien.publish import card, croissant, formats, loading, marks, registry
from mien.publish.formats import BESIDE, Layout
from mien.publish.questions import OPEN

SUMS = "checksums.sha256"
RELEASE, LINEAGE, GATES, ANSWERS = (
    f"provenance/{name}.json" for name in ("release", "lineage", "gates", "answers")
)  # fmt: skip
SHEET = "sheets/contact.png"
NEEDED = (
    *(card.CARD, card.DATASHEET, card.CITATION, card.LICENCE, croissant.FILE, registry.FILE, SUMS),
    *(RELEASE, LINEAGE, GATES, ANSWERS, SHEET),
)
PLACES = re.compile(
    r"data/[a-z]+-00000-of-00001\.parquet|imagefolder/[a-z]+/(metadata\.csv|[a-z]+/[0-9]{3}/[a-z]+-[0-9]+\.png)"
    r"|webdataset/[a-z]+-000000\.tar|audit/(audit\.json|index\.html)|results/[A-Za-z0-9._-]+\.(md|csv)"
)
"""Where files may lie beside those that are needed: whatever lies elsewhere has no business in a release."""

LIBRARIES = ("datasets", "webdataset", "mlcroissant")
MANY = 20  # faults that are told
AT_ONCE = 500  # images whose hashes are worked out at once


@dataclass(frozen=True)
class Checked:
    """What a check found: how many images of each split, what was compared, and which libraries were not at hand."""

    counts: dict[str, int]
    compared: tuple[str, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """An image as the Parquet file has it, without its bytes."""

    image_id: str
    label: str
    number: int
    split: str
    sha256: str
    pixels: str
    phash: str
    seed: int
    generator: str


def open_release(folder: Path) -> dict[str, Any]:
    """Return provenance/release.json; raises UsageError if the folder is no release."""
    try:
        told = json.loads((folder / RELEASE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} must be a release that `mien publish build` wrote, and is not: {error}") from None
    kinds = {"name": str, "version": str, "licence": str, "private": bool, "signed": bool, "run": str, "content": str}
    kinds |= {"classes": list, "size": list, "counts": dict, "formats": list, "mien": str}
    if not isinstance(told, dict) or not all(isinstance(told.get(name), kind) for name, kind in kinds.items()):
        raise UsageError(f"{folder / RELEASE} must be what `mien publish build` wrote, and is not")
    return told


def check(folder: Path, *, libraries: bool = True) -> Checked:
    """Load every form of the release in `folder` back, compare them, and return what was compared.

    With `libraries`, those of LIBRARIES that are installed load it too. Raises DataError with all that differs.
    """
    told = open_release(folder)
    faults = list(files(folder))
    rows: list[Row] = []
    compared, skipped = ["checksums"], []
    for name, work in _parts(folder, told, rows).items():
        found = _safely(name, work)
        compared.append(name)
        faults += found
    if libraries and not faults:  # on a release that has faults, they only say the same again
        for name in LIBRARIES:
            if importlib.util.find_spec(name) is None:
                skipped.append(name)
                continue
            say(f"loading it with {name}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what these libraries tell their own authors
                faults += _safely(name, lambda name=name: loading.LOADERS[name](folder, told, rows))
            compared.append(name)
    if faults:
        more = f"\n  and {len(faults) - MANY} more" if len(faults) > MANY else ""
        lines = "\n".join(f"  {fault}" for fault in faults[:MANY])
        raise DataError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{lines}{more}")
    counts = {split: sum(row.split == split for row in rows) for split in told["counts"]}
    return Checked(counts, tuple(compared), tuple(skipped))


def _parts(folder: Path, told: dict[str, Any], rows: list[Row]) -> dict[str, Callable[[], Iterator[str]]]:
    """Return what is compared, by name and in order; the first part fills `rows`, which the others are held against."""
    parts = {
        "parquet": lambda: images(folder, told, rows),
        "registry": lambda: registered(folder, rows),
        "card": lambda: documents(folder, told, rows),
        "croissant": lambda: machine_readable(folder, told),
        "provenance": lambda: provenance(folder, told, rows),
    }
    if "imagefolder" in told["formats"]:
        parts["imagefolder"] = lambda: folders(folder, told, rows)
    if "webdataset" in told["formats"]:
        parts["webdataset shards"] = lambda: shards(folder, told, rows)
    return parts


def _safely(name: str, work: Callable[[], Iterator[str]]) -> list[str]:
    """Return the faults that a part finds; what it cannot read at all is one, too."""
    found: list[str] = []
    try:
        for fault in work():
            found.append(f"{name}: {fault}")
    except Exception as error:  # readers raise anything on damaged files
        found.append(f"{name}: cannot be read: {' '.join(str(error).split())[:300] or type(error).__name__}")
    return found


# Files


def files(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the files themselves: missing, added, altered, or where none belongs."""
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    yield from (f"{name} is missing" for name in NEEDED if name not in present)
    yield from (f"{name} does not belong in a release" for name in sorted(present) if not _expected(name))
    yield from (f"{name} is a link" for name, path in sorted(present.items()) if path.is_symlink())
    if SUMS not in present:
        return
    known = {}
    for line in present[SUMS].read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        known[name] = digest
    yield from (f"{name} is missing, and {SUMS} has it" for name in sorted(known.keys() - present.keys()))
    yield from (f"{name} is not in {SUMS}" for name in sorted(present.keys() - known.keys() - {SUMS}))
    for name in sorted(known.keys() & present.keys()):
        with present[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != known[name]:
                yield f"{name} does not match its sha256"


def _expected(name: str) -> bool:
    return name in NEEDED or PLACES.fullmatch(name) is not None


# Images


def images(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the Parquet files: each image's bytes, pixels, hashes, mark and label; fill `rows`."""
    splits = list(told["counts"])
    found = {path.name for path in (folder / "data").glob("*")}
    yield from _differ("splits", {Layout(folder).parquet(split).name for split in splits}, found)
    for split in splits:
        path = Layout(folder).parquet(split)
        schema = pq.read_schema(path)
        yield from _differ("columns", list(formats.FIELDS), schema.names)
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
        yield from _differ("features", {"info": {"features": formats.features(told["classes"])}}, described)
        yield from _split(path, split, told, rows)
    names = pd.Series([row.image_id for row in rows], dtype="str")
    twice = sorted(set(names[names.duplicated()]))
    yield from (f"{name} stands there more than once" for name in twice[:3])
    for split, counts in told["counts"].items():
        here = pd.Series([row.label for row in rows if row.split == split], dtype="str").value_counts()
        for label, number in counts.items():
            if here.get(label, 0) != number:
                yield f"{split} must have {number:,} images of {label}, and has {here.get(label, 0):,}"


def _split(path: Path, split: str, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    total, batch = pq.read_metadata(path).num_rows, []
    with track(f"checking {split}", total) as tracker:
        for number, row in enumerate(formats.read_parquet(path), start=1):
            batch.append(row)
            if len(batch) == AT_ONCE or number == total:
                yield from _batch(batch, split, told, rows)
                batch = []
                tracker.update(number)


def _batch(batch: list[dict[str, Any]], split: str, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    for row in batch:
        seen = marks.read(row["image"]["bytes"], row["image_id"])
        label = told["classes"][row["label"]] if 0 <= row["label"] < len(told["classes"]) else ""
        rows.append(
            Row(
                row["image_id"], label, row["label"], row["split"], row["sha256"], row["pixels_sha256"], row["phash"],
                row["seed"], row["generator_id"],
            )
        )  # fmt: skip
        for fault in _image(row, seen, label, split, told):
            yield f"{row['image_id']}: {fault}"


def _image(row: Mapping[str, Any], seen: marks.Seen, label: str, split: str, told: Mapping[str, Any]) -> Iterator[str]:
    if list(seen.image.shape) != told["size"]:
        yield f"must be {told['size']}, and is {list(seen.image.shape)}"
    if hashlib.sha256(row["image"]["bytes"]).hexdigest() != row["sha256"]:
        yield "its bytes do not match its sha256"
    if seen.pixels != row["pixels_sha256"]:
        yield "its pixels do not match pixels_sha256"
    if f"{perceptual_hash(seen.image[None])[0]:016x}" != row["phash"]:
        yield "its pixels do not match phash"
    if row["image"]["path"] != f"{row['image_id']}.png":
        yield f"its path is {row['image']['path']}"
    if row["split"] != split:
        yield f"stands in {split}, and says {row['split']}"
    if not label:
        yield f"its label {row['label']} is none of 0..{len(told['classes']) - 1}"
    if not seen.declared:
        yield "its XMP does not say that a machine made it"
    if seen.mark is None:
        yield "has no mark"
        return
    if not seen.fits:
        yield "its mark was written for other pixels"
    says = {"image": row["image_id"], "seed": row["seed"], "label": label, "licence": told["licence"]}
    for name, value in says.items():
        if getattr(seen.mark, name) != value:
            yield f"its mark says {name} {getattr(seen.mark, name)}, and its row {value}"


def registered(folder: Path, rows: list[Row]) -> Iterator[str]:
    """Yield where the registry differs from the images."""
    table = registry.load(folder)
    ours = pd.DataFrame(
        [(row.image_id, row.split, row.label, row.sha256, row.pixels, row.phash) for row in rows],
        columns=list(registry.COLUMNS), dtype="str",
    )  # fmt: skip
    yield from _rows_differ(ours, table)


def folders(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield where the folders of images differ from the Parquet files: rows, files and bytes, both ways."""
    for split in told["counts"]:
        root = Layout(folder).folder(split)
        table = pd.read_csv(root / "metadata.csv", dtype="str", keep_default_na=False)
        yield from _differ("columns of metadata.csv", ["file_name", *BESIDE], list(table.columns))
        names = [str(name) for name in table["file_name"]]
        named, there = set(names), {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
        yield from (f"{split}/{name} has no row: loaders pass it over" for name in sorted(there - named)[:3])
        yield from (f"{split}/{name} has a row and is not there" for name in sorted(named - there)[:3])
        yield from _rows_differ(_beside(rows, split), table.drop(columns="file_name"))
        for name, digest in zip(names, table["sha256"], strict=True):
            if name in there and hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
                yield f"{split}/{name} is not the image of its row"
        wrong = [name for name, label in zip(names, table["label"], strict=True) if name.split("/")[0] != label]
        yield from (f"{split}/{name} lies in the folder of another label" for name in wrong[:3])


def shards(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield where the tar shards differ from the Parquet files."""
    for split in told["counts"]:
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(Layout(folder).shard(split)) as tar:
            for member in tar:
                file = tar.extractfile(member)
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = file.read() if file else b""
        torn = [key for key, parts in samples.items() if set(parts) != {"png", "cls", "json"}]
        yield from (f"{split}: the sample {key} must have .png, .cls and .json" for key in torn[:3])
        whole = {key: parts for key, parts in samples.items() if key not in torn}
        table = pd.DataFrame([json.loads(parts["json"]) for parts in whole.values()], columns=list(BESIDE)).astype(str)
        yield from _rows_differ(_beside(rows, split), table)
        numbers = {row.image_id: row for row in rows if row.split == split}
        for key, parts in whole.items():
            known = numbers.get(key)
            if known is not None and parts["cls"] != str(known.number).encode():
                yield f"{split}: {key}.cls says {parts['cls'].decode(errors='replace')}, and its row {known.number}"
            if known is not None and hashlib.sha256(parts["png"]).hexdigest() != known.sha256:
                yield f"{split}: {key}.png is not the image of its row"


def _beside(rows: list[Row], split: str) -> pd.DataFrame:
    table = [
        (row.image_id, row.label, row.sha256, row.pixels, row.phash, row.generator, str(row.seed), row.split)
        for row in rows
        if row.split == split
    ]
    return pd.DataFrame(table, columns=list(BESIDE), dtype="str")


# Documents


def documents(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the card, its YAML, the datasheet, the licence and the citation."""
    for name in (card.CARD, card.DATASHEET, card.LICENCE):
        text = (folder / name).read_text(encoding="utf-8")
        if len(text.strip()) < 80:
            yield f"{name} says nothing"
        if OPEN in text:
            yield f"{name} has something open: [{OPEN}]"
    _, top, body = (folder / card.CARD).read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(top)
    names = {str(number): name for number, name in enumerate(told["classes"])}
    kinds = {one["name"]: one["dtype"] for one in head["dataset_info"]["features"]}
    yield from _differ(
        "classes in the card's YAML", list(names.items()), list(kinds["label"]["class_label"]["names"].items())
    )
    yield from _differ("columns in the card's YAML", list(formats.FIELDS), list(kinds))
    counts = {split: sum(row.split == split for row in rows) for split in told["counts"]}
    listed = {one["name"]: one["num_examples"] for one in head["dataset_info"]["splits"]}
    yield from _differ("images a split in the card's YAML", counts, listed)
    yield from _differ("licence in the card's YAML", told["licence"], head["license"])
    yield from (
        f"the card does not say: {text}"
        for text in (card.EXCLUDED[0], "never say what a person")
        if text not in " ".join(body.split())
    )
    cited = yaml.safe_load((folder / card.CITATION).read_text(encoding="utf-8"))
    lost = [name for name in ("cff-version", "message", "title", "authors", "date-released") if not cited.get(name)]
    yield from (f"{card.CITATION} has no {name}" for name in lost)
    yield from _differ(f"version in {card.CITATION}", told["version"], cited.get("version"))


def machine_readable(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with croissant.json."""
    found = json.loads((folder / croissant.FILE).read_text(encoding="utf-8"))
    needed = ("@context", "name", "description", "license", "url", "creator", "datePublished", "distribution")
    yield from (f"has no {name}" for name in needed if not found.get(name))
    yield from _differ("conformsTo", croissant.CONFORMS, found.get("conformsTo"))
    yield from (f"has no rai:{name}" for name in croissant.RAI if not found.get(f"rai:{name}"))
    yield from (f"has no {name}" for name in ("prov:wasDerivedFrom", "prov:wasGeneratedBy") if not found.get(name))
    yield from _differ("version", told["version"], found.get("version"))
    listed = {one["contentUrl"]: one["sha256"] for one in found.get("distribution", [])}
    layout = Layout(folder)
    ours = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (layout.parquet(split) for split in told["counts"])
    }
    yield from _differ("files and their sha256", ours, listed)
    sets = {one["name"]: one for one in found.get("recordSet", [])}
    labels = [row["labels/name"] for row in sets.get("labels", {}).get("data", [])]
    yield from _differ("labels", told["classes"], labels)
    yield from (f"has no record set images_{split}" for split in told["counts"] if f"images_{split}" not in sets)


def provenance(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the provenance, the audit, the gates and the contact sheet."""
    lineage = {one["run"]: one for one in json.loads((folder / LINEAGE).read_text(encoding="utf-8"))}
    if lineage.get(told["run"], {}).get("content") != told["content"]:
        yield f"the lineage does not end at {told['run']} with the content {told['content'][:12]}"
    yield from (f"the lineage has no {name}" for name in sorted({row.generator for row in rows} - lineage.keys()))
    gates = {one["gate"]: one["outcome"] for one in json.loads((folder / GATES).read_text(encoding="utf-8"))}
    shut = [
        name
        for name, outcome in gates.items()
        if outcome == "refused" or (outcome == "private" and not told["private"])
    ]
    yield from (f"the gate {name} stays shut" for name in shut)
    yield from _differ("gates", {"withdrawn", "sources", "licence", "subjects", "audit"}, set(gates))
    audit = folder / "audit" / "audit.json"
    if gates.get("audit") == "passed":
        said = json.loads(audit.read_text(encoding="utf-8"))
        if (said.get("synthetic"), said.get("content")) != (told["run"], told["content"]):
            yield "audit/audit.json is of another database"
        if said.get("verdict") not in ("pass", "warn"):
            yield f"audit/audit.json says {said.get('verdict')}, and the gate passed"
    sheet = marks.read_file(folder / SHEET)
    if not (sheet.declared and sheet.fits):
        yield f"{SHEET} does not say that a machine made it"


# Comparing


def _differ(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield f"{what} must be {_short(ours)}, and {'are' if what.endswith('s') else 'is'} {_short(theirs)}"


def _short(value: Any) -> str:
    text = str(sorted(value) if isinstance(value, set) else value)
    return text if len(text) < 160 else f"{text[:157]}..."


def _rows_differ(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield where two tables differ, by image: some of the rows that one has and the other has not, and the cells."""
    if list(ours.columns) != list(theirs.columns):
        yield from _differ("columns", list(ours.columns), list(theirs.columns))
        return
    if ours["image_id"].duplicated().any() or theirs["image_id"].duplicated().any():
        yield "an image stands there more than once"
        return
    first, second = ours.set_index("image_id"), theirs.set_index("image_id")
    lost, more = first.index.difference(second.index), second.index.difference(first.index)
    yield from (f"{name} is missing" for name in lost[:3])
    yield from (f"{name} is there, and not in the Parquet files" for name in more[:3])
    both = first.index.intersection(second.index)
    a, b = first.loc[both], second.loc[both]
    for column in a.columns:
        for name in both[(a[column].astype(str) != b[column].astype(str)).to_numpy()][:3]:
            yield f"{name}: {column} must be {a.at[name, column]}, and is {b.at[name, column]}"
