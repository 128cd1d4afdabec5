"""The base of every trained generator: classes, training images, licence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from mien.errors import UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators.specs import GeneratorSpec
from mien.runs.files import write_whole
from mien.runs.store import Run

SEEN_COLUMNS = ["key", "subject", "clip", "dataset"]


@dataclass(frozen=True)
class Generator:
    """A trained generator.

    `classes` are the emotions that it was trained on, `size` is channels, height and width,
    `channels` are the names of the channels (as in Faces). `seen` has key, subject, clip and
    dataset of every image that it was trained on. `losses` has the columns step, images_seen and
    loss, and no rows if there are no training steps. `run` is the name of its run, empty before it
    is saved.
    """

    spec: GeneratorSpec
    classes: tuple[str, ...]
    size: tuple[int, int, int]
    seen: pd.DataFrame
    licence: str
    losses: pd.DataFrame
    run: str
    channels: tuple[str, ...] = field(default=(), kw_only=True)

    def require_known(self, labels: Int64[np.ndarray, " n"]) -> None:
        """Raise UsageError for a label that is not among the classes of the generator.

        A label is a position in EMOTIONS.
        """
        unknown = sorted({EMOTIONS[label] for label in labels} - set(self.classes))
        if unknown:
            raise UsageError(
                f"the generator was not trained on {', '.join(unknown)}; ask only for its classes, "
                f"which are {', '.join(self.classes)}"
            )


def describe_origins(faces: Faces) -> dict[str, Any]:
    """Return the fields of Generator that describe the faces that it was trained on."""
    seen = faces.index.loc[:, SEEN_COLUMNS]
    # Trained on synthetic faces: the images of their generator count as training images, too
    if faces.seen is not None:
        seen = pd.concat(
            [seen, faces.seen.reindex(columns=SEEN_COLUMNS, fill_value="")]
        ).drop_duplicates()
    return {
        "classes": faces.classes,
        "size": faces.size,
        "channels": faces.channels,
        "seen": seen.reset_index(drop=True),
        "licence": " and ".join(sorted(set(faces.index["licence"]))),
    }


def write_generator(generator: Generator, out: Path, fields: Mapping[str, Any]) -> None:
    """Write the files of all generators: generator.json, seen.parquet and loss.csv.

    `fields` are further entries of generator.json.
    """
    about = {
        "kind": generator.spec.kind,
        "classes": list(generator.classes),
        "size": list(generator.size),
        "channels": list(generator.channels),
        "licence": generator.licence,
        **fields,
    }
    write_whole(out / "generator.json", (json.dumps(about, indent=1) + "\n").encode())
    generator.seen.to_parquet(out / "seen.parquet", index=False)
    generator.losses.to_csv(out / "loss.csv", index=False, lineterminator="\n")


def read_generator(run: Run) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `save` wrote: the fields of Generator except its spec, and generator.json."""
    about = run.read_json("generator.json")
    fields = {
        "classes": tuple(about["classes"]),
        "size": tuple(about["size"]),
        "channels": tuple(about.get("channels", ())),
        "seen": pd.read_parquet(run.find_file("seen.parquet")),
        "licence": about["licence"],
        "losses": pd.read_csv(run.find_file("loss.csv")),
        "run": run.name,
    }
    return fields, about


def make_empty_losses() -> pd.DataFrame:
    """Return the loss table of a generator that is not trained in steps."""
    return pd.DataFrame(
        {"step": pd.Series(dtype="int64"), "images_seen": pd.Series(dtype="int64")}
    ).assign(loss=pd.Series(dtype="float64"))
