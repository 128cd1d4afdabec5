"""Checking a release: each form is loaded and compared with the others.

Checksums find damage. They do not find a deliberate change, because whoever changes a file can
write new checksums. So everything that the release states more than once is compared too: pixels,
labels, hashes, marks, counts and documents.
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
from mien.faces import EMOTIONS
from mien.hashes import compute_perceptual_hash
from mien.outside import is_foreign, read_text
from mien.pages.escape import escape_cell, make_printable, unescape_cell
from mien.publish import card, croissant, formats, lineage, loading, marks, registry
from mien.publish.formats import SIDECAR_COLUMNS, ReleaseLayout
from mien.publish.gates import answers_memorisation, is_approaching
from mien.publish.questions import OPEN_MARK, UNANSWERED, Answers
from mien.runs.progress import quantify, say, track
from mien.strips import count_parts

SUMS = "checksums.sha256"

RELEASE, LINEAGE, GATE_DECISIONS, ANSWERS, CARD_JSON = (
    f"provenance/{name}.json" for name in ("release", "lineage", "gates", "answers", "card")
)  # fmt: skip

CONTACT_SHEET = "sheets/contact.png"

REQUIRED_PATHS = (
    *(
        card.CARD,
        card.DATASHEET,
        card.CITATION,
        card.LICENCE,
        croissant.CROISSANT_FILE,
        registry.REGISTRY_FILE,
        SUMS,
    ),
    *(RELEASE, LINEAGE, GATE_DECISIONS, ANSWERS, CARD_JSON, CONTACT_SHEET),
)

OPTIONAL_PATHS = re.compile(
    r"data/[a-z]+-00000-of-00001\.parquet|imagefolder/[a-z]+/(metadata\.csv|[a-z]+/[0-9]{3}/[a-z]+-[0-9]+\.png)"
    r"|webdataset/[a-z]+-000000\.tar|audit/(audit\.json|index\.html)|results/[A-Za-z0-9._-]+\.(md|csv)"
)
"""Paths that a release may have next to those in NEEDED; any other path is a fault."""

MAX_SIDE = 16_384  # most pixels of a side of a picture; strips of many moments are wide

CHANNEL_NAME = re.compile(r"[a-z0-9-]{1,40}")

PASSING_VERDICTS = ("pass", "warn", "cannot tell")  # verdicts of checks that let an audit pass

PRIVATE_SENTENCES = {
    card.CARD: "Private build",
    card.DATASHEET: "it is not to be passed on",
    card.LICENCE: "Private build",
}
"""How each document says that a build is private."""

LOADING_LIBRARIES = ("datasets", "webdataset", "mlcroissant")

MAX_FAULTS_LISTED = 20  # faults that are listed in full

HASHED_IMAGES = 500  # images whose hashes are computed in one batch

MAX_FOLDER_DEPTH = 8  # most levels of folders in a release

MIN_BYTES_PER_IMAGE = 100  # fewest bytes of an image with its digests in a Parquet file

MAX_YAML_CHARS = 200_000  # most characters of the YAML header of a card

MAX_MEMBER_BYTES = 64 << 20  # most bytes of a file in a shard

# what a hub or git leaves
HUB_FILES = re.compile(r"\.git(/.*)?|\.gitattributes|\.cache/huggingface(/.*)?|\.cache")

ACTIVE_HTML = re.compile(
    r"<\s*(script|iframe|object|embed|img|image|video|audio|canvas|link|meta\s+http-equiv|base|form)\b|\bon\w+\s*="
    r"|javascript:|data:(image|text)|url\(|@import",
    re.IGNORECASE,
)
"""HTML that no page in a release may hold: it loads something, runs code, or shows a picture."""


@dataclass(frozen=True)
class CheckResult:
    """The result of a check: images per split, what was compared, libraries not installed."""

    counts: dict[str, int]
    compared: tuple[str, ...]
    skipped: tuple[str, ...]
    foreign: tuple[str, ...] = ()  # files of the system or of the hub, which are ignored


@dataclass(frozen=True)
class ReleasedImage:
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
    """Return provenance/release.json; raises UsageError if the folder is not a release."""
    try:
        release = _read_json(folder / RELEASE)
    except UsageError as error:
        raise UsageError(
            f"{folder} must be a release that `mien publish build` wrote, and is not: {error}"
        ) from None
    fault = next(_find_release_faults(release), "")
    if fault:
        raise UsageError(
            f"{folder / RELEASE} must be what `mien publish build` wrote, and is not: {fault}"
        )
    return release


def _find_release_faults(release: Any) -> Iterator[str]:
    """Yield what is wrong with the form of release.json."""
    if not isinstance(release, dict):
        yield "it holds no fields"
        return

    # Every field is there and has its type
    field_types = {
        **dict.fromkeys(("name", "version", "licence", "run", "content", "mien"), str),
        **dict.fromkeys(("private", "signed"), bool),
        **dict.fromkeys(("classes", "size", "formats", "studies"), list),
        "counts": dict,
    }
    yield from (
        f"{name} is missing or has the wrong type"
        for name, kind in field_types.items()
        if type(release.get(name)) is not kind
    )

    # Classes, and their counts per split
    classes, counts, size = release["classes"], release["counts"], release["size"]
    if classes != [name for name in EMOTIONS if name in classes] or not classes:
        yield "classes must be expression labels, each once and in their order"
    if not counts or not set(counts) <= {"train", "test"}:
        yield "counts must be of the splits train and test"
    for split in counts.values():
        is_count_table = isinstance(split, dict) and list(split) == classes
        if not is_count_table or not all(
            type(number) is int and 0 <= number < 10**9 for number in split.values()
        ):
            yield "counts must be a number for each class"

    # The size of an image, the forms and the studies
    if len(size) != 3 or not all(type(number) is int and 0 < number <= MAX_SIDE for number in size):
        yield "size must be three numbers: channels, height, width"
    yield from _find_channel_faults(release)
    if "parquet" not in release["formats"] or not all(
        name in formats.RELEASE_FORMATS for name in release["formats"]
    ):
        yield f"formats must be among {', '.join(formats.RELEASE_FORMATS)}, and include parquet"
    if not all(isinstance(name, str) for name in release["studies"]):
        yield "studies must be names"


def _find_channel_faults(release: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the channels that the strips of a release show, if it has any."""
    channels = release.get("channels", [])
    if not isinstance(channels, list) or not all(
        isinstance(name, str) and CHANNEL_NAME.fullmatch(name) for name in channels
    ):
        yield "channels must be names of channels"
        return
    if not channels:
        return
    rows, columns = count_parts(channels)
    colours, height, width = release["size"]
    if len(set(channels)) < len(channels) or colours != 1 or height % rows or width % columns:
        yield f"size must be that of a strip of {len(channels)} channels, each named once"


