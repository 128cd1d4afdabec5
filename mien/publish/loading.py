"""Loading a release with the libraries that people will load it with, where these are installed;
none is needed.
"""

import hashlib
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mien.progress import many
from mien.publish import croissant
from mien.publish.formats import Layout


def datasets(folder: Path, told: Mapping[str, Any], rows: Sequence[Any]) -> Iterator[str]:
    """Yield where Hugging Face's datasets reads something else: the folder as it is, and the
    folders of images.
    """
    library: Any = import_module("datasets")
    library.disable_progress_bars()
    with tempfile.TemporaryDirectory() as cache:
        loaded = library.load_dataset(str(folder), cache_dir=cache)
        for split in told["counts"]:
            part, ours = loaded[split], [row for row in rows if row.split == split]
            if part.features["label"].names != told["classes"]:
                yield f"{split} has the classes {part.features['label'].names}"
            raw = part.cast_column("image", library.Image(decode=False))
            theirs = [
                (one["image_id"], one["label"], _digest(one["image"]["bytes"])) for one in raw
            ]
            yield from _equal(
                split, [(row.image_id, row.number, row.sha256) for row in ours], theirs
            )
            if len(part) and list(part[0]["image"].size) != told["size"][:0:-1]:
                yield f"{split} has images of {part[0]['image'].size}"
        if "imagefolder" in told["formats"]:
            yield from _imagefolder(library, folder, told, rows, cache)


def _imagefolder(
    library: Any, folder: Path, told: Mapping[str, Any], rows: Sequence[Any], cache: str
) -> Iterator[str]:
    for split in told["counts"]:
        where = Layout(folder).folder(split)
        part = library.load_dataset(
            "imagefolder", data_dir=str(where), split="train", cache_dir=cache
        )
        raw = part.cast_column("image", library.Image(decode=False))
        theirs = [
            (one["image_id"], one["label"], _digest(Path(one["image"]["path"]).read_bytes()))
            for one in raw
        ]
        ours = [(row.image_id, row.label, row.sha256) for row in rows if row.split == split]
        yield from _equal(f"imagefolder {split}", sorted(ours), sorted(theirs))


def webdataset(folder: Path, told: Mapping[str, Any], rows: Sequence[Any]) -> Iterator[str]:
    """Yield where webdataset reads something else from the tar shards; nothing if there are
    none.
    """
    if "webdataset" not in told["formats"]:
        return
    library: Any = import_module("webdataset")
    for split in told["counts"]:
        samples = list(library.WebDataset(str(Layout(folder).shard(split)), shardshuffle=False))
        theirs = [(one["__key__"], int(one["cls"]), _digest(one["png"])) for one in samples]
        ours = [(row.image_id, row.number, row.sha256) for row in rows if row.split == split]
        yield from _equal(split, ours, theirs)


def mlcroissant(folder: Path, told: Mapping[str, Any], rows: Sequence[Any]) -> Iterator[str]:
    """Yield what mlcroissant finds: errors, and records that are not those of the Parquet files."""
    library: Any = import_module("mlcroissant")
    logging.getLogger("absl").setLevel(logging.ERROR)
    described = library.Dataset(str(folder / croissant.FILE))
    yield from described.metadata.issues.errors
    for name in ("labels", "splits"):
        first = next(iter(described.records(name)), None)
        if first is None:
            yield f"the record set {name} has no record"
    for split in told["counts"]:
        name = f"images_{split}"
        ours = [row for row in rows if row.split == split]
        found = list(itertools.islice(described.records(name), len(ours) + 1))
        theirs = [(_text(one[f"{name}/image_id"]), int(one[f"{name}/label"])) for one in found]
        yield from _equal(name, [(row.image_id, row.number) for row in ours], theirs)
        if found and list(found[0][f"{name}/image"].size) != told["size"][:0:-1]:
            yield f"{name} has images of {found[0][f'{name}/image'].size}"


def _equal(name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> Iterator[str]:
    if len(ours) != len(theirs):
        yield (
            f"{name} must have {many(len(ours), 'image')}, and {len(theirs):,} "
            f"{'was' if len(theirs) == 1 else 'were'} loaded"
        )
    wrong = [one for one, other in zip(ours, theirs, strict=False) if one != other]
    if wrong:
        yield (
            f"{name}: {many(len(wrong), 'image')} {'differs' if len(wrong) == 1 else 'differ'}, "
            "the first is "
            f"{wrong[0][0]}"
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


LOADERS: Mapping[str, Callable[[Path, Mapping[str, Any], Sequence[Any]], Iterator[str]]] = {
    "datasets": datasets, "webdataset": webdataset, "mlcroissant": mlcroissant,
}  # fmt: skip
