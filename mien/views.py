"""Views: the same images shown as other inputs, so that inputs are compared on equal splits."""

from typing import Any

from mien import joins, preprocess
from mien.errors import DataError
from mien.faces import Faces
from mien.joins import JoinSpec
from mien.preprocess import PreprocessSpec
from mien.spec import read_spec
from mien.store import Run, Store

CHOSEN = (PreprocessSpec.stage, JoinSpec.stage)


def view(run: Run, input: Any, store: Store, where: str = "input") -> Run:
    """Return the run that shows the images of `run` as `input`, a list of inputs.INPUTS; makes it
    if need be.

    What was chosen, resized, folded and joined on the way to `run` is done again, with the input
    made at the first step, where clips are still whole: a difference from the onset needs the onset
    frame, which may not be among the frames that were chosen. Complaints begin with `where`.

    Raises SpecError for an input that is not known, DataError if the images cannot be shown like
    that.
    """
    read_spec(PreprocessSpec, {"faces": run.name, "frames": "all", "input": input}, where)
    try:
        made = _again(run, tuple(input), store)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if list(Faces.load(made.path).index["key"]) != list(Faces.load(run.path).index["key"]):
        raise DataError(
            f"{where}: {made.name} must show the images of {run.name}, and shows others"
        )
    return made


def _again(run: Run, input: tuple[str, ...], store: Store) -> Run:
    fields = {name: value for name, value in run.spec.items() if name != "stage"}
    if run.stage == JoinSpec.stage:
        parts = [_again(store.run(name), input, store).name for name in fields["faces"]]
        return joins.run(read_spec(JoinSpec, {**fields, "faces": parts}, run.name), store)
    if run.stage != PreprocessSpec.stage:
        spec = PreprocessSpec(faces=run.name, frames="all", input=input)
    elif (parent := store.run(fields["faces"])).stage in CHOSEN:
        made = _again(parent, input, store).name
        spec = read_spec(
            PreprocessSpec, {**fields, "faces": made, "colour": None, "input": ()}, run.name
        )
    else:
        spec = read_spec(PreprocessSpec, {**fields, "colour": None, "input": input}, run.name)
    return preprocess.run(spec, store)
