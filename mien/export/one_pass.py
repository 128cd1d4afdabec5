"""Export of a generator that makes an image in one pass of its network."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mien.export.program import (
    describe_classes,
    describe_mean,
    describe_provenance,
    hash_program_files,
    save_program,
    write_json,
    write_page,
)
from mien.generators.one_pass.model import OnePass
from mien.runs.store import Run

ONE_PASS_FILE = "generator.pt2"


def write_one_pass(generator: OnePass, run: Run, folder: Path) -> None:
    """Write the files of an exported generator to `folder`."""
    # The program, and what draws with it
    about: dict[str, Any] = {
        "format": "program",
        "kind": generator.spec.kind,
        "licence": generator.licence,
        "classes": describe_classes(generator),
        "size": list(generator.size),
        "noise": generator.network.noise_size,
        **describe_provenance(generator, run, has_mean_face(generator)),
    }
    noise = torch.zeros(2, generator.network.noise_size)
    labels = torch.full((2,), next(iter(about["classes"].values())))
    save_program(generator.network, (noise, labels), folder / ONE_PASS_FILE)
    shutil.copyfile(Path(__file__).with_name("sample_one_pass.py"), folder / "sample.py")

    # What describes them
    about["sha256"] = hash_program_files(folder, [ONE_PASS_FILE])
    write_json(folder / "export.json", about)
    (folder / "README.md").write_text(write_one_pass_page(about), encoding="utf-8")


def has_mean_face(generator: OnePass) -> bool:
    """Return whether a generator contains the mean face of its training images."""
    return "mean" in dict(generator.network.named_buffers())


def list_one_pass_files(about: Mapping[str, Any]) -> dict[str, str]:
    """Return a description of each file of an exported folder."""
    mean = describe_mean(about)
    return {
        ONE_PASS_FILE: (
            "the generator, a program of torch.export: G(noise [n, "
            f"{about['noise']}], labels [n]) -> images{f', with {mean}' if mean else ''}"
        ),
        "export.json": "classes and their labels, licence, provenance",
        "sample.py": "draws images, and needs only torch and numpy",
    }


def write_one_pass_page(about: Mapping[str, Any]) -> str:
    """Return README.md of an exported folder."""
    labels = ", ".join(f"{name} {label}" for name, label in about["classes"].items())
    use = f"""\
```python
import torch

generate = torch.export.load("{ONE_PASS_FILE}").module()
# float32 [n, {about["noise"]}] with mean 0 and variance 1, int64 [n]; any n
images = generate(noise, labels)
```

Images are float32 [n, {", ".join(map(str, about["size"]))}], with pixels between -1 (black) and 1
(white); clip what is beyond. The labels are {labels}; there are no others.
"""
    mean = ", and contains their mean face" if about["mean_face"] else ""
    tools = "`sample.py` draws what mien itself draws."
    return write_page(about, list_one_pass_files(about), use, tools, mean)
