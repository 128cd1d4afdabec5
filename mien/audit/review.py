"""Review: doubtful labels go out as a table; a person decides; the decisions make a new set."""

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
PIXELS = 96  # width of a picture on the page, at least
TEMPLATES = Path(__file__).parent.parent / "templates"


class QueueSpec(Spec):
    """A queue of images of a set for review, the most doubtful labels first."""

    stage: ClassVar[str] = "review"
    faces: str
    judges: str = ""  # the run of real people that judges learn from; empty: the set itself
    number: int = Field(default=100, ge=1)


class ReviewedSpec(Spec):
    """A set without rejected images, and with corrected labels."""

    stage: ClassVar[str] = "reviewed"
    faces: str
    decisions: str  # the sha256 of the decisions


@dataclass(frozen=True)
class Decisions:
    """The decisions on images of the set `faces` (a run or alias).

    `table` has key, decision (accept, reject, relabel), relabel (an emotion, or empty) and note,
    one row per image.
    """

    faces: str
    table: pd.DataFrame

    @property
    def digest(self) -> str:
        """The sha256 of the decisions, in any order."""
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
    """Make the run of a review queue: queue.csv, and index.html with the numbered pictures.

    The most doubtful image of each clip comes first, since its frames look alike. The labels of
    synthetic faces are judged by `judges`, a set of real people, preferably those whom the
    generator never saw; a real set judges itself. Raises UsageError if synthetic faces come without
    judges.
    """
    # Only real sets can judge themselves
    shown = Faces.load(faces.path)
    synthetic = bool((shown.index["source"] != "real").all())
    if judges is None and not _real(shown):
        raise UsageError(
            "the labels of synthetic faces need judges: give --judges REAL, a set of real people, "
            "preferably people whom the generator never saw"
        )

    # Warn if the judges learn from people whom the generator has seen
    people = None if judges is None else Faces.load(judges.path)
    if (
        people is not None
        and shown.seen is not None
        and set(people.subjects) & set(shown.seen["subject"])
    ):
        say(
            f"the generator of {faces.name} has seen people of the judges, which will therefore "
            "agree with it more than other judges"
        )
    spec = QueueSpec(faces=faces.name, judges=judges.name if judges else "", number=number)

    def build(out: Path, scratch: Path) -> None:
        # The most doubtful image of each clip first
        rows = suspects(shown, people)
        rows = rows.assign(clip=shown.index["clip"].where(shown.index["clip"] != "", rows["key"]))
        rows = rows[rows["rank"] > 0].sort_values("rank")
        rows = (
            rows.assign(turn=rows.groupby("clip").cumcount())
            .sort_values(["turn", "rank"])
            .head(number)
        )

        # Write the table to decide in, and the page of pictures
        table = rows.round(4).assign(number=np.arange(1, len(rows) + 1), set=faces.name)
        table = table.reindex(columns=list(COLUMNS), fill_value="")
        write_csv(table, out / "queue.csv")
        (out / "index.html").write_text(_page(shown, rows, faces.name), encoding="utf-8")
        about = {"holds": f"{many(len(rows), 'label')} to look at", "synthetic": synthetic}
        (out / "summary.json").write_text(json.dumps(about) + "\n", encoding="utf-8")

    return store.make(spec, build, alias)


def _real(faces: Faces) -> bool:
    """Return whether all images are real."""
    return bool((faces.index["source"] == "real").all())


