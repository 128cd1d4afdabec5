"""The toy dataset: drawn faces of no real person, in the layout of CASME II.

Action units are those of the Facial Action Coding System (Ekman & Friesen 1978); labels, names and
known flaws follow the CASME II release (Yan et al. 2014). The pictures are in the public domain
(CC0): they show no real person.
"""

import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import openpyxl

from mien import seeds
from mien.errors import UsageError
from mien.ingest.toy.head import Array, DrawnHead, Number, Pose, apply_pose, invent_identity
from mien.pages.workbooks import pack_workbook

# The 255 rows of CASME2-coding-20140508.xlsx.
CLASS_COUNTS = {
    "others": 99,
    "disgust": 63,
    "happiness": 32,
    "repression": 27,
    "surprise": 25,
    "sadness": 7,
    "fear": 2,
}

BALANCES = ("casme2", "even")

# Clips per subject, long-tailed as in CASME II: subject 17 has most, some have only one or two.
# After 26 subjects the weights repeat.
_SUBJECT_WEIGHTS = (
    9,
    13,
    7,
    5,
    19,
    5,
    9,
    2,
    13,
    2,
    10,
    12,
    8,
    4,
    3,
    4,
    36,
    3,
    15,
    11,
    1,
    2,
    12,
    11,
    7,
    17,
)

# Action units by emotion, with the weight of each choice; a side (L, R) is the subject's own.
ACTION_UNIT_WEIGHTS: dict[str, dict[str, int]] = {
    "happiness": {"12": 3, "6+12": 5, "6+7+12": 1, "L12": 1, "R12": 1},
    "disgust": {"9": 2, "10": 2, "4+9": 3, "4+7+9": 2, "4+10": 1, "4+L10": 1, "4+7": 3},
    "surprise": {"1+2": 4, "1+2+5": 3, "1+2+25": 3, "1+2+5+25+26": 2, "25": 1, "2": 1},
    "repression": {"15": 3, "17": 3, "15+17": 4},
    "sadness": {"1+4": 2, "1+4+15": 3, "1+4+15+17": 1},
    "fear": {"1+2+4+5+20": 3, "1+2+4+5+20+25": 2, "1+2+4+5": 1},
    "others": {"4": 5, "14": 3, "L14": 2, "R14": 2, "4+14": 2, "4+R14": 1},
}

_VERSION = 1  # raised by hand when the drawing changes: an older folder is then not continued

_SHEET = "CASME2-coding-20140508.xlsx"

_KEY_POSE_COUNT = 12  # a clip blends neighbours among this many exact drawings from neutral to apex


@dataclass(frozen=True)
class ToyCounts:
    """The contents of a toy folder."""

    subjects: int
    clips: int
    images: int


@dataclass(frozen=True)
class ToyClip:
    """One clip to draw, with its row of the sheet; frame numbers are those of the sheet and of the
    files.
    """

    subject: int  # from 1
    name: str  # EP02_01f
    onset: int
    apex: int  # the true peak of the drawn movement
    offset: int
    last: int  # the last file that exists; less than `offset` in the clip with that planted flaw
    sheet_apex: int | str  # the sheet's value: the apex, or the planted flaws "/" and the onset
    action_units: str
    emotion: str
    window: int | None = None  # only so many frames on either side of the apex are drawn

    @property
    def drawn(self) -> range:
        """Return the numbers of the frames that are drawn, each as a file."""
        if self.window is None:
            return range(self.onset, self.last + 1)
        first = max(self.onset, self.apex - self.window)
        return range(first, min(self.last, self.apex + self.window) + 1)

    @property
    def sheet_frames(self) -> tuple[int, int | str, int]:
        """Return the sheet's onset, apex and offset; those of a cut clip are its first and last."""
        if self.window is None:
            return self.onset, self.sheet_apex, self.offset
        first, last = self.drawn[0], self.drawn[-1]
        return first, first if self.sheet_apex == self.onset else self.sheet_apex, last

    @property
    def folder(self) -> str:
        """Return the clip's folder below Cropped."""
        return f"sub{self.subject:02d}/{self.name}"

    @property
    def files(self) -> list[str]:
        """Return the names of the clip's image files, in the order of time."""
        return [f"reg_img{number}.jpg" for number in self.drawn]


