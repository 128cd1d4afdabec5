"""What all exported generators share: the program, and where it comes from."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mien import __version__
from mien.export.revealed_faces import MeanFaceOwners, find_owners, select_trained
from mien.faces import EMOTIONS
from mien.generators.base import Generator
from mien.runs.store import Run


def save_program(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Write a module as a program of torch.export, for any number of images.

    `inputs` are examples for two images.
    """
    # `len(x)` in the traced code would fix the number of images
    batch = torch.export.Dim("n", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    exported = torch.export.export(module.eval(), inputs, dynamic_shapes=shapes)

    # Without the paths of the code on this machine, and without a pickle
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)
    exported.example_inputs = None  # they would be pickled
    torch.export.save(exported, path)


def describe_classes(generator: Generator) -> dict[str, int]:
    """Return the classes of a generator, with their labels: their positions in EMOTIONS."""
    return {name: EMOTIONS.index(name) for name in generator.classes}


def describe_provenance(generator: Generator, run: Run, has_mean: bool) -> dict[str, Any]:
    """Return the fields of export.json that say whose faces a generator shows, and its provenance.

    `has_mean` says whether it contains the mean face of its training images.
    """
    # Who was seen, in numbers
    seen = generator.seen
    subjects, clips = (
        int(seen.loc[seen[name] != "", name].nunique()) for name in ("subject", "clip")
    )
    owners = find_owners(select_trained(generator, run)).recorded if has_mean else None

    # Where the generator comes from
    return {
        "mean_face": owners,
        "provenance": {
            "run": run.name,
            "content": run.content,
            "trained_on": {
                "run": generator.spec.faces,
                "images": len(seen),
                "subjects": subjects,
                "clips": clips,
            },
            "spec": generator.spec.model_dump(mode="json"),
            "mien": __version__,
            "torch": torch.__version__,
        },
    }


def describe_mean(about: Mapping[str, Any]) -> str:
    """Return whose mean face an exported folder contains, in words; empty if it has none."""
    owners = about["mean_face"]
    if not owners:
        return ""
    counts = owners["images"], owners["subjects"], owners["unknown_subjects"]
    return f"the mean face of {MeanFaceOwners(*counts).text}"


def hash_program_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the sha256 of each named file of a folder."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file with one field per line."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_page(
    about: Mapping[str, Any], files: Mapping[str, str], use: str, tools: str, mean: str
) -> str:
    """Return README.md of an exported folder.

    `use` says how to draw images in Python, `tools` what draws them, and `mean` where the mean face
    is, after "its training images"; it may be empty.
    """
    first, origin = next(iter(about["classes"])), about["provenance"]
    trained = ", ".join(
        f"{origin['trained_on'][name]:,} {name}" for name in ("images", "subjects", "clips")
    )
    listed = "\n".join(f"- `{name}`: {text}" for name, text in files.items())
    return f"""\
# A generator of facial expressions

Exported by mien {origin["mien"]} from the run {origin["run"]} (kind {about["kind"]}; content
{origin["content"][:12]}). It was trained on {origin["trained_on"]["run"]}: {trained}.

**Licence of its training images: {about["licence"]}.** The licence applies to this folder and to
every image that is drawn with it. The network may have memorised some of its training
images{mean}. Its labels name facial expressions, not what a person feels.

{listed}

## Use

    python sample.py {first} --count 8

{use}
{tools}

The program was exported for a CPU. For another device, change the result of `torch.export.load`
before `.module()`: `from torch.export.passes import move_to_device_pass`, then
`move_to_device_pass(program, "cuda")`.

## Before you open it

`torch.export.load` may unpickle parts of a file, and so run code that a stranger put there. This
file was written without any pickle. Its sha256 is in `export.json`, but whoever can change one of
the two files can change the other. Load it only if you trust its source. It was written by torch
{origin["torch"]}; other versions may not be able to read it.
"""
