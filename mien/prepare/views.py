"""Views: the images of a study with another input, or as clips."""

from collections.abc import Mapping
from typing import Any

from mien.errors import DataError, SpecError
from mien.faces import Faces
from mien.prepare import joins
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec, SplitSpec
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

REPEATED_STAGES = (PreprocessSpec.stage, JoinSpec.stage)

VIEW_FIELDS = ("input", "clips", "until", "flow")
"""The fields of a PreprocessSpec that a view may have: they change what an image shows."""


def make_view(run: Run, shown: Mapping[str, Any], store: Store, where: str = "input") -> Run:
    """Return the run that shows the images of `run` as `shown` says, by the names of VIEW_FIELDS.

    The run is made if it does not exist. The selections, sizes, class sets and joins on the way to
    `run` are repeated, with the input computed at the first step, where clips are complete: a
    difference from the onset needs the onset frame, which may not have been selected. Messages of
    errors begin with `where`.

    Raises SpecError for an unknown input, DataError if the images cannot be shown as this input.
    """
    # The fields, before any work
    unknown = [name for name in shown if name not in VIEW_FIELDS]
    if unknown:
        raise SpecError(
            f"{where}: a view has the fields {', '.join(VIEW_FIELDS)}; given: {unknown}"
        )
    read_spec(PreprocessSpec, _show_as(shown, {"faces": run.name, "frames": "all"}), where)

    # The same images, shown so
    try:
        view_run = _repeat(run, shown, store)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if list(Faces.load(view_run.path).index["key"]) != list(Faces.load(run.path).index["key"]):
        remedy = (
            "; a clip is one row, so each clip needs one image, its apex: make the faces with "
            "`--frames apex --window 0`, from clips that have an onset, an apex and an offset"
            if shown.get("clips") is not None
            else ""
        )
        raise DataError(
            f"{where}: {view_run.name} must show the images of {run.name}, and shows other images"
            f"{remedy}"
        )
    return view_run


def load_whole_clips(run: Run, store: Store) -> Faces:
    """Return all frames of the clips of `run`, in grey and at its size.

    `run` may hold a row for each clip, or some of their frames. The selections, sizes, class sets,
    joins and splits on the way to it are repeated with all frames, in a run that is made if it does
    not exist. All frames of a clip are cropped in one place.

    Raises DataError if the clips are not known.
    """
    own = Faces.load(run.path)
    clips = set(own.index["clip"]) - {""}
    if not clips:
        raise DataError(
            f"{run.name} must hold clips, and no image of it belongs to one; ingest a set of "
            "clips, or images with --clip-pattern"
        )
    frames = Faces.load(_repeat_frames(run, store).path)
    return frames.select(frames.index["clip"].isin(clips).to_numpy())


def show_like(run: Run, model: Run, store: Store) -> Run:
    """Return the run that shows the clips of `run`, which holds all their frames, as `model` does.

    The same frames are chosen, with the same input, clips and size, and the run is made if it does
    not exist. So generated clips become what a classifier of real ones takes.

    Raises DataError if the clips cannot be shown so.
    """
    # The selections on the way to the model, from the last to the first
    chain, ancestor = [], model
    while ancestor.stage in (*REPEATED_STAGES, SplitSpec.stage):
        if ancestor.stage == PreprocessSpec.stage:
            chain.append(ancestor.spec)
        parent = ancestor.spec["faces"]
        ancestor = store.run(parent if isinstance(parent, str) else parent[0])

    # What each row shows, which frames there are, and how large they are
    fields: dict[str, Any] = {"faces": run.name, "size": Faces.load(model.path).size[1]}
    shown = next((spec for spec in chain if spec.get("clips") or spec.get("input")), {})
    fields |= {name: shown[name] for name in VIEW_FIELDS if shown.get(name)}
    if not fields.get("clips"):
        chosen = next((spec for spec in chain if spec["frames"] != "all"), {"frames": "all"})
        names = ["frames", "every", *(["window"] if chosen["frames"] == "apex" else [])]
        fields |= {name: chosen[name] for name in names if name in chosen}
    if not fields.get("input") and not fields.get("clips"):
        fields["colour"] = "grey"
    return run_preprocess(read_spec(PreprocessSpec, fields, run.name), store)


def load_like(run: Run, model: Run, store: Store) -> Faces:
    """Return the faces of a generated database; clips with all frames are shown as in `model`."""
    return Faces.load((show_like(run, model, store) if run.spec.get("fps") else run).path)


def _repeat_frames(run: Run, store: Store) -> Run:
    """Return the run of all frames of what `run` was made of, in grey."""
    fields = {name: value for name, value in run.spec.items() if name != "stage"}
    if run.stage == SplitSpec.stage:
        return _repeat_frames(store.run(fields["faces"]), store)
    if run.stage == JoinSpec.stage:
        parts = [_repeat_frames(store.run(name), store).name for name in fields["faces"]]
        return joins.run_join(read_spec(JoinSpec, {**fields, "faces": parts}, run.name), store)
    kept: dict[str, Any] = {"faces": run.name}
    if run.stage == PreprocessSpec.stage:
        kept = {name: fields[name] for name in ("faces", "size", "crop", "filter", "classes")}
        parent = store.run(kept["faces"])
        if parent.stage in (*REPEATED_STAGES, SplitSpec.stage):
            kept["faces"] = _repeat_frames(parent, store).name
    shown = {**kept, "frames": "all", "colour": "grey"}
    return run_preprocess(read_spec(PreprocessSpec, shown, run.name), store)


def _repeat(run: Run, shown: Mapping[str, Any], store: Store) -> Run:
    """Return `run` repeated with `shown`, which its first step after the ingest computes."""
    fields = {name: value for name, value in run.spec.items() if name != "stage"}
    if run.stage == JoinSpec.stage:
        parts = [_repeat(store.run(name), shown, store).name for name in fields["faces"]]
        return joins.run_join(read_spec(JoinSpec, {**fields, "faces": parts}, run.name), store)
    if run.stage != PreprocessSpec.stage:
        fields = _show_as(shown, {"faces": run.name, "frames": "all"})
    elif (parent := store.run(fields["faces"])).stage in REPEATED_STAGES:
        without = {name: value for name, value in fields.items() if name not in VIEW_FIELDS}
        shown_parent = _repeat(parent, shown, store).name
        fields = {**without, "faces": shown_parent, "colour": None}
    else:
        fields = _show_as(shown, fields)
    return run_preprocess(read_spec(PreprocessSpec, fields, run.name), store)


def _show_as(shown: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a PreprocessSpec that shows the same images as `shown` says.

    A clip is one row, whatever frames are kept.
    """
    without = {name: value for name, value in fields.items() if name not in VIEW_FIELDS}
    if shown.get("clips") is not None:
        without = {
            name: value
            for name, value in without.items()
            if name not in ("frames", "window", "every")
        }
    return {**without, "colour": None, **shown}
