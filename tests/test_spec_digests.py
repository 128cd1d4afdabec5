"""The names of runs are golden: a renamed field or another default would rename every user's runs.

golden_specs.json holds a spec of each class with all its fields and the run name that it had when
it was written. A new class of specs needs an entry; a changed name needs a raised `version`.
"""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mien
from mien.runs.spec import Spec

GOLDEN: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("golden_specs.json").read_text(encoding="utf-8")
)
# Only their subclasses name runs
ABSTRACT = {
    f"mien.generators.specs:{name}" for name in ("GeneratorSpec", "SteppedSpec", "OnePassSpec")
}


def class_of(path: str) -> type[Spec]:
    """Return the class that a path such as mien.study.specs:TrialSpec names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def classes_of_specs() -> Iterator[str]:
    """Yield the path of every class of specs in the files specs.py of the package."""
    for module in pkgutil.walk_packages(mien.__path__, "mien."):
        if module.name.endswith(".specs"):
            for name, value in vars(importlib.import_module(module.name)).items():
                is_spec = isinstance(value, type) and issubclass(value, Spec)
                if is_spec and value.__module__ == module.name:
                    yield f"{module.name}:{name}"


def test_each_class_of_specs_has_a_golden_name():
    assert set(classes_of_specs()) - ABSTRACT == {entry["class"] for entry in GOLDEN}


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_a_spec_still_names_the_run_that_it_named(entry: dict[str, Any]):
    assert class_of(entry["class"]).model_validate(entry["fields"]).name == entry["name"]


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_every_field_counts_for_the_name(entry: dict[str, Any]):
    spec = class_of(entry["class"]).model_validate(entry["fields"])
    assert set(entry["fields"]) == set(type(spec).model_fields)
    assert spec.model_copy(update={"version": spec.version + 1}).name != entry["name"]