def plan_clips(subjects: int, clips: int, seed: int, balance: str) -> list[ToyClip]:
    """Return the clips of a toy set in the sheet's order, before anything is drawn.

    Raises UsageError unless `subjects` >= 1, `clips` >= `subjects` and `balance` is "casme2" or
    "even".
    """
    # Distribute the clips over subjects and, independently, over emotions.
    _check_arguments(subjects, clips, balance)
    weights = [_SUBJECT_WEIGHTS[number % len(_SUBJECT_WEIGHTS)] for number in range(subjects)]
    shares = _apportion(weights, clips, least=1)
    class_weights = [1] * len(CLASS_COUNTS) if balance == "even" else list(CLASS_COUNTS.values())
    counts = _apportion(class_weights, clips, least=1 if clips >= len(CLASS_COUNTS) else 0)
    emotions = [
        emotion for emotion, count in zip(CLASS_COUNTS, counts, strict=True) for _ in range(count)
    ]
    order = _make_rng("labels", seed, subjects, clips).permutation(clips)
    emotions = [emotions[index] for index in order]

    planned: list[ToyClip] = []
    for subject, share in enumerate(shares, start=1):
        for name in _draw_names(subject, share, seed):
            planned.append(_plan_clip(subject, name, emotions[len(planned)], seed))

    # Subject 4 has the clip without an apex; a smaller set needs one too.
    if subjects < 4 and clips > 1:
        planned[-1] = ToyClip(**{**vars(planned[-1]), "sheet_apex": "/"})
    return planned


def draw(
    root: Path,
    subjects: int = 26,
    clips: int = 255,
    seed: int = 0,
    workers: int | None = None,
    balance: str = "casme2",
    progress: Callable[[int, int], None] | None = None,
    window: int | None = None,
) -> ToyCounts:
    """Write a toy dataset below `root` in CASME II's layout, flaws included, and return its
    counts.

    With a `window`, each clip has only the apex and up to so many frames on either side of it,
    the same pictures as in the whole clip; the sheet calls the first and the last of them onset
    and offset.

    The same arguments give the same bytes, whatever the number of `workers` (processes; None
    is one per core). A folder that an interrupted call with the same arguments has left is
    continued; any other folder that is not empty raises UsageError. `progress` is called with
    (clips done, clips in all). Processes are spawned, so a script that calls this with more than
    one worker needs the usual `if __name__ == "__main__"`.
    """
    # Claim the folder before any work is done.
    planned = plan_clips(subjects, clips, seed, balance)
    if window is not None and window < 0:
        raise UsageError(f"window must be 0 or more, not {window}; omit it to draw whole clips.")
    if window is not None:
        planned = [replace(clip, window=window) for clip in planned]
    root = Path(root)
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be 1 or more, not {workers}; omit it to use every core.")
    _claim_folder(root, _write_readme_text(subjects, clips, seed, balance, window))

    # Draw the clips that an interrupted call has not finished.
    missing = [clip for clip in planned if not _is_complete(root, clip)]
    drawn_count = len(planned) - len(missing)
    if progress is not None:
        progress(drawn_count, len(planned))
    for _ in _draw_all(root, missing, seed, min(workers or os.cpu_count() or 1, len(missing))):
        drawn_count += 1
        if progress is not None:
            progress(drawn_count, len(planned))

    # A foreign file, as in the release: readers must pass over it.
    _write(root / "Cropped/sub01/Desktop - Shortcut.lnk", b"L\0\0\0\x01\x14\x02\0")
    _write(root / _SHEET, _make_workbook(planned))
    return ToyCounts(
        subjects=subjects, clips=len(planned), images=sum(len(clip.files) for clip in planned)
    )


# Planning


def _check_arguments(subjects: int, clips: int, balance: str) -> None:
    if subjects < 1:
        raise UsageError(
            f"subjects must be 1 or more, not {subjects}; give the number of people to draw."
        )
    if clips > 100_000:
        raise UsageError(
            f"clips must be at most 100,000, not {clips}: each takes about 70 images on the disk."
        )
    if clips < subjects:
        raise UsageError(
            f"clips must be at least the number of subjects ({subjects}), not {clips}; request "
            "more clips or fewer subjects."
        )
    if balance not in BALANCES:
        raise UsageError(f"balance must be one of {', '.join(BALANCES)}, not '{balance}'.")


def _make_rng(*names: str | int) -> np.random.Generator:
    return seeds.make_rng("toy", *names)


