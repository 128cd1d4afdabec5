"""The study images with another input, for the ablation of inputs."""

from typing import Any

from mien.errors import DataError
from mien.faces import Faces
from mien.prepare import joins
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

REPEATED_STAGES = (PreprocessSpec.stage, JoinSpec.stage)


def make_view(run: Run, input: Any, store: Store, where: str = "input") -> Run:
    """Return the run that shows the images of `run` as `input`, a list of names of inputs.INPUTS.

    The run is made if it does not exist. The selections, sizes, class sets and joins on the way to
    `run` are repeated, with the input computed at the first step, where clips are complete: a
    difference from the onset needs the onset frame, which may not have been selected. Messages of
    errors begin with `where`.

    Raises SpecError for an unknown input, DataError if the images cannot be shown as this input.
    """
    read_spec(PreprocessSpec, {"faces": run.name, "frames": "all", "input": input}, where)
    try:
        view_run = _repeat_with_input(run, tuple(input), store)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if list(Faces.load(view_run.path).index["key"]) != list(Faces.load(run.path).index["key"]):
        raise DataError(
            f"{where}: {view_run.name} must show the images of {run.name}, and shows other images"
        )
    return view_run


def _repeat_with_input(run: Run, input: tuple[str, ...], store: Store) -> Run:
    """Return `run` repeated with `input`, which its first step after the ingest computes."""
    fields = {name: value for name, value in run.spec.items() if name != "stage"}
    if run.stage == JoinSpec.stage:
        parts = [_repeat_with_input(store.run(name), input, store).name for name in fields["faces"]]
        return joins.run_join(read_spec(JoinSpec, {**fields, "faces": parts}, run.name), store)
    if run.stage != PreprocessSpec.stage:
        spec = PreprocessSpec(faces=run.name, frames="all", input=input)
    elif (parent := store.run(fields["faces"])).stage in REPEATED_STAGES:
        shown_parent = _repeat_with_input(parent, input, store).name
        spec = read_spec(
            PreprocessSpec, {**fields, "faces": shown_parent, "colour": None, "input": ()}, run.name
        )
    else:
        spec = read_spec(PreprocessSpec, {**fields, "colour": None, "input": input}, run.name)
    return run_preprocess(spec, store)
