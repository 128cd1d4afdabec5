"""Making an image of a release again, from its provenance and the generator: to the same bytes, or
saying why not.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien import generators
from mien.errors import DataError, StoreError
from mien.faces import EMOTIONS
from mien.generators import SamplerSpec
from mien.publish import marks, release
from mien.publish.checking import open_release
from mien.publish.formats import Layout, read_parquet
from mien.spec import nearest
from mien.store import Run, Store


@dataclass(frozen=True)
class Remade:
    """An image made again: the PNG file, whether it is equal byte by byte and pixel by pixel, and
    why not if not.
    """

    data: bytes
    bytes_equal: bool
    pixels_equal: bool
    why: str


def regenerate(folder: Path, image: str, store: Store, device: str = "auto") -> Remade:
    """Make the image `image` of the release in `folder` again.

    Raises DataError if the release has no such image, and StoreError if its generator is not in the
    store, or is not the one that it was made with.
    """
    told = open_release(folder)
    row = _row(folder, image, list(told["counts"]))
    lineage = {
        one["run"]: one
        for one in json.loads((folder / release.LINEAGE).read_text(encoding="utf-8"))
    }
    mark = marks.read(row["image"]["bytes"], image).mark
    if mark is None or mark.run not in lineage:
        raise DataError(
            f"{image} must bear the mark of the run that made it, and does not; `mien publish "
            "check`"
        )
    spec = lineage[mark.run]["spec"]
    generator = _generator(spec["generator"], lineage[spec["generator"]]["content"], store)
    how = SamplerSpec.model_validate(
        {name: value for name, value in spec.items() if name in SamplerSpec.model_fields}
    )
    label = EMOTIONS.index(told["classes"][row["label"]])
    loaded = generators.load(generator, device)
    made = generators.sample(loaded, np.array([label]), np.array([row["seed"]]), sampler=how)[0]
    answers = release.recorded(folder)
    data, pixels = release.marked(
        made,
        image,
        mark.run,
        row["seed"],
        told["classes"][row["label"]],
        answers,
        generator,
        told["mien"],
    )
    same = hashlib.sha256(data).hexdigest() == row["sha256"]
    return Remade(
        data,
        same,
        pixels == row["pixels_sha256"],
        "" if same else _why(row, made, told, lineage, mark.run),
    )


def _row(folder: Path, image: str, splits: list[str]) -> dict[str, Any]:
    names: list[str] = []
    for split in splits:
        for row in read_parquet(Layout(folder).parquet(split)):
            if row["image_id"] == image:
                return row
            names.append(row["image_id"])
    raise DataError(
        f"{folder} has no image '{image}'.{nearest(image, names)} Its images are named like "
        f"{names[0]}"
    )


def _generator(name: str, content: str, store: Store) -> Run:
    if not store.done(name):
        raise StoreError(
            f"the generator {name} must be in {store.root}, and is not; train it again with the "
            "spec in provenance/, "
            "or bring it from where the database was made"
        )
    run = store.run(name)
    if run.content != content:
        raise StoreError(
            f"{name} in {store.root} is not the generator that the release was made with: its "
            "content is "
            f"{run.content[:12]}, and was {content[:12]}. Other machines and other libraries can "
            "train otherwise"
        )
    return run


def _why(
    row: dict[str, Any],
    made: np.ndarray,
    told: dict[str, Any],
    lineage: dict[str, dict[str, Any]],
    maker: str,
) -> str:
    """Say why an image did not come out as it was."""
    if marks.pixels_of(made) == row["pixels_sha256"]:
        if told["signed"]:
            return (
                "the pixels are equal; the file is signed with C2PA, and a signature holds a "
                "time and random numbers"
            )
        return (
            "the pixels are equal; the file is not, since another version of Pillow or zlib "
            "packs it otherwise"
        )
    if told["run"] != maker:
        return f"{maker} drew it, and {told['run']} changed it afterwards (cut, resized or folded)"
    then, now = lineage[maker].get("versions") or {}, release.about_now()
    changed = [
        f"{name} {then[name]} then, {now[name]} now"
        for name in then
        if name in now and then[name] != now[name]
    ]
    old = marks.read(row["image"]["bytes"], row["image_id"]).image
    apart = int(np.abs(old.astype(int) - made.astype(int)).max()) if old.shape == made.shape else -1
    reason = "; ".join(changed) or "another kind of processor or card computes other last bits"
    return f"pixels differ by up to {apart} of 255: {reason}"