def _apportion(weights: list[int], total: int, least: int) -> list[int]:
    """Return shares of `total` in proportion to `weights`, by largest remainder, each at least
    `least`.
    """
    exact = np.array(weights, dtype=float) * total / sum(weights)
    counts = np.floor(exact).astype(int)
    for index in np.argsort(-(exact - counts), kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    while counts.min() < least:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return [int(count) for count in counts]


# The clips that have known flaws in the real sheet.
_FLAWED_CLIPS = {1: "EP02_01f", 4: "EP12_01f", 5: "EP09_05f", 16: "EP01_08"}


def _draw_names(subject: int, number: int, seed: int) -> list[str]:
    """Return `number` distinct clip names of a subject, sorted."""
    rng = _make_rng("names", seed, subject)
    chosen = {_FLAWED_CLIPS[subject]} if subject in _FLAWED_CLIPS else set()
    stems = {name[:7] for name in chosen}
    while len(chosen) < number:
        stem = f"EP{rng.integers(1, 20):02d}_{rng.integers(1, 10 + number // 10):02d}"
        if stem not in stems:
            stems.add(stem)
            chosen.add(stem + ("f" if rng.random() < 0.5 else ""))
    return sorted(chosen)


def _plan_clip(subject: int, name: str, emotion: str, seed: int) -> ToyClip:
    # The action units, and the length of the clip (at 200 frames per second).
    rng = _make_rng("clip", seed, subject, name)
    choices = ACTION_UNIT_WEIGHTS[emotion]
    weights = np.array(list(choices.values()), dtype=float)
    units = str(rng.choice(list(choices), p=weights / weights.sum()))
    frames = int(np.clip(round(66 * math.exp(0.27 * rng.standard_normal())), 31, 126))
    onset = int(rng.integers(2, 320))
    offset = onset + frames - 1

    # The flaws of the real sheet are planted in the clips that have them.
    clip_id = (subject, name)
    if clip_id == (1, "EP02_01f"):
        onset, offset = 46, 45 + frames
    elif clip_id == (4, "EP12_01f"):
        onset, offset = 261, 321
    elif clip_id == (16, "EP01_08"):
        onset, offset = 73, 110
    apex = onset + round((offset - onset) * float(rng.uniform(0.33, 0.5)))
    sheet_apex: int | str = {(4, "EP12_01f"): "/", (5, "EP09_05f"): onset}.get(clip_id, apex)
    last = 96 if clip_id == (16, "EP01_08") else offset
    return ToyClip(subject, name, onset, apex, offset, last, sheet_apex, units, emotion)


# Files


def _write_readme_text(
    subjects: int, clips: int, seed: int, balance: str, window: int | None = None
) -> str:
    cut = "" if window is None else f", window {window}"
    return (
        "Drawn faces of nobody, made by mien (mien.ingest.toy) in the layout of CASME II.\n"
        "They show no person and are dedicated to the public domain (CC0 1.0).\n"
        "The action units are drawn large: this is for trying things, not for measuring people.\n\n"
        f"subjects {subjects}, clips {clips}, seed {seed}, balance {balance}{cut}, "
        f"drawing {_VERSION}\n"
    )


def _claim_folder(root: Path, readme: str) -> None:
    """Claim the folder: it must be new, empty, or a toy set with the same arguments."""
    path = root / "readme.txt"
    if root.exists() and not root.is_dir():
        raise UsageError(f"The toy set needs a folder, but {root} is a file; name another folder.")
    if root.is_dir() and any(root.iterdir()):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        if text != readme:
            contents = (
                text.splitlines()[-1] if text and text.startswith("Drawn faces") else "other files"
            )
            raise UsageError(
                "The toy set needs an empty folder or one begun with the same arguments "
                f"({readme.splitlines()[-1]}), but {root} holds {contents}; name another folder, "
                "or remove this one."
            )
    (root / "Cropped").mkdir(parents=True, exist_ok=True)
    _write(path, readme.encode())


def _is_complete(root: Path, clip: ToyClip) -> bool:
    folder = root / "Cropped" / clip.folder
    return folder.is_dir() and {path.name for path in folder.iterdir()} >= set(clip.files)


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _make_workbook(clips: list[ToyClip]) -> bytes:
    """Return the sheet as the bytes of an xlsx file that does not contain the time of writing."""
    # The columns of the release, with its two empty ones.
    book = openpyxl.Workbook()
    page = book.worksheets[0]
    page.title = "Sheet1"
    head = (
        "Subject",
        "Filename",
        None,
        "OnsetFrame",
        "ApexFrame",
        "OffsetFrame",
        None,
        "Action Units",
    )
    page.append([*head, "Estimated Emotion"])
    for clip in clips:
        subject = f"{clip.subject:02d}"
        facts = (clip.action_units, clip.emotion)
        page.append([subject, clip.name, None, *clip.sheet_frames, None, *facts])
    return pack_workbook(book, datetime(2014, 5, 8))


def _draw_all(root: Path, clips: list[ToyClip], seed: int, workers: int) -> Iterable[None]:
    if workers <= 1:
        for clip in clips:
            yield _draw_clip(root, clip, seed)
        return
    with ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _limit_to_one_thread
    ) as pool:
        # The longest first, so that no core idles at the end.
        ordered = sorted(clips, key=lambda clip: clip.onset - clip.last)
        jobs = [pool.submit(_draw_clip, root, clip, seed) for clip in ordered]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


