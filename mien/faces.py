"""Faces: images and a table with one row for each, passed between stages."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pandas as pd

from mien.errors import DataError
from mien.findings import list_some
from mien.strips import count_parts, show_as_pictures, split_channel

# Class numbers are positions in this list, whatever classes a set has. The order is alphabetical,
# so that loaders of image folders number the classes in the same order.
EMOTIONS = (
    "anger",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "negative",
    "neutral",
    "others",
    "positive",
    "repression",
    "sadness",
    "surprise",
    "tense",
)

CLASS_SETS: dict[str, dict[str, str]] = {
    # The preprint's seven. CASME II has two clips of fear and seven of sadness.
    "preprint-7": {
        name: name
        for name in ("disgust", "fear", "happiness", "others", "repression", "sadness", "surprise")
    },
    # The five that are usual for CASME II: 246 of the 255 clips in its sheet.
    "casme2-5": {
        name: name for name in ("disgust", "happiness", "others", "repression", "surprise")
    },
    # As MEGC 2019 folds CASME II: 147 clips of its sheet (the challenge's own list has 145).
    "megc2019-3": {
        "disgust": "negative",
        "repression": "negative",
        "happiness": "positive",
        "surprise": "surprise",
    },
    # As MEGC 2019 folds SAMM: 133 clips. SAMM has no repression; it is folded as for CASME II.
    "megc2019-wide": {
        **dict.fromkeys(
            ("anger", "contempt", "disgust", "fear", "repression", "sadness"), "negative"
        ),
        "happiness": "positive",
        "surprise": "surprise",
    },
}
"""Class sets by name: the class of each emotion. Images of other emotions are left out."""

PHASES = ("onset", "rise", "apex", "fall", "offset", "still")

COLUMNS = {
    "key": "str",  # stable and unique: casme2/sub01/EP02_01f/46
    "dataset": "str",
    "subject": "str",  # with its dataset, casme2:sub01; empty if unknown
    "clip": "str",  # casme2:sub01/EP02_01f; empty for single photographs
    "frame": "int64",  # the number in the clip, -1 without one
    "phase": "str",  # one of PHASES; empty within a clip whose apex is unknown
    "emotion": "str",  # one of EMOTIONS
    "raw_label": "str",  # the label of the source
    "action_units": "str",  # FACS, as the source writes them
    "source": "str",  # "real", or the run that generated the image, or UNKNOWN
    "seed": "int64",  # of a generated image, else -1
    "licence": "str",
    "sha256": "str",  # of the pixels
}

OwnerUnit = Literal["subject", "clip", "image"]

OWNER_COLUMNS: dict[OwnerUnit, str] = {"subject": "subject", "clip": "clip", "image": "key"}
"""The column of each unit to which an image may belong, the largest unit first."""

UNKNOWN_SOURCE = "unknown"  # the source of a synthetic image whose generator is unknown

_DEFAULTS = {"frame": -1, "seed": -1, "phase": "still", "source": "real", "licence": "unknown"}


Own = TypeVar("Own", bound="Faces")  # typing.Self would break the shape checks of the tests

SHOWN_PER_CLASS, SHOWN_PIXELS = 6, 64  # faces of a class, and their height, in a notebook


@dataclass(frozen=True, repr=False)
class Faces:
    """Images with their table.

    `images` are uint8 [n, c, h, w], 0 = black, 255 = white. `index` has n rows and the columns of
    COLUMNS. `seen`, only for synthetic faces, has the key, subject, clip and dataset of each image
    that the generator was trained on, so that no test uses such an image unnoticed. `channels` has
    the name of each channel in mien.prepare.inputs.INPUTS; it is empty for plain pictures, which
    have one channel (grey) or three (RGB). Where each row is a whole clip, the name of a channel
    ends with its moment, as `split_channel` says: t0, t1, ... in grey, or flow-right-t3.

    Raises DataError if images, table and channels do not match.
    """

    images: np.ndarray
    index: pd.DataFrame
    seen: pd.DataFrame | None = None
    channels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Images, rows and channels must match.
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(
                f"images must be uint8 of shape [n, c, h, w], not {self.images.dtype} "
                f"{list(self.images.shape)}; mien.generators.scaling.scale_to_bytes "
                "turns a model's output into images"
            )
        if len(self.images) != len(self.index):
            raise DataError(
                f"{len(self.images)} images need as many rows in the index, which has "
                f"{len(self.index)}"
            )
        if self.channels and len(self.channels) != self.images.shape[1]:
            raise DataError(
                f"each channel must have one name, and {', '.join(self.channels)} name "
                f"{self.images.shape[1]} channels"
            )

        # The table must have the columns, known emotions, and unique keys.
        if list(self.index.columns) != list(COLUMNS):
            raise DataError(
                f"the index must have the columns {list(COLUMNS)}, not {list(self.index.columns)}"
            )
        unknown = sorted(set(self.index["emotion"].unique()) - set(EMOTIONS))
        if unknown:
            raise DataError(
                f"emotions must be among {', '.join(EMOTIONS)}; given: {', '.join(unknown)}"
            )
        if not self.index["key"].is_unique:
            key, count = next(iter(self.index["key"].value_counts().items()))
            raise DataError(f"keys must be unique; '{key}' occurs {count} times")

    @classmethod
    def from_arrays(
        cls: type[Own],
        images: np.ndarray | Sequence[np.ndarray],
        labels: Sequence[str],
        *,
        subjects: Sequence[str] | None = None,
        clips: Sequence[str] | None = None,
        name: str = "arrays",
        licence: str = "unknown",
        synthetic: bool = False,
    ) -> Own:
        """Return faces made of arrays: `images` of bytes from 0 to 255, and a label for each.

        `images` are uint8 [n, h, w], [n, h, w, 3], [n, 1, h, w] or [n, 3, h, w], or a sequence of
        such images of one size. `labels` are among EMOTIONS, in any case. `subjects` and `clips`
        name the person and the clip of each image, within the dataset `name`; without them nobody
        knows who is in an image, and no split by subject is possible. `synthetic` images count as
        made by an unknown generator.

        Raises DataError if images, labels and names do not fit together.
        """
        pixels = _put_channels_first(images)
        emotions = [str(label).strip().lower() for label in labels]
        for noun, values in (("labels", emotions), ("subjects", subjects), ("clips", clips)):
            if values is not None and len(values) != len(pixels):
                raise DataError(
                    f"{len(pixels):,} images need as many {noun}; given: {len(values):,}"
                )

        columns = {
            column: [f"{name}:{value}" if str(value) else "" for value in values]
            for column, values in (("subject", subjects), ("clip", clips))
            if values is not None
        }
        index = make_index(
            pixels,
            key=[f"{name}/{number}" for number in range(len(pixels))],
            dataset=name,
            emotion=emotions,
            raw_label=[str(label) for label in labels],
            source=UNKNOWN_SOURCE if synthetic else "real",
            licence=licence,
            **columns,
        )
        return cls(pixels, index)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self: Own, which: int | slice | np.ndarray | Sequence[int]) -> Own:
        """Return the images at `which`: a position, a slice, a boolean mask or positions.

        The result is always Faces, of a single image for a position. Raises IndexError for a
        position that does not exist.
        """
        if isinstance(which, int | np.integer):
            which = [int(which)]
        return self.select(np.arange(len(self))[which])

    def __repr__(self) -> str:
        """Return a line: how many images of which size, classes, subjects and clips."""
        c, h, w = self.size
        classes = ", ".join(
            f"{row['class']} {row['images']}" for row in self.count_images().to_dict("records")[:-1]
        )
        units = [f"{len(self.subjects)} subjects"] if self.subjects else []
        synthetic = "" if (self.index["source"] == "real").all() else "synthetic, "
        text = "; ".join([f"{synthetic}{c} x {h} x {w}", *([classes] if classes else []), *units])
        return f"<Faces: {len(self)} images ({text})>"

    def _repr_html_(self) -> str:
        """Return a contact sheet for notebooks: a row of some faces for each class."""
        # Strips of channels are wider than pictures, so that fewer are shown
        parts = count_parts(self.channels)[1] if self.channels else 1
        most = max(1, SHOWN_PER_CLASS // parts)
        rows = []
        for emotion in self.classes:
            positions = np.flatnonzero((self.index["emotion"] == emotion).to_numpy())
            spaced = np.linspace(0, len(positions) - 1, min(len(positions), most))
            pictures = self.show_pictures(positions[spaced.round().astype(int)])
            strip = _draw_strip(pictures, min(1.0, SHOWN_PIXELS / self.size[1]))
            picture = base64.b64encode(strip).decode()
            rows.append(
                f'<tr><th style="text-align:left">{emotion}</th><td>{len(positions):,}</td><td>'
                f'<img alt="{len(spaced)} faces with the label {emotion}" '
                f'src="data:image/png;base64,{picture}"></td></tr>'
            )
        return f"<p>{html.escape(repr(self))}</p><table>{''.join(rows)}</table>"

    @property
    def size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        _, c, h, w = self.images.shape
        return c, h, w

    @property
    def shown(self) -> tuple[str, ...]:
        """The name of each channel, also for plain pictures."""
        count = self.images.shape[1]
        plain = {1: ("gray",), 3: ("red", "green", "blue")}
        return self.channels or plain.get(
            count, tuple(f"channel {number + 1}" for number in range(count))
        )

    @property
    def moments(self) -> tuple[str, ...]:
        """The moments that each row shows, in order, where a row is a clip; else empty."""
        moments = dict.fromkeys(split_channel(name)[1] for name in self.channels)
        return tuple(moment for moment in moments if moment)

    @property
    def classes(self) -> tuple[str, ...]:
        """The emotions that occur, in the order of EMOTIONS."""
        present = set(self.index["emotion"].unique())
        return tuple(emotion for emotion in EMOTIONS if emotion in present)

    @property
    def subjects(self) -> tuple[str, ...]:
        """The known subjects, sorted."""
        return tuple(sorted(set(self.index["subject"].unique()) - {""}))

    def name_units(self, unit: OwnerUnit) -> pd.Series:
        """Return the name of the subject, clip or image to which each image belongs.

        It is that of the next smaller unit where the unit is not known, as in `name_units`.
        """
        return name_units(self.index, unit)

    def find_unit(self) -> OwnerUnit:
        """Return the largest unit that is known of all images: subject, clip or image."""
        return find_known_unit(self.index)

    def find_independent_units(self) -> tuple[OwnerUnit, pd.Series]:
        """Return the largest unit that is known of all images, and the name of each image's.

        Where it is the image because some clips are not known, the images of the other clips still
        belong to these.
        """
        unit = self.find_unit()
        return unit, self.name_units("subject" if unit == "subject" else "clip")

    def require_real(self, noun: str) -> None:
        """Raise DataError if an image was generated; `noun` names the images in the message."""
        generated = self.index["source"] != "real"
        if generated.any():
            makers = sorted(set(self.index["source"][generated]))
            raise DataError(
                f"{noun} must be real pictures, and {int(generated.sum()):,} of {len(self):,} were "
                f"generated, by {list_some(makers, 3)}; name a set of real pictures"
            )

    def require_pictures(self, noun: str) -> None:
        """Raise DataError unless each image is a grey or RGB picture; `noun` names the images."""
        if self.shown not in (("gray",), ("red", "green", "blue")):
            raise DataError(
                f"{noun} must be grey or RGB pictures, with one channel or three; these have "
                f"{self.images.shape[1]}: {list_some(list(self.shown), 4)}"
            )

    def show_pictures(self, positions: np.ndarray | Sequence[int]) -> np.ndarray:
        """Return the images at `positions` as people see them: uint8 [m, 1 or 3, y, x].

        Grey and RGB pictures stay as they are. Other channels, such as optical flow or the moments
        of a clip, stand next to each other in one grey picture, so that none passes for a colour.
        """
        images = np.asarray(self.images[np.asarray(positions, dtype=np.int64)])
        return show_as_pictures(images, self.channels)

    def number_labels(self, classes: Sequence[str] = EMOTIONS) -> np.ndarray:
        """Return int64 [n]: the position of each image's emotion in `classes`.

        Raises DataError if `classes` lacks one.
        """
        number = {name: position for position, name in enumerate(classes)}
        missing = [name for name in self.classes if name not in number]
        if missing:
            raise DataError(
                f"the classes are {', '.join(classes)}, and the images also show "
                f"{', '.join(missing)}"
            )
        emotions = self.index["emotion"].to_numpy(dtype=object)
        return np.array([number[emotion] for emotion in emotions], dtype=np.int64)

    def select(self: Own, which: np.ndarray) -> Own:
        """Return the images at `which`: a boolean mask [n], or positions in the new order."""
        positions = np.flatnonzero(which) if which.dtype == bool else which
        index = self.index.take(list(positions)).reset_index(drop=True)
        return replace(self, images=np.ascontiguousarray(self.images[positions]), index=index)

    def count_images(self) -> pd.DataFrame:
        """Return the numbers of images, clips and subjects per class, with a last row for all.

        It is the preprint's Table 1, for any set.
        """
        rows = [(emotion, self.index[self.index["emotion"] == emotion]) for emotion in self.classes]
        rows.append(("total", self.index))
        table = [
            (
                name,
                len(index),
                *(len(set(index[unit].unique()) - {""}) for unit in ("clip", "subject")),
            )
            for name, index in rows
        ]
        return pd.DataFrame(table, columns=["class", "images", "clips", "subjects"])

    def save(self, folder: Path | str) -> None:
        """Write images.npy, index.parquet, and if needed seen.parquet and channels.json."""
        folder = Path(folder)
        np.save(folder / "images.npy", np.ascontiguousarray(self.images), allow_pickle=False)
        self.index.to_parquet(folder / "index.parquet", index=False)
        if self.seen is not None:
            self.seen.to_parquet(folder / "seen.parquet", index=False)
        if self.channels:
            (folder / "channels.json").write_text(
                json.dumps(self.channels) + "\n", encoding="utf-8"
            )

    @classmethod
    def load(cls: type[Own], folder: Path | str) -> Own:
        """Return the faces that `save` wrote; the images stay on the disk until they are used.

        Raises DataError if the folder holds no faces.
        """
        folder = Path(folder)
        if not ((folder / "images.npy").exists() and (folder / "index.parquet").exists()):
            raise DataError(
                f"this needs a run of faces, with images.npy and index.parquet, and {folder.name} "
                "is not one; `mien ls` lists all runs"
            )
        seen_file, names_file = folder / "seen.parquet", folder / "channels.json"
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        index = pd.read_parquet(folder / "index.parquet")
        channels = (
            tuple(json.loads(names_file.read_text(encoding="utf-8"))) if names_file.exists() else ()
        )
        return cls(
            images, index, pd.read_parquet(seen_file) if seen_file.exists() else None, channels
        )


def _put_channels_first(images: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Return images as uint8 [n, c, h, w]; raises DataError if they cannot be that."""
    # One array, which images of several sizes do not form
    shapes = {np.shape(image) for image in images}
    if len(shapes) > 1:
        raise DataError(
            f"all images must have one size; given: {list_some([str(s) for s in sorted(shapes)])}"
        )
    array = np.asarray(images)
    if array.dtype != np.uint8:
        raise DataError(
            f"images must be uint8, 0 = black to 255 = white; given: {array.dtype}. For values "
            "from 0 to 1, give (255 * images).round().astype('uint8')"
        )

    # The channels first
    if array.ndim == 3:
        return array[:, None]
    if array.ndim == 4:
        first, last = array.shape[1] in (1, 3), array.shape[3] in (1, 3)
        if first and not last:
            return array
        if last and not first:
            return np.ascontiguousarray(np.moveaxis(array, 3, 1))
    raise DataError(
        f"images must be [n, h, w], [n, h, w, 3], [n, 1, h, w] or [n, 3, h, w]; given: "
        f"{list(array.shape)}"
    )


