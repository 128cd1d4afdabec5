"""Movement of clips: measured, put on other faces, exchanged or removed.

A clip with pasted movement is the cheap alternative to a generator of movement: it shows a real
movement on another face. Clips with exchanged movement, or with none, are what an audit and a study
must tell from real clips.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from mien import seeds
from mien.errors import DataError
from mien.faces import EMOTIONS, Faces, make_index
from mien.prepare.flow import compute_flow, warp_image
from mien.strips import split_channel

MEAN_FRAMES = 2  # frames on either side of the apex, and after the onset, that are averaged

MIN_TIMED_FRAMES = 8  # with fewer, frames were chosen, and do not follow each other in time

MOVED_SHARE = 0.5  # of the pixels, which move less than the others: the still ones

MIN_CHANGE = 1e-6  # grey levels squared below which a clip does not move

PERSON_CLIPS = 2  # clips of each class that a made-up person shows

Change = Literal["pasted", "shuffled", "still"]

CHANGES: tuple[Change, ...] = ("pasted", "shuffled", "still")
"""What the clips of `make_control_clips` show: the movement of a real clip of their class, that of
another class, or none.
"""


@dataclass(frozen=True)
class Clip:
    """The frames of one expression, in order of time: uint8 [t, h, w], from onset to offset.

    `apex` is the position of the apex among them. `is_timed` says that the frames follow each other
    in time; moments that were chosen for each clip, such as onset and apex, do not.
    """

    name: str
    subject: str
    emotion: str
    action_units: str
    frames: UInt8[np.ndarray, "t h w"]
    apex: int
    is_timed: bool
    row: int  # of the apex in the index

    @property
    def onset_mean(self) -> Float[np.ndarray, "h w"]:
        """The mean of the first frames, which has less noise than the onset."""
        last = min(MEAN_FRAMES, self.apex // 4) if self.is_timed else 0
        return self.frames[: last + 1].mean(axis=0, dtype=np.float32)

    @property
    def apex_mean(self) -> Float[np.ndarray, "h w"]:
        """The mean of the frames around the apex."""
        near = min(MEAN_FRAMES, self.apex // 4) if self.is_timed else 0
        return self.frames[self.apex - near : self.apex + near + 1].mean(axis=0, dtype=np.float32)


def iterate_clips(faces: Faces) -> Iterator[Clip]:
    """Yield each clip with an onset and a later apex: rows of frames, or rows of moments.

    Frames are in the order of their numbers; without a marked onset or offset it is the first or
    last one. Of a row that shows several moments, the grey channels are the frames; its apex is the
    moment `apex`, or the middle one. One clip is in memory at a time.
    """
    if faces.moments:
        yield from _iterate_rows(faces)
        return

    # Frames, clip by clip in the order of names
    index = faces.index.assign(row=np.arange(len(faces)))
    index = index[(index["clip"] != "") & (index["frame"] >= 0)].sort_values(["clip", "frame"])
    for name, frames in index.groupby("clip", sort=True):
        phases, rows = frames["phase"].to_numpy(dtype=object), frames["row"].to_numpy()
        marked = {phase: np.flatnonzero(phases == phase) for phase in ("onset", "apex", "offset")}
        if not len(marked["apex"]):
            continue
        first = int(marked["onset"][0]) if len(marked["onset"]) else 0
        apex = int(marked["apex"][0])
        last = int(marked["offset"][-1]) if len(marked["offset"]) else len(rows) - 1
        if not first < apex <= last:
            continue

        # What the index says of its apex
        facts = frames.iloc[apex]
        yield Clip(
            name=str(name),
            subject=str(facts["subject"]) or str(name),
            emotion=str(facts["emotion"]),
            action_units=str(facts["action_units"]),
            frames=_read_grey(faces, rows[first : last + 1]),
            apex=apex - first,
            is_timed=last - first + 1 >= MIN_TIMED_FRAMES,
            row=int(rows[apex]),
        )


def _iterate_rows(faces: Faces) -> Iterator[Clip]:
    """Yield a clip for each row, whose grey channels are its frames."""
    shown = [split_channel(name) for name in faces.channels]
    grey = [place for place, (input_name, _) in enumerate(shown) if input_name == "gray"]
    moments = [shown[place][1] for place in grey]
    if len(grey) < 2:
        return
    apex = moments.index("apex") if "apex" in moments else len(moments) // 2
    facts = faces.index[["key", "subject", "clip", "emotion", "action_units"]].to_dict("records")
    for row, fact in enumerate(facts):
        name = str(fact["clip"]) or str(fact["key"])
        yield Clip(
            name=name,
            subject=str(fact["subject"]) or name,
            emotion=str(fact["emotion"]),
            action_units=str(fact["action_units"]),
            frames=np.asarray(faces.images[row][grey]),
            apex=apex,
            is_timed=False,
            row=row,
        )


def _read_grey(faces: Faces, rows: np.ndarray) -> UInt8[np.ndarray, "t h w"]:
    """Return rows as grey frames; of colours, the mean of the channels."""
    frames = np.asarray(faces.images[rows])
    return frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1).astype(np.uint8)


# Measuring


def measure_flow(clip: Clip) -> Float[np.ndarray, "2 h w"]:
    """Return how far each point of the face moves from the onset to the apex, in pixels.

    The movement of the whole face, which is the median over all pixels, is taken off.
    """
    onset, apex = (image.round().astype(np.uint8) for image in (clip.onset_mean, clip.apex_mean))
    flow = compute_flow(onset, apex)
    return flow - np.median(flow, axis=(1, 2), keepdims=True)


def measure_course(clip: Clip) -> Float[np.ndarray, " t"]:
    """Return how much of the change from onset to apex each frame of a clip shows."""
    return compute_course(clip.frames, clip.onset_mean, clip.apex_mean)


def compute_course(
    frames: UInt8[np.ndarray, "t h w"],
    onset: Float[np.ndarray, "h w"],
    apex: Float[np.ndarray, "h w"],
) -> Float[np.ndarray, " t"]:
    """Return how much of the change from onset to apex each frame shows: about 0 to 1, and back.

    It is the least-squares share of the change from onset to apex in the change from the onset to
    the frame. Frames between an onset and an apex that do not differ have zeros.
    """
    change = (apex - onset).ravel()
    power = float(change @ change)
    if power <= MIN_CHANGE * len(change):
        return np.zeros(len(frames), dtype=np.float32)
    differences = frames.reshape(len(frames), -1).astype(np.float32) - onset.ravel()
    return (differences @ change / power).astype(np.float32)


def find_still_pixels(clip: Clip) -> np.ndarray:
    """Return a mask [h, w] of the half of the pixels that change least from onset to apex."""
    change = np.abs(clip.apex_mean - clip.onset_mean)
    return change <= np.quantile(change, MOVED_SHARE)


def measure_noise(clip: Clip) -> float:
    """Return the standard deviation of a pixel's noise, in grey levels, where nothing moves.

    It is estimated from the differences of neighbouring frames, which have twice its variance.
    """
    still = find_still_pixels(clip)
    differences = np.diff(clip.frames[:, still].astype(np.float32), axis=0)
    return float(np.sqrt((differences**2).mean() / 2)) if len(differences) else 0.0


# Making


def make_control_clips(
    donors: Faces,
    counts: Mapping[str, int],
    seed: int,
    source: str,
    change: Change = "pasted",
    neutral: UInt8[np.ndarray, "m h w"] | None = None,
    name: str = "control",
) -> Faces:
    """Return clips of real movements on other faces, or controls of them, as frames.

    `donors` hold real clips; `counts` has the number of clips of each class. With the change
    "pasted", each clip shows the movement of a real clip of its class, with "shuffled" that of
    another class, and with "still" no movement. The face is one of `neutral`, or else the onset of
    a clip of another subject. Two clips of each class show one made-up person. Each frame has
    sensor noise of its own, as strong as in the donor's clip. Clip k of a class depends on the
    seed, not on the counts.

    Raises DataError if there are no donors of a class, or of only one subject.
    """
    # Donors by class, and faces
    clips = list(iterate_clips(donors))
    by_class = {emotion: [c for c in clips if c.emotion == emotion] for emotion in EMOTIONS}
    lacking = [emotion for emotion, count in counts.items() if count and not by_class.get(emotion)]
    subjects, classes = ({getattr(c, unit) for c in clips} for unit in ("subject", "emotion"))
    if lacking or len(subjects) < 2 or (change == "shuffled" and len(classes) < 2):
        missing = f"; they lack {', '.join(lacking)}" if lacking else ""
        raise DataError(
            "movements must come from clips of two or more subjects, with every class that is "
            f"asked for, and of two classes to be shuffled; given: {len(clips)} clips with an "
            f"apex, of {len(subjects)} subjects and {len(classes)} classes{missing}"
        )

    # Each clip: a person's face, and the movement of somebody else
    frames: list[UInt8[np.ndarray, "t h w"]] = []
    tables: list[pd.DataFrame] = []
    for emotion in EMOTIONS:
        for number in range(counts.get(emotion, 0)):
            rng = seeds.make_rng("control clips", change, seed, emotion, number)
            person = number // PERSON_CLIPS
            owner, face = _choose_face(clips, neutral, seed, person)
            others = [clip for clip in clips if clip.subject != owner]
            own = [clip for clip in others if clip.emotion == emotion] or by_class[emotion]
            labelled = own[int(rng.integers(len(own)))]
            foreign = [clip for clip in others if clip.emotion != emotion]
            donor = labelled
            if change == "shuffled":
                donor = foreign[int(rng.integers(len(foreign)))]
            frames.append(paste_movement(donor, face, rng, moves=change != "still"))
            subject = f"{name}:p{person:04d}"
            clip_name = f"{subject}/{emotion}-{number:05d}"
            facts = {"emotion": emotion, "raw_label": emotion, "seed": number}
            facts |= {"clip": clip_name, "subject": subject, "action_units": labelled.action_units}
            tables.append(_describe_frames(donor, facts))

    # One set of frames
    images = np.concatenate(frames)[:, None]
    table = pd.concat(tables, ignore_index=True)
    columns = {str(column): list(table[column]) for column in table}
    licence = " and ".join(sorted(set(donors.index["licence"])))
    index = make_index(images, dataset="synthetic", source=source, licence=licence, **columns)
    seen = donors.index[["key", "subject", "clip", "dataset"]].reset_index(drop=True)
    return Faces(images, index, seen)


def paste_movement(
    donor: Clip, face: Float[np.ndarray, "h w"], rng: np.random.Generator, moves: bool = True
) -> UInt8[np.ndarray, "t h w"]:
    """Return the frames of a clip that moves `face` as `donor` moves, by warping along its flow.

    The flow from onset to apex is scaled by the donor's course over time. `face` has grey levels
    from 0 to 255. Each frame has noise of its own, as strong as the donor's.
    """
    onset, apex = (image.round().astype(np.uint8) for image in (donor.onset_mean, donor.apex_mean))
    back = compute_flow(apex, onset)  # where the points of the apex were at the onset
    course = smooth_course(measure_course(donor)) if moves else np.zeros(len(donor.frames))
    noise = find_added_noise(measure_noise(donor))
    frames = np.empty(donor.frames.shape, dtype=np.uint8)
    for place, share in enumerate(course.tolist()):
        frame = warp_image(face.astype(np.float32), np.float32(share) * back)
        frame = frame + noise * rng.standard_normal(frame.shape)
        frames[place] = frame.round().clip(0, 255)
    return frames


def find_added_noise(measured: float) -> float:
    """Return the noise that, after rounding to bytes, is measured as `measured` between frames.

    Both are standard deviations in grey levels. Rounding hides weak noise of a pixel whose value is
    near a whole number and strengthens that of others, so the answer is found on a table of drawn
    values.
    """
    rng = seeds.make_rng("rounded noise")
    values = rng.uniform(0, 1, 4096)
    first, second = rng.standard_normal((2, 4096))
    added = np.linspace(0, 4, 81)
    found = [
        np.sqrt((((values + sd * first).round() - (values + sd * second).round()) ** 2).mean() / 2)
        for sd in added
    ]
    if measured >= found[-1]:
        return measured
    return float(np.interp(measured, np.maximum.accumulate(found), added))


def smooth_course(course: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    """Return the means of a course over five frames, with noise of a fifth of the variance."""
    width = min(5, len(course) - 1 + len(course) % 2)
    if width < 3:
        return course
    padded = np.pad(course, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")[: len(course)]


def _choose_face(
    clips: Sequence[Clip], neutral: UInt8[np.ndarray, "m h w"] | None, seed: int, person: int
) -> tuple[str, Float[np.ndarray, "h w"]]:
    """Return the face of a made-up person, and the subject whose it is; empty for `neutral`."""
    rng = seeds.make_rng("faces of control clips", seed, person)
    if neutral is not None:
        return "", neutral[int(rng.integers(len(neutral)))].astype(np.float32)
    clip = clips[int(rng.integers(len(clips)))]
    return clip.subject, clip.onset_mean


def _describe_frames(donor: Clip, facts: Mapping[str, str | int]) -> pd.DataFrame:
    """Return the columns of the index for the frames of a clip, which are counted from 1."""
    count = len(donor.frames)
    phases = np.full(count, "rise", dtype=object)
    phases[donor.apex :] = "fall"
    phases[[0, -1]] = ["onset", "offset"]
    phases[donor.apex] = "apex"
    numbers = range(1, count + 1)
    keys = [f"{facts['clip']}/{number:04d}" for number in numbers]
    return pd.DataFrame({"key": keys, "frame": numbers, "phase": phases, **facts})
