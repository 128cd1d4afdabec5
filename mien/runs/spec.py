"""Specs: frozen records of what a result depends on, named by a digest."""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from mien.errors import SpecError
from mien.outside import SETTINGS_BYTES, read_text

AnyStrict = TypeVar("AnyStrict", bound="Strict")

RUN_NAME = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{12}\Z")

BOUNDS = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}

WHOLE, NUMBER, TEXT, LIST, TABLE = (
    "a whole number",
    "a number",
    "text in quotes",
    "a list in brackets",
    "a table",
)

REQUIREMENTS = {
    **{
        f"int_{kind}": f"must be {WHOLE}"
        for kind in ("type", "parsing", "from_float", "parsing_size")
    },
    **{f"float_{kind}": f"must be {NUMBER}" for kind in ("type", "parsing")},
    **{f"bool_{kind}": "must be true or false" for kind in ("type", "parsing")},
    **{f"{kind}_type": f"must be {LIST}" for kind in ("tuple", "list")},
    **{f"{kind}_type": f"must be {TABLE}" for kind in ("dict", "model", "model_attributes")},
    "string_type": f"must be {TEXT}",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
    "missing": "must be given",
}
"""What must hold in plain words, by pydantic's name for the fault."""


class Strict(BaseModel):
    """A frozen record that refuses unknown names, and suggests the nearest known one.

    Numbers must be finite. Texts such as "2", true and false are not accepted as numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, fields: Any) -> Any:
        known_names = list(cls.model_fields)
        for name in fields if isinstance(fields, dict) else ():
            if name not in known_names:
                hint = suggest(str(name), known_names)
                raise SpecError(
                    f"{cls.__name__} has no field '{name}'.{hint} It has: {', '.join(known_names)}."
                )
        return fields

    @field_validator("*", mode="wrap")
    @classmethod
    def _refuse_conversion(cls, value: Any, read: Callable[[Any], Any]) -> Any:
        converted = read(value)
        if not _has_same_type(value, converted):
            noun = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(
                type(converted).__name__
            )
            raise ValueError(
                f"must be {noun}"
                if noun
                else "must not have texts, true or false in place of numbers"
            )
        return converted


def _has_same_type(given: Any, converted: Any) -> bool:
    """Whether texts were read as texts, true and false as such, and numbers as numbers."""
    if isinstance(given, list | tuple) and isinstance(converted, list | tuple):
        return all(
            _has_same_type(first, second) for first, second in zip(given, converted, strict=True)
        )
    if isinstance(given, dict) and isinstance(converted, dict):
        return all(
            _has_same_type(first, converted[name])
            for name, first in given.items()
            if name in converted
        )
    if isinstance(given, str | bool) or isinstance(converted, bool):
        return type(given) is type(converted)
    return True


class Spec(Strict):
    """The base of all specs.

    A spec names its parents by their run names, so a digest covers all earlier stages. Paths on a
    machine, numbers of workers and dates are not part of it. `version` is raised by hand when a
    change of the code changes results.
    """

    stage: ClassVar[str] = "spec"
    # How deep summary.json is indented; None writes one line. The content digest of a run
    # depends on it, so a stage keeps the layout that it began with.
    summary_indent: ClassVar[int | None] = 1
    version: int = 1

    @property
    def name(self) -> str:
        """The name of the run that this spec makes: `stage-digest`."""
        return f"{self.stage}-{self.digest()}"

    def digest(self) -> str:
        """Return 12 hexadecimal digits of the sha256 of the stage and all fields, in the order of
        their names.
        """
        return compute_digest({"stage": self.stage, **self.model_dump(mode="json")})


def is_unset(value: object) -> bool:
    """Return whether a field has no value: None, false, or nothing in it.

    With exclude_if=is_unset a spec omits such a field, so that runs from before there was the field
    keep their names.
    """
    return not value


def compute_digest(fields: dict[str, Any]) -> str:
    """Return the 12 hexadecimal digits that name the run of a spec, from what its spec.json
    holds.
    """
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_spec(spec_class: type[AnyStrict], fields: dict[str, Any], where: str) -> AnyStrict:
    """Return the record that `fields` describe.

    Raises SpecError, with a line for each fault that begins with `where`, a file or an option.
    """
    try:
        return spec_class.model_validate(fields)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except ValidationError as error:
        raise SpecError(explain(error, where, fields)) from None


def explain(error: ValidationError, where: str, fields: dict[str, Any]) -> str:
    """Return one line per error of pydantic: where, what must hold, and what was given."""
    # Group the faults by the value that they are about
    faults_by_path: dict[str, list[ErrorDetails]] = {}
    for fault in error.errors():
        if fault["type"] == "too_short" and len(fault["input"]) >= fault.get("ctx", {}).get(
            "min_length", 0
        ):
            # it is long enough, and only seems short without the items that are at fault themselves
            continue
        faults_by_path.setdefault(_format_path(fault, fields), []).append(fault)

    # One line for each value
    lines = []
    for value_path, faults in faults_by_path.items():
        last = value_path.rpartition(".")[2]
        text = " or ".join(dict.fromkeys(_describe_requirement(fault) for fault in faults)).replace(
            " or must be ", " or "
        )
        given_text = (
            ""
            if faults[0]["type"] == "missing" or not value_path
            else f" (given: {faults[0]['input']!r})"
        )
        if last and text.startswith(f"{last} "):  # it says its own name already
            value_path = value_path.removesuffix(last)
        separator = "" if not value_path or value_path.endswith(".") else ": "
        lines.append(f"{where}: {value_path}{separator}{text}{given_text}")
    return "\n".join(lines)


def _format_path(fault: ErrorDetails, fields: Any) -> str:
    """Return the path of a faulty value in `fields`, without pydantic's names of types."""
    path, value = [], fields
    for key in fault["loc"]:
        if isinstance(value, dict) and (key in value or fault["type"] == "missing"):
            path, value = [*path, str(key)], value.get(key)
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            path, value = [*path, str(key)], value[key]
    return ".".join(path)


