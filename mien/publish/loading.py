"""Loading a release with the libraries of its users, if they are installed."""

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mien.publish import croissant
from mien.publish.formats import ReleaseLayout
from mien.runs.progress import quantify


def load_with_datasets(
    folder: Path, release: Mapping[str, Any], rows: Sequence[Any]
) -> Iterator[str]:
    """Yield where Hugging Face's datasets reads something else."""
    library: Any = import_module("datasets")
    library.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loaded = library.load_dataset(str(folder), cache_dir=cache)
        for split in release["counts"]:
            loaded_split, ours = loaded[split], [row for row in rows if row.split == split]
            if loaded_split.features["label"].names != release["classes"]:
                yield f"{split} has the classes {loaded_split.features['label'].names}"
            undecoded = loaded_split.cast_column("image", library.Image(decode=False))
            theirs = [
                (sample["image_id"], sample["label"], _compute_sha256(sample["image"]["bytes"]))
                for sample in undecoded
            ]
            yield from _compare(
                split, [(row.image_id, row.number, row.sha256) for row in ours], theirs
            )
            if len(loaded_split) and list(loaded_split[0]["image"].size) != release["size"][:0:-1]:
                yield f"{split} has images of {loaded_split[0]['image'].size}"
        if "imagefolder" in release["formats"]:
            yield from _load_imagefolder(library, folder, release, rows, cache)


def _load_imagefolder(
    library: Any, folder: Path, release: Mapping[str, Any], rows: Sequence[Any], cache: str
) -> Iterator[str]:
    for split in release["counts"]:
        root = ReleaseLayout(folder).name_folder(split)
        loaded_split = library.load_dataset(
            "imagefolder", data_dir=str(root), split="train", cache_dir=cache
        )
        undecoded = loaded_split.cast_column("image", library.Image(decode=False))
        theirs = [
            (
                sample["image_id"],
                sample["label"],
                _compute_sha256(Path(sample["image"]["path"]).read_bytes()),
            )
            for sample in undecoded
        ]
        ours = [(row.image_id, row.label, row.sha256) for row in rows if row.split == split]
        yield from _compare(f"imagefolder {split}", sorted(ours), sorted(theirs))


def load_with_webdataset(
    folder: Path, release: Mapping[str, Any], rows: Sequence[Any]
) -> Iterator[str]:
    """Yield where webdataset reads something else from the tar shards, if the release has any."""
    if "webdataset" not in release["formats"]:
        return
    library: Any = import_module("webdataset")
    for split in release["counts"]:
        samples = list(
            library.WebDataset(str(ReleaseLayout(folder).name_shard(split)), shardshuffle=False)
        )
        theirs = [
            (sample["__key__"], int(sample["cls"]), _compute_sha256(sample["png"]))
            for sample in samples
        ]
        ours = [(row.image_id, row.number, row.sha256) for row in rows if row.split == split]
        yield from _compare(split, ours, theirs)


def load_with_mlcroissant(
    folder: Path, release: Mapping[str, Any], rows: Sequence[Any]
) -> Iterator[str]:
    """Yield what mlcroissant finds: errors, and records that are not those of the Parquet files."""
    library: Any = import_module("mlcroissant")
    logging.getLogger("absl").setLevel(logging.ERROR)
    dataset = library.Dataset(str(folder / croissant.CROISSANT_FILE))
    yield from dataset.metadata.issues.errors
    for name in ("labels", "splits"):
        first = next(iter(dataset.records(name)), None)
        if first is None:
            yield f"the record set {name} has no record"
    for split in release["counts"]:
        name = f"images_{split}"
        ours = [row for row in rows if row.split == split]
        records = list(itertools.islice(dataset.records(name), len(ours) + 1))
        theirs = [
            (_decode(record[f"{name}/image_id"]), int(record[f"{name}/label"]))
            for record in records
        ]
        yield from _compare(name, [(row.image_id, row.number) for row in ours], theirs)
        if records and list(records[0][f"{name}/image"].size) != release["size"][:0:-1]:
            yield f"{name} has images of {records[0][f'{name}/image'].size}"


def _compare(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> Iterator[str]:
    if len(ours) != len(theirs):
        yield (
            f"{name} must have {quantify(len(ours), 'image')}, and {len(theirs):,} "
            f"{'was' if len(theirs) == 1 else 'were'} loaded"
        )
    unequal = [
        expected for expected, loaded in zip(ours, theirs, strict=False) if expected != loaded
    ]
    if unequal:
        yield (
            f"{name}: {quantify(len(unequal), 'image')} "
            f"{'differs' if len(unequal) == 1 else 'differ'}, the first is {unequal[0][0]}"
        )


def _compute_sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


LOADERS: Mapping[str, Callable[[Path, Mapping[str, Any], Sequence[Any]], Iterator[str]]] = {
    "datasets": load_with_datasets,
    "webdataset": load_with_webdataset,
    "mlcroissant": load_with_mlcroissant,
}
