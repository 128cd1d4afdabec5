"""dataset.toml: what only people can say about a database."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mien import licences
from mien.errors import SpecError, UsageError
from mien.outside import describe_system_error
from mien.publish.origin import Origin
from mien.runs.files import write_file
from mien.runs.spec import RUN_NAME, Strict, read_spec, read_toml, suggest

QUESTIONS_FILE = "dataset.toml"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

VERSION = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}")

SOURCE_NAME = re.compile(r"[^\W_][\w .,()+^-]{0,79}")  # a name of a source

OPEN_MARK = "More Information Needed"  # what templates leave behind

UNANSWERED = "[unanswered]"  # the text of an open question in a private build

OTHER = "other"

GATE_NAMES = ("audit", "licence", "sources", "subjects", "withdrawn")
"""The gates that a written reason can open; none opens a release to real images."""


def _require_answer(question: str) -> Any:
    """Return a field that must be answered before a release is built."""
    return Field(default="", description=question, json_schema_extra={"needed": True})


def _allow_default(question: str, default: Any = "") -> Any:
    return Field(default=default, description=question)


class Dataset(Strict):
    """Its name, its authors and its licence."""

    name: str = _require_answer("A short name, letters, digits, '-' and '_': drawn-expressions.")
    title: str = _require_answer("A title for people.")
    description: str = _require_answer("What it is and what it is for, in two or three sentences.")
    version: str = _allow_default(
        "MAJOR.MINOR.PATCH: records changed or moved; records added; repackaged.", "1.0.0"
    )
    date: str = _require_answer(
        "The day of publication, as YYYY-MM-DD. No other date is written, so equal input gives "
        "equal bytes."
    )
    authors: tuple[str, ...] = Field(
        default=(),
        description='Who made it: "Family, Given", or an organisation.',
        json_schema_extra={"needed": True},
    )
    contact: str = _require_answer(
        "Where to send questions and requests for removal: an e-mail address or a page."
    )
    url: str = _require_answer("The address at which it will be published.")
    licence: str = _require_answer("Its licence: cc0-1.0, cc-by-4.0, cc-by-nc-4.0, ..., or other.")
    licence_name: str = _allow_default("With licence 'other': its name.")
    licence_text: str = _allow_default("With licence 'other': its whole text.")
    conditions: tuple[str, ...] = _allow_default(
        f"With licence 'other': what it asks for, among {', '.join(licences.CONDITIONS)}.", ()
    )  # fmt: skip
    keywords: tuple[str, ...] = _allow_default("Keywords for searches.", ())
    paper: str = _allow_default("The address of a paper about it.")
    test_share: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="The share of each class that becomes the split `test`; 0 makes no such split.",
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
    def _require_version(cls, version: str) -> str:
        if not VERSION.fullmatch(version):
            raise ValueError("must be three numbers, such as 1.0.0")
        return version

    @field_validator("date")
    @classmethod
    def _require_date(cls, day: str) -> str:
        if day and day != UNANSWERED:
            try:
                date.fromisoformat(day)
            except ValueError:
                raise ValueError("must be a day, such as 2026-11-25") from None
        return day

    @field_validator("licence")
    @classmethod
    def _require_licence(cls, name: str) -> str:
        if name == UNANSWERED:
            return name
        if name and name != OTHER and licences.find_conditions(name) is None:
            known_licences = [
                "cc0-1.0",
                "cc-by-4.0",
                "cc-by-sa-4.0",
                "cc-by-nc-4.0",
                "cc-by-nc-sa-4.0",
                "cc-by-nd-4.0",
                OTHER,
            ]
            raise ValueError(f"must be a known licence, or other.{suggest(name, known_licences)}")
        return licences.normalise_licence(name)

    @field_validator("conditions")
    @classmethod
    def _require_conditions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in licences.CONDITIONS]
        if unknown:
            raise ValueError(
                f"must be among {', '.join(licences.CONDITIONS)}, and {unknown[0]} is not"
            )
        return names

    @property
    def asks(self) -> tuple[str, ...]:
        """What its licence asks for, as keys of `licences.CONDITIONS`."""
        return (
            self.conditions
            if self.licence == OTHER
            else licences.find_conditions(self.licence) or ()
        )


class PeopleAnswers(Strict):
    """The people whom the sources show, and what they agreed to."""

    shown: str = _require_answer(
        "Who is in the sources: how many people, and their age, sex and origin as the sources say."
    )
    consent: str = _require_answer("What these people agreed to, and where that is written.")
    ethics: str = _require_answer(
        "The ethics approval, or why none was needed; state whether there are minors."
    )
    sensitive: str = _require_answer(
        "Personal and sensitive information: what a picture could still reveal about a real person."
    )


class Uses(Strict):
    """Its intended uses, its limits and its risks."""

    intended: str = _require_answer("What it is meant to be used for.")
    excluded: str = _allow_default("Uses to exclude in addition to those that every card excludes.")
    limitations: str = _require_answer("What it cannot show, and where it fails.")
    biases: str = _require_answer("Which biases it has or may have.")
    impact: str = _require_answer("Its possible effects on society, good and bad.")


class Care(Strict):
    """Who maintains it."""

    maintenance: str = _require_answer(
        "Who maintains it, for how long, and how new versions are announced."
    )
    removal: str = _require_answer(
        "How a person can request removal, and within how many days it is done."
    )
    withdrawal: str = _require_answer(
        "What happens to it when a source or a person in it withdraws consent."
    )


class Override(Strict):
    """A gate that a person opens, for a reason that the card prints."""

    gate: str
    reason: str = Field(min_length=20)
    by: str = Field(min_length=3)
    date: str
    reference: str = Field(min_length=3)

    @field_validator("gate")
    @classmethod
    def _require_gate(cls, name: str) -> str:
        if name not in GATE_NAMES:
            raise ValueError(
                f"must be one of {', '.join(GATE_NAMES)}.{suggest(name, list(GATE_NAMES))}"
            )
        return name

    @field_validator("date")
    @classmethod
    def _require_date(cls, day: str) -> str:
        try:
            return date.fromisoformat(day).isoformat()
        except ValueError:
            raise ValueError("must be a day, such as 2026-11-25") from None


class Answers(Strict):
    """All of dataset.toml."""

    dataset: Dataset = Dataset()
    people: PeopleAnswers = PeopleAnswers()
    uses: Uses = Uses()
    care: Care = Care()
    sources: dict[str, str] = Field(default_factory=dict)  # the name of each source, by its run
    override: tuple[Override, ...] = ()

    @field_validator("sources")
    @classmethod
    def _require_sources(cls, names: dict[str, str]) -> dict[str, str]:
        for run, name in names.items():
            if not RUN_NAME.match(run):
                raise ValueError(
                    f"must be named by their runs, such as ingest-0123456789ab, and {run!r} is not"
                )
            if name and not SOURCE_NAME.fullmatch(name):
                raise ValueError(
                    "must have names of up to 80 letters, digits, spaces and .,()+^-, and "
                    f"{name!r} is not one"
                )
        return names

    @property
    def open(self) -> list[str]:
        """The required questions without an answer, by name."""
        names = []
        for section in SECTIONS:
            answers: Strict = getattr(self, section)
            for name in type(answers).model_fields:
                if _is_required(type(answers), name) and not _is_answered(getattr(answers, name)):
                    names.append(f"{section}.{name}")
        if self.dataset.licence == OTHER:
            for name in ("licence_name", "licence_text", "conditions"):
                if not _is_answered(getattr(self.dataset, name)):
                    names.append(f"dataset.{name}")
        return names


SOURCE_NAME_QUESTION = (
    "The name of this source for others; its only name so far is that of its folder, which may "
    "name people."
)

SECTIONS: Mapping[str, type[Strict]] = {
    "dataset": Dataset,
    "people": PeopleAnswers,
    "uses": Uses,
    "care": Care,
}


def read_answers(path: Path, origin: Origin) -> Answers:
    """Return the answers in a dataset.toml.

    Raises SpecError if it cannot be read, and UsageError with the questions that are open.
    """
    answers = read_spec(Answers, read_toml(path), str(path))
    open_questions = list_open(answers, origin)
    if open_questions:
        raise UsageError(
            f"{path} must answer every question, and "
            f"{_count_questions(len(open_questions), 'is', 'are')} "
            f"open:\n{list_questions(open_questions)}\n"
            "--private builds without the answers, and marks the open questions"
        )
    return answers


def list_open(answers: Answers, origin: Origin) -> list[str]:
    """Return the open questions by name; a source that only its folder names is one."""
    nameless = [
        source.run
        for source in origin.sources
        if source.named_by == "folder" and not answers.sources.get(source.run)
    ]
    return [*answers.open, *(f"sources.{run}" for run in nameless)]


def fill_with_marks(answers: Answers, origin: Origin, alias: str) -> Answers:
    """Return the answers, with what the store knows, and a mark for each open question."""
    suggestions = {"name": origin.run.name, **suggest_answers(origin, alias)}
    updates: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for name in answers.open:
        section, _, field = name.partition(".")
        mark: Any = {"authors": (UNANSWERED,), "conditions": ()}.get(field, UNANSWERED)
        updates[section][field] = suggestions.get(field, mark) if section == "dataset" else mark
    if updates["dataset"].get("licence") == OTHER:  # a licence without its text
        updates["dataset"]["licence"] = UNANSWERED
        updates["dataset"]["conditions"] = tuple(suggestions.get("conditions", ()))
    changed = {
        section: getattr(answers, section).model_copy(update=update)
        for section, update in updates.items()
    }
    return answers.model_copy(update=changed)


def list_questions(names: list[str]) -> str:
    """Return questions with their names, one per line."""
    lines = []
    for name in names:
        section, _, field = name.partition(".")
        question = (
            SOURCE_NAME_QUESTION
            if section == "sources"
            else SECTIONS[section].model_fields[field].description
        )
        lines.append(f"  {name}: {question}")
    return "\n".join(lines)


def _count_questions(number: int, singular: str, plural: str) -> str:
    """Return `1 question is` or `3 questions are`."""
    return f"1 question {singular}" if number == 1 else f"{number} questions {plural}"


def render_template(origin: Origin, alias: str) -> str:
    """Return a dataset.toml with every question, and the answers that the store knows."""
    suggestions = suggest_answers(origin, alias)
    values: dict[str, dict[str, Any]] = {"dataset": suggestions}
    return _render_file(values, {}, (), origin)


def render_answers(answers: Answers, origin: Origin) -> str:
    """Return a dataset.toml with these answers, each below its question."""
    values = {section: getattr(answers, section).model_dump(mode="json") for section in SECTIONS}
    return _render_file(values, answers.sources, answers.override, origin)


def write_answers(path: Path, answers: Answers, origin: Origin) -> list[str]:
    """Write answers as a dataset.toml, whole or not at all; return the names of open questions.

    Comments that a person added to the file are lost. Raises UsageError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, render_answers(answers, origin))
    except OSError as error:
        raise UsageError(
            f"the answers must go to a file that can be written; "
            f"{describe_system_error(error, path)}"
        ) from None
    return list_open(answers, origin)


