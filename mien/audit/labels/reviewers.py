"""Reviewers: the decisions of each are saved one by one, and compared."""

import json
import re
import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mien import metrics
from mien.audit.labels.review import QUEUE_COLUMNS, read_decision
from mien.audit.leakage.sides import read_table
from mien.errors import DataError, StoreError, UsageError
from mien.faces import EMOTIONS
from mien.outside import describe_system_error, read_text
from mien.pages.escape import write_csv
from mien.runs.files import write_file
from mien.runs.store import Run, Store
from mien.stats import Interval, bootstrap, make_interval

REVIEWS_FOLDER = "reviews"  # in the store: a folder for each queue, a table for each reviewer

REVIEWER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z")

REJECTED = "reject"  # the answer of a reviewer who rejects an image

_lock = threading.Lock()  # one decision at a time is written by this process


@dataclass(frozen=True)
class ReviewRow:
    """A row of a queue with what a reviewer decided.

    `emotion` is its label and `predicted` the class that judges find likeliest; `decision` is
    empty, accept, reject or relabel, and `relabel` the new label.
    """

    number: int
    key: str
    emotion: str
    predicted: str
    probability: float
    margin: float
    decision: str
    relabel: str
    note: str

    @property
    def answer(self) -> str:
        """What the reviewer says that the image shows, REJECTED, or nothing yet."""
        return {"accept": self.emotion, "relabel": self.relabel, "reject": REJECTED}.get(
            self.decision, ""
        )


class Review:
    """A queue as one reviewer decides it; each decision is saved at once, and can be undone.

    The table `path` is one that `mien review apply` reads.
    """

    def __init__(self, queue: Run, reviewer: str, store: Store) -> None:
        if queue.stage != "review":
            raise StoreError(
                f"a queue of `mien review queue` must be named, and {queue.name} is none; `mien ls "
                "review` lists the queues"
            )
        require_reviewer(reviewer)
        self.queue, self.reviewer = queue, reviewer
        folder = store.root / REVIEWS_FOLDER / queue.name
        self.path, self._history = folder / f"{reviewer}.csv", folder / f"{reviewer}.history.json"

    @property
    def rows(self) -> list[ReviewRow]:
        """All rows of the queue, with what was decided so far."""
        return [_make_row(row) for row in self._read_rows()]

    def decide(self, key: str, decision: str, relabel: str = "", note: str = "") -> ReviewRow:
        """Save a decision on the image `key`, and return its row.

        `decision` is accept, reject or relabel, with an emotion as `relabel`; an empty one takes a
        decision back. A relabel to the label that the image has is an acceptance. Raises DataError
        for an unknown decision or emotion, or a key that the queue does not have.
        """
        given = {"key": key, "decision": decision, "relabel": relabel, "note": note}
        checked = read_decision(given, self.queue.name)
        with _lock:
            rows = self._read_rows()
            row = _find_row(rows, key, self.queue.name)
            if checked["relabel"] == row["emotion"]:
                checked |= {"decision": "accept", "relabel": ""}
            before = {name: row[name] for name in ("key", "decision", "relabel", "note")}
            row |= checked
            self._write(rows, [*self._read_history(), before])
        return _make_row(row)

    def undo(self) -> ReviewRow | None:
        """Take the last decision back, and return its row; None if there is none."""
        with _lock:
            rows, history = self._read_rows(), self._read_history()
            if not history:
                return None
            row = _find_row(rows, history[-1]["key"], self.queue.name)
            row |= history[-1]
            self._write(rows, history[:-1])
        return _make_row(row)

    def _read_rows(self) -> list[dict[str, str]]:
        """Return the reviewer's rows, or those of the queue if nothing was decided yet."""
        path = self.path if self.path.exists() else self.queue.find_file("queue.csv")
        columns, lines = read_table(path)
        rows = [dict(zip(columns, line, strict=True)) for line in lines]
        return [{name: row.get(name, "") for name in QUEUE_COLUMNS} for row in rows]

    def _read_history(self) -> list[dict[str, str]]:
        """Return what each decision replaced, the last one last."""
        if not self._history.exists():
            return []
        try:
            return list(json.loads(read_text(self._history)))
        except (UsageError, ValueError, TypeError):
            return []  # only undo is lost

    def _write(self, rows: list[dict[str, str]], history: Sequence[dict[str, str]]) -> None:
        """Write the table, and then what it replaced, each whole or not at all."""
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(pd.DataFrame(rows, columns=list(QUEUE_COLUMNS)), temporary)
            temporary.replace(self.path)
            write_file(self._history, json.dumps(list(history)) + "\n")
        except OSError as error:
            text = describe_system_error(error, self.path)
            raise StoreError(f"the decision could not be saved; {text}") from error
        finally:
            temporary.unlink(missing_ok=True)


