"""Numbers of single images, from audits, filters and splits."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from mien.errors import StoreError
from mien.runs.store import Run, Store
from mien.studio.sets import FaceSet, ImageTables
from mien.study.sources import INDEX_FILE

NUMBER_WORDS: Mapping[str, str] = {
    "distance": "distance to the nearest training face",
    "agreed": "agreement of the judges with the label",
    "entropy": "entropy of the judges (nats)",
    "probability": "probability of the label",
    "margin": "margin of the label over the next class",
    "ratio_clip": "distance ratio: nearest clip to the next clip",
    "ratio_subject": "distance ratio: nearest person to the next person",
    "ratio_identity": "distance ratio of identity features",
    "bits": "bits between the perceptual hashes of it and the nearest training face",
    "rank": "rank of doubt about the label",
}
"""The columns of audits and filters in words, those that people sort by first."""

FLAG_WORDS: Mapping[str, str] = {
    "is_copy": "copy of a training face",
    "exact": "equal pixels to a training face",
    "alarm": "nearer to one training clip than 99 in 100 held-out faces",
    "alarm_subject": "nearer to one training person than 99 in 100 held-out faces",
    "extreme": "nearer to one training person than one more person would be",
    "suspect": "doubtful label",
}
"""The flags of audits in words."""

TEXT_WORDS: Mapping[str, str] = {
    "nearest": "nearest training face",
    "copy_of": "copy of the training face",
    "subject": "most similar training person",
    "predicted": "class that the judges see",
    "outcome": "outcome of the filter",
}
"""The texts of audits and filters in words."""

MOVE_COLUMNS = ("mirrored", "down", "right")


def describe_column(name: str) -> str:
    """Return a column or flag in words; that of another space of features says which one."""
    for words in (NUMBER_WORDS, FLAG_WORDS, TEXT_WORDS):
        if name in words:
            return words[name]
        for column, text in words.items():
            if name.startswith(f"{column}_"):
                return f"{text}, in the space {name.removeprefix(f'{column}_')}"
    return name.replace("_", " ")


def read_tables(face_set: FaceSet, store: Store) -> ImageTables:
    """Return what the newest audit, filter and splits of a set say about its images."""
    # Of each stage the newest run about this set; a split has two sides in each fold
    stages: dict[str, Run] = {}
    sides: list[Run] = []
    for run in list_runs_about(face_set.name, store):
        if run.stage == "split":
            sides.append(run)
        else:
            stages[run.stage] = run
    origins = tuple(run.name for run in [*stages.values(), *sides])
    if face_set.tables is not None and face_set.tables.origins == origins:
        return face_set.tables

    # Their tables, by the keys of the set
    tables = ImageTables(origins=origins)
    keys = pd.Index(face_set.columns["key"])
    if "filter" in stages:
        _add_columns(tables, _read_rows(stages["filter"], "judgements.parquet", keys))
    if "audit" in stages:
        _add_columns(tables, _read_rows(stages["audit"], "rows.parquet", keys))
        tables.train = str(stages["audit"].spec["train"])
        tables.test = str(stages["audit"].spec["test"])
    alias_of = {run: alias for alias, run in store.read_aliases().items()}
    for run in sides:
        spec = run.spec
        name = alias_of.get(run.name, f"{spec['by']} fold {spec['number']}, {spec['side']} side")
        members = pd.read_parquet(run.path / INDEX_FILE, columns=["key"])["key"]
        tables.splits[name] = keys.isin(members)
    face_set.tables = tables
    return tables


def list_runs_about(name: str, store: Store) -> Iterator[Run]:
    """Yield the audits, filters and splits of a set, oldest first."""
    fields = {"audit": "synthetic", "filter": "database", "split": "faces"}
    for run_name in store.list_names():
        run = Run(run_name, store.root / "runs" / run_name)
        if run.stage not in fields:
            continue
        try:
            if run.spec.get(fields[run.stage]) == name:
                yield run
        except StoreError:  # `mien verify` reports what cannot be read
            continue


def _read_rows(run: Run, file: str, keys: pd.Index) -> pd.DataFrame:
    """Return a table of a run with a row for each of `keys`, in their order."""
    table = pd.read_parquet(run.path / file)
    return table.set_index("key").reindex(keys).drop(columns="emotion", errors="ignore")


def _add_columns(tables: ImageTables, rows: pd.DataFrame) -> None:
    """Add the columns of a table: numbers, flags and texts."""
    for name in rows.columns:
        column = rows[name]
        if name in MOVE_COLUMNS:
            tables.moves[name] = column.fillna(0).to_numpy(dtype=np.int64)
            continue
        values = column.dropna()
        if len(values) and all(isinstance(value, bool | np.bool_) for value in values.iloc[:50]):
            tables.flags[name] = column.eq(True).to_numpy(dtype=bool)
        elif pd.api.types.is_numeric_dtype(column):
            tables.numbers[name] = column.to_numpy(dtype=np.float64)
        else:
            tables.texts[name] = column.fillna("").to_numpy(dtype=object)
    if "copy" in tables.texts:
        tables.flags["is_copy"] = tables.texts.pop("copy") != ""
