"""The forms that a database is handed out in: Parquet, from which folders of images and tar shards
are written.

Every form holds the same files, byte by byte. Class numbers are places among the classes that are
there, in the order of the alphabet, which is also what loaders of image folders make of names.
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
from mien.spec import nearest

FORMATS = ("parquet", "imagefolder", "webdataset")
GROUP = 100  # rows that are read at once, as the hub's viewer likes them
CROWD = 5_000  # images in a folder; hubs take 10,000 entries
FIELDS: dict[str, pa.DataType] = {
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
BESIDE = ("image_id", "label", "sha256", "pixels_sha256", "phash", "generator_id", "seed", "split")
"""What stands beside an image in folders and shards."""


@dataclass(frozen=True)
class Layout:
    """Where things lie in a release."""

    root: Path

    def parquet(self, split: str) -> Path:
        """The Parquet file of a split, as hubs find splits by name."""
        return self.root / "data" / f"{split}-00000-of-00001.parquet"

    def folder(self, split: str) -> Path:
        """The folder of images of a split."""
        return self.root / "imagefolder" / split

    def shard(self, split: str) -> Path:
        """The tar shard of a split."""
        return self.root / "webdataset" / f"{split}-000000.tar"


def parse(text: str) -> tuple[str, ...]:
    """Return the forms that `parquet,webdataset` names; Parquet, which the card describes, is
    always among them.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in FORMATS:
            raise UsageError(
                f"--format must be among {', '.join(FORMATS)}; given: "
                f"'{name}'.{nearest(name, [*FORMATS])}"
            )
    return tuple(name for name in FORMATS if name in names or name == "parquet")


def features(classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns as Hugging Face's libraries name them."""
    found: dict[str, Any] = {}
    for name, kind in FIELDS.items():
        if name == "image":
            found[name] = {"_type": "Image"}
        elif name == "label":
            found[name] = {"names": list(classes), "_type": "ClassLabel"}
        else:
            found[name] = {
                "dtype": "float32" if kind == pa.float32() else str(kind),
                "_type": "Value",
            }
    return found


def schema(classes: Sequence[str]) -> pa.Schema:
    """Return the schema of the Parquet files, with the names of the classes in it."""
    described = json.dumps({"info": {"features": features(classes)}})
    return pa.schema(list(FIELDS.items()), metadata={"huggingface": described})


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], classes: Sequence[str]) -> None:
    """Write rows to a Parquet file in groups of 100, with a page index; no more than a group is
    held at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    form = schema(classes)
    with pq.ParquetWriter(path, form, compression="snappy", write_page_index=True) as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == GROUP:
                writer.write_table(pa.Table.from_pylist(group, form))
                group = []
        if group:
            writer.write_table(pa.Table.from_pylist(group, form))


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file, a group at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(GROUP):
            yield from batch.to_pylist()


def write_imagefolder(layout: Layout, split: str, classes: Sequence[str]) -> None:
    """Write a folder a class with the PNG files of a split, and metadata.csv with a row for
    each.
    """
    folder, lines = layout.folder(split), []
    told: dict[str, int] = dict.fromkeys(classes, 0)
    for row in read_parquet(layout.parquet(split)):
        label = str(classes[row["label"]])
        path = f"{label}/{told[label] // CROWD:03d}/{row['image']['path']}"
        told[label] += 1
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(row["image"]["bytes"])
        lines.append({"file_name": path, **beside(row, classes)})
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["file_name", *BESIDE], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def write_webdataset(layout: Layout, split: str, classes: Sequence[str]) -> None:
    """Write a tar shard of a split: for each image .png, .cls (its class number) and .json, one
    after the other.
    """
    path = layout.shard(split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row in read_parquet(layout.parquet(split)):
            described = json.dumps(beside(row, classes), separators=(",", ":"))
            members = {
                "png": row["image"]["bytes"],
                "cls": str(row["label"]).encode(),
                "json": described.encode(),
            }
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{row['image_id']}.{suffix}")  # of no owner and no time
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def beside(row: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return what is told of a row beside its image, the class by name."""
    return {name: classes[row[name]] if name == "label" else row[name] for name in BESIDE}