def _render_file(
    values: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
    overrides: Sequence[Override],
    origin: Origin,
) -> str:
    """Return a dataset.toml: `values` by section and question, `names` of sources, overrides."""
    lines = [
        (
            "# Answered once, these feed the card, the datasheet, croissant.json, CITATION.cff "
            "and LICENSE."
        ),
        "",
    ]

    # The questions, section by section
    for section, kind in SECTIONS.items():
        lines += [f"# {' '.join((kind.__doc__ or '').split())}", f"[{section}]"]
        for name, field in kind.model_fields.items():
            note = "" if _is_required(kind, name) else " (optional)"
            lines += [f"# {line}" for line in textwrap.wrap(f"{field.description}{note}", 116)]
            default = [] if field.default == () else field.default
            lines.append(f"{name} = {_quote(values.get(section, {}).get(name, default))}")
        lines.append("")

    # Sources that only their folder names, and those that have a name already
    nameless = {source.run: source for source in origin.sources if source.named_by == "folder"}
    if nameless or names:
        lines += [f"# {SOURCE_NAME_QUESTION}", "[sources]"]
        for run in dict.fromkeys((*nameless, *names)):
            if run in nameless:
                lines.append(f"# its folder is named {_quote(nameless[run].dataset)}")
            lines.append(f"{run} = {_quote(names.get(run, ''))}")
        lines.append("")

    # How to open a gate
    lines.append(
        "# A gate that refuses can be opened by a person who takes responsibility for it; the "
        "card prints all of this:"
    )
    for override in overrides:
        given = override.model_dump(mode="json")
        lines += ["[[override]]", *(f"{name} = {_quote(text)}" for name, text in given.items()), ""]
    if not overrides:
        lines += [
            "# [[override]]",
            f'# gate = "{GATE_NAMES[0]}"  # or {", ".join(GATE_NAMES[1:])}',
            '# reason = "..."',
            '# by = "name of the person"',
            '# date = "YYYY-MM-DD"',
            '# reference = "the agreement, letter or approval that it rests on"',
        ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _quote(value: Any) -> str:
    """Return a text, a number or a list of texts as TOML, whose texts are those of JSON, but for
    one control character.
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def suggest_answers(origin: Origin, alias: str) -> dict[str, Any]:
    """Return the answers that the store knows: a name, the day of the generation, and the licence.

    The licence is that of the sources if they share one, or `other` with all that they ask for.
    """
    # The name and the date
    suggestions: dict[str, Any] = {}
    if NAME.fullmatch(alias):
        suggestions["name"] = alias
    day = str(origin.run.about.get("made", ""))[:10]
    if day:
        suggestions["date"] = day

    # The licence of the sources, or their conditions
    names = {licences.normalise_licence(source.licence) for source in origin.sources}
    asked_by = {licences.find_conditions(name) for name in names}
    if (
        len(names) == 1
        and None not in asked_by
        and all(source.terms.derived == "yes" for source in origin.sources)
    ):
        suggestions["licence"] = names.pop()
    elif any(source.terms.conditions for source in origin.sources):
        suggestions["licence"] = OTHER
        suggestions["conditions"] = list(
            dict.fromkeys(
                condition
                for known_source in origin.sources
                for condition in known_source.terms.conditions
            )
        )
    return suggestions


def write_template(path: Path, origin: Origin, alias: str) -> list[str]:
    """Write a dataset.toml to be answered, and return the names of its open questions."""
    if path.exists():
        raise UsageError(f"{path} exists already; answer it, or name another file")
    try:
        path.write_text(render_template(origin, alias), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"--answers must be a file that can be written; {describe_system_error(error, path)}"
        ) from None
    return list_open(read_spec(Answers, read_toml(path), str(path)), origin)


def make_unanswered_error(path: Path, names: list[str]) -> UsageError:
    """Return the error that follows a new dataset.toml: where it is, and its open questions."""
    count = _count_questions(len(names), "is", "are")
    return UsageError(
        f"{path.absolute()} was written, and must be answered before anything is built; {count} "
        "open:\n"
        f"{list_questions(names)}\n"
        "--private builds without the answers, and marks the open questions"
    )


def group_overrides(answers: Answers) -> dict[str, Override]:
    """Return the overrides by gate; raises SpecError if a gate has two."""
    by_gate = {override.gate: override for override in answers.override}
    if len(by_gate) < len(answers.override):
        raise SpecError("each gate must have at most one [[override]] in dataset.toml; remove one")
    return by_gate


def _is_required(section: type[Strict], name: str) -> bool:
    extra = section.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("needed"))


def _is_answered(value: Any) -> bool:
    texts = value if isinstance(value, tuple) else (value,)
    return any(str(text).strip() for text in texts) and not any(
        OPEN_MARK in str(text) for text in texts
    )
