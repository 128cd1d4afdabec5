"""MOTION_CHANGES: what controls do with the movement that images show."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces
from mien.prepare.inputs import INPUTS
from mien.strips import split_channel


def shuffle_motion(faces: Faces, seed: int) -> Faces:
    """Return `faces` with the movement of other clips, whatever their class.

    Where some channels show movement (optical flow, or the difference from the onset) and others
    show the face, only the former are exchanged: each clip keeps its face. Where all channels show
    movement, or the moments of a clip do, whole images are exchanged. The permutation of clips
    depends on their names and the seed, not on the order of the rows.
    """
    # Each clip takes the movement of another one, image by image in the order of frames
    clips = faces.name_units("clip").to_numpy()
    names = sorted(set(clips))
    shuffled = seeds.make_rng("shuffled motion", seed).permutation(np.array(names, dtype=object))
    donor_of = dict(zip(names, shuffled, strict=True))
    order = faces.index.assign(row=np.arange(len(faces)), unit=clips).sort_values(["frame", "key"])
    rows_of = {name: rows["row"].to_numpy() for name, rows in order.groupby("unit", sort=False)}
    donors = np.empty(len(faces), dtype=np.int64)
    for name, rows in rows_of.items():
        given = rows_of[donor_of[name]]
        donors[rows] = given[np.arange(len(rows)) % len(given)]

    moving = [INPUTS[name].clips for name in _list_inputs(faces)]
    exchanged = np.array(moving if any(moving) else [True] * faces.size[0])
    images = np.array(faces.images)
    images[:, exchanged] = np.asarray(faces.images)[donors][:, exchanged]
    return replace(faces, images=images)


def remove_motion(faces: Faces, seed: int) -> Faces:
    """Return `faces` without movement: each moment shows what the first moment does.

    Channels of movement show what they do when nothing moves. Nothing is random; `seed` is for the
    other members of MOTION_CHANGES.
    """
    images = np.array(faces.images)
    first: dict[str, int] = {}
    blank = np.zeros(faces.size[1:], dtype=np.uint8)
    for position, name in enumerate(faces.channels):
        shown = split_channel(name)[0]
        if INPUTS[shown].clips:
            images[:, position] = INPUTS[shown].show(blank, blank)
        else:
            images[:, position] = faces.images[:, first.setdefault(shown, position)]
    return replace(faces, images=images)


MOTION_CHANGES: Mapping[str, Callable[[Faces, int], Faces]] = {
    "shuffled": shuffle_motion,
    "removed": remove_motion,
}
"""What a control does with the movement, by the names that Control.motion has."""


def shows_motion(faces: Faces) -> bool:
    """Return whether the images show a movement that a control can change."""
    return bool(faces.moments) or any(INPUTS[name].clips for name in _list_inputs(faces))


def require_motion(faces: Faces, where: str) -> None:
    """Raise DataError unless the images show a movement that a control can change."""
    if not shows_motion(faces):
        raise DataError(
            f"{where} needs images that show movement, and these show {', '.join(faces.shown)}; "
            "give clips or an input such as flow, in [classifier.NAME] or by `mien preprocess`, or "
            "remove the control"
        )


def _list_inputs(faces: Faces) -> list[str]:
    """Return the input that each channel shows; plain pictures show grey."""
    return [split_channel(name)[0] for name in faces.channels] or ["gray"] * faces.size[0]