def _read_json(path: Path) -> Any:
    """Return the content of a JSON file of a release.

    Raises DataError if it is a link, not a file, too large, or not JSON.
    """
    if path.is_symlink():
        raise DataError(f"{path} must be a file, and is a link")
    try:
        return json.loads(read_text(path, "a JSON file"))
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(
            f"{path} must be a JSON file, and is not: {make_printable(reason)[:200]}"
        ) from None


class _LoaderWithoutAliases(yaml.SafeLoader):
    """Reads YAML without aliases: a few lines of aliases can expand to more than memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read a node; raises DataError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise DataError("it has an alias, which the YAML of a card never has")
        return super().compose_node(parent, index)  # pyright: ignore[reportUnknownMemberType]


def _read_yaml(text: str) -> Any:
    """Return the content of YAML; raises DataError if it cannot be read or is too long."""
    if len(text) > MAX_YAML_CHARS:
        raise DataError(f"it is longer than {MAX_YAML_CHARS:,} characters")
    return yaml.load(text, _LoaderWithoutAliases)  # a safe loader


def check(folder: Path, *, libraries: bool = True) -> CheckResult:
    """Return what was compared after every form of the release in `folder` was loaded back.

    With `libraries`, those of LOADING_LIBRARIES that are installed load it too. Raises DataError
    with all differences.
    """
    # Only plain files are opened: no link, pipe or device
    release = open_release(folder)
    present, foreign, odd = list_members(folder)
    if odd:
        _raise_faults(folder, odd)

    # Our own readers; the Parquet files fill `rows`
    faults = list(check_files(present))
    rows: list[ReleasedImage] = []
    compared, skipped = ["checksums"], []
    for name, find_faults in _list_comparisons(folder, release, rows).items():
        faults += _run_comparison(name, find_faults)
        compared.append(name)

    # Readers of others; on a release with faults they would only repeat these
    if libraries and not faults:
        for name in LOADING_LIBRARIES:
            if importlib.util.find_spec(name) is None:
                skipped.append(name)
                continue
            say(f"loading it with {name}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # meant for the authors of these libraries
                faults += _run_comparison(
                    name, lambda name=name: loading.LOADERS[name](folder, release, rows)
                )
            compared.append(name)

    if faults:
        _raise_faults(folder, faults)
    counts = {split: sum(row.split == split for row in rows) for split in release["counts"]}
    return CheckResult(counts, tuple(compared), tuple(skipped), tuple(foreign))


def _raise_faults(folder: Path, faults: list[str]) -> None:
    """Raise DataError that lists the faults, one per line, as printable text."""
    rest_text = (
        f"\n  and {len(faults) - MAX_FAULTS_LISTED} more" if len(faults) > MAX_FAULTS_LISTED else ""
    )
    lines = "\n".join(f"  {make_printable(fault)[:400]}" for fault in faults[:MAX_FAULTS_LISTED])
    raise DataError(
        f"{folder} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{lines}{rest_text}"
    )


def _list_comparisons(
    folder: Path, release: dict[str, Any], rows: list[ReleasedImage]
) -> dict[str, Callable[[], Iterator[str]]]:
    """Return the comparisons by name and in order.

    "parquet" fills `rows`, which the later ones compare with.
    """
    parts = {
        "formats": lambda: check_forms(folder, release),
        "parquet": lambda: check_parquet(folder, release, rows),
        "registry": lambda: check_registry(folder, rows),
        "card": lambda: check_documents(folder, release, rows),
        "croissant": lambda: check_croissant(folder, release),
        "provenance": lambda: check_provenance(folder, release, rows),
    }
    if "imagefolder" in release["formats"]:
        parts["imagefolder"] = lambda: check_imagefolder(folder, release, rows)
    if "webdataset" in release["formats"]:
        parts["webdataset shards"] = lambda: check_shards(folder, release, rows)
    return parts


def _run_comparison(name: str, find_faults: Callable[[], Iterator[str]]) -> list[str]:
    """Return the faults that a comparison finds; a file that it cannot read is a fault too."""
    faults: list[str] = []
    try:
        for fault in find_faults():
            faults.append(f"{name}: {fault}")
    except Exception as error:  # readers raise anything on damaged files
        faults.append(
            f"{name}: cannot be read: {' '.join(str(error).split())[:300] or type(error).__name__}"
        )
    return faults


# Files


def list_members(folder: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """Return the plain files of a release by name, foreign names, and faults.

    Foreign are the files that a system or a hub left there; faults name what is not a plain file.
    """
    present: dict[str, Path] = {}
    foreign: list[str] = []
    odd: list[str] = []
    waiting = [("", folder, 0)]
    while waiting:
        prefix, parent, depth = waiting.pop()
        with os.scandir(parent) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)

        for entry in entries:
            name = prefix + entry.name
            is_file = entry.is_file(follow_symlinks=False)
            if entry.is_symlink():
                odd.append(
                    f"{name} is a link, and must be a file; download it as files (hf download "
                    "--local-dir)"
                )
            elif not (entry.is_dir(follow_symlinks=False) or is_file):
                odd.append(f"{name} is a pipe, a socket or a device, and must be a file")
            elif name != ".cache" and is_system_file(name):
                foreign.append(name)
            elif is_file:
                present[name] = Path(entry.path)
            elif depth < MAX_FOLDER_DEPTH:
                waiting.append((f"{name}/", Path(entry.path), depth + 1))
            else:
                odd.append(f"{name} is deeper than any file of a release")
    return present, sorted(foreign), odd


def is_system_file(name: str) -> bool:
    """Whether a name in a release is a file of a system or a hub, and not part of the release."""
    return HUB_FILES.fullmatch(name) is not None or is_foreign(name)


def check_files(present: Mapping[str, Path]) -> Iterator[str]:
    """Yield the faults of the files themselves: missing, added, altered, or misplaced."""
    yield from (f"{name} is missing" for name in REQUIRED_PATHS if name not in present)
    yield from (
        f"{name} does not belong in a release" for name in sorted(present) if not _is_expected(name)
    )

    # The list of checksums
    if SUMS not in present:
        return
    listed: dict[str, str] = {}
    try:
        lines = read_text(present[SUMS], "a list of checksums").splitlines()
    except DataError as error:
        yield f"{SUMS}: {error}"
        return
    for line in lines:
        digest, _, name = line.partition("  ")
        listed[name] = digest

    # Files against that list, in both directions
    yield from (
        f"{name} is missing, and {SUMS} has it" for name in sorted(listed.keys() - present.keys())
    )
    yield from (
        f"{name} is not in {SUMS}" for name in sorted(present.keys() - listed.keys() - {SUMS})
    )
    for name in sorted(listed.keys() & present.keys()):
        with present[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != listed[name]:
                yield f"{name} does not match its sha256"


def _is_expected(name: str) -> bool:
    return name in REQUIRED_PATHS or OPTIONAL_PATHS.fullmatch(name) is not None


# Images


def check_parquet(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield the faults of the Parquet files, and fill `rows` with their images.

    Compared are each image's bytes, pixels, hashes, mark and label.
    """
    layout, splits = ReleaseLayout(folder), list(release["counts"])
    on_disk = {path.name for path in (folder / "data").glob("*") if not is_system_file(path.name)}
    yield from _compare("splits", {layout.name_parquet(split).name for split in splits}, on_disk)

    for split in splits:
        # The number of rows, before any of them is read
        path = layout.name_parquet(split)
        schema = pq.read_schema(path)
        number, expected = pq.read_metadata(path).num_rows, sum(release["counts"][split].values())
        if number != expected or number * MIN_BYTES_PER_IMAGE > path.stat().st_size:
            yield (
                f"{split} must have {quantify(expected, 'image')}, and says that it has {number:,}"
            )
            return

        # The columns, as Parquet and as Hugging Face's datasets declare them
        columns = [(field.name, field.type) for field in schema]
        yield from _compare("columns", [*formats.RELEASE_COLUMNS.items()], columns)
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"null"))
        yield from _compare(
            "features",
            {"info": {"features": formats.describe_features(release["classes"])}},
            features,
        )

        yield from _check_split(path, split, release, rows)

    # Each image once, and as many of each label as release.json says
    names = pd.Series([row.image_id for row in rows], dtype="str")
    repeated = sorted(set(names[names.duplicated()]))
    yield from (f"{name} is listed more than once" for name in repeated[:3])
    for split, counts in release["counts"].items():
        labels = pd.Series([row.label for row in rows if row.split == split], dtype="str")
        label_counts = labels.value_counts()
        for label, number in counts.items():
            if label_counts.get(label, 0) != number:
                yield (
                    f"{split} must have {quantify(number, 'image')} of {label}, and has "
                    f"{label_counts.get(label, 0):,}"
                )


