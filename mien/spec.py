"""Specs: frozen records of everything that a result depends on, named by a digest of their content."""

import difflib
import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mien.errors import SpecError

AnyStrict = TypeVar("AnyStrict", bound="Strict")
RUN_NAME = re.compile(r"^[a-z][a-z0-9_]*-[0-9a-f]{12}$")


class Strict(BaseModel):
    """A frozen record that refuses names it does not know, and tells the nearest one it does."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_names(cls, data: Any) -> Any:
        known = list(cls.model_fields)
        for name in data if isinstance(data, dict) else ():
            if name not in known:
                hint = nearest(str(name), known)
                raise SpecError(f"{cls.__name__} has no field '{name}'.{hint} It has: {', '.join(known)}.")
        return data


class Spec(Strict):
    """The base of all specs.

    Parents stand in it by their run names, so a digest covers all that came before. Paths of a machine, worker counts
    and dates are no part of it. `version` is raised by hand when a change of code changes results.
    """

    stage: ClassVar[str] = "spec"
    version: int = 1

    @property
    def name(self) -> str:
        """The name of the run that this spec makes: `stage-digest`."""
        return f"{self.stage}-{self.digest()}"

    def digest(self) -> str:
        """Return 12 hexadecimal digits of the sha256 of the stage and all fields, in the order of their names."""
        text = json.dumps({"stage": self.stage, **self.model_dump(mode="json")}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_spec(kind: type[AnyStrict], data: dict[str, Any], where: str) -> AnyStrict:
    """Return the record that `data` describes; `where` (a file, an option) stands in front of any complaint.

    Raises SpecError, one line a fault.
    """
    try:
        return kind.model_validate(data)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
    except ValidationError as error:
        raise SpecError(explain(error, where)) from None


def explain(error: ValidationError, where: str) -> str:
    """Return pydantic's complaints as one line each, with what was given."""
    lines = []
    for fault in error.errors():
        text = fault["msg"].removeprefix("Value error, ")
        place = ".".join(str(part) for part in fault["loc"])
        lines.append(f"{where}: {place}: {text} (given: {fault['input']!r})" if place else f"{where}: {text}")
    return "\n".join(lines)


def parents(data: Any) -> list[str]:
    """Return the run names that stand in a spec's JSON, in order of appearance, each once."""
    if isinstance(data, str):
        return [data] if RUN_NAME.match(data) else []
    items = data.values() if isinstance(data, dict) else data if isinstance(data, list | tuple) else ()
    return list(dict.fromkeys(name for item in items for name in parents(item)))


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises SpecError if it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"there must be a TOML file at {path}, and there is none; check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise SpecError(f"{path} must be a TOML file, and is not: {error}") from None


def nearest(name: str, known: list[str]) -> str:
    """Return " Did you mean 'x'?" for the known name that is nearest to `name`, or nothing."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean '{close[0]}'?" if close else ""
