"""Generating an image of a release again, from its provenance."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.audit.levels import find_levels
from mien.errors import DataError, StoreError
from mien.faces import EMOTIONS
from mien.generators.generate import read_levels
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.specs import LevelsSpec, SamplerSpec
from mien.publish import checking, marks, release
from mien.publish.checking import open_release
from mien.publish.formats import ReleaseLayout, read_parquet
from mien.runs.spec import suggest
from mien.runs.store import Run, Store


@dataclass(frozen=True)
class RegeneratedImage:
    """An image generated again: the PNG file, whether bytes and pixels are equal, why not."""

    data: bytes
    bytes_equal: bool
    pixels_equal: bool
    reason: str


def regenerate(folder: Path, image: str, store: Store, device: str = "auto") -> RegeneratedImage:
    """Return the image `image` of the release in `folder`, generated again.

    Raises DataError if the release has no such image, and StoreError if its generator is not in the
    store, or is not the one that generated it.
    """
    # The image, and the run that its mark names
    facts = open_release(folder)
    row = _find_row(folder, image, list(facts["counts"]))
    entries = json.loads((folder / checking.LINEAGE).read_text(encoding="utf-8"))
    lineage = {entry["run"]: entry for entry in entries}
    mark = marks.read_picture(row["image"]["bytes"], image).mark
    if mark is None or mark.run not in lineage:
        raise DataError(
            f"{image} must have the mark of the run that made it, but it has no such mark; "
            "`mien publish check` finds all such faults"
        )

    # The same generator, sampler, label and seed
    spec = lineage[mark.run]["spec"]
    generator = _find_generator(spec["generator"], lineage[spec["generator"]]["content"], store)
    sampler = SamplerSpec.model_validate(
        {name: value for name, value in spec.items() if name in SamplerSpec.model_fields}
    )
    sampler = _read_levels(sampler, lineage, store, device)
    scales = [sampler.guidance, spec.get("guidance_mix") or sampler.guidance]
    guidance = min(scales, key=lambda scale: abs(scale - row["guidance"]))  # stored as float32
    sampler = sampler.model_copy(update={"guidance": guidance})
    label = facts["classes"][row["label"]]
    generated = sample_generator(
        load_generator(generator, device),
        np.array([EMOTIONS.index(label)]),
        np.array([row["seed"]]),
        sampler=sampler,
    )
    generated = release.show_as_pictures(generated, facts.get("channels", ()))[0]

    # The same file
    data, pixels = release.encode_marked(
        generated,
        image,
        mark.run,
        row["seed"],
        label,
        release.read_recorded_answers(folder),
        generator,
        facts["mien"],
    )
    bytes_equal = hashlib.sha256(data).hexdigest() == row["sha256"]
    return RegeneratedImage(
        data,
        bytes_equal,
        pixels == row["pixels_sha256"],
        "" if bytes_equal else _explain_difference(row, generated, facts, lineage, mark.run),
    )


def _find_row(folder: Path, image: str, splits: list[str]) -> dict[str, Any]:
    names: list[str] = []
    for split in splits:
        for row in read_parquet(ReleaseLayout(folder).name_parquet(split)):
            if row["image_id"] == image:
                return row
            names.append(row["image_id"])
    raise DataError(
        f"{folder} has no image '{image}'.{suggest(image, names)} Its images have names like "
        f"{names[0]}"
    )


def _read_levels(
    sampler: SamplerSpec, lineage: dict[str, dict[str, Any]], store: Store, device: str
) -> SamplerSpec:
    """Return `sampler` with the noise levels of the run that it names, found again if need be."""
    if isinstance(sampler.levels, str) and not store.is_done(sampler.levels):
        spec = lineage[sampler.levels]["spec"]
        find_levels(
            LevelsSpec.model_validate(
                {name: value for name, value in spec.items() if name in LevelsSpec.model_fields}
            ),
            store,
            device=device,
        )
    return read_levels(sampler, store)


def _find_generator(name: str, content: str, store: Store) -> Run:
    if not store.is_done(name):
        raise StoreError(
            f"the generator {name} must be in {store.root}, and is not; train it again with the "
            "spec in provenance/, or copy it from where the database was made"
        )
    run = store.run(name)
    if run.content != content:
        raise StoreError(
            f"{name} in {store.root} is not the generator that the release was made with: its "
            f"content is {run.content[:12]}, and was {content[:12]}. Other machines and other "
            "libraries can train otherwise"
        )
    return run


def _explain_difference(
    row: dict[str, Any],
    generated: np.ndarray,
    facts: dict[str, Any],
    lineage: dict[str, dict[str, Any]],
    maker: str,
) -> str:
    """Return why the bytes of an image differ from those in the release."""
    # Only the file differs
    if marks.hash_pixels(generated) == row["pixels_sha256"]:
        if facts["signed"]:
            return (
                "the pixels are equal; the file is signed with C2PA, and a signature holds a time "
                "and random numbers"
            )
        return (
            "the pixels are equal; the file is not, because another version of Pillow or zlib "
            "compresses it differently"
        )
    if facts["run"] != maker:
        return f"{maker} drew it, and {facts['run']} changed it afterwards (cut, resized or folded)"

    # The pixels differ: name the libraries that changed
    earlier, installed = lineage[maker].get("versions") or {}, release.read_library_versions()
    changed = [
        f"{name} {earlier[name]} then, {installed[name]} now"
        for name in earlier
        if name in installed and earlier[name] != installed[name]
    ]
    old = marks.read_picture(row["image"]["bytes"], row["image_id"]).image
    same_shape = old.shape == generated.shape
    difference = int(np.abs(old.astype(int) - generated.astype(int)).max()) if same_shape else -1
    reason = "; ".join(changed) or "another kind of processor or GPU rounds differently"
    return f"pixels differ by up to {difference} of 255: {reason}"
