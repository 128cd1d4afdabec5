"""The forms of a release: Parquet, and from it image folders and tar shards.

Every form holds the same files, byte for byte. A class number is the position of the class among
those of the release, in alphabetical order, as loaders of image folders number them too.
"""

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mien.errors import UsageError
from mien.runs.spec import suggest

RELEASE_FORMATS = ("parquet", "imagefolder", "webdataset")

ROWS_PER_GROUP = 100  # rows per row group, which the hub's viewer reads at once

MAX_FILES_PER_FOLDER = 5_000  # most images in a folder; hubs allow 10,000 entries

RELEASE_COLUMNS: dict[str, pa.DataType] = {
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    "label": pa.int64(),
    "image_id": pa.string(),
    "sha256": pa.string(),  # of the file
    "pixels_sha256": pa.string(),
    "phash": pa.string(),  # 64 bits, 16 hexadecimal digits
    "generator_id": pa.string(),
    "checkpoint_sha256": pa.string(),  # the digest of all files of the generator
    "sampler": pa.string(),
    "steps": pa.int64(),  # null where an image is drawn in one go
    "guidance": pa.float32(),
    "seed": pa.int64(),
    "split": pa.string(),
}

SIDECAR_COLUMNS = (
    "image_id",
    "label",
    "sha256",
    "pixels_sha256",
    "phash",
    "generator_id",
    "seed",
    "split",
)
"""The columns that folders and shards hold next to an image."""


@dataclass(frozen=True)
class ReleaseLayout:
    """The paths of the files in a release."""

    root: Path

    def name_parquet(self, split: str) -> Path:
        """The Parquet file of a split, with the name by which hubs find splits."""
        return self.root / "data" / f"{split}-00000-of-00001.parquet"

    def name_folder(self, split: str) -> Path:
        """The folder of images of a split."""
        return self.root / "imagefolder" / split

    def name_shard(self, split: str) -> Path:
        """The tar shard of a split."""
        return self.root / "webdataset" / f"{split}-000000.tar"


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the forms that `parquet,webdataset` names, and Parquet always.

    The card describes the Parquet files. Raises UsageError for an unknown form.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in RELEASE_FORMATS:
            raise UsageError(
                f"--format must be among {', '.join(RELEASE_FORMATS)}; given: "
                f"'{name}'.{suggest(name, [*RELEASE_FORMATS])}"
            )
    return tuple(name for name in RELEASE_FORMATS if name in names or name == "parquet")


def describe_features(classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns as Hugging Face's libraries name them."""
    columns: dict[str, Any] = {}
    for name, column_type in RELEASE_COLUMNS.items():
        if name == "image":
            columns[name] = {"_type": "Image"}
        elif name == "label":
            columns[name] = {"names": list(classes), "_type": "ClassLabel"}
        else:
            columns[name] = {
                "dtype": "float32" if column_type == pa.float32() else str(column_type),
                "_type": "Value",
            }
    return columns


def build_schema(classes: Sequence[str]) -> pa.Schema:
    """Return the schema of the Parquet files, with the names of the classes in it."""
    metadata = json.dumps({"info": {"features": describe_features(classes)}})
    return pa.schema(list(RELEASE_COLUMNS.items()), metadata={"huggingface": metadata})


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], classes: Sequence[str]) -> None:
    """Write rows to a Parquet file with a page index, in groups of GROUP rows.

    Memory holds one group at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet_schema = build_schema(classes)
    with pq.ParquetWriter(
        path, parquet_schema, compression="snappy", write_page_index=True
    ) as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(group, parquet_schema))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, parquet_schema))


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, reading GROUP rows at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_PER_GROUP):
            yield from batch.to_pylist()


def write_imagefolder(layout: ReleaseLayout, split: str, classes: Sequence[str]) -> None:
    """Write the PNG files of a split, in one folder per class, and metadata.csv."""
    folder, lines = layout.name_folder(split), []
    written: dict[str, int] = dict.fromkeys(classes, 0)
    for row in read_parquet(layout.name_parquet(split)):
        label = str(classes[row["label"]])
        path = f"{label}/{written[label] // MAX_FILES_PER_FOLDER:03d}/{row['image']['path']}"
        written[label] += 1
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(row["image"]["bytes"])
        lines.append({"file_name": path, **make_sidecar_row(row, classes)})
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", *SIDECAR_COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def write_webdataset(layout: ReleaseLayout, split: str, classes: Sequence[str]) -> None:
    """Write a tar shard of a split: for each image .png, .cls (its class number) and .json."""
    path = layout.name_shard(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in read_parquet(layout.name_parquet(split)):
            metadata = json.dumps(make_sidecar_row(row, classes), separators=(",", ":"))
            members = {
                "png": row["image"]["bytes"],
                "cls": str(row["label"]).encode(),
                "json": metadata.encode(),
            }
            for suffix, content in members.items():
                member = tarfile.TarInfo(f"{row['image_id']}.{suffix}")  # no owner and no time
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def make_sidecar_row(row: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns of a row that stand next to its image, the class by name."""
    return {name: classes[row[name]] if name == "label" else row[name] for name in SIDECAR_COLUMNS}
