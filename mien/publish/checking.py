"""Checking a release: every form of it is loaded back and compared with all others, whoever built
it.

Checksums find what was damaged; what they cannot find, because whoever changed a file wrote them
anew, is found by holding against each other what stands in the release more than once: pixels,
labels, hashes, marks, counts, documents.
"""

import csv
import hashlib
import importlib.util
import io
import json
import os
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

from mien import __version__
from mien.errors import DataError, UsageError
from mien.escape import bare, printable
from mien.escape import cell as escaped_cell
from mien.faces import EMOTIONS
from mien.hashes import perceptual_hash
from mien.outside import foreign, read_text
from mien.progress import many, say, track
from mien.publish import card, croissant, formats, lineage, loading, marks, registry
from mien.publish.formats import BESIDE, Layout
from mien.publish.questions import OPEN, UNANSWERED, Answers

SUMS = "checksums.sha256"
RELEASE, LINEAGE, GATES, ANSWERS, KEPT = (
    f"provenance/{name}.json" for name in ("release", "lineage", "gates", "answers", "card")
)  # fmt: skip
SHEET = "sheets/contact.png"
NEEDED = (
    *(card.CARD, card.DATASHEET, card.CITATION, card.LICENCE, croissant.FILE, registry.FILE, SUMS),
    *(RELEASE, LINEAGE, GATES, ANSWERS, KEPT, SHEET),
)
PLACES = re.compile(
    r"data/[a-z]+-00000-of-00001\.parquet|imagefolder/[a-z]+/(metadata\.csv|[a-z]+/[0-9]{3}/[a-z]+-[0-9]+\.png)"
    r"|webdataset/[a-z]+-000000\.tar|audit/(audit\.json|index\.html)|results/[A-Za-z0-9._-]+\.(md|csv)"
)
"""Where files may lie beside those that are needed: whatever lies elsewhere has no business in a
release.
"""

TOLD = ("pass", "warn", "cannot tell")  # verdicts of checks that let an audit pass
PRIVATE = {
    card.CARD: "Private build",
    card.DATASHEET: "it is not to be passed on",
    card.LICENCE: "Private build",
}
"""How each document says that a build is private."""

LIBRARIES = ("datasets", "webdataset", "mlcroissant")
MANY = 20  # faults that are told
AT_ONCE = 500  # images whose hashes are worked out at once
DEEP = 8  # folders within folders that a release has at most
LEAST = 100  # bytes that an image takes in a file of many, with its digests
MOST_YAML = 200_000  # letters of a card's head
MEMBER = 64 << 20  # bytes of a file in a shard
HUB = re.compile(
    r"\.git(/.*)?|\.gitattributes|\.cache/huggingface(/.*)?|\.cache"
)  # what a hub or git leaves
ACTIVE = re.compile(
    r"<\s*(script|iframe|object|embed|img|image|video|audio|canvas|link|meta\s+http-equiv|base|form)\b|\bon\w+\s*="
    r"|javascript:|data:(image|text)|url\(|@import",
    re.IGNORECASE,
)
"""What a page in a release must be free of: it would load or do something, or show a picture."""


@dataclass(frozen=True)
class Checked:
    """What a check found: how many images of each split, what was compared, and which libraries
    were not at hand.
    """

    counts: dict[str, int]
    compared: tuple[str, ...]
    skipped: tuple[str, ...]
    foreign: tuple[str, ...] = ()  # what the system or the hub left there, which is passed over


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
    size: int  # bytes of the file


def open_release(folder: Path) -> dict[str, Any]:
    """Return provenance/release.json; raises UsageError if the folder is no release."""
    try:
        told = _json(folder / RELEASE)
    except UsageError as error:
        raise UsageError(
            f"{folder} must be a release that `mien publish build` wrote, and is not: {error}"
        ) from None
    wrong = next(_unsound(told), "")
    if wrong:
        raise UsageError(
            f"{folder / RELEASE} must be what `mien publish build` wrote, and is not: {wrong}"
        )
    return told