def hand_out(queue: Run, path: Path, store: Store, pictures: bool = False) -> list[Path]:
    """Copy a queue to the CSV file `path`, and the page of pictures next to it; return both paths.

    Pictures of real people do not leave the store unless `pictures` is true; nor do synthetic
    pictures that are copies of real ones, or for which that is unknown. Raises UsageError if a file
    exists already: it may hold decisions.
    """
    # The page may have to stay in the store
    require_free(path)
    path = expanded(path)
    reason = "" if pictures else _kept(queue, store)
    with_pictures = not reason
    if reason:
        say(f"the page of pictures stays in the store: {reason}; --pictures lets it leave")

    # Copy, unless a file is in the way
    pairs = {
        "queue.csv": path,
        **({"index.html": path.with_suffix(".html")} if with_pictures else {}),
    }
    existing = [str(target) for target in pairs.values() if target.exists()]
    if existing:
        raise UsageError(
            f"{', '.join(existing)} exists already and may hold decisions; give another --out, or "
            "delete it"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, target in pairs.items():
        shutil.copyfile(queue.file(name), target)
    return list(pairs.values())


def require_free(path: Path) -> None:
    """Raise UsageError unless a queue can be written to `path`: a CSV file that does not exist."""
    if path.suffix.lower() != ".csv":
        raise UsageError(f"a queue is written to a file that ends in .csv; given: {path}")
    if os.path.lexists(expanded(path)):
        raise UsageError(
            f"{path} exists already and may hold decisions; give another --out, or delete it"
        )
    folders.free_file(path)


def _kept(queue: Run, store: Store) -> str:
    """Return why the pictures of a queue must stay in the store; empty if they show nobody real."""
    if not queue.summary["synthetic"]:
        return "it shows real people"

    # Compare the pictures with every real image that their generator may have seen
    try:
        shown = Faces.load(store.run(queue.spec["faces"]).path)
        table = pd.read_csv(queue.file("queue.csv"), dtype="str", keep_default_na=False)
        keys = {bare(key) for key in table["key"]}
        shown = shown.select(shown.index["key"].isin(keys).to_numpy(dtype=bool))
        copied: set[str] = set()
        real_runs = 0
        for name in _ancestors(queue.spec["faces"], store):
            run = store.run(name)
            other = Faces.load(run.path) if "index.parquet" in run.manifest["files"] else None
            mask = None if other is None else (other.index["source"] == "real").to_numpy(dtype=bool)
            if other is not None and mask is not None and mask.any():
                real_runs += 1
                copied |= set(copies(shown, other if mask.all() else other.select(mask))["image"])
    except StoreError as error:
        return f"it cannot be compared with the images that its generator saw ({error})"

    if not real_runs:
        return "it was made from no real faces that it could be compared with"
    return (
        f"{len(copied)} of its {many(len(shown), 'picture')} show real faces again"
        if copied
        else ""
    )


def _ancestors(name: str, store: Store) -> list[str]:
    """Return the runs that a run was made from, directly or indirectly, and the run itself."""
    runs, waiting = {name: None}, [name]
    while waiting:
        for parent in parents(store.run(waiting.pop()).spec):
            if parent not in runs:
                runs[parent] = None
                waiting.append(parent)
    return list(runs)


def read(path: Path, faces: str | None = None) -> Decisions:
    """Return the decisions in a table with the columns set, key, decision, and optional columns.

    These are relabel and note. A row without a decision is undecided, and left out. `faces` names
    the set if no column does. Raises DataError, which names the row, for an unknown decision or
    emotion, a repeated key, several sets, or no decision at all.
    """
    # The columns, and the one set that they are about
    columns, lines = read_table(path)
    lacking = [name for name in ("key", "decision") if name not in columns]
    if lacking or (faces is None and "set" not in columns):
        lacking = lacking or ["set (or give --set)"]
        raise DataError(
            f"{path} needs the columns set, key and decision; {some(lacking)} is missing. It has "
            f"{some(columns, 12)}"
        )
    rows = [{name: line[place] for place, name in enumerate(columns)} for line in lines]
    sets = {row["set"] for row in rows if row.get("set")} if faces is None else {faces}
    if len(sets) != 1:
        raise DataError(
            f"{path} must be about one set; it names {some(sorted(sets)) or 'none'}. Divide it, or "
            "give --set"
        )

    # One decision per image
    table = [_decision(row, f"{path}, row {number}") for number, row in enumerate(rows, start=2)]
    decided = pd.DataFrame(
        [row for row in table if row["decision"]], columns=["key", "decision", "relabel", "note"]
    )
    repeated_keys = decided["key"][decided["key"].duplicated()].tolist()
    if repeated_keys:
        raise DataError(
            f"{path}: each image needs one decision, and {repeated_keys[0]} has several; keep one "
            "of the rows"
        )
    if decided.empty:
        raise DataError(
            f"{path} has no decision yet; write {', '.join(DECISIONS)} into the column decision"
        )
    return Decisions(sets.pop(), decided.astype("str"))


def apply(decisions: Decisions, store: Store, *, alias: str | None = None) -> Run:
    """Make the run of the reviewed set: without rejected images, and with corrected labels.

    decisions.csv in it says what each image was and has become. The reviewed set itself is never
    changed. Raises DataError for keys that the set does not have, or if no image would be left.
    """
    # Every decision must be about an image of the set, and not all may be rejected
    parent = store.run(decisions.faces)
    faces = Faces.load(parent.path)
    keys = faces.index["key"]
    table = decisions.table.set_index("key")
    unknown_keys = [key for key in table.index if key not in set(keys)]
    if unknown_keys:
        raise DataError(
            f"{len(unknown_keys)} of {many(len(table), 'decision')} name images that "
            f"{parent.name} does not have, such as {some(unknown_keys, 3)}; its keys are like "
            f"{keys.iloc[0]}. Give --set if you mean another set"
        )
    rejected = keys.isin(table.index[table["decision"] == "reject"]).to_numpy(dtype=bool)
    if rejected.all():
        raise DataError(f"all images of {parent.name} are rejected, and no image would be left")

    # The corrected labels
    corrections = table["relabel"][table["decision"] == "relabel"].to_dict()
    emotions = pd.Series(
        [
            corrections.get(key, emotion)
            for key, emotion in zip(keys, faces.index["emotion"], strict=True)
        ],
        dtype="str",
    )
    spec = ReviewedSpec(faces=parent.name, decisions=decisions.digest)

    def build(out: Path, scratch: Path) -> None:
        # What each image was, and has become
        changed = replace(faces, index=faces.index.assign(emotion=emotions))
        before = dict(zip(keys, faces.index["emotion"], strict=True))
        report = decisions.table.sort_values("key").assign(
            before=decisions.table["key"].map(before)
        )
        report["after"] = [
            _after(*row)
            for row in zip(report["decision"], report["before"], report["relabel"], strict=True)
        ]
        write_csv(report[["key", "decision", "before", "after", "note"]], out / "decisions.csv")

        # The set
        write(
            changed.select(~rejected),
            out,
            {"decisions": dict(Counter(report["decision"])), "reviewed": parent.name},
        )

    return store.make(spec, build, alias)


def _decision(row: dict[str, str], where: str) -> dict[str, str]:
    # A known decision
    decision, new_label = row["decision"].lower(), row.get("relabel", "")
    if decision and decision not in DECISIONS:
        hint = nearest(decision, list(DECISIONS))
        raise DataError(
            f"{where}: a decision must be {', '.join(DECISIONS)} or empty; given: "
            f"'{row['decision']}'.{hint}"
        )

    # A known emotion, if and only if the decision is relabel
    emotion = fold(new_label, {}) if new_label else ""
    if decision == "relabel" and not emotion:
        hint = nearest(new_label.lower(), list(EMOTIONS)) if new_label else ""
        raise DataError(
            f"{where}: relabel must be one of {', '.join(EMOTIONS)}; given: '{new_label}'.{hint}"
        )
    if new_label and decision != "relabel":
        decision_text = f"is '{row['decision']}'" if decision else "is empty"
        raise DataError(
            f"{where}: the column relabel says '{new_label}', but the decision {decision_text}; "
            "write relabel as the decision, or empty the column relabel"
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
    # Undefined names in the template are errors
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    # Each row with its picture, numbered as in the table
    positions = {key: number for number, key in enumerate(faces.index["key"])}
    shown = [
        {
            **row,
            "number": number,
            "image": _embedded(np.asarray(faces.images[positions[row["key"]]])),
        }
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