def require_reviewer(name: str) -> None:
    """Raise UsageError unless `name` can name a reviewer, and so a file."""
    if not REVIEWER_NAME.match(name):
        raise UsageError(
            "the name of a reviewer must be 1 to 40 letters, digits, '_' or '-', and begin with a "
            f"letter or digit; given: '{name[:60]}'"
        )


def list_reviewers(queue: Run, store: Store) -> list[str]:
    """Return the names of all who decided something about a queue, sorted."""
    folder = store.root / REVIEWS_FOLDER / queue.name
    names = [path.stem for path in folder.glob("*.csv")] if folder.is_dir() else []
    return sorted(name for name in names if REVIEWER_NAME.match(name))


# Agreement


@dataclass(frozen=True)
class ReviewerAgreement:
    """How far two reviewers agree on the `n` images that both decided; `same` answers are equal.

    `kappa` is Cohen's kappa with its 95 % interval over images; it is nan if it says nothing,
    because both gave one answer to all images or because n is 0. `differing` are the keys of the
    images on which they differ, in the order of the queue.
    """

    n: int
    same: int
    kappa: Interval
    differing: tuple[str, ...]


def compare_reviewers(first: Sequence[ReviewRow], second: Sequence[ReviewRow]) -> ReviewerAgreement:
    """Return how far two reviewers of one queue agree, by label or rejection of each image."""
    answers = {row.key: row.answer for row in second if row.answer}
    pairs = [
        (row.key, row.answer, answers[row.key])
        for row in first
        if row.answer and row.key in answers
    ]
    if not pairs:
        nothing = float("nan")
        return ReviewerAgreement(0, 0, Interval(nothing, nothing, nothing), ())

    # A matrix with a single 1 for each image, so that images can be resampled
    number = {name: place for place, name in enumerate((*EMOTIONS, REJECTED))}
    counts = np.zeros((1, len(pairs), len(number), len(number)))
    for place, (_, one, other) in enumerate(pairs):
        counts[0, place, number[one], number[other]] = 1
    value = float(metrics.compute_kappa(counts.sum(axis=(0, 1))))
    drawn = bootstrap(counts, metrics.compute_kappa, "kappa")
    if drawn is None or np.isnan(drawn).all() or np.isnan(value):
        drawn = None
    return ReviewerAgreement(
        n=len(pairs),
        same=sum(one == other for _, one, other in pairs),
        kappa=make_interval(value, drawn),
        differing=tuple(key for key, one, other in pairs if one != other),
    )


# Rows


def _find_row(rows: list[dict[str, str]], key: str, queue: str) -> dict[str, str]:
    row = next((row for row in rows if row["key"] == key), None)
    if row is None:
        raise DataError(f"{queue} has no image '{key[:80]}'; reload the page")
    return row


def _make_row(row: dict[str, str]) -> ReviewRow:
    return ReviewRow(
        number=int(row["number"]),
        key=row["key"],
        emotion=row["emotion"],
        predicted=row["predicted"],
        probability=float(row["probability"] or "nan"),
        margin=float(row["margin"] or "nan"),
        decision=row["decision"],
        relabel=row["relabel"],
        note=row["note"],
    )