def _unsound(told: Any) -> Iterator[str]:
    """Yield what is wrong with the form of release.json."""
    kinds = {
        "name": str,
        "version": str,
        "licence": str,
        "private": bool,
        "signed": bool,
        "run": str,
        "content": str,
    }
    kinds |= {
        "classes": list,
        "size": list,
        "counts": dict,
        "formats": list,
        "studies": list,
        "mien": str,
    }
    if not isinstance(told, dict):
        yield "it holds no fields"
        return
    yield from (
        f"{name} is missing or of another kind"
        for name, kind in kinds.items()
        if type(told.get(name)) is not kind
    )
    classes, counts, size = told["classes"], told["counts"], told["size"]
    if classes != [name for name in EMOTIONS if name in classes] or not classes:
        yield "classes must be expression labels, each once and in their order"
    if not counts or not set(counts) <= {"train", "test"}:
        yield "counts must be of the splits train and test"
    for split in counts.values():
        sound = isinstance(split, dict) and list(split) == classes
        if not sound or not all(
            type(number) is int and 0 <= number < 10**9 for number in split.values()
        ):
            yield "counts must be a number for each class"
    if len(size) != 3 or not all(type(number) is int and 0 < number <= 4096 for number in size):
        yield "size must be three numbers: channels, height, width"
    if "parquet" not in told["formats"] or not all(
        name in formats.FORMATS for name in told["formats"]
    ):
        yield f"formats must be among {', '.join(formats.FORMATS)}, Parquet among them"
    if not all(isinstance(name, str) for name in told["studies"]):
        yield "studies must be names"


