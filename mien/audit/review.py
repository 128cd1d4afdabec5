"""Review: doubtful labels go out as a table, a person decides, and the decisions come back as a new
run of faces.
"""

import base64
import hashlib
import io
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import Field

from mien import folders
from mien.audit.copies import copies
from mien.audit.labels import suspects
from mien.audit.sides import read_table
from mien.errors import DataError, StoreError, UsageError
from mien.escape import bare, write_csv
from mien.faces import EMOTIONS, Faces
from mien.figures import picture
from mien.ingest import fold, some
from mien.outside import expanded
from mien.preprocess import write
from mien.progress import many, say
from mien.spec import Spec, nearest, parents
from mien.store import Run, Store

DECISIONS = ("accept", "reject", "relabel")
COLUMNS = (
    "number",
    "set",
    "key",
    "emotion",
    "predicted",
    "probability",
    "margin",
    "decision",
    "relabel",
    "note",
)
PIXELS = 96  # that a picture of the page is at least wide
TEMPLATES = Path(__file__).parent.parent / "templates"


class QueueSpec(Spec):
    """Which images of a set are to be looked at, the most doubtful labels first."""

    stage: ClassVar[str] = "review"
    faces: str
    judges: str = ""  # the run of real people that judges learn from; empty: the set judges itself
    number: int = Field(default=100, ge=1)


class ReviewedSpec(Spec):
    """A set without what was rejected, and with the labels that were given."""

    stage: ClassVar[str] = "reviewed"
    faces: str
    decisions: str  # the sha256 of the decisions