def _limit_to_one_thread() -> None:
    cv2.setNumThreads(1)


def _draw_clip(root: Path, clip: ToyClip, seed: int) -> None:
    """Draw one clip into a hidden folder, and move it into place when it is complete."""
    temporary = root / f".tmp-sub{clip.subject:02d}-{clip.name}"
    final = root / "Cropped" / clip.folder
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, image in zip(clip.files, _draw_frames(clip, seed), strict=True):
        encoded, content = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not encoded:
            raise RuntimeError(f"OpenCV could not encode {name} of {clip.folder}")
        (temporary / name).write_bytes(content.tobytes())
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(final, ignore_errors=True)
    temporary.replace(final)


# Time


def make_intensity_curve(clip: ToyClip, rng: np.random.Generator) -> Array:
    """Return the intensity of the movement, 0..1 per frame from onset to offset: a smooth rise, a
    short hold, a slower fall.
    """
    hold = float(rng.uniform(1, 4))
    remainder = float(rng.uniform(0, 0.06))  # the intensity at the offset
    time = np.arange(clip.onset, clip.offset + 1, dtype=float)
    rise = np.clip((time - clip.onset) / max(clip.apex - hold - clip.onset, 1), 0, 1)
    fall = np.clip((clip.offset - time) / max(clip.offset - clip.apex - hold, 1), 0, 1)
    ease_out = remainder + (1 - remainder) * (fall * fall * (3 - 2 * fall))
    return (rise * rise * (3 - 2 * rise)) * ease_out


def _draw_drift(frames: int, size: Number, rng: np.random.Generator) -> Array:
    """Return a slow drift of about `size`, one value per frame: the sum of two slow waves."""
    time = np.arange(frames) / 200.0  # seconds
    waves = [
        size
        * rng.normal()
        * np.sin(2 * np.pi * rng.uniform(0.4, 2.0) * time + rng.uniform(0, 6.28))
        for _ in "ab"
    ]
    return waves[0] + waves[1] / 2


def _draw_frames(clip: ToyClip, seed: int) -> Iterable[Array]:
    """Yield the clip's pictures, uint8 [h, w, 3], one for each of its files."""
    # The course of the expression: a position among the key poses for each frame.
    rng = _make_rng("frames", seed, clip.subject, clip.name)
    size = (int(rng.integers(326, 355)), int(rng.integers(266, 295)))
    peak = float(rng.uniform(0.75, 1.0))
    units = {unit: peak * float(rng.uniform(0.88, 1.0)) for unit in clip.action_units.split("+")}
    course = make_intensity_curve(clip, rng) * (_KEY_POSE_COUNT - 1)
    frames = len(course)

    # The head's pose in this clip (x, y, angle, scale), and its slow drift.
    home = rng.normal(0, (1.0, 1.0, 0.5, 0.004))
    drift = np.stack([_draw_drift(frames, size, rng) for size in (0.4, 0.4, 0.1, 0.0006)], axis=1)
    head = DrawnHead(invent_identity(seed, clip.subject), size)

    # One tile of sensor noise, cut at a different position for each frame: it looks the same as
    # independent noise, and is much faster.
    tile = np.round(
        rng.normal(0, 1.7, (size[0] + 64, size[1] + 64, 1))
        + rng.normal(0, 0.6, (size[0] + 64, size[1] + 64, 3))
    )
    tile = tile.astype(np.int16)
    shifts = rng.integers(0, 64, (frames, 2))

    # Blend the two nearest key poses; each is drawn once, when it is first needed.
    keys: dict[int, Array] = {}
    for frame in (number - clip.onset for number in clip.drawn):
        below = min(int(course[frame]), _KEY_POSE_COUNT - 2)
        weight = float(course[frame]) - below
        weights = {below: 1 - weight, below + 1: weight}
        for key in (key for key in weights if weights[key] and key not in keys):
            strength = key / (_KEY_POSE_COUNT - 1)
            keys[key] = head.draw({unit: value * strength for unit, value in units.items()})
        drawn_keys = [key for key in weights if weights[key]]
        blended = keys[drawn_keys[0]]
        if len(drawn_keys) > 1:
            blended = cv2.addWeighted(
                keys[below], weights[below], keys[below + 1], weights[below + 1], 0
            )
        x, y, angle, scale = home + drift[frame]
        image = apply_pose(blended, Pose(float(x), float(y), float(angle), 1 + float(scale)), size)
        down, right = shifts[frame]
        yield cv2.add(image, tile[down : down + size[0], right : right + size[1]], dtype=cv2.CV_8U)