def _json(path: Path) -> Any:
    """Return what a JSON file of a release holds; raises DataError if it is a link, no file, too
    large or no JSON.
    """
    if path.is_symlink():
        raise DataError(f"{path} is a link, and must be a file")
    try:
        return json.loads(read_text(path, "a JSON file"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(
            f"{path} must be a JSON file, and is not: {printable(reason)[:200]}"
        ) from None


class _Plain(yaml.SafeLoader):
    """Reads YAML in which nothing stands for something else: a few such lines can stand for more
    than memory holds.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a node; raises DataError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise DataError("it has an alias, which a card has not")
        return super().compose_node(parent, index)  # pyright: ignore[reportUnknownMemberType]


def _yaml(text: str) -> Any:
    """Return what YAML says; raises DataError if it is none, or has more than a card says."""
    if len(text) > MOST_YAML:
        raise DataError(f"it is longer than {MOST_YAML:,} letters")
    return yaml.load(text, _Plain)  # a safe loader


def check(folder: Path, *, libraries: bool = True) -> Checked:
    """Load every form of the release in `folder` back, compare them, and return what was compared.

    With `libraries`, those of LIBRARIES that are installed load it too. Raises DataError with all
    that differs.
    """
    told = open_release(folder)
    present, foreign, odd = members(folder)
    if odd:  # what is no plain file is not opened
        _raise(folder, odd)
    faults = list(files(present))
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
        _raise(folder, faults)
    counts = {split: sum(row.split == split for row in rows) for split in told["counts"]}
    return Checked(counts, tuple(compared), tuple(skipped), tuple(foreign))


def _raise(folder: Path, faults: list[str]) -> None:
    """Raise DataError with what is wrong, one line a fault, whatever the files of the release
    hold.
    """
    more = f"\n  and {len(faults) - MANY} more" if len(faults) > MANY else ""
    lines = "\n".join(f"  {printable(fault)[:400]}" for fault in faults[:MANY])
    raise DataError(f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{lines}{more}")


def _parts(
    folder: Path, told: dict[str, Any], rows: list[Row]
) -> dict[str, Callable[[], Iterator[str]]]:
    """Return what is compared, by name and in order; the first part fills `rows`, which the others
    are held against.
    """
    parts = {
        "formats": lambda: forms(folder, told),
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
        found.append(
            f"{name}: cannot be read: {' '.join(str(error).split())[:300] or type(error).__name__}"
        )
    return found


# Files


def members(folder: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """Return the plain files of a release by name, what systems and hubs left there, and what is
    neither.
    """
    present: dict[str, Path] = {}
    foreign: list[str] = []
    odd: list[str] = []
    waiting = [("", folder, 0)]
    while waiting:
        below, place, depth = waiting.pop()
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = below + entry.name
            if entry.is_symlink():
                odd.append(
                    f"{name} is a link, and must be a file; download it as files (hf download "
                    "--local-dir)"
                )
            elif not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)):
                odd.append(f"{name} is a pipe, a socket or a device, and must be a file")
            elif name != ".cache" and passed_over(name):
                foreign.append(name)
            elif entry.is_file(follow_symlinks=False):
                present[name] = Path(entry.path)
            elif depth < DEEP:
                waiting.append((f"{name}/", Path(entry.path), depth + 1))
            else:
                odd.append(f"{name} lies deeper than any file of a release")
    return present, sorted(foreign), odd


def passed_over(name: str) -> bool:
    """Whether a name within a release is one that a system or a hub leaves there, and is no part of
    it.
    """
    return HUB.fullmatch(name) is not None or foreign(name)


def files(present: Mapping[str, Path]) -> Iterator[str]:
    """Yield what is wrong with the files themselves: missing, added, altered, or where none
    belongs.
    """
    yield from (f"{name} is missing" for name in NEEDED if name not in present)
    yield from (
        f"{name} does not belong in a release" for name in sorted(present) if not _expected(name)
    )
    if SUMS not in present:
        return
    known: dict[str, str] = {}
    try:
        lines = read_text(present[SUMS], "a list of checksums").splitlines()
    except DataError as error:
        yield f"{SUMS}: {error}"
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        known[name] = digest
    yield from (
        f"{name} is missing, and {SUMS} has it" for name in sorted(known.keys() - present.keys())
    )
    yield from (
        f"{name} is not in {SUMS}" for name in sorted(present.keys() - known.keys() - {SUMS})
    )
    for name in sorted(known.keys() & present.keys()):
        with present[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != known[name]:
                yield f"{name} does not match its sha256"


def _expected(name: str) -> bool:
    return name in NEEDED or PLACES.fullmatch(name) is not None


# Images


def images(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the Parquet files: each image's bytes, pixels, hashes, mark and
    label; fill `rows`.
    """
    splits = list(told["counts"])
    found = {path.name for path in (folder / "data").glob("*") if not passed_over(path.name)}
    yield from _differ("splits", {Layout(folder).parquet(split).name for split in splits}, found)
    for split in splits:
        path = Layout(folder).parquet(split)
        schema = pq.read_schema(path)
        number, needed = pq.read_metadata(path).num_rows, sum(told["counts"][split].values())
        if number != needed or number * LEAST > path.stat().st_size:
            yield f"{split} must have {many(needed, 'image')}, and says that it has {number:,}"
            return
        yield from _differ(
            "columns", [*formats.FIELDS.items()], [(one.name, one.type) for one in schema]
        )
        described = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
        yield from _differ(
            "features", {"info": {"features": formats.features(told["classes"])}}, described
        )
        yield from _split(path, split, told, rows)
    names = pd.Series([row.image_id for row in rows], dtype="str")
    twice = sorted(set(names[names.duplicated()]))
    yield from (f"{name} stands there more than once" for name in twice[:3])
    for split, counts in told["counts"].items():
        here = pd.Series(
            [row.label for row in rows if row.split == split], dtype="str"
        ).value_counts()
        for label, number in counts.items():
            if here.get(label, 0) != number:
                yield (
                    f"{split} must have {many(number, 'image')} of {label}, and has "
                    f"{here.get(label, 0):,}"
                )


def _split(path: Path, split: str, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    total, batch = pq.read_metadata(path).num_rows, []
    with track(f"checking {split}", total) as tracker:
        for number, row in enumerate(formats.read_parquet(path), start=1):
            batch.append(row)
            if len(batch) == AT_ONCE or number == total:
                yield from _batch(batch, split, told, rows)
                batch = []
                tracker.update(number)


def _batch(
    batch: list[dict[str, Any]], split: str, told: Mapping[str, Any], rows: list[Row]
) -> Iterator[str]:
    for row in batch:
        label = told["classes"][row["label"]] if 0 <= row["label"] < len(told["classes"]) else ""
        rows.append(
            Row(
                row["image_id"], label, row["label"], row["split"], row["sha256"], row["pixels_sha256"], row["phash"],
                row["seed"], row["generator_id"], len(row["image"]["bytes"]),
            )
        )  # fmt: skip
        faults = _picture(row["image"]["bytes"], told["size"])
        for fault in faults or _image(
            row, marks.read(row["image"]["bytes"], row["image_id"]), label, split, told
        ):
            yield f"{row['image_id']}: {fault}"


def _picture(data: bytes, size: list[int]) -> list[str]:
    """Return why a file is no PNG of the size that the release has, before it is unpacked; nothing
    if it is one.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return ["it is no PNG file"]
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    return (
        []
        if [height, width] == size[1:]
        else [f"must be {size[1]} x {size[2]}, and is {height} x {width}"]
    )


def _image(
    row: Mapping[str, Any], seen: marks.Seen, label: str, split: str, told: Mapping[str, Any]
) -> Iterator[str]:
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
    says = {
        "image": row["image_id"],
        "seed": row["seed"],
        "label": label,
        "licence": told["licence"],
    }
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


def forms(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the forms that lie in the folder are not those that release.json names."""
    for name, place in {"imagefolder": "imagefolder", "webdataset": "webdataset"}.items():
        if (folder / place).exists() != (name in told["formats"]):
            here = "lies there" if (folder / place).exists() else "does not lie there"
            yield f"{place}/ {here}, and release.json names the forms {', '.join(told['formats'])}"
    for name in ("imagefolder", "webdataset"):
        found = {path.name for path in (folder / name).glob("*") if not passed_over(path.name)}
        ours = {Layout(folder).folder(one).name if name == "imagefolder" else Layout(folder).shard(one).name
                for one in told["counts"]}  # fmt: skip
        if name in told["formats"]:
            yield from _differ(f"parts of {name}", ours, found)


def folders(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield where the folders of images differ from the Parquet files: rows, files and bytes, both
    ways.
    """
    for split in told["counts"]:
        root = Layout(folder).folder(split)
        table = pd.read_csv(root / "metadata.csv", dtype="str", keep_default_na=False)
        yield from _differ("columns of metadata.csv", ["file_name", *BESIDE], list(table.columns))
        names = [str(name) for name in table["file_name"]]
        there = {
            path.relative_to(root).as_posix()
            for path in root.rglob("*.png")
            if not passed_over(path.name)
        }
        named = set(names)
        yield from (
            f"{split}/{name} has no row: loaders pass it over" for name in sorted(there - named)[:3]
        )
        yield from (
            f"{split}/{name} has a row and is not there" for name in sorted(named - there)[:3]
        )
        yield from _rows_differ(_beside(rows, split), table.drop(columns="file_name"))
        for name, digest in zip(names, table["sha256"], strict=True):
            if name in there and hashlib.sha256((root / name).read_bytes()).hexdigest() != digest:
                yield f"{split}/{name} is not the image of its row"
        wrong = [
            name
            for name, label in zip(names, table["label"], strict=True)
            if name.split("/")[0] != label
        ]
        yield from (f"{split}/{name} lies in the folder of another label" for name in wrong[:3])


def shards(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield where the tar shards differ from the Parquet files."""
    for split in told["counts"]:
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(Layout(folder).shard(split)) as tar:
            for member in tar:
                if (
                    not member.isreg()
                    or member.issparse()
                    or member.size > MEMBER
                    or len(samples) > len(rows)
                ):
                    yield f"{split}: {member.name} is no plain file of a sample"
                    return
                file = tar.extractfile(member)
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = file.read() if file else b""
        torn = [key for key, parts in samples.items() if set(parts) != {"png", "cls", "json"}]
        yield from (f"{split}: the sample {key} must have .png, .cls and .json" for key in torn[:3])
        whole = {key: parts for key, parts in samples.items() if key not in torn}
        table = pd.DataFrame(
            [json.loads(parts["json"]) for parts in whole.values()], columns=list(BESIDE)
        ).astype(str)
        yield from _rows_differ(_beside(rows, split), table)
        numbers = {row.image_id: row for row in rows if row.split == split}
        for key, parts in whole.items():
            known = numbers.get(key)
            if known is not None and parts["cls"] != str(known.number).encode():
                yield (
                    f"{split}: {key}.cls says {parts['cls'].decode(errors='replace')}, and its "
                    f"row {known.number}"
                )
            if known is not None and hashlib.sha256(parts["png"]).hexdigest() != known.sha256:
                yield f"{split}: {key}.png is not the image of its row"


def _beside(rows: list[Row], split: str) -> pd.DataFrame:
    table = [
        (
            row.image_id,
            row.label,
            row.sha256,
            row.pixels,
            row.phash,
            row.generator,
            str(row.seed),
            row.split,
        )
        for row in rows
        if row.split == split
    ]
    return pd.DataFrame(table, columns=list(BESIDE), dtype="str")


# Documents


def documents(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the card, its YAML, the datasheet, the licence and the citation."""
    for name in (card.CARD, card.DATASHEET, card.LICENCE):
        text = read_text(folder / name)
        if len(text.strip()) < 80:
            yield f"{name} says nothing"
        if OPEN in text or (UNANSWERED in text and not told["private"]):
            yield f"{name} has something open: [{OPEN if OPEN in text else UNANSWERED[1:-1]}]"
        if (PRIVATE[name] in text) != told["private"]:
            yield f"{name} must {'' if told['private'] else 'not '}say that the build is private"
    yield from written(folder, told, rows)
    for path in sorted([*folder.glob("audit/*.html"), *folder.glob("results/*")]):
        text = read_text(path)
        if ACTIVE.search(text) or (path.suffix == ".md" and re.search(r"<[A-Za-z/!?]", text)):
            yield f"{path.relative_to(folder)} would load or do something"
        cells = (
            (cell for line in csv.reader(io.StringIO(text)) for cell in line)
            if path.suffix == ".csv"
            else ()
        )
        yield from (
            f"{path.relative_to(folder)} has a formula"
            for cell in cells
            if escaped_cell(bare(cell)) != cell
        )
    _, top, body = read_text(folder / card.CARD).split("---\n", 2)
    head = _yaml(top)
    names = {str(number): name for number, name in enumerate(told["classes"])}
    kinds = {one["name"]: one["dtype"] for one in head["dataset_info"]["features"]}
    yield from _differ(
        "classes in the card's YAML",
        list(names.items()),
        list(kinds["label"]["class_label"]["names"].items()),
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
    cited = _yaml(read_text(folder / card.CITATION))
    lost = [
        name
        for name in ("cff-version", "message", "title", "authors", "date-released")
        if not cited.get(name)
    ]
    yield from (f"{card.CITATION} has no {name}" for name in lost)
    yield from _differ(f"version in {card.CITATION}", told["version"], cited.get("version"))


def written(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield which documents are not those that the provenance of the release gives, letter by
    letter.

    They are written again from release.json, answers, gates and card.json. Another version of mien
    words them otherwise: then only what stands in them by name is compared.
    """
    answers = Answers.model_validate(_json(folder / ANSWERS))
    gates, kept = _json(folder / GATES), _json(folder / KEPT)
    for name in ("name", "version", "licence"):
        yield from _differ(f"the {name} in {ANSWERS}", told[name], getattr(answers.dataset, name))
    if not isinstance(kept, dict) or set(kept) != set(card.KEPT):
        yield f"{KEPT} must have {', '.join(card.KEPT)}"
        return
    if told["mien"] != __version__:
        return
    layout, sizes = Layout(folder), {}
    for split in told["counts"]:
        number = sum(row.split == split for row in rows)
        sizes[split] = {
            "num_bytes": sum(row.size for row in rows if row.split == split),
            "num_examples": number,
            "download_size": layout.parquet(split).stat().st_size,
        }
    found = card.again(told, answers, gates, kept)
    for name, text in card.documents(found, sizes).items():
        if read_text(folder / name) != text:
            yield f"{name} is not what the provenance of the release gives"
    if _json(folder / croissant.FILE) != json.loads(json.dumps(croissant.described(found, layout))):
        yield f"{croissant.FILE} is not what the provenance of the release gives"


def machine_readable(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with croissant.json."""
    found = _json(folder / croissant.FILE)
    needed = (
        "@context",
        "name",
        "description",
        "license",
        "url",
        "creator",
        "datePublished",
        "distribution",
    )
    yield from (f"has no {name}" for name in needed if not found.get(name))
    yield from _differ("conformsTo", croissant.CONFORMS, found.get("conformsTo"))
    yield from (f"has no rai:{name}" for name in croissant.RAI if not found.get(f"rai:{name}"))
    yield from (
        f"has no {name}"
        for name in ("prov:wasDerivedFrom", "prov:wasGeneratedBy")
        if not found.get(name)
    )
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
    yield from (
        f"has no record set images_{split}"
        for split in told["counts"]
        if f"images_{split}" not in sets
    )


def provenance(folder: Path, told: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    """Yield what is wrong with the provenance, the audit, the gates and the contact sheet."""
    runs = {one["run"]: one for one in _json(folder / LINEAGE)}
    if runs.get(told["run"], {}).get("content") != told["content"]:
        yield f"the lineage does not end at {told['run']} with the content {told['content'][:12]}"
    yield from (
        f"the lineage has no {name}"
        for name in sorted({row.generator for row in rows} - runs.keys())
    )
    for name, one in runs.items():
        more = sorted(set(one["spec"]) - lineage.TOLD - {"dataset"})
        more += sorted(set(one) - lineage.ENTRIES)
        more += [
            field
            for field, value in one["spec"].items()
            if field != "dataset" and not lineage.own(value)
        ]
        yield from (
            f"the lineage tells {field} of {name}, which no release tells" for field in more[:3]
        )
    yield from _gates(folder, told)
    sheet = marks.read_file(folder / SHEET)
    if not (sheet.declared and sheet.fits):
        yield f"{SHEET} does not say that a machine made it"


def _gates(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the gates are shut, or come out otherwise than release, answers and audit say."""
    decided = _json(folder / GATES)
    gates = {one["gate"]: one["outcome"] for one in decided}
    yield from _differ(
        "gates", {"withdrawn", "sources", "licence", "subjects", "audit"}, set(gates)
    )
    yield from (
        f"the gate {name} is there twice"
        for name in gates
        if sum(one["gate"] == name for one in decided) > 1
    )
    known = {"passed", "overridden", *(["private"] if told["private"] else [])}
    yield from (
        f"the gate {name} stays shut" for name, outcome in gates.items() if outcome not in known
    )
    given = {one["gate"]: one for one in _json(folder / ANSWERS)["override"]}
    for one in decided:
        if (one["outcome"] == "overridden") != ("override" in one) or one.get("override", {}) != (
            given.get(one["gate"], {}) if one["outcome"] == "overridden" else {}
        ):
            yield f"the gate {one['gate']} was opened by nobody whom the answers name"
    path, shown = folder / "audit" / "audit.json", _json(folder / KEPT)["audit"]
    if (shown is None) != (not path.exists()) or (shown or {}).get("run") != told.get("audit"):
        yield "audit/, release.json and card.json must speak of one audit, or of none"
    if gates.get("audit") == "passed":
        said = _json(path)
        if (said.get("synthetic"), said.get("content")) != (told["run"], told["content"]):
            yield "audit/audit.json is of another database"
        if said.get("verdict") not in ("pass", "warn"):
            yield f"audit/audit.json says {said.get('verdict')}, and the gate passed"
        if not said.get("checks") or any(one.get("verdict") not in TOLD for one in said["checks"]):
            yield "audit/audit.json has no check, or one that fails, and the gate passed"
        if any(one.get("looser", True) for one in said.get("thresholds_changed", [])):
            yield "audit/audit.json has looser limits than the default ones, and the gate passed"
        if (shown or {}).get("verdict") != said.get("verdict"):
            yield (
                f"audit/audit.json says {said.get('verdict')}, and the card "
                f"{(shown or {}).get('verdict')}"
            )


# Comparing


def _differ(what: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield (
            f"{what} must be {_short(ours)}, and {'are' if what.endswith('s') else 'is'} "
            f"{_short(theirs)}"
        )


def _short(value: Any) -> str:
    text = str(sorted(value) if isinstance(value, set) else value)
    return text if len(text) < 160 else f"{text[:157]}..."


def _rows_differ(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield where two tables differ, by image: some of the rows that one has and the other has not,
    and the cells.
    """
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
