"""dataset.toml: what only people can say about a database. Answered once, it feeds every document
of a release.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mien import licences
from mien.errors import SpecError, UsageError
from mien.outside import told
from mien.publish.origin import Origin
from mien.spec import RUN_NAME, Strict, nearest, read_spec, read_toml

FILE = "dataset.toml"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")
CALLED = re.compile(r"[^\W_][\w .,()+^-]{0,79}")  # how a source may be called
OPEN = "More Information Needed"  # what templates leave behind
UNANSWERED = "[unanswered]"  # what stands in a private build where nobody has answered
OTHER = "other"
GATES = ("audit", "licence", "sources", "subjects", "withdrawn")
"""The gates that a written reason can open; that no real image is in a release is none of them."""


def _asked(question: str) -> Any:
    """A field that must be answered before a release is built."""
    return Field(default="", description=question, json_schema_extra={"needed": True})


def _may(question: str, default: Any = "") -> Any:
    return Field(default=default, description=question)


class Dataset(Strict):
    """What it is called, whose it is, and under which licence."""

    name: str = _asked("A short name, letters, digits, '-' and '_': drawn-expressions.")
    title: str = _asked("A title for people.")
    description: str = _asked("What it is and what it is for, in two or three sentences.")
    version: str = _may(
        "MAJOR.MINOR.PATCH: records changed or moved, records added, packed anew.", "1.0.0"
    )
    date: str = _asked(
        "When it is published, as YYYY-MM-DD. No other date is written, so equal input gives "
        "equal bytes."
    )
    authors: tuple[str, ...] = Field(
        default=(),
        description='Who made it: "Family, Given", or an organisation.',
        json_schema_extra={"needed": True},
    )
    contact: str = _asked(
        "Where questions and requests for removal go: an e-mail address or a page."
    )
    url: str = _asked("Where it will be found.")
    licence: str = _asked("Its licence: cc0-1.0, cc-by-4.0, cc-by-nc-4.0, ..., or other.")
    licence_name: str = _may("With other: the licence's name.")
    licence_text: str = _may("With other: its whole text.")
    conditions: tuple[str, ...] = _may(
        f"With other: what it asks for, among {', '.join(licences.CONDITIONS)}.", ()
    )  # fmt: skip
    keywords: tuple[str, ...] = _may("Words to be found by.", ())
    paper: str = _may("The address of a paper about it.")
    test_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="The share of each class that is set aside as a split `test`; 0 is none.",
    )

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if name and not NAME.fullmatch(name):
            raise ValueError(
                "must be up to 64 letters, digits, '-' and '_', and begin with a letter or digit"
            )
        return name

    @field_validator("version")
    @classmethod
    def _version(cls, version: str) -> str:
        if not VERSION.fullmatch(version):
            raise ValueError("must be three numbers, as 1.0.0")
        return version

    @field_validator("date")
    @classmethod
    def _date(cls, day: str) -> str:
        if day and day != UNANSWERED:
            try:
                date.fromisoformat(day)
            except ValueError:
                raise ValueError("must be a day, as 2026-11-25") from None
        return day

    @field_validator("licence")
    @classmethod
    def _licence(cls, name: str) -> str:
        if name == UNANSWERED:
            return name
        if name and name != OTHER and licences.conditions(name) is None:
            known = [
                "cc0-1.0",
                "cc-by-4.0",
                "cc-by-sa-4.0",
                "cc-by-nc-4.0",
                "cc-by-nc-sa-4.0",
                "cc-by-nd-4.0",
                OTHER,
            ]
            raise ValueError(f"must be a licence that is known, or other.{nearest(name, known)}")
        return licences.plain(name)

    @field_validator("conditions")
    @classmethod
    def _conditions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in licences.CONDITIONS]
        if unknown:
            raise ValueError(
                f"must be among {', '.join(licences.CONDITIONS)}, and {unknown[0]} is not"
            )
        return names

    @property
    def asks(self) -> tuple[str, ...]:
        """What its licence asks for."""
        return self.conditions if self.licence == OTHER else licences.conditions(self.licence) or ()


class People(Strict):
    """Whom the sources show, and what these people agreed to."""

    shown: str = _asked(
        "Who is in the sources: how many people, and their age, sex and origin as the sources say."
    )
    consent: str = _asked("What these people agreed to, and where that is written.")
    ethics: str = _asked(
        "The ethics approval, or why none was needed; say if there are minors among the people."
    )
    sensitive: str = _asked(
        "Personal and sensitive information: what a picture could still tell about a real person."
    )


class Uses(Strict):
    """What it is for, and what it is not for."""

    intended: str = _asked("What it is meant to be used for.")
    excluded: str = _may("Uses to exclude beside those that every card excludes.")
    limitations: str = _asked("What it cannot show, and where it fails.")
    biases: str = _asked("Which biases it has or may have.")
    impact: str = _asked("What it may do in the world, good and bad.")


class Care(Strict):
    """Who looks after it."""

    maintenance: str = _asked("Who looks after it, for how long, and how new versions are told.")
    removal: str = _asked("How a person asks for removal, and within how many days it is done.")
    withdrawal: str = _asked(
        "What happens to it when a source or a person in it withdraws consent."
    )


class Override(Strict):
    """A gate that is opened by a person, for a reason that the card prints."""

    gate: str
    reason: str = Field(min_length=20)
    by: str = Field(min_length=3)
    date: str
    reference: str = Field(min_length=3)

    @field_validator("gate")
    @classmethod
    def _gate(cls, name: str) -> str:
        if name not in GATES:
            raise ValueError(f"must be one of {', '.join(GATES)}.{nearest(name, list(GATES))}")
        return name

    @field_validator("date")
    @classmethod
    def _date(cls, day: str) -> str:
        try:
            return date.fromisoformat(day).isoformat()
        except ValueError:
            raise ValueError("must be a day, as 2026-11-25") from None


class Answers(Strict):
    """All of dataset.toml."""

    dataset: Dataset = Dataset()
    people: People = People()
    uses: Uses = Uses()
    care: Care = Care()
    sources: dict[str, str] = Field(default_factory=dict)  # how each source is called, by its run
    override: tuple[Override, ...] = ()

    @field_validator("sources")
    @classmethod
    def _sources(cls, names: dict[str, str]) -> dict[str, str]:
        for run, name in names.items():
            if not RUN_NAME.match(run):
                raise ValueError(
                    f"must be named by their runs, as ingest-0123456789ab, and {run!r} is none"
                )
            if name and not CALLED.fullmatch(name):
                raise ValueError(
                    f"must be called by up to 80 letters, digits, spaces and signs, and {name!r} "
                    "is not"
                )
        return names

    @property
    def open(self) -> list[str]:
        """The questions that must be answered and are not, by name."""
        found = []
        for section in SECTIONS:
            part: Strict = getattr(self, section)
            for name in type(part).model_fields:
                if _needed(type(part), name) and not _answered(getattr(part, name)):
                    found.append(f"{section}.{name}")
        if self.dataset.licence == OTHER:
            for name in ("licence_name", "licence_text", "conditions"):
                if not _answered(getattr(self.dataset, name)):
                    found.append(f"dataset.{name}")
        return found


CALL = (
    "How this source is called for others; nobody gave it a name but its folder, which may "
    "name people."
)
SECTIONS: Mapping[str, type[Strict]] = {
    "dataset": Dataset,
    "people": People,
    "uses": Uses,
    "care": Care,
}


def read(path: Path, origin: Origin) -> Answers:
    """Return what a dataset.toml says; raises SpecError for what cannot be read, UsageError with
    what is still open.
    """
    answers = read_spec(Answers, read_toml(path), str(path))
    left = still_open(answers, origin)
    if left:
        raise UsageError(
            f"{path} must answer every question, and {_are(len(left), 'is', 'are')} "
            f"open:\n{listed(left)}\n"
            "--private builds without the answers, and marks what nobody has answered"
        )
    return answers


def still_open(answers: Answers, origin: Origin) -> list[str]:
    """Return the questions that are open, by name: of the sources, those whose name is their
    folder's.
    """
    nameless = [
        one.run
        for one in origin.sources
        if one.named == "folder" and not answers.sources.get(one.run)
    ]
    return [*answers.open, *(f"sources.{run}" for run in nameless)]


def unanswered(answers: Answers, origin: Origin, alias: str) -> Answers:
    """Return the answers with what the store knows, and with a mark in place of each that is still
    open.
    """
    known = {"name": origin.run.name, **suggested(origin, alias)}
    parts: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name in answers.open:
        section, _, field = name.partition(".")
        mark: Any = {"authors": (UNANSWERED,), "conditions": ()}.get(field, UNANSWERED)
        parts[section][field] = known.get(field, mark) if section == "dataset" else mark
    if parts["dataset"].get("licence") == OTHER:  # whose text is not there
        parts["dataset"]["licence"] = UNANSWERED
        parts["dataset"]["conditions"] = tuple(known.get("conditions", ()))
    changed = {
        section: getattr(answers, section).model_copy(update=update)
        for section, update in parts.items()
    }
    return answers.model_copy(update=changed)


def listed(names: list[str]) -> str:
    """Return questions by name, one a line."""
    lines = []
    for name in names:
        section, _, field = name.partition(".")
        asked = CALL if section == "sources" else SECTIONS[section].model_fields[field].description
        lines.append(f"  {name}: {asked}")
    return "\n".join(lines)


def _are(number: int, one: str, more: str) -> str:
    """Return `1 question is` or `3 questions are`."""
    return f"1 question {one}" if number == 1 else f"{number} questions {more}"


def template(origin: Origin, alias: str) -> str:
    """Return a dataset.toml with every question, and the answers that the store knows."""
    known = {f"dataset.{name}": value for name, value in suggested(origin, alias).items()}
    lines = [
        (
            "# Answered once, these feed the card, the datasheet, croissant.json, CITATION.cff and "
            "LICENSE."
        ),
        "",
    ]
    for section, kind in SECTIONS.items():
        lines += [f"# {' '.join((kind.__doc__ or '').split())}", f"[{section}]"]
        for name, field in kind.model_fields.items():
            default = [] if field.default == () else field.default
            note = "" if _needed(kind, name) else " (may stay as it is)"
            lines += [f"# {line}" for line in textwrap.wrap(f"{field.description}{note}", 116)]
            lines.append(
                f"{name} = {json.dumps(known.get(f'{section}.{name}', default), ensure_ascii=False)}"
            )
        lines.append("")
    nameless = [one for one in origin.sources if one.named == "folder"]
    if nameless:
        lines += [f"# {CALL}", "[sources]"]
        for one in nameless:
            lines += [f"# its folder is called {json.dumps(one.dataset)}", f'{one.run} = ""']
        lines.append("")
    lines += [
        (
            "# A gate that refuses can be opened by a person who answers for it; the card prints "
            "all "
            "of this:"
        ),
        "# [[override]]",
        f'# gate = "{GATES[0]}"  # or {", ".join(GATES[1:])}',
        '# reason = "..."',
        '# by = "name of the person"',
        '# date = "YYYY-MM-DD"',
        '# reference = "the agreement, letter or approval that it rests on"',
    ]
    return "\n".join(lines) + "\n"


def suggested(origin: Origin, alias: str) -> dict[str, Any]:
    """Return what the store can answer: a name, the day of the generation, and a licence that all
    sources share.
    """
    found: dict[str, Any] = {}
    if NAME.fullmatch(alias):
        found["name"] = alias
    made = str(origin.run.about.get("made", ""))[:10]
    if made:
        found["date"] = made
    names = {licences.plain(source.licence) for source in origin.sources}
    asked = {licences.conditions(name) for name in names}
    if (
        len(names) == 1
        and None not in asked
        and all(source.terms.derived == "yes" for source in origin.sources)
    ):
        found["licence"] = names.pop()
    elif any(source.terms.conditions for source in origin.sources):
        found["licence"] = OTHER
        found["conditions"] = list(
            dict.fromkeys(one for each in origin.sources for one in each.terms.conditions)
        )
    return found


def begin(path: Path, origin: Origin, alias: str) -> list[str]:
    """Write a dataset.toml to be answered, and return the questions that are open in it, by
    name.
    """
    if path.exists():
        raise UsageError(f"{path} is there already; answer it, or name another file")
    try:
        path.write_text(template(origin, alias), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--answers must be a file that can be written; {told(error, path)}"
        ) from None
    return still_open(read_spec(Answers, read_toml(path), str(path)), origin)


def asked(path: Path, left: list[str]) -> UsageError:
    """Return what is said once a dataset.toml was written: where, and what is open in it."""
    number = _are(len(left), "is", "are")
    return UsageError(
        f"{path.absolute()} was written, and must be answered before anything is built; {number} "
        "open:\n"
        f"{listed(left)}\n"
        "--private builds without the answers, and marks what nobody has answered"
    )


def overrides(answers: Answers) -> dict[str, Override]:
    """Return the overrides by gate; raises SpecError if a gate has two."""
    found = {one.gate: one for one in answers.override}
    if len(found) < len(answers.override):
        raise SpecError("each gate must have one override at most")
    return found


def _needed(kind: type[Strict], name: str) -> bool:
    extra = kind.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("needed"))


def _answered(value: Any) -> bool:
    texts = value if isinstance(value, tuple) else (value,)
    return any(str(text).strip() for text in texts) and not any(OPEN in str(text) for text in texts)
