"""lineage.json: what a release states of each run behind it; no private field.

A spec holds what its author typed: patterns with people's names, columns, labels, names of files.
So a release states only the fields that are listed here, and of these only values that are numbers
or names of mien's own. The name of a run is a digest of its whole spec: whoever has the spec can
verify that it is the one.
"""

import re
from collections.abc import Mapping
from typing import Any

from mien.runs.store import Run

STATED_SPEC_FIELDS = frozenset(
    {
        "version", "stage", "kind", "seed", "faces", "generator", "test", "train", "reject",
        "decisions", "reader", "subjects_as_written", "fingerprint", "size", "colour", "filter",
        "crop", "detector", "model", "margin", "align", "misses", "frames", "window", "every",
        "input", "classes", "by", "folds", "number", "side", "shift", "noise", "net", "width",
        "multipliers", "blocks", "patch", "attention", "dropout", "images_seen", "batch",
        "learning_rate", "warmup", "decay", "ema", "mirror", "moves", "balance",
        "clip_first", "label_drop",
        "residual", "class_offsets", "muon", "condition", "units",
        "held_out", "early", "precision", "deterministic", "p_mean", "p_std",
        "latent", "beta", "free_bits", "edges", "components", "least_clips", "prior", "temperature",
        "gamma", "gamma_last", "classes_from", "classes_until",
        "matched", "pool", "repeats", "epsilon", "blurred",
        "steps", "beta_first", "beta_last", "sampler", "guidance", "guide", "guidance_low",
        "guidance_mix",
        "guidance_high", "clip_x0", "variance", "counts", "levels", "fine", "walks",
        "images", "teacher", "teacher_steps",
        "form", "of", "moments", "fps", "neutral", "intensity", "per_person",
        "database", "training", "agreement", "band", "share", "spread", "views",
    }
)  # fmt: skip
"""Fields of specs that a release states; the names of all others go into `left_out`."""

ENTRY_FIELDS = frozenset({"run", "content", "spec", "python", "versions", "commit", "left_out"})
"""What a release states about a run."""

# a choice of mien's, a run, a digest
OWN_NAME = re.compile(r"[a-z][a-z0-9_+-]*(-[0-9a-f]{12})?|[0-9a-f]{64}")


def make_lineage_entry(run: Run, called: Mapping[str, str]) -> dict[str, Any]:
    """Return what a release states about a run.

    Of the machine and the command that made it, these are only versions of libraries.
    `called` is the name of each source in the release, by its run.
    """
    # The fields of the spec that are safe to state, and the names of the others
    spec = {
        name: value
        for name, value in run.spec.items()
        if name in STATED_SPEC_FIELDS and is_own_value(value)
    }
    if run.name in called:
        spec["dataset"] = called[run.name]
    left_out = sorted(
        name
        for name, value in run.spec.items()
        if name not in spec and value not in (None, "", {}, [], ())
    )

    versions = {
        name: _clean_version(run.about.get(name)) for name in ("python", "versions", "commit")
    }
    entry = {"run": run.name, "content": run.content, "spec": spec, **versions}
    return entry | ({"left_out": left_out} if left_out else {})


def is_own_value(value: Any) -> bool:
    """Whether a value consists only of numbers and of names of mien's own."""
    if isinstance(value, Mapping):
        return all(is_own_value(name) and is_own_value(item) for name, item in value.items())
    if isinstance(value, list | tuple):
        return all(is_own_value(item) for item in value)
    return (
        value is None or isinstance(value, bool | int | float) or value == "" or _is_own_name(value)
    )


def _is_own_name(value: Any) -> bool:
    return isinstance(value, str) and OWN_NAME.fullmatch(value) is not None and len(value) <= 80


def _clean_version(value: Any) -> Any:
    """Return version texts unchanged, and nothing for any other value."""
    if isinstance(value, Mapping):
        return {str(name): _clean_version(version) for name, version in value.items()}
    return (
        value if isinstance(value, str) and re.fullmatch(r"[0-9A-Za-z.+_-]{0,60}", value) else None
    )
