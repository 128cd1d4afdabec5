"""Databases of clips: which clips are drawn, and their frames with a table."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64, UInt8

from mien.faces import Faces, make_index
from mien.generators.clips.drift import draw_drift
from mien.generators.clips.rendering import place_in_moments, render_frames
from mien.generators.clips.seeds import draw_intensities
from mien.generators.clips.timing import MovingGenerator, draw_course
from mien.generators.specs import PER_PERSON, GenerateSpec
from mien.pages.sheets import draw_class_sheet, write_moving_sheets
from mien.prepare.movement import find_added_noise
from mien.prepare.preprocess import preprocess
from mien.prepare.specs import PreprocessSpec
from mien.runs import progress, stopping
from mien.runs.store import RunSummary

CLIPS_FILE = "clips.csv"

# On the sheets: clips of each class, and the moments of a strip and of an animated picture
SHOWN_CLIPS, STRIP_MOMENTS, MOVING_MOMENTS = 6, 8, 16


def assemble_clips(
    generator: MovingGenerator,
    moments: UInt8[np.ndarray, "n k h w"],
    index: Sequence[tuple[str, str]],
    how: GenerateSpec,
    numbers: Int64[np.ndarray, " n"],
    units: Sequence[str],
    scratch: Path,
) -> tuple[Faces, pd.DataFrame]:
    """Return the frames of clips as faces, and a table with a row for each clip.

    `moments` are what the generator drew for each clip: onset and apex, or several moments;
    `numbers` are the seeds, and `units` the action units. Frames
    are written to a file in `scratch` as they are rendered, and mapped into memory at the end. The
    columns of the table: clip, subject, emotion, action_units, intensity, seed, fps, and the
    numbers of the frames onset, apex and offset, from 1.
    """
    # How long each clip is, and whom it shows
    assert how.fps is not None
    each, run_name = how.per_person or PER_PERSON, how.name
    courses = [draw_course(generator.timing, int(number), how.fps) for number in numbers]
    positions = [int(key.rpartition("/")[2]) for key, _ in index]
    subjects = [f"{run_name}:p{position // each:04d}" for position in positions]
    names = [
        f"{subject}/{emotion}-{position:05d}"
        for subject, (_, emotion), position in zip(subjects, index, positions, strict=True)
    ]
    lengths = np.array([len(course.positions) for course in courses], dtype=np.int64)

    # The frames, clip by clip
    noise = find_added_noise(generator.timing.noise)
    path, shape = scratch / "frames.npy", (int(lengths.sum()), 1, *generator.size[1:])
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with (
        path.open("wb") as file,
        progress.track("rendering clips", len(moments)) as tracker,
        stopping.defer_signals(),
    ):
        np.lib.format.write_array_header_1_0(file, head)
        for row, (clip, course) in enumerate(zip(moments, courses, strict=True)):
            places = place_in_moments(course, len(clip))
            number = int(numbers[row])
            poses = draw_drift(generator.timing.drift, number, len(places), how.fps)
            frames = render_frames(np.asarray(clip), places, noise, number, poses)
            file.write(np.ascontiguousarray(frames).data)
            tracker.update(row + 1)
            stopping.raise_if_asked()
    images = np.load(path, mmap_mode="r", allow_pickle=False)

    # A row for each frame, and one for each clip
    owner = np.repeat(np.arange(len(courses)), lengths).tolist()
    frame = np.concatenate([np.arange(1, length + 1) for length in lengths])
    emotions = [index[row][1] for row in owner]
    table = make_index(
        images,
        key=[f"{index[row][0]}/{number:04d}" for row, number in zip(owner, frame, strict=True)],
        dataset="synthetic",
        subject=[subjects[row] for row in owner],
        clip=[names[row] for row in owner],
        frame=frame.tolist(),
        phase=[phase for course in courses for phase in course.phases],
        emotion=emotions,
        raw_label=emotions,
        action_units=[units[row] for row in owner],
        source=run_name,
        seed=numbers[owner].tolist(),
        licence=generator.licence,
    )
    clips = pd.DataFrame(
        {
            "clip": names,
            "subject": subjects,
            "emotion": [emotion for _, emotion in index],
            "action_units": list(units),
            "intensity": draw_intensities(numbers, how).round(4),
            "seed": numbers,
            "fps": how.fps,
            "onset": 1,
            "apex": [course.apex + 1 for course in courses],
            "offset": lengths,
        }
    )
    return Faces(images, table, generator.seen), clips


def write_clips(faces: Faces, clips: pd.DataFrame, out: Path) -> RunSummary:
    """Write a database of clips: its frames, clips.csv, sheet.png, and motion-EMOTION.webp.

    Return the summary of its run.
    """
    faces.save(out)
    clips.to_csv(out / CLIPS_FILE, index=False)
    shown = clips.groupby("emotion", sort=False).head(SHOWN_CLIPS)["clip"]
    few = faces.select(faces.index["clip"].isin(set(shown)).to_numpy())
    strips, moving = (
        preprocess(few, PreprocessSpec(faces=clips["clip"].iloc[0], clips=moments))
        for moments in (STRIP_MOMENTS, MOVING_MOMENTS)
    )
    draw_class_sheet(strips).save(out / "sheet.png")
    write_moving_sheets(moving, out)
    count = progress.quantify(len(clips), "synthetic clip")
    return {
        "holds": f"{count} of {progress.quantify(len(faces), 'frame')}",
        "counts": faces.count_images().to_dict("records"),
    }
