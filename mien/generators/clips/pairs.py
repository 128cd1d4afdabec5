"""Pairs: onset and apex of each training clip, from which movement is learnt."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8

from mien.errors import DataError
from mien.faces import EMOTIONS, Faces, make_index
from mien.findings import list_some
from mien.prepare.clips import PAIR, name_moments, resample_clips
from mien.runs.progress import quantify

AVERAGED_S = 0.01  # frames within this time of onset and apex are averaged, against sensor noise

MIN_PAIRS = 2  # clips that a generator of movement needs


@dataclass(frozen=True)
class TrainingClip:
    """One clip: its frames in their order, uint8 [t, h, w], and the number of each.

    `row` is the row of the apex in the index of the faces; `onset`, `apex` and `offset` are frame
    numbers.
    """

    row: int
    frames: UInt8[np.ndarray, "t h w"]
    numbers: Int[np.ndarray, " t"]
    onset: int
    apex: int
    offset: int


@dataclass(frozen=True)
class Pairs:
    """Onset and apex of n clips in grey levels from 0 to 255, and the row of each clip's apex."""

    onsets: Float[np.ndarray, "n h w"]
    apexes: Float[np.ndarray, "n h w"]
    index: pd.DataFrame

    @property
    def differences(self) -> Float[np.ndarray, "n h w"]:
        """Apex minus onset, in grey levels from -255 to 255."""
        return self.apexes - self.onsets

    def number_labels(self) -> Int[np.ndarray, " n"]:
        """Return the position of each clip's emotion in EMOTIONS."""
        return np.array([EMOTIONS.index(emotion) for emotion in self.index["emotion"]])

    def encode(self) -> Faces:
        """Return the pairs as faces with two channels: 128 + difference, clipped, and onset.

        A training takes labels, clips and digests from them, and the values from this class.
        """
        shown = np.stack([128 + self.differences, self.onsets], axis=1)
        return _make_faces(shown, self.index, ("difference", "onset"))

    def show(self) -> Faces:
        """Return the pairs as faces whose channels are onset and apex."""
        return _make_faces(
            np.stack([self.onsets, self.apexes], axis=1), self.index, name_moments(PAIR)
        )

    def show_onsets(self) -> Faces:
        """Return the onsets as faces of the class neutral, in grey."""
        return _make_faces(self.onsets[:, None], self.index.assign(emotion="neutral"), ())


def list_clips(faces: Faces) -> Iterator[TrainingClip]:
    """Yield each clip of `faces` that has an onset and a later apex, in the order of the apexes.

    Without a marked offset it is the last frame.
    """
    index = faces.index
    marked = resample_clips(index, PAIR, "apex")
    numbers, phases = index["frame"].to_numpy(), index["phase"].to_numpy(dtype=object)
    positions = index.assign(row=np.arange(len(index))).groupby("clip", sort=False)["row"]
    rows_of = {str(clip): rows.to_numpy() for clip, rows in positions}
    for onset_row, apex_row in zip(marked.onsets, marked.apexes, strict=True):
        onset, apex = int(numbers[onset_row]), int(numbers[apex_row])
        if apex <= onset:
            continue

        # The frames from the onset to the offset, each number once
        rows = rows_of[str(index["clip"].iloc[apex_row])]
        rows = rows[np.unique(numbers[rows], return_index=True)[1]]
        offsets = numbers[rows][phases[rows] == "offset"]
        offset = int(offsets[0] if len(offsets) else numbers[rows][-1])
        inside = rows[(numbers[rows] >= onset) & (numbers[rows] <= max(offset, apex))]
        frames = np.asarray(faces.images[inside])[:, 0]
        yield TrainingClip(int(apex_row), frames, numbers[inside], onset, apex, max(offset, apex))


def collect_pairs(faces: Faces, fps: float, where: str) -> Pairs:
    """Return the pairs of the clips of `faces`, which are grey frames of whole clips.

    Onset and apex are means over the frames within AVERAGED_S, at `fps` frames a second: an
    expression hardly moves in that time, and the mean has less sensor noise.

    Raises DataError if `faces` are not grey, or hold fewer than MIN_PAIRS such clips; `where` names
    them.
    """
    # Grey frames, of clips with onset and apex
    if faces.size[0] != 1 or faces.channels not in ((), ("gray",)):
        raise DataError(
            f"{where}: movement is learnt from grey frames, and these have "
            f"{quantify(faces.size[0], 'channel')}: {list_some(list(faces.shown))}"
        )
    clips = list(list_clips(faces))
    if len(clips) < MIN_PAIRS:
        raise DataError(
            f"{where}: a generator of movement needs {MIN_PAIRS} clips or more that have an onset "
            f"and a later apex, and these faces have {len(clips)} of "
            f"{len(set(faces.index['clip']) - {''})}. Photographs have none; for clips, ingest "
            "whole clips, with the frame numbers of onset and apex"
        )

    # The mean around the onset and around the apex of each
    near = int(AVERAGED_S * fps)
    onsets, apexes = [], []
    for clip in clips:
        middle = (clip.onset + clip.apex) / 2
        early = (clip.numbers <= clip.onset + near) & (clip.numbers < middle)
        late = (np.abs(clip.numbers - clip.apex) <= near) & (clip.numbers > middle)
        onsets.append(clip.frames[early].mean(axis=0))
        apexes.append(clip.frames[late].mean(axis=0))
    index = faces.index.iloc[[clip.row for clip in clips]].reset_index(drop=True)
    return Pairs(np.stack(onsets).astype(np.float32), np.stack(apexes).astype(np.float32), index)


def _make_faces(
    values: Float[np.ndarray, "n c h w"], index: pd.DataFrame, channels: tuple[str, ...]
) -> Faces:
    images = values.round().clip(0, 255).astype(np.uint8)
    columns = {name: list(index[name]) for name in index.columns if name != "sha256"}
    return Faces(images, make_index(images, **columns), None, channels)
