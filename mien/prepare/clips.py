"""Clips: onset, apex and offset, frames around them, resampled moments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

PAIR = "onset,apex"  # the clips of two frames

FrameChoice = Literal["all", "apex", "onset+apex"]

Until = Literal["offset", "apex"]


@dataclass(frozen=True)
class Resampled:
    """Where the frames of n clips lie, resampled at k moments.

    The row `apexes[i]` of the index is the apex of clip i, and `onsets[i]` its onset. The frame at
    moment j lies between the rows `before[i, j]` and `after[i, j]`, at `weight[i, j]` of the way; a
    weight of 0 is the row `before` itself. `frames[i, j]` is the moment as a frame number.
    `left_out` has the names of clips that cannot be resampled, by the reason.
    """

    apexes: Int[np.ndarray, " n"]
    onsets: Int[np.ndarray, " n"]
    before: Int[np.ndarray, "n k"]
    after: Int[np.ndarray, "n k"]
    weight: Float[np.ndarray, "n k"]
    frames: Float[np.ndarray, "n k"]
    left_out: dict[str, list[str]]

    def select(self, which: Int[np.ndarray, " m"]) -> "Resampled":
        """Return the clips at the positions `which`."""
        return replace(
            self,
            apexes=self.apexes[which],
            onsets=self.onsets[which],
            before=self.before[which],
            after=self.after[which],
            weight=self.weight[which],
            frames=self.frames[which],
        )


def name_moments(clips: int | str) -> tuple[str, ...]:
    """Return the names of the moments of a clip: t0, t1, ..., or onset and apex."""
    if isinstance(clips, str):
        return tuple(PAIR.split(","))
    return tuple(f"t{moment}" for moment in range(clips))


def choose_moments(
    onset: float, apex: float, offset: float, clips: int | str, until: Until
) -> Float[np.ndarray, " k"]:
    """Return the moments of a clip, in the unit of its onset, apex and offset.

    The first moment is the onset. A pair ends with the apex, and so do clips until the apex, whose
    moments are equally spaced. In a clip of k moments until the offset the apex is moment k // 2;
    moments are equally spaced on either side of it, so that every clip shows its apex, and shows it
    at the same moment.
    """
    if isinstance(clips, str):
        return np.array([onset, apex], dtype=np.float64)
    if until == "apex":
        return np.linspace(onset, apex, clips)
    middle = clips // 2
    return np.concatenate(
        [np.linspace(onset, apex, middle + 1), np.linspace(apex, offset, clips - middle)[1:]]
    )


def resample_clips(index: pd.DataFrame, clips: int | str, until: Until) -> Resampled:
    """Return where the moments of each clip lie between the frames of `index`.

    Clips are in the order of their apexes in `index`. The offset is the frame that is marked so;
    without one it is the last frame. Clips without an apex, without an onset, or (until the offset)
    without a frame after their apex are left out.
    """
    onsets, apexes = find_onsets(index), find_apexes(index)
    frames_of = {
        clip: rows.drop_duplicates("frame")
        for clip, rows in index.assign(row=np.arange(len(index)))
        .sort_values(["clip", "frame", "key"])
        .groupby("clip", sort=False)
    }
    left_out: dict[str, list[str]] = {"no apex": [], "no onset": [], "no frame after the apex": []}

    # The moments of each clip, between the frames that exist
    marked_rows: list[tuple[int, int]] = []
    between: list[tuple[np.ndarray, ...]] = []
    for clip in dict.fromkeys(index["clip"]):
        if clip == "":
            continue
        frames = frames_of[clip]
        numbers, rows = frames["frame"].to_numpy(dtype=np.float64), frames["row"].to_numpy()
        if clip not in apexes:
            left_out["no apex"].append(clip)
            continue
        if clip not in onsets:
            left_out["no onset"].append(clip)
            continue
        onset, apex = (
            float(index["frame"].iloc[rows_by_clip[clip]]) for rows_by_clip in (onsets, apexes)
        )
        marked = frames["frame"][frames["phase"] == "offset"]
        offset = float(marked.iloc[0] if len(marked) else numbers[-1])
        if until == "offset" and isinstance(clips, int) and offset <= apex:
            left_out["no frame after the apex"].append(clip)
            continue
        moments = choose_moments(onset, apex, offset, clips, until)
        marked_rows.append((apexes[clip], onsets[clip]))
        between.append((*_locate(moments, numbers, rows), moments))

    # One table of all clips, in the order of their apexes
    width = len(name_moments(clips))
    order = np.argsort([apex for apex, _ in marked_rows], kind="stable")
    apex_rows, onset_rows = np.array(marked_rows, dtype=np.int64).reshape(-1, 2)[order].T
    before, after, weight, moments = (
        np.array([values[number] for values in between]).reshape(-1, width)[order]
        for number in range(4)
    )
    return Resampled(
        apex_rows,
        onset_rows,
        before.astype(np.int64),
        after.astype(np.int64),
        weight,
        moments,
        {reason: sorted(names) for reason, names in left_out.items() if names},
    )


def hold_frames(
    index: pd.DataFrame, rows: Int[np.ndarray, " n"], onsets: Int[np.ndarray, " n"]
) -> Resampled:
    """Return clips of one moment each: the frames at `rows`, which take the place of apexes."""
    columns = rows[:, None]
    frames = index["frame"].to_numpy(dtype=np.float64)[columns]
    return Resampled(rows, onsets, columns, columns, np.zeros(columns.shape), frames, {})


def select_frames(
    index: pd.DataFrame, frames: FrameChoice, window: int, every: int
) -> Bool[np.ndarray, " n"]:
    """Return whether each row of an index is kept; single photographs always are.

    `apex` keeps every n-th frame within `window` frames of the clip's apex, `onset+apex` the two
    frames that are marked so, and `all` every n-th frame of the clip.
    """
    single = index["clip"] == ""
    if frames == "apex":
        apex_frame = {clip: index["frame"].iloc[row] for clip, row in find_apexes(index).items()}
        # NaN where the clip has no apex; comparisons with NaN are false.
        distance = (index["frame"] - index["clip"].map(apex_frame).astype("float64")).abs()
        selected = (distance <= window) & (distance % every == 0)
    elif frames == "onset+apex":
        marked = index["phase"].isin(["onset", "apex"])
        selected = marked & index["clip"].isin(find_apexes(index))
    else:
        position = index.sort_values(["clip", "frame", "key"]).groupby("clip").cumcount()
        selected = position.reindex(index.index) % every == 0
    return (single | selected).to_numpy(dtype=bool)


def find_clips_without_apex(index: pd.DataFrame) -> list[str]:
    """Return the clips without a frame that is marked as the apex, sorted."""
    return sorted(set(index["clip"]) - set(find_apexes(index)) - {""})


def find_apexes(index: pd.DataFrame) -> dict[str, int]:
    """Return the row of the first frame that is marked as the apex, by clip."""
    marked = index.assign(row=np.arange(len(index)))[index["phase"] == "apex"]
    first = marked[marked["clip"] != ""].sort_values(["clip", "frame", "key"])
    return dict(
        zip(*first.drop_duplicates("clip")[["clip", "row"]].to_dict("list").values(), strict=True)
    )


def find_onsets(index: pd.DataFrame) -> dict[str, int]:
    """Return the row of the onset frame by clip, for the clips that have one.

    It is the frame that is marked as the onset. In a clip where no frame except the offset is
    marked, it is the first frame. In a clip that begins with its apex and has its offset, it is the
    apex, because onset and apex are then one frame.
    """
    frames = index.assign(row=np.arange(len(index))).sort_values(["clip", "frame", "key"])
    marked = frames[frames["phase"] == "onset"].drop_duplicates("clip")
    clips_with_phases = set(frames["clip"][~frames["phase"].isin(["", "offset"])])
    ended = set(frames["clip"][frames["phase"] == "offset"])
    first_frames = frames.drop_duplicates("clip")
    first = first_frames[
        ~first_frames["clip"].isin(clips_with_phases)
        | ((first_frames["phase"] == "apex") & first_frames["clip"].isin(ended))
    ]
    return dict(
        zip([*first["clip"], *marked["clip"]], [*first["row"], *marked["row"]], strict=True)
    )


def find_clips_without_onset(index: pd.DataFrame) -> set[str]:
    """Return the clips whose onset frame is unknown."""
    return set(index["clip"]) - {""} - set(find_onsets(index))


def _locate(
    moments: np.ndarray, numbers: np.ndarray, rows: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows before and after each moment, and how far it is on the way between them."""
    rows = np.asarray(rows)
    after = np.searchsorted(numbers, moments, side="left").clip(0, len(numbers) - 1)
    exact = np.isclose(numbers[after], moments)
    before = np.where(exact, after, (after - 1).clip(0))
    span = numbers[after] - numbers[before]
    weight = np.where(span > 0, (moments - numbers[before]) / np.where(span > 0, span, 1), 0.0)
    return rows[before], rows[after], weight
