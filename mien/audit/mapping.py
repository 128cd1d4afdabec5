"""Mapping meets the store: faces are placed in the plane of a space."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from mien.audit import features
from mien.audit.face_maps import MAP_COLUMNS, MAP_FACTS_FILE, MAP_SIDES, POINTS_FILE
from mien.audit.part import require_one_form
from mien.audit.specs import MapSpec
from mien.classifiers.predict import TrainedNetwork, predict_classes
from mien.errors import DataError
from mien.faces import Faces, name_distinct_units
from mien.pages.planes import choose_points, measure_shares
from mien.runs.progress import quantify
from mien.runs.store import Run, RunSummary, Store

BLOCK_ROWS = 512  # faces that are compared with all training faces at once


def make_map(spec: MapSpec, store: Store, *, alias: str | None = None, device: str = "auto") -> Run:
    """Return the run of a map of faces, which holds points.parquet and map.json.

    The axes are those on which all training faces vary most. The distance of each face is to the
    nearest training face of another clip, in the space of the map. In the space of the judge, each
    face also has the judge's probability of its label and the entropy of its answer; the judge
    learnt from the training faces, so that these two are only fair for the other sides.

    Raises DataError if the sides do not fit together, or cannot be compared in the space.
    """
    names = {"training": spec.train, "held-out": spec.test, "synthetic": spec.synthetic}
    runs = {side: store.run(name) for side, name in names.items() if name}
    spec = spec.model_copy(
        update={
            "train": runs["training"].name,
            "synthetic": runs["synthetic"].name,
            "test": runs["held-out"].name if "held-out" in runs else "",
        }
    )
    if spec.test == spec.train:
        raise DataError(
            "the held-out side of a map must be other faces than the training side; given for "
            f"both: {spec.train}. Omit --test, or name faces of held-out subjects"
        )

    def build(out: Path, scratch: Path) -> RunSummary:
        # The sides, and the space
        faces = {side: Faces.load(run.path) for side, run in runs.items()}
        _require_sides(faces)
        space = features.open_space(
            spec.space, runs["training"], store, filter=spec.filter, device=device
        )
        train = faces["training"]
        vectors = space.extract(train.images)
        centre, axes = features.find_principal_axes(vectors, 2)
        if axes.shape[1] < 2:
            raise DataError(
                f"a map needs three training faces that differ, and has "
                f"{quantify(len(train), 'image')} of {runs['training'].name}"
            )

        # The points of each side
        tables = []
        for side in MAP_SIDES:
            if side not in faces:
                continue
            positions = choose_points(len(faces[side]), spec.points)
            chosen = faces[side].select(positions)
            own = vectors[positions] if side == "training" else space.extract(chosen.images)
            table = _place_points(chosen, own, centre, axes)
            table = table.assign(side=side, run=runs[side].name, position=positions)
            tables.append(_add_distances(table, chosen, own, train, vectors))
        if spec.space == "judge":
            judge = features.load_judge(runs["training"], store, device)
            tables = [_add_answers(table, faces[table["side"].iloc[0]], judge) for table in tables]

        # The files
        points = pd.concat(tables, ignore_index=True)
        points = points.reindex(columns=list(MAP_COLUMNS)).astype(MAP_COLUMNS)
        points.to_parquet(out / POINTS_FILE, index=False)
        facts = {
            "space": spec.space,
            "about": space.about,
            "shares": measure_shares(vectors, (vectors - centre) @ axes),
            "sizes": {side: len(side_faces) for side, side_faces in faces.items()},
        }
        text = json.dumps(facts, indent=1) + "\n"
        (out / MAP_FACTS_FILE).write_text(text, encoding="utf-8")
        return {"holds": f"a map of {quantify(len(points), 'face')} in the space {spec.space}"}

    return store.make(spec, build, alias)


def _require_sides(faces: dict[str, Faces]) -> None:
    """Raise DataError unless the sides have images of one form, and the real ones are real."""
    for side, side_faces in faces.items():
        if not len(side_faces):
            raise DataError(f"a map needs images on every side; the {side} side has none")
        if side != "synthetic":
            side_faces.require_real(f"the {side} side of a map")
    require_one_form(faces)


def _place_points(
    faces: Faces,
    vectors: Float[np.ndarray, "n d"],
    centre: Float[np.ndarray, " d"],
    axes: Float[np.ndarray, "d 2"],
) -> pd.DataFrame:
    """Return the key, emotion and place of each face."""
    places = (vectors - centre) @ axes
    return pd.DataFrame(
        {
            "key": list(faces.index["key"]),
            "emotion": list(faces.index["emotion"]),
            "x": places[:, 0],
            "y": places[:, 1],
            "predicted": "",
            "agreement": np.nan,
            "entropy": np.nan,
        }
    )


def _add_distances(
    table: pd.DataFrame,
    faces: Faces,
    vectors: Float[np.ndarray, "n d"],
    train: Faces,
    known: Float[np.ndarray, "m d"],
) -> pd.DataFrame:
    """Return the table with the nearest training face of another clip, and the distance to it."""
    # Units of the training side, so that a face is not compared with its own clip
    own, others = name_distinct_units(faces.index, "clip"), name_distinct_units(train.index, "clip")
    real = (faces.index["source"] == "real").to_numpy()
    squares = (known.astype(np.float64) ** 2).sum(axis=1)
    nearest, distances = np.zeros(len(faces), dtype=np.int64), np.zeros(len(faces))

    # In blocks, so that memory does not grow with the number of faces
    for first in range(0, len(faces), BLOCK_ROWS):
        rows = slice(first, first + BLOCK_ROWS)
        block = vectors[rows].astype(np.float64)
        gaps = (block**2).sum(axis=1)[:, None] + squares[None] - 2 * block @ known.T
        same = (own[rows][:, None] == others[None]) & real[rows][:, None]
        gaps[same] = np.inf
        nearest[rows] = gaps.argmin(axis=1)
        distances[rows] = np.sqrt(gaps.min(axis=1).clip(min=0))
    keys = train.index["key"].to_numpy(dtype=object)[nearest]
    known_distance = np.isfinite(distances)
    return table.assign(
        distance=np.where(known_distance, distances, np.nan),
        nearest=np.where(known_distance, keys, ""),
    )


def _add_answers(table: pd.DataFrame, faces: Faces, judge: TrainedNetwork) -> pd.DataFrame:
    """Return the table with the judge's likeliest class, its probability of the label, and the
    entropy of its answer in bits.
    """
    chosen = faces.select(table["position"].to_numpy())
    answers = predict_classes(judge, chosen).astype(np.float64)
    place = {name: number for number, name in enumerate(judge.classes)}
    labels = [place.get(emotion, -1) for emotion in table["emotion"]]
    agreement = [answers[row, label] if label >= 0 else np.nan for row, label in enumerate(labels)]
    logs = np.log2(answers, where=answers > 0, out=np.zeros_like(answers))
    return table.assign(
        predicted=[judge.classes[number] for number in answers.argmax(axis=1)],
        agreement=agreement,
        entropy=-(answers * logs).sum(axis=1),
    )
