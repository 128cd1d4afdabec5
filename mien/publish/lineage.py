"""What is told of the runs behind a release: names, contents, versions, and those fields of their
specs that may be.

A spec holds what its maker typed: patterns with people's names, columns, labels, names of files. So
nothing of it is told but what stands here by name, and of a text only what is a name of mien's own.
The run's name is a digest of the whole spec: whoever has the spec can tell that it is the one.
"""

import re
from collections.abc import Mapping
from typing import Any

from mien.store import Run

TOLD = frozenset(
    {
        "version", "stage", "kind", "seed", "faces", "generator", "test", "train", "reject",
        "decisions", "reader", "subjects_as_written", "fingerprint", "size", "colour", "filter", "crop", "detector",
        "model", "margin", "align", "misses", "frames", "window", "every", "input", "classes",
        "by", "folds", "number", "side", "shift", "noise", "net", "width", "multipliers",
        "blocks", "patch", "attention", "dropout", "images_seen", "batch", "learning_rate",
        "warmup", "decay", "ema", "mirror", "moves", "balance", "clip_first", "label_drop",
        "residual", "held_out", "early", "precision", "deterministic", "p_mean", "p_std",
        "steps", "beta_first", "beta_last", "sampler", "guidance", "guide", "guidance_low",
        "guidance_high", "clip_x0", "variance", "counts",
    }
)  # fmt: skip
"""Fields of specs that are told; any other is named among `left_out`."""
ENTRIES = frozenset({"run", "content", "spec", "python", "versions", "commit", "left_out"})
"""What is told of a run."""
OWN = re.compile(
    r"[a-z][a-z0-9_+-]*(-[0-9a-f]{12})?|[0-9a-f]{64}"
)  # a choice of mien's, a run, a digest


def told(run: Run, called: Mapping[str, str]) -> dict[str, Any]:
    """Return what is told of a run: of the machine and the command that made it only versions of
    libraries.

    `called` says by run how a source is called in the release.
    """
    kept = {name: value for name, value in run.spec.items() if name in TOLD and own(value)}
    if run.name in called:
        kept["dataset"] = called[run.name]
    lost = sorted(
        name
        for name, value in run.spec.items()
        if name not in kept and value not in (None, "", {}, [], ())
    )
    versions = {name: _version(run.about.get(name)) for name in ("python", "versions", "commit")}
    found = {"run": run.name, "content": run.content, "spec": kept, **versions}
    return found | ({"left_out": lost} if lost else {})


def own(value: Any) -> bool:
    """Whether a value is made of numbers and of names of mien's own alone."""
    if isinstance(value, Mapping):
        return all(own(name) and own(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return all(own(one) for one in value)
    return value is None or isinstance(value, bool | int | float) or value == "" or _named(value)


def _named(value: Any) -> bool:
    return isinstance(value, str) and OWN.fullmatch(value) is not None and len(value) <= 80


def _version(value: Any) -> Any:
    """Return versions as they stand, and nothing that is none."""
    if isinstance(value, Mapping):
        return {str(name): _version(one) for name, one in value.items()}
    return (
        value if isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z.+_-]{0,60}", value) else None
    )