def _describe_requirement(fault: ErrorDetails) -> str:
    """Return what must hold, in plain words."""
    fault_type, context = fault["type"], fault.get("ctx", {})
    if fault_type == "literal_error":
        names = re.findall("'([^']*)'", context["expected"])
        return f"must be {context['expected']}.{suggest(str(fault['input']), names)}".removesuffix(
            "."
        )
    for name, sign in BOUNDS.items():
        if name in context and fault_type.startswith(("greater", "less")):
            return f"must be {sign.format(context[name])}"
    if fault_type == "too_short":
        return f"must have {context['min_length']} or more"
    return REQUIREMENTS.get(fault_type, fault["msg"].removeprefix("Value error, "))


def list_parents(content: Any) -> list[str]:
    """Return the run names in the JSON of a spec, in order of appearance, each once."""
    if isinstance(content, str):
        return [content] if RUN_NAME.match(content) else []
    values = (
        content.values()
        if isinstance(content, dict)
        else content
        if isinstance(content, list | tuple)
        else ()
    )
    return list(dict.fromkeys(name for value in values for name in list_parents(value)))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises SpecError if it is missing, no regular file, too
    large, or not TOML.
    """
    text = read_text(path, "a TOML file", SETTINGS_BYTES, SpecError)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path} must be a TOML file, and is not: {error}") from None
    except RecursionError:
        raise SpecError(
            f"{path} must be a TOML file, and its lists or tables are nested too deeply"
        ) from None
    except ValueError:  # Python reads no number of more than some thousand digits
        raise SpecError(
            f"{path} must be a TOML file, and holds a number of too many digits, or a wrong date"
        ) from None


def suggest(name: str, known_names: list[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is nearest to `name`, or nothing."""
    close = difflib.get_close_matches(name, known_names, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