def _draw_strip(images: np.ndarray, scale: float) -> bytes:
    """Return pictures [n, 1 or 3, h, w] next to each other as a PNG file, made smaller by `scale`,
    from 0 to 1.
    """
    from PIL import Image

    n, c, h, w = images.shape
    strip = np.ascontiguousarray(np.moveaxis(images, 0, 2)).reshape(c, h, n * w)
    picture = Image.fromarray(strip[0] if c == 1 else np.moveaxis(strip, 0, 2))
    if scale < 1:
        picture = picture.resize((max(1, int(n * w * scale)), max(1, round(h * scale))))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def find_first_known(table: pd.DataFrame, *columns: str) -> pd.Series:
    """Return for each row the first of `columns` that is not empty, or else the last of them."""
    *larger, smallest = columns
    names = table[smallest]
    for column in reversed(larger):
        names = table[column].where(table[column] != "", names)
    return names


def name_units(table: pd.DataFrame, unit: OwnerUnit) -> pd.Series:
    """Return the name of the subject, clip or image to which each row of `table` belongs.

    `table` has the columns of an index. Where a subject is not known, the clip stands for it, and
    the image stands for a clip that is not known, as a photograph's.
    """
    columns = list(OWNER_COLUMNS.values())
    return find_first_known(table, *columns[columns.index(OWNER_COLUMNS[unit]) :])


