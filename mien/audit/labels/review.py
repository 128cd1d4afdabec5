"""Review: doubtful labels go out as a table, and a person decides."""

import hashlib
import os
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mien.audit.labels.measure import find_suspects
from mien.audit.leakage.sides import read_table
from mien.audit.memorisation.copies import find_copies
from mien.audit.specs import QueueSpec, ReviewedSpec
from mien.errors import DataError, StoreError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.findings import list_some
from mien.ingest.emotions import find_emotion
from mien.outside import expand_home
from mien.pages.escape import unescape_cell, write_csv
from mien.pages.html import encode_picture, render_html
from mien.pages.sheets import make_picture
from mien.prepare.preprocess import summarise_faces, write_with_sheet
from mien.runs.folders import require_free_file
from mien.runs.progress import quantify, say
from mien.runs.spec import list_parents, suggest
from mien.runs.store import Run, RunSummary, Store

DECISIONS = ("accept", "reject", "relabel")

QUEUE_COLUMNS = (
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

REVIEW_PICTURE_WIDTH = 96  # width of a picture on the page, at least


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


def make_queue(
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
    pictured = Faces.load(faces.path)
    synthetic = bool((pictured.index["source"] != "real").all())
    if judges is None and not _is_real(pictured):
        raise UsageError(
            "the labels of synthetic faces need judges: give --judges REAL, a set of real people, "
            "preferably people whom the generator never saw"
        )

    # Warn if the judges learn from people whom the generator has seen
    people = None if judges is None else Faces.load(judges.path)
    if (
        people is not None
        and pictured.seen is not None
        and set(people.subjects) & set(pictured.seen["subject"])
    ):
        say(
            f"the generator of {faces.name} has seen people of the judges, which will therefore "
            "agree with it more than other judges"
        )
    spec = QueueSpec(
        faces=faces.name,
        judges=judges.name if judges else "",
        number=number,
        channels=(pictured if people is None else people).channels,
    )

    def build(out: Path, scratch: Path) -> RunSummary:
        # The most doubtful image of each clip first
        rows = find_suspects(pictured, people)
        rows = rows.assign(clip=pictured.name_units("clip"))
        rows = rows[rows["rank"] > 0].sort_values("rank")
        rows = (
            rows.assign(turn=rows.groupby("clip").cumcount())
            .sort_values(["turn", "rank"])
            .head(number)
        )

        # Write the table to decide in, and the page of pictures
        table = rows.round(4).assign(number=np.arange(1, len(rows) + 1), set=faces.name)
        table = table.reindex(columns=list(QUEUE_COLUMNS), fill_value="")
        write_csv(table, out / "queue.csv")
        (out / "index.html").write_text(_render_page(pictured, rows, faces.name), encoding="utf-8")
        return {"holds": f"{quantify(len(rows), 'label')} to look at", "synthetic": synthetic}

    return store.make(spec, build, alias)


def _is_real(faces: Faces) -> bool:
    """Return whether all images are real."""
    return bool((faces.index["source"] == "real").all())


def copy_queue(queue: Run, path: Path, store: Store, pictures: bool = False) -> list[Path]:
    """Copy a queue to the CSV file `path`, and the page of pictures next to it; return both paths.

    Pictures of real people do not leave the store unless `pictures` is true; nor do synthetic
    pictures that are copies of real ones, or for which that is unknown. Raises UsageError if a file
    exists already: it may hold decisions.
    """
    # The page may have to stay in the store
    require_free_queue(path)
    path = expand_home(path)
    reason = "" if pictures else _explain_why_kept(queue, store)
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
        shutil.copyfile(queue.find_file(name), target)
    return list(pairs.values())


def require_free_queue(path: Path) -> None:
    """Raise UsageError unless a queue can be written to `path`: a CSV file that does not exist."""
    if path.suffix.lower() != ".csv":
        raise UsageError(f"a queue is written to a file that ends in .csv; given: {path}")
    if os.path.lexists(expand_home(path)):
        raise UsageError(
            f"{path} exists already and may hold decisions; give another --out, or delete it"
        )
    require_free_file(path)


def _explain_why_kept(queue: Run, store: Store) -> str:
    """Return why the pictures of a queue must stay in the store; empty if they show nobody real."""
    if not queue.summary["synthetic"]:
        return "it shows real people"

    # Compare the pictures with every real image that their generator may have seen
    try:
        database = Faces.load(store.run(queue.spec["faces"]).path)
        table = pd.read_csv(queue.find_file("queue.csv"), dtype="str", keep_default_na=False)
        keys = {unescape_cell(key) for key in table["key"]}
        database = database.select(database.index["key"].isin(keys).to_numpy(dtype=bool))
        copied: set[str] = set()
        real_runs = 0
        for name in _find_ancestors(queue.spec["faces"], store):
            run = store.run(name)
            parent_faces = (
                Faces.load(run.path) if "index.parquet" in run.manifest["files"] else None
            )
            mask = (
                None
                if parent_faces is None
                else (parent_faces.index["source"] == "real").to_numpy(dtype=bool)
            )
            if parent_faces is not None and mask is not None and mask.any():
                real_runs += 1
                copied |= set(
                    find_copies(
                        database, parent_faces if mask.all() else parent_faces.select(mask)
                    )["image"]
                )
    except StoreError as error:
        return f"it cannot be compared with the images that its generator saw ({error})"

    if not real_runs:
        return "it was made from no real faces that it could be compared with"
    return (
        f"{len(copied)} of its {quantify(len(database), 'picture')} show real faces again"
        if copied
        else ""
    )


def _find_ancestors(name: str, store: Store) -> list[str]:
    """Return the runs that a run was made from, directly or indirectly, and the run itself."""
    runs, waiting = {name: None}, [name]
    while waiting:
        for parent in list_parents(store.run(waiting.pop()).spec):
            if parent not in runs:
                runs[parent] = None
                waiting.append(parent)
    return list(runs)


def read_decisions(path: Path, faces: str | None = None) -> Decisions:
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
            f"{path} needs the columns set, key and decision; {list_some(lacking)} is missing. It "
            f"has {list_some(columns, 12)}"
        )
    rows = [{name: line[column] for column, name in enumerate(columns)} for line in lines]
    sets = {row["set"] for row in rows if row.get("set")} if faces is None else {faces}
    if len(sets) != 1:
        raise DataError(
            f"{path} must be about one set; it names {list_some(sorted(sets)) or 'none'}. Divide "
            "it, or give --set"
        )

    # One decision per image
    table = [
        read_decision(row, f"{path}, row {number}") for number, row in enumerate(rows, start=2)
    ]
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


def apply_decisions(decisions: Decisions, store: Store, *, alias: str | None = None) -> Run:
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
            f"{len(unknown_keys)} of {quantify(len(table), 'decision')} name images that "
            f"{parent.name} does not have, such as {list_some(unknown_keys, 3)}; its keys are like "
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

    def build(out: Path, scratch: Path) -> RunSummary:
        # What each image was, and has become
        changed = replace(faces, index=faces.index.assign(emotion=emotions))
        before = dict(zip(keys, faces.index["emotion"], strict=True))
        report = decisions.table.sort_values("key").assign(
            before=decisions.table["key"].map(before)
        )
        report["after"] = [
            _decide_label(*row)
            for row in zip(report["decision"], report["before"], report["relabel"], strict=True)
        ]
        write_csv(report[["key", "decision", "before", "after", "note"]], out / "decisions.csv")

        # The set
        kept_faces = changed.select(~rejected)
        write_with_sheet(kept_faces, out)
        return {
            **summarise_faces(kept_faces),
            "decisions": dict(Counter(report["decision"])),
            "reviewed": parent.name,
        }

    return store.make(spec, build, alias)


def read_decision(row: dict[str, str], where: str) -> dict[str, str]:
    """Return the key, decision, relabel and note of a row, in mien's words.

    An empty decision is none. Raises DataError, which begins with `where`, for an unknown decision
    or emotion, or if only one of relabel and its emotion is given.
    """
    # A known decision
    decision, new_label = row["decision"].lower(), row.get("relabel", "")
    if decision and decision not in DECISIONS:
        hint = suggest(decision, list(DECISIONS))
        raise DataError(
            f"{where}: a decision must be {', '.join(DECISIONS)} or empty; given: "
            f"'{row['decision']}'.{hint}"
        )

    # A known emotion, if and only if the decision is relabel
    emotion = find_emotion(new_label, {}) if new_label else ""
    if decision == "relabel" and not emotion:
        hint = suggest(new_label.lower(), list(EMOTIONS)) if new_label else ""
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


def _decide_label(decision: str, before: str, relabel: str) -> str:
    return {"accept": before, "reject": "", "relabel": relabel}[decision]


def _render_page(faces: Faces, rows: pd.DataFrame, name: str) -> str:
    # Each row with its picture, numbered as in the table
    positions = {key: number for number, key in enumerate(faces.index["key"])}
    listed = [
        {
            **row,
            "number": number,
            "image": _embed_picture(faces.show_pictures([positions[row["key"]]])[0]),
        }
        for number, row in enumerate(rows.to_dict("records"), start=1)
    ]
    content = {
        "rows": listed,
        "name": name,
        "real": _is_real(faces),
        "licences": sorted(set(faces.index["licence"])),
        "decisions": DECISIONS,
    }
    return render_html("review.html", content)


def _embed_picture(image: np.ndarray) -> str:
    return encode_picture(make_picture(image, max(1, REVIEW_PICTURE_WIDTH // image.shape[1])))
