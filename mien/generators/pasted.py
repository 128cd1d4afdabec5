"""Pasted: real movements on the faces of other training people.

It is the cheap alternative to a generator of movement, and learns nothing: the onset of one
training clip is warped along the optical flow of another. For comparison, it pastes movements of
other classes than the one that is asked for.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64, UInt8

from mien import seeds
from mien.errors import DataError
from mien.faces import Faces
from mien.generators.base import (
    describe_origins,
    make_empty_losses,
    read_generator,
    write_generator,
)
from mien.generators.clips.pairs import collect_pairs, list_clips
from mien.generators.clips.seeds import draw_intensities, find_person_seeds
from mien.generators.clips.timing import MotionTiming, MovingGenerator, fit_timing
from mien.generators.specs import PastedSpec, SamplerSpec
from mien.prepare.clips import PAIR, name_moments
from mien.prepare.flow import compute_flow, warp_image
from mien.runs.progress import quantify
from mien.runs.store import Run


@dataclass(frozen=True)
class Pasted(MovingGenerator):
    """Onset and apex of n training clips, in bytes, with the label and the subject of each.

    A label is a position in EMOTIONS.
    """

    spec: PastedSpec
    pairs: UInt8[np.ndarray, "n 2 h w"]
    labels: Int64[np.ndarray, " n"]
    subjects: tuple[str, ...]


def fit(
    faces: Faces, spec: PastedSpec, scratch: Path, device: str = "auto", label: str = "training"
) -> Pasted:
    """Return the generator that keeps the movements of `faces`, grey frames of whole clips.

    Raises DataError if they do not have clips with onset and apex of two subjects, and of two
    classes where movements of other classes are pasted.
    """
    # Movements of other people, and of other classes if they are asked for; what is pasted is all
    # that moved from onset to apex, so the head of the real clip has drifted already
    pairs = collect_pairs(faces, spec.fps, spec.faces)
    timing = replace(fit_timing(list(list_clips(faces)), pairs, spec.fps), drift=None)
    shown, subjects = pairs.show(), tuple(str(name) for name in pairs.index["subject"])
    if len(set(subjects)) < 2 or (spec.of == "other" and len(shown.classes) < 2):
        raise DataError(
            f"{spec.faces}: movements are pasted on the faces of other people, and movements of "
            f"other classes need two classes; given: {quantify(len(set(subjects)), 'subject')} and "
            f"{len(shown.classes)} of the classes"
        )

    # What is kept of them
    origins = {**describe_origins(faces), "classes": shown.classes}
    origins |= {"size": (2, *faces.size[1:]), "channels": name_moments(PAIR)}
    return Pasted(
        spec=spec,
        pairs=shown.images,
        labels=shown.number_labels(),
        subjects=subjects,
        timing=timing,
        losses=make_empty_losses(),
        run="",
        **origins,
    )


def sample(
    generator: Pasted,
    labels: Int64[np.ndarray, " n"],
    numbers: Int64[np.ndarray, " n"],
    how: SamplerSpec,
) -> UInt8[np.ndarray, "n 2 h w"]:
    """Return onset and apex of a clip for each label and seed; none depends on the others.

    The first half of a seed says whose face it is, and the movement is of somebody else.
    """
    generator.require_known(labels)
    subjects = np.array(generator.subjects, dtype=object)
    clips = np.empty((len(labels), *generator.size), dtype=np.uint8)
    intensities, people = draw_intensities(numbers, how), find_person_seeds(numbers)
    for position, (label, number) in enumerate(zip(labels, numbers, strict=True)):
        # A face, and a movement of the class, or of another one, by another person if possible
        rng = seeds.make_rng("pasted", int(number))
        face_rng = seeds.make_rng("pasted face", int(people[position]))
        face = int(face_rng.integers(len(subjects)))
        is_own = generator.labels == label
        wanted = is_own if generator.spec.of == "same" else ~is_own
        donors = np.flatnonzero(wanted & (subjects != subjects[face]))
        donors = donors if len(donors) else np.flatnonzero(wanted)
        donor = generator.pairs[donors[rng.integers(len(donors))]]

        # The face, moved so
        onset = generator.pairs[face, 0]
        flow = intensities[position] * compute_flow(donor[1], donor[0])
        clips[position] = np.stack([onset, _move(onset, flow)])
    return clips


def _move(
    face: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "2 h w"]
) -> UInt8[np.ndarray, "h w"]:
    return warp_image(face.astype(np.float32), flow).round().clip(0, 255).astype(np.uint8)


def save(generator: Pasted, out: Path) -> None:
    """Write the pairs, and the files that all generators have."""
    fields = {"timing": generator.timing.to_json(), "subjects": list(generator.subjects)}
    write_generator(generator, out, fields)
    np.save(out / "copied.npy", generator.pairs, allow_pickle=False)
    np.save(out / "labels.npy", generator.labels, allow_pickle=False)


def load(run: Run, spec: PastedSpec, device: str = "auto") -> Pasted:
    """Return the generator of a run."""
    fields, about = read_generator(run)
    pairs, labels = (
        np.load(run.find_file(name), allow_pickle=False) for name in ("copied.npy", "labels.npy")
    )
    return Pasted(
        spec=spec,
        pairs=pairs,
        labels=labels,
        subjects=tuple(about["subjects"]),
        timing=MotionTiming.from_json(about["timing"]),
        **fields,
    )


def summarise(generator: Pasted) -> str:
    """Return a one-line summary of a trained generator."""
    which = {"same": "the class that is asked for", "other": "other classes"}[generator.spec.of]
    return f"pasted, {quantify(len(generator.pairs), 'real movement')}; a clip has one of {which}"
