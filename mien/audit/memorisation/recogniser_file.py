"""The file of --space: which network recognises people, and how."""

from collections.abc import Mapping
from pathlib import Path

from mien.audit.specs import RecogniserFile, RecogniserSpec
from mien.errors import SpecError
from mien.outside import expand_home
from mien.runs.spec import read_spec, read_toml


def read_recogniser(spaces: Mapping[str, Path]) -> RecogniserSpec | None:
    """Return the recogniser that a TOML file describes, None if no space is given.

    `spaces` maps the name of the space to the file. The path of the weights is relative to the
    file. The weights are not opened.

    Raises SpecError for more than one space, or a file that is no such description.
    """
    if not spaces:
        return None
    if len(spaces) > 1:
        raise SpecError(
            "an audit takes one space of a recogniser; given: "
            f"{', '.join(spaces)}. Audit once with each of them"
        )
    [(name, path)] = spaces.items()
    file = expand_home(path)
    if file.suffix != ".toml":
        raise SpecError(
            f"--space {name}={path}: the file must be a TOML file with network (a name of timm), "
            "weights (a safetensors file) and size (in pixels). Other files of networks, such as "
            "those of torch.export, can run code when they are loaded, so none is read. Save the "
            "weights as safetensors, and name them in a TOML file"
        )
    stated = read_spec(RecogniserFile, read_toml(file), str(path))
    weights = file.parent / expand_home(Path(stated.weights))
    fields = {**stated.model_dump(), "weights": str(weights), "space": name}
    return read_spec(RecogniserSpec, fields, f"--space {name}={path}")