@dataclass(frozen=True)
class Decisions:
    """What was decided about images of the set `faces` (a run or alias).

    `table` has key, decision (accept, reject, relabel), relabel (an emotion, or empty) and note,
    one row an image.
    """

    faces: str
    table: pd.DataFrame

    @property
    def digest(self) -> str:
        """The sha256 of what was decided, whatever the order."""
        lines = sorted(
            "\t".join(row) + "\n" for row in self.table.itertuples(index=False, name=None)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def queue(
    faces: Run,
    store: Store,
    judges: Run | None = None,
    number: int = 100,
    *,
    alias: str | None = None,
) -> Run:
    """Make the run of a review queue: queue.csv, and index.html with the pictures by the same
    numbers.

    The most doubtful image of each clip comes first, since its frames look alike.

    The labels of synthetic faces are judged by `judges`, a set of real people, best of those that
    the generator never saw; a real set judges itself. Raises UsageError where synthetic faces come
    without judges.
    """
    shown = Faces.load(faces.path)
    synthetic = bool((shown.index["source"] != "real").all())
    if judges is None and not _real(shown):
        raise UsageError(
            "the labels of synthetic faces are judged by real people: give --judges REAL, best a "
            "set of people whom "
            "the generator never saw"
        )
    people = None if judges is None else Faces.load(judges.path)
    if (
        people is not None
        and shown.seen is not None
        and set(people.subjects) & set(shown.seen["subject"])
    ):
        say(
            f"the generator of {faces.name} has seen people of the judges, who will agree with it "
            "more than others"
        )
    spec = QueueSpec(faces=faces.name, judges=judges.name if judges else "", number=number)

    def build(out: Path, scratch: Path) -> None:
        rows = suspects(shown, people)
        rows = rows.assign(clip=shown.index["clip"].where(shown.index["clip"] != "", rows["key"]))
        rows = rows[rows["rank"] > 0].sort_values("rank")
        rows = (
            rows.assign(turn=rows.groupby("clip").cumcount())
            .sort_values(["turn", "rank"])
            .head(number)
        )
        table = rows.round(4).assign(number=np.arange(1, len(rows) + 1), set=faces.name)
        table = table.reindex(columns=list(COLUMNS), fill_value="")
        write_csv(table, out / "queue.csv")
        (out / "index.html").write_text(_page(shown, rows, faces.name), encoding="utf-8")
        about = {"holds": f"{many(len(rows), 'label')} to look at", "synthetic": synthetic}
        (out / "summary.json").write_text(json.dumps(about) + "\n", encoding="utf-8")

    return store.make(spec, build, alias)


def _real(faces: Faces) -> bool:
    """Whether all images are real."""
    return bool((faces.index["source"] == "real").all())


def hand_out(queue: Run, path: Path, store: Store, pictures: bool = False) -> list[Path]:
    """Copy a queue to the CSV file `path`, with the page of pictures beside it, and return what was
    written.

    Pictures of real people do not leave the store unless `pictures` says so, nor do synthetic ones
    that are copies of such, or of which nobody can tell. Raises UsageError if a file is in the way:
    it may hold decisions.
    """
    require_free(path)
    path = expanded(path)
    why = "" if pictures else _kept(queue, store)
    leave = not why
    if why:
        say(f"the page of pictures stays in the store: {why}; --pictures lets it leave")
    pairs = {"queue.csv": path, **({"index.html": path.with_suffix(".html")} if leave else {})}
    there = [str(target) for target in pairs.values() if target.exists()]
    if there:
        raise UsageError(
            f"{', '.join(there)} is there already, and may hold decisions; give another --out, or "
            "delete it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, target in pairs.items():
        shutil.copyfile(queue.file(name), target)
    return list(pairs.values())


def require_free(path: Path) -> None:
    """Raise UsageError unless a queue can be written to `path`: a CSV file that is not there."""
    if path.suffix.lower() != ".csv":
        raise UsageError(f"a queue is written to a file that ends in .csv; given: {path}")
    if os.path.lexists(expanded(path)):
        raise UsageError(
            f"{path} is there already, and may hold decisions; give another --out, or delete it"
        )
    folders.free_file(path)


def _kept(queue: Run, store: Store) -> str:
    """Say why the pictures of a queue must stay in the store, nothing if they show nobody real."""
    if not queue.summary["synthetic"]:
        return "it shows real people"
    try:
        shown = Faces.load(store.run(queue.spec["faces"]).path)
        table = pd.read_csv(queue.file("queue.csv"), dtype="str", keep_default_na=False)
        keys = {bare(key) for key in table["key"]}
        shown = shown.select(shown.index["key"].isin(keys).to_numpy(dtype=bool))
        found: set[str] = set()
        real = 0
        for name in _ancestors(queue.spec["faces"], store):
            run = store.run(name)
            other = Faces.load(run.path) if "index.parquet" in run.manifest["files"] else None
            mask = None if other is None else (other.index["source"] == "real").to_numpy(dtype=bool)
            if other is not None and mask is not None and mask.any():
                real += 1
                found |= set(copies(shown, other if mask.all() else other.select(mask))["image"])
    except StoreError as error:
        return f"what its generator saw cannot be compared ({error})"
    if not real:
        return "no real faces stand behind it that it could be compared with"
    return (
        f"{len(found)} of its {many(len(shown), 'picture')} show real faces again" if found else ""
    )


def _ancestors(name: str, store: Store) -> list[str]:
    """Return the runs that a run was made from, and theirs."""
    found, waiting = {name: None}, [name]
    while waiting:
        for parent in parents(store.run(waiting.pop()).spec):
            if parent not in found:
                found[parent] = None
                waiting.append(parent)
    return list(found)


def read(path: Path, faces: str | None = None) -> Decisions:
    """Return the decisions of a table with the columns set, key, decision, and relabel and note if
    need be.

    A row without a decision is undecided, and left out. `faces` names the set where no column does.

    Raises DataError, which names the row, for a decision or emotion that is not known, a key twice,
    several sets, or no decision at all.
    """
    head, lines = read_table(path)
    lacking = [name for name in ("key", "decision") if name not in head]
    if lacking or (faces is None and "set" not in head):
        lacking = lacking or ["set (or give --set)"]
        raise DataError(
            f"{path} must have the columns set, key, decision, and lacks {some(lacking)}; it has "
            f"{some(head, 12)}"
        )
    rows = [{name: line[place] for place, name in enumerate(head)} for line in lines]
    sets = {row["set"] for row in rows if row.get("set")} if faces is None else {faces}
    if len(sets) != 1:
        raise DataError(
            f"{path} must be about one set, and names {some(sorted(sets)) or 'none'}; divide it, "
            "or give --set"
        )
    table = [_decision(row, f"{path}, row {number}") for number, row in enumerate(rows, start=2)]
    decided = pd.DataFrame(
        [row for row in table if row["decision"]], columns=["key", "decision", "relabel", "note"]
    )
    twice = decided["key"][decided["key"].duplicated()].tolist()
    if twice:
        raise DataError(
            f"{path}: each image may be decided on once, and {twice[0]} is twice; leave one of "
            "the rows"
        )
    if decided.empty:
        raise DataError(
            f"{path} has no decision yet; write {', '.join(DECISIONS)} into the column decision"
        )
    return Decisions(sets.pop(), decided.astype("str"))


def apply(decisions: Decisions, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of the set as decided: rejected images are left out, relabelled ones have their
    new emotion.

    decisions.csv in it says what each image was and has become. The set itself is never touched:
    whoever wants to undo it goes on with that. Raises DataError for keys that the set does not
    have, or if nothing would be left.
    """
    parent = store.run(decisions.faces)
    faces = Faces.load(parent.path)
    keys = faces.index["key"]
    table = decisions.table.set_index("key")
    lost = [key for key in table.index if key not in set(keys)]
    if lost:
        raise DataError(
            f"{len(lost)} of {many(len(table), 'decision')} name images that {parent.name} does "
            "not have, such as "
            f"{some(lost, 3)}; keys there are like {keys.iloc[0]}. Give --set if another set is "
            "meant"
        )
    rejected = keys.isin(table.index[table["decision"] == "reject"]).to_numpy(dtype=bool)
    if rejected.all():
        raise DataError(f"all images of {parent.name} are rejected, and nothing would be left")
    given = table["relabel"][table["decision"] == "relabel"].to_dict()
    emotions = pd.Series(
        [given.get(key, old) for key, old in zip(keys, faces.index["emotion"], strict=True)],
        dtype="str",
    )
    spec = ReviewedSpec(faces=parent.name, decisions=decisions.digest)

    def build(out: Path, scratch: Path) -> None:
        changed = replace(faces, index=faces.index.assign(emotion=emotions))
        before = dict(zip(keys, faces.index["emotion"], strict=True))
        told = decisions.table.sort_values("key").assign(before=decisions.table["key"].map(before))
        told["after"] = [
            _after(*row)
            for row in zip(told["decision"], told["before"], told["relabel"], strict=True)
        ]
        write_csv(told[["key", "decision", "before", "after", "note"]], out / "decisions.csv")
        write(
            changed.select(~rejected),
            out,
            {"decisions": dict(Counter(told["decision"])), "reviewed": parent.name},
        )

    return store.make(spec, build, alias)


def _decision(row: dict[str, str], where: str) -> dict[str, str]:
    decision, given = row["decision"].lower(), row.get("relabel", "")
    if decision and decision not in DECISIONS:
        hint = nearest(decision, list(DECISIONS))
        raise DataError(
            f"{where}: a decision must be {', '.join(DECISIONS)} or empty, and is "
            f"'{row['decision']}'.{hint}"
        )
    emotion = fold(given, {}) if given else ""
    if decision == "relabel" and not emotion:
        hint = nearest(given.lower(), list(EMOTIONS)) if given else ""
        raise DataError(
            f"{where}: relabel must be one of {', '.join(EMOTIONS)}, and is '{given}'.{hint}"
        )
    if given and decision != "relabel":
        told = f"is '{row['decision']}'" if decision else "is empty"
        raise DataError(
            f"{where}: the column relabel says '{given}', but the decision {told}; write relabel, "
            "or empty it"
        )
    return {
        "key": row["key"],
        "decision": decision,
        "relabel": emotion or "",
        "note": row.get("note", ""),
    }


def _after(decision: str, before: str, relabel: str) -> str:
    return {"accept": before, "reject": "", "relabel": relabel}[decision]


def _page(faces: Faces, rows: pd.DataFrame, name: str) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    place = {key: number for number, key in enumerate(faces.index["key"])}
    shown = [
        {**row, "number": number, "image": _embedded(np.asarray(faces.images[place[row["key"]]]))}
        for number, row in enumerate(rows.to_dict("records"), start=1)
    ]
    environment.globals["many"] = many
    return environment.get_template("review.html").render(
        rows=shown,
        name=name,
        real=_real(faces),
        licences=sorted(set(faces.index["licence"])),
        decisions=DECISIONS,
    )


def _embedded(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    picture(image, max(1, PIXELS // image.shape[1])).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