def _check_split(
    path: Path, split: str, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    total, batch = pq.read_metadata(path).num_rows, []
    with track(f"checking {split}", total) as tracker:
        for number, row in enumerate(formats.read_parquet(path), start=1):
            batch.append(row)
            if len(batch) == HASHED_IMAGES or number == total:
                yield from _check_batch(batch, split, release, rows)
                batch = []
                tracker.update(number)


def _check_batch(
    batch: list[dict[str, Any]], split: str, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield the faults of some rows of a Parquet file, and append their images to `rows`."""
    classes = release["classes"]
    for row in batch:
        data, name = row["image"]["bytes"], row["image_id"]
        label = classes[row["label"]] if 0 <= row["label"] < len(classes) else ""
        rows.append(
            ReleasedImage(
                image_id=name,
                label=label,
                number=row["label"],
                split=row["split"],
                sha256=row["sha256"],
                pixels=row["pixels_sha256"],
                phash=row["phash"],
                seed=row["seed"],
                generator=row["generator_id"],
                size=len(data),
            )
        )

        # A file that is not a PNG of the right size is not decoded
        faults = _find_png_faults(data, release["size"])
        for fault in faults or _find_image_faults(
            row, marks.read_picture(data, name), label, split, release
        ):
            yield f"{name}: {fault}"


def _find_png_faults(data: bytes, size: list[int]) -> list[str]:
    """Return why a file is not a PNG of the size that the release states, before it is decoded.

    The list is empty if there is no fault.
    """
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        return ["it is not a PNG file"]
    width, height = (int.from_bytes(data[offset : offset + 4], "big") for offset in (16, 20))
    return (
        []
        if [height, width] == size[1:]
        else [f"must be {size[1]} x {size[2]}, and is {height} x {width}"]
    )


def _find_image_faults(
    row: Mapping[str, Any],
    picture: marks.MarkedPicture,
    label: str,
    split: str,
    release: Mapping[str, Any],
) -> Iterator[str]:
    """Yield the faults of one image: its shape, digests, path, split, label and mark."""
    if list(picture.image.shape) != release["size"]:
        yield f"must be {release['size']}, and is {list(picture.image.shape)}"

    # Digests against the file and its pixels
    if hashlib.sha256(row["image"]["bytes"]).hexdigest() != row["sha256"]:
        yield "its bytes do not match its sha256"
    if picture.pixels != row["pixels_sha256"]:
        yield "its pixels do not match pixels_sha256"
    if f"{compute_perceptual_hash(picture.image[None])[0]:016x}" != row["phash"]:
        yield "its pixels do not match phash"

    # The row itself
    if row["image"]["path"] != f"{row['image_id']}.png":
        yield f"its path is {row['image']['path']}"
    if row["split"] != split:
        yield f"is in {split}, and its row says {row['split']}"
    if not label:
        yield f"its label {row['label']} is not in 0..{len(release['classes']) - 1}"

    # The marks against the row
    if not picture.declared:
        yield "its XMP does not say that a machine made it"
    if picture.mark is None:
        yield "has no mark"
        return
    if not picture.fits:
        yield "its mark was written for other pixels"
    expected = {
        "image": row["image_id"],
        "seed": row["seed"],
        "label": label,
        "licence": release["licence"],
    }
    for name, value in expected.items():
        if getattr(picture.mark, name) != value:
            yield f"its mark says {name} {getattr(picture.mark, name)}, and its row {value}"


def check_registry(folder: Path, rows: list[ReleasedImage]) -> Iterator[str]:
    """Yield where the registry differs from the images."""
    table = registry.read_registry(folder)
    ours = pd.DataFrame(
        [(row.image_id, row.split, row.label, row.sha256, row.pixels, row.phash) for row in rows],
        columns=list(registry.REGISTRY_COLUMNS), dtype="str",
    )  # fmt: skip
    yield from _compare_rows(ours, table)


def check_forms(folder: Path, release: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the forms in the folder are not those that release.json names."""
    layout = ReleaseLayout(folder)
    locate = {"imagefolder": layout.name_folder, "webdataset": layout.name_shard}
    for name in locate:
        exists = (folder / name).exists()
        if exists != (name in release["formats"]):
            yield (
                f"{name}/ {'exists' if exists else 'does not exist'}, and release.json names the "
                f"forms {', '.join(release['formats'])}"
            )
    for name, locate_split in locate.items():
        on_disk = {path.name for path in (folder / name).glob("*") if not is_system_file(path.name)}
        expected = {locate_split(split).name for split in release["counts"]}
        if name in release["formats"]:
            yield from _compare(f"parts of {name}", expected, on_disk)


def check_imagefolder(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield where the folders of images differ from the Parquet files, in both directions."""
    for split in release["counts"]:
        root = ReleaseLayout(folder).name_folder(split)
        table = pd.read_csv(root / "metadata.csv", dtype="str", keep_default_na=False)
        yield from _compare(
            "columns of metadata.csv", ["file_name", *SIDECAR_COLUMNS], list(table.columns)
        )

        # Files against the rows of metadata.csv
        names = [str(name) for name in table["file_name"]]
        on_disk = {
            path.relative_to(root).as_posix()
            for path in root.rglob("*.png")
            if not is_system_file(path.name)
        }
        listed = set(names)
        yield from (
            f"{split}/{name} has no row, so loaders ignore it"
            for name in sorted(on_disk - listed)[:3]
        )
        yield from (
            f"{split}/{name} has a row and does not exist" for name in sorted(listed - on_disk)[:3]
        )

        # Rows against the Parquet files
        yield from _compare_rows(_make_sidecar_table(rows, split), table.drop(columns="file_name"))

        # The bytes and the folder of each file against its row
        for name, digest in zip(names, table["sha256"], strict=True):
            if name in on_disk:
                data = (root / name).read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    yield f"{split}/{name} is not the image of its row"
        misplaced = [
            name
            for name, label in zip(names, table["label"], strict=True)
            if name.split("/")[0] != label
        ]
        yield from (f"{split}/{name} is in the folder of another label" for name in misplaced[:3])


def check_shards(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield where the tar shards differ from the Parquet files."""
    for split in release["counts"]:
        # Read the samples, within limits that no sound shard exceeds
        samples: dict[str, dict[str, bytes]] = {}
        with tarfile.open(ReleaseLayout(folder).name_shard(split)) as tar:
            for member in tar:
                is_plain = member.isreg() and not member.issparse()
                if not is_plain or member.size > MAX_MEMBER_BYTES or len(samples) > len(rows):
                    yield f"{split}: {member.name} is not a plain file of a sample"
                    return
                file = tar.extractfile(member)
                key, _, suffix = member.name.partition(".")
                samples.setdefault(key, {})[suffix] = file.read() if file else b""

        # Every sample is complete
        incomplete = [key for key, parts in samples.items() if set(parts) != {"png", "cls", "json"}]
        yield from (
            f"{split}: the sample {key} must have .png, .cls and .json" for key in incomplete[:3]
        )
        complete = {key: parts for key, parts in samples.items() if key not in incomplete}

        # .json, .cls and .png against the Parquet files
        table = pd.DataFrame(
            [json.loads(parts["json"]) for parts in complete.values()],
            columns=list(SIDECAR_COLUMNS),
        ).astype(str)
        yield from _compare_rows(_make_sidecar_table(rows, split), table)
        row_by_key = {row.image_id: row for row in rows if row.split == split}
        for key, parts in complete.items():
            row = row_by_key.get(key)
            if row is not None and parts["cls"] != str(row.number).encode():
                number = parts["cls"].decode(errors="replace")
                yield f"{split}: {key}.cls says {number}, and its row {row.number}"
            if row is not None and hashlib.sha256(parts["png"]).hexdigest() != row.sha256:
                yield f"{split}: {key}.png is not the image of its row"


def _make_sidecar_table(rows: list[ReleasedImage], split: str) -> pd.DataFrame:
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
    return pd.DataFrame(table, columns=list(SIDECAR_COLUMNS), dtype="str")


# Documents


def check_documents(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield the faults of the card, its YAML, the datasheet, the licence and the citation."""
    # No question is open, and each document says whether the build is private
    for name in (card.CARD, card.DATASHEET, card.LICENCE):
        text = read_text(folder / name)
        if len(text.strip()) < 80:
            yield f"{name} says nothing"
        if OPEN_MARK in text or (UNANSWERED in text and not release["private"]):
            yield (
                f"{name} has an open question: "
                f"[{OPEN_MARK if OPEN_MARK in text else UNANSWERED[1:-1]}]"
            )
        if (PRIVATE_SENTENCES[name] in text) != release["private"]:
            yield f"{name} must {'' if release['private'] else 'not '}say that the build is private"
    yield from check_rewritten_documents(folder, release, rows)
    yield from _check_active_content(folder)
    yield from _check_card_header(folder, release, rows)

    # The citation
    citation = _read_yaml(read_text(folder / card.CITATION))
    missing = [
        name
        for name in ("cff-version", "message", "title", "authors", "date-released")
        if not citation.get(name)
    ]
    yield from (f"{card.CITATION} has no {name}" for name in missing)
    yield from _compare(f"version in {card.CITATION}", release["version"], citation.get("version"))


def _check_active_content(folder: Path) -> Iterator[str]:
    """Yield which pages and tables of a release would load or do something."""
    for path in sorted([*folder.glob("audit/*.html"), *folder.glob("results/*")]):
        text, name = read_text(path), path.relative_to(folder)
        if ACTIVE_HTML.search(text) or (path.suffix == ".md" and re.search(r"<[A-Za-z/!?]", text)):
            yield f"{name} would load or do something"
        if path.suffix == ".csv":
            cells = (cell for line in csv.reader(io.StringIO(text)) for cell in line)
            yield from (
                f"{name} has a formula"
                for cell in cells
                if escape_cell(unescape_cell(cell)) != cell
            )


def _check_card_header(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield where the card's YAML is not that of the release, and sentences that the card lacks."""
    _, front_matter, body = read_text(folder / card.CARD).split("---\n", 2)
    header = _read_yaml(front_matter)

    # Columns and classes
    names = {str(number): name for number, name in enumerate(release["classes"])}
    column_types = {
        column["name"]: column["dtype"] for column in header["dataset_info"]["features"]
    }
    yield from _compare(
        "classes in the card's YAML",
        list(names.items()),
        list(column_types["label"]["class_label"]["names"].items()),
    )
    yield from _compare(
        "columns in the card's YAML", list(formats.RELEASE_COLUMNS), list(column_types)
    )

    # Counts and licence
    counts = {split: sum(row.split == split for row in rows) for split in release["counts"]}
    listed = {split["name"]: split["num_examples"] for split in header["dataset_info"]["splits"]}
    yield from _compare("images per split in the card's YAML", counts, listed)
    yield from _compare("licence in the card's YAML", release["licence"], header["license"])

    yield from (
        f"the card does not say: {text}"
        for text in (card.EXCLUDED_USES[0], "never say what a person")
        if text not in " ".join(body.split())
    )


def check_rewritten_documents(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield which documents differ from those that the provenance of the release gives.

    They are written again from release.json, answers, gates and card.json. Another version of mien
    words them differently: then only the values in them are compared.
    """
    # The answers agree with release.json
    answers = Answers.model_validate(_read_json(folder / ANSWERS))
    gates, only_in_documents = _read_json(folder / GATE_DECISIONS), _read_json(folder / CARD_JSON)
    for name in ("name", "version", "licence"):
        yield from _compare(
            f"the {name} in {ANSWERS}", release[name], getattr(answers.dataset, name)
        )
    if not isinstance(only_in_documents, dict) or set(only_in_documents) != set(
        card.CARD_ONLY_FACTS
    ):
        yield f"{CARD_JSON} must have {', '.join(card.CARD_ONLY_FACTS)}"
        return
    if release["mien"] != __version__:
        return

    # Write every document again, and compare it character by character
    layout, sizes = ReleaseLayout(folder), {}
    for split in release["counts"]:
        sizes[split] = {
            "num_bytes": sum(row.size for row in rows if row.split == split),
            "num_examples": sum(row.split == split for row in rows),
            "download_size": layout.name_parquet(split).stat().st_size,
        }
    facts = card.read_facts(release, answers, gates, only_in_documents)
    for name, text in card.render_documents(facts, sizes).items():
        if read_text(folder / name) != text:
            yield f"{name} is not what the provenance of the release gives"
    described = json.loads(json.dumps(croissant.make_croissant(facts, layout)))
    if _read_json(folder / croissant.CROISSANT_FILE) != described:
        yield f"{croissant.CROISSANT_FILE} is not what the provenance of the release gives"


def check_croissant(folder: Path, release: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of croissant.json."""
    metadata = _read_json(folder / croissant.CROISSANT_FILE)

    # Every field that Croissant, RAI and PROV need
    required = (
        *("@context", "name", "description", "license", "url", "creator"),
        *("datePublished", "distribution"),
    )
    yield from (f"has no {name}" for name in required if not metadata.get(name))
    yield from _compare("conformsTo", croissant.CONFORMS_TO, metadata.get("conformsTo"))
    yield from (
        f"has no rai:{name}" for name in croissant.RAI_FIELDS if not metadata.get(f"rai:{name}")
    )
    yield from (
        f"has no {name}"
        for name in ("prov:wasDerivedFrom", "prov:wasGeneratedBy")
        if not metadata.get(name)
    )
    yield from _compare("version", release["version"], metadata.get("version"))

    # The Parquet files and their digests
    listed = {file["contentUrl"]: file["sha256"] for file in metadata.get("distribution", [])}
    layout = ReleaseLayout(folder)
    on_disk = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (layout.name_parquet(split) for split in release["counts"])
    }
    yield from _compare("files and their sha256", on_disk, listed)

    # Labels, and a record set for each split
    record_sets = {entry["name"]: entry for entry in metadata.get("recordSet", [])}
    labels = [row["labels/name"] for row in record_sets.get("labels", {}).get("data", [])]
    yield from _compare("labels", release["classes"], labels)
    yield from (
        f"has no record set images_{split}"
        for split in release["counts"]
        if f"images_{split}" not in record_sets
    )


def check_provenance(
    folder: Path, release: Mapping[str, Any], rows: list[ReleasedImage]
) -> Iterator[str]:
    """Yield the faults of the provenance, the audit, the gates and the contact sheet."""
    # The lineage ends at this database and has all its generations
    runs = {entry["run"]: entry for entry in _read_json(folder / LINEAGE)}
    if runs.get(release["run"], {}).get("content") != release["content"]:
        yield (
            f"the lineage does not end at {release['run']} with the content "
            f"{release['content'][:12]}"
        )
    yield from (
        f"the lineage has no {name}"
        for name in sorted({row.generator for row in rows} - runs.keys())
    )

    # It states nothing that could name a person
    for name, entry in runs.items():
        unexpected = sorted(set(entry["spec"]) - lineage.STATED_SPEC_FIELDS - {"dataset"})
        unexpected += sorted(set(entry) - lineage.ENTRY_FIELDS)
        unexpected += [
            field
            for field, value in entry["spec"].items()
            if field != "dataset" and not lineage.is_own_value(value)
        ]
        yield from (
            f"the lineage states {field} of {name}, which no release states"
            for field in unexpected[:3]
        )

    yield from _check_gates(folder, release)
    sheet = marks.read_file(folder / CONTACT_SHEET)
    if not (sheet.declared and sheet.fits):
        yield f"{CONTACT_SHEET} does not say that a machine made it"


def _check_gates(folder: Path, release: Mapping[str, Any]) -> Iterator[str]:
    """Yield which gates are shut, or disagree with the release, the answers or the audit."""
    # Each gate once, with an outcome that allows this build
    decisions = _read_json(folder / GATE_DECISIONS)
    gates = {decision["gate"]: decision["outcome"] for decision in decisions}
    kinds = [str(entry["spec"].get("kind")) for entry in _read_json(folder / LINEAGE)]
    own = {"memorisation"} if any(is_approaching(kind) for kind in kinds) else set[str]()
    yield from _compare(
        "gates", {"withdrawn", "sources", "licence", "subjects", "audit", *own}, set(gates)
    )
    yield from (
        f"the gate {name} is listed twice"
        for name in gates
        if sum(decision["gate"] == name for decision in decisions) > 1
    )
    allowed = {"passed", "overridden", *(["private"] if release["private"] else [])}
    yield from (
        f"the gate {name} stays shut" for name, outcome in gates.items() if outcome not in allowed
    )

    # An override is one that the answers have
    overrides = {
        override["gate"]: override for override in _read_json(folder / ANSWERS)["override"]
    }
    for decision in decisions:
        name, overridden = decision["gate"], decision["outcome"] == "overridden"
        expected = overrides.get(name, {}) if overridden else {}
        if overridden != ("override" in decision) or decision.get("override", {}) != expected:
            yield f"the gate {name} was opened by nobody whom the answers name"

    # The audit that the card shows is the one that is enclosed, and is enough to pass
    path, audit_in_card = folder / "audit" / "audit.json", _read_json(folder / CARD_JSON)["audit"]
    run_in_card = (audit_in_card or {}).get("run")
    if (audit_in_card is None) != (not path.exists()) or run_in_card != release.get("audit"):
        yield "audit/, release.json and card.json must name the same audit, or none"
    if own and (gates.get("memorisation") != "passed" or not path.exists()):
        yield "the gate memorisation must be passed by the audit that is enclosed"
    elif own and not answers_memorisation(_read_json(path).get("checks", [])):
        yield "the audit that is enclosed must answer whether the images are copies"
    if gates.get("audit") == "passed":
        yield from _check_passing_audit(
            _read_json(path), release, (audit_in_card or {}).get("verdict")
        )


def _check_passing_audit(
    audit: Mapping[str, Any], release: Mapping[str, Any], verdict_in_card: Any
) -> Iterator[str]:
    """Yield why an audit does not open the gate `audit`, which passed."""
    verdict, checks = audit.get("verdict"), audit.get("checks")
    if (audit.get("synthetic"), audit.get("content")) != (release["run"], release["content"]):
        yield "audit/audit.json is of another database"
    if verdict not in ("pass", "warn"):
        yield f"audit/audit.json says {verdict}, and the gate passed"
    if not checks or any(check.get("verdict") not in PASSING_VERDICTS for check in checks):
        yield "audit/audit.json has no check, or one that fails, and the gate passed"
    if any(change.get("looser", True) for change in audit.get("thresholds_changed", [])):
        yield "audit/audit.json has looser limits than the default ones, and the gate passed"
    if verdict_in_card != verdict:
        yield f"audit/audit.json says {verdict}, and the card says {verdict_in_card}"


# Comparing


def _compare(noun: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        yield (
            f"{noun} must be {_shorten(ours)}, and {'are' if noun.endswith('s') else 'is'} "
            f"{_shorten(theirs)}"
        )


def _shorten(value: Any) -> str:
    text = str(sorted(value) if isinstance(value, set) else value)
    return text if len(text) < 160 else f"{text[:157]}..."


def _compare_rows(ours: pd.DataFrame, theirs: pd.DataFrame) -> Iterator[str]:
    """Yield where two tables differ: columns, images that only one of them has, and cells.

    At most three images are named for each kind of difference.
    """
    # The same columns, and each image once
    if list(ours.columns) != list(theirs.columns):
        yield from _compare("columns", list(ours.columns), list(theirs.columns))
        return
    if ours["image_id"].duplicated().any() or theirs["image_id"].duplicated().any():
        yield "an image is listed more than once"
        return

    # Images that only one table has
    first, second = ours.set_index("image_id"), theirs.set_index("image_id")
    missing, added = first.index.difference(second.index), second.index.difference(first.index)
    yield from (f"{name} is missing" for name in missing[:3])
    yield from (f"{name} exists, and is not in the Parquet files" for name in added[:3])

    # Cells of the images that both have
    common = first.index.intersection(second.index)
    a, b = first.loc[common], second.loc[common]
    for column in a.columns:
        unequal = (a[column].astype(str) != b[column].astype(str)).to_numpy()
        for name in common[unequal][:3]:
            yield f"{name}: {column} must be {a.at[name, column]}, and is {b.at[name, column]}"
