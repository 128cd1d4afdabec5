"""The table of a study that goes with a release: its numbers are those of the study's own
records.
"""

import math
from pathlib import Path

import pandas as pd
import pytest
from release_world import answer, world
from worlds import keep, more_blobs, written_study

from mien.errors import StoreError
from mien.publish import checking, release
from mien.publish.results import write_study
from mien.runs.store import Store


def test_a_release_carries_the_table_of_a_study(tmp_path: Path):
    home = world(tmp_path / "w")
    keep(more_blobs(96, 6), home.store, "blobs")
    found = written_study(
        home.store, name="worth", controls=["nearest"], settings=["real_to_real"], trials=1
    )
    answer(home.answers, home.store, "made")
    folder = release.build(
        "made", tmp_path / "out", home.store, home.answers, study_names=["worth"]
    )
    table = pd.read_csv(folder / "results" / "worth.csv", keep_default_na=False, na_values=[""])
    cells = {
        (cell.setting, cell.classifier, cell.level, cell.control): cell
        for cell in [*found.cells, *found.controls]
    }
    assert len(table) == len(cells)
    for row in table.to_dict("records"):
        cell = cells[
            row["setting"],
            row["classifier"],
            row["level"],
            row["control"] if row["control"] == row["control"] else "",
        ]
        assert (
            row["accuracy_value"] == pytest.approx(cell.average_trials("accuracy"))
            and row["n"] == cell.n
        )
        interval = cell.estimate_interval("accuracy")
        assert interval is not None and (
            row["accuracy_low"] == pytest.approx(interval.low, nan_ok=True)
        )
    text = (folder / "results" / "worth.md").read_text()
    assert "this database is none of those" in text and "1-nearest neighbour" in text
    assert "results/worth.md" in (folder / "README.md").read_text()
    assert checking.check(folder, libraries=False)


def test_a_missing_trial_is_a_hole(tmp_path: Path):
    store = Store(tmp_path / "store")
    keep(more_blobs(96, 6), store, "blobs")
    written_study(store, name="holes", done=lambda row: False)
    assert write_study(tmp_path, "holes", "generate-0123456789ab", store) == "holes"
    table = pd.read_csv(tmp_path / "results" / "holes.csv")
    assert len(table) and all(math.isnan(value) for value in table["accuracy_value"])


def test_a_study_that_was_never_run_is_told(tmp_path: Path):
    with pytest.raises(StoreError):
        write_study(tmp_path, "nothing", "generate-0123456789ab", Store(tmp_path / "store"))