def name_distinct_units(table: pd.DataFrame, unit: OwnerUnit) -> np.ndarray:
    """Return the names of `name_units` as objects, where no clip or image is named as a subject.

    Names of units that are smaller than `unit` begin with a control character.
    """
    names = table["key"]
    larger = {"image": (), "clip": ("clip",), "subject": ("clip", "subject")}
    for column in larger[unit]:
        names = table[column].where(table[column] != "", "\x1f" + names)
    return names.to_numpy(dtype=object)


def find_known_unit(table: pd.DataFrame) -> OwnerUnit:
    """Return the largest unit that is known of all rows of an index: subject, clip or image."""
    for unit in ("subject", "clip"):
        if (table[unit] != "").all():
            return unit
    return "image"


def make_index(images: np.ndarray, **columns: Sequence[object] | str | int) -> pd.DataFrame:
    """Return an index for `images` with `columns`, and defaults for the other columns.

    A single value is repeated in all rows. The sha256 of each image is computed.
    """
    table: dict[str, object] = {}
    for name, kind in COLUMNS.items():
        value = columns.pop(name, _DEFAULTS.get(name, ""))
        values = [value] * len(images) if isinstance(value, str | int) else list(value)
        table[name] = pd.Series(values, dtype=kind)
    if columns:
        raise DataError(
            f"the index has no column {', '.join(columns)}; it has {', '.join(COLUMNS)}"
        )
    table["sha256"] = pd.Series(
        [hashlib.sha256(image.tobytes()).hexdigest() for image in images], dtype="str"
    )
    return pd.DataFrame(table)


def concatenate(sets: Iterable[Faces]) -> Faces:
    """Return the faces of all `sets`, in order; `seen_tables` is the union of theirs."""
    sets = list(sets)

    # All sets must have one size and the same channels.
    sizes = {faces.size for faces in sets}
    if len(sizes) != 1:
        raise DataError(
            f"faces to be joined must have one size; given: {sorted(sizes)}. Preprocess them to "
            "the same size"
        )
    channel_sets = {faces.channels for faces in sets}
    if len(channel_sets) != 1:
        descriptions = " and ".join(
            sorted(", ".join(channels) or "plain pictures" for channels in channel_sets)
        )
        raise DataError(
            f"faces to be joined must show the same in their channels; given: {descriptions}"
        )

    # Join images, tables, and what the generators have seen.
    seen_tables = [faces.seen for faces in sets if faces.seen is not None]
    return Faces(
        np.concatenate([faces.images for faces in sets]),
        pd.concat([faces.index for faces in sets], ignore_index=True),
        pd.concat(seen_tables, ignore_index=True).drop_duplicates(ignore_index=True)
        if seen_tables
        else None,
        sets[0].channels,
    )
