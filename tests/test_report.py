"""Reports: numbers are those of the records, holes are holes, and the page needs nobody else."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import f1_score, recall_score
from test_classifiers import blobs
from test_study import FOUR, SMALL, failing, keep, table

from mien import published, report, study
from mien.errors import SpecError, StoreError, TrialsFailed
from mien.faces import Faces
from mien.store import Store

COMMON = {key: value for key, value in SMALL.items() if key != "name"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A finished study of all settings by subject, with its report."""
    store = Store(tmp_path_factory.mktemp("finished") / "store")
    keep(blobs(), store, "blobs")
    study.run(study.resolve(table(settings=[*FOUR, "both_to_real"]), store), store, device="cpu")
    return store, report.make("small", store, store.root.parent / "report").parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Store(tmp_path / "store")
    keep(blobs(), home, "blobs")
    return home


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "tables.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def words(path: Path) -> str:
    return " ".join(Page(path).text.split())


# The page


def test_the_page_loads_nothing_from_anywhere(finished: tuple[Store, Path]):
    page = Page(finished[1] / "report.html")
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:image/png;base64,") or name not in attributes
    assert not re.search(r"https?://|url\(|@import", (finished[1] / "report.html").read_text())


def test_pictures_have_words_and_headers_a_scope(finished: tuple[Store, Path]):
    tags = Page(finished[1] / "report.html").tags
    assert all(attributes.get("alt") for tag, attributes in tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in tags if tag == "svg")
    assert all(attributes.get("scope") in ("row", "col") for tag, attributes in tags if tag == "th")
    assert sum(tag == "h1" for tag, _ in tags) == 1
    assert ("html", {"lang": "en"}) in tags


def test_it_says_what_was_run_and_what_that_means(finished: tuple[Store, Path]):
    store, folder = finished
    text = words(folder / "report.html")
    for part in (
        "Test people unseen",
        "12 of 12 trainings are done",
        store.resolve("small"),
        store.resolve("blobs"),
        "by subject, 2 folds",
        "Trained from random weights (weights = none): tiny",
        "Tests on synthetic faces show whether classifier and generator agree",
        "Each clip counts once",
    ):
        assert part in text
    assert "Failed trials" not in text


def test_by_frame_it_says_that_test_frames_were_seen(store: Store, tmp_path: Path):
    study.run(study.resolve(table(protocol="frame", folds=5, trials=1), store), store, device="cpu")
    path = report.make("small", store, tmp_path / "out")
    assert "As published: test frames seen in training" in words(path)
    assert "As published: test frames seen in training" in (tmp_path / "out" / "report.md").read_text()
    assert "Each clip counts once" not in words(path)


def test_names_and_errors_cannot_break_the_page(store: Store, tmp_path: Path):
    spec = study.resolve(table(trials=1), store)
    study.run(spec, store, device="cpu")
    name = study.trials(spec, store)[0].name
    shutil.rmtree(store.root / "runs" / name)
    study.note_failure(store, name, ValueError("<script>alert(1)</script> | &"))
    path = report.make("small", store, tmp_path / "out")
    assert "script" not in [tag for tag, _ in Page(path).tags]
    assert "<script>alert(1)</script> | &" in words(path)


# Numbers


def test_every_record_stands_in_the_table_for_programs(finished: tuple[Store, Path]):
    store, folder = finished
    written = {
        (row["run"], f"{row['test']}/{row['level']}/{row['metric']}"): (float(row["value"]), int(row["n"]))
        for row in rows(folder)
        if row["source"] == "record"
    }
    expected = {
        (trial["run"], record["metric"]): (record["value"], record["n"])
        for trial in store.run("small").json("plan.json")["trials"]
        for record in store.run(trial["run"]).json("records.json")
    }
    assert written == expected


def test_pooled_accuracy_is_the_share_of_right_answers_over_all_folds(finished: tuple[Store, Path]):
    table = rows(finished[1])
    key = {"setting": "real_to_real", "trial": "2", "level": "images", "metric": "accuracy"}
    part = [row for row in table if all(row[name] == value for name, value in key.items())]
    folds = [row for row in part if row["fold"] != "all"]
    (pooled,) = [row for row in part if row["fold"] == "all"]
    right = sum(float(row["value"]) * int(row["n"]) for row in folds)
    assert (len(folds), int(pooled["n"])) == (2, 96)
    assert float(pooled["value"]) == pytest.approx(right / 96)


@pytest.mark.parity
def test_pooled_uf1_and_uar_are_those_of_all_folds_predictions_together(finished: tuple[Store, Path]):
    store, folder = finished
    trials = store.run("small").json("plan.json")["trials"]
    runs = [store.run(row["run"]) for row in trials if (row["train"], row["trial"]) == ("both", 0)]
    whole = pd.concat([pd.read_parquet(run.file("predictions.parquet")) for run in runs])
    expected = {
        "uf1": f1_score(whole["true"], whole["predicted"], average="macro"),
        "uar": recall_score(whole["true"], whole["predicted"], average="macro"),
    }
    written = {
        row["metric"]: float(row["value"])
        for row in rows(folder)
        if (row["setting"], row["level"], row["fold"], row["trial"]) == ("both_to_real", "images", "all", "1")
    }
    assert len(runs) == 2
    assert {name: written[name] for name in expected} == pytest.approx(expected)


def test_page_and_markdown_print_the_mean_and_spread_of_the_trials(finished: tuple[Store, Path]):
    values = [
        float(row["value"])
        for row in rows(finished[1])
        if (row["setting"], row["level"], row["metric"], row["source"])
        == ("both_to_real", "images", "accuracy", "pooled")
    ]
    assert len(values) == 2
    mean, sd = 100 * np.mean(values), 100 * np.std(values, ddof=1)
    assert f"real + synthetic → real {mean:.1f} ± {sd:.1f} (2)" in words(finished[1] / "report.html")
    assert f"| real + synthetic → real | {mean:.1f} ± {sd:.1f} (2)" in (finished[1] / "report.md").read_text()


def test_the_constant_answer_stands_beside_each_row(finished: tuple[Store, Path]):
    found = report.Study("small", finished[0])
    cell = found.cell("real_to_real", "tiny")
    assert cell is not None
    assert cell.constant("accuracy") == 0.25  # four equal classes
    assert cell.constant("uar") == 0.25
    assert cell.constant("uf1") == pytest.approx(0.1)


def test_confusion_matrices_add_up_to_the_tests(finished: tuple[Store, Path]):
    content = report._content(report.Study("small", finished[0]))
    assert len(content["confusions"]) == 5
    first = content["confusions"][0]
    assert [row["total"] for row in first["rows"]] == [48] * 4  # 24 images a class, two trials
    assert all(sum(cell["share"] for cell in row["cells"]) == pytest.approx(1) for row in first["rows"])


def test_published_numbers_stand_beside_ours_and_are_labelled(store: Store, tmp_path: Path):
    names = {"resnet50": {"size": 32, "weights": "none", "epochs": 1}, "vgg16": {"name": "tiny"}}
    spec = study.resolve(table(classifiers=[*names], classifier={**COMMON, **names}, trials=1), store)
    study.run(spec, store, device="cpu")
    text = words(report.make("small", store, tmp_path / "out"))
    assert published.average("real_to_real", "resnet50") == 88.34
    assert "published 88.34" in text
    assert "the average that the preprint prints for the same setting and network, on CASME II under random" in text
    assert "99.33" not in text  # a tiny network that was named vgg16 is not the preprint's
    shown = [row for row in rows(tmp_path / "out") if row["source"] == "published"]
    assert [(row["classifier"], float(row["value"])) for row in shown] == [("resnet50", 0.8834)]


# Holes


def test_a_missing_trial_is_a_hole_and_never_a_mean_of_the_rest(finished: tuple[Store, Path], tmp_path: Path):
    store = Store(tmp_path / "store")
    shutil.copytree(finished[0].root, store.root)
    trials = store.run("small").json("plan.json")["trials"]
    gone = next(row["run"] for row in trials if (row["train"], row["trial"], row["fold"]) == ("both", 1, 1))
    shutil.rmtree(store.root / "runs" / gone)
    path = report.make("small", store, tmp_path / "out")
    assert "real + synthetic → real \u2013 1 of 2 trials" in words(path)
    assert "11 of 12 trainings are done, 1 are still to come" in words(path)
    assert "real → real \u2013" not in words(path)
    assert "Adding the synthetic faces" not in words(path)
    kept = [r["trial"] for r in rows(path.parent) if (r["setting"], r["source"]) == ("both_to_real", "pooled")]
    assert set(kept) == {"1"}


def test_a_report_of_a_study_that_has_only_begun(store: Store, tmp_path: Path):
    spec = study.resolve(table(settings=[*FOUR, "both_to_real"]), store)
    todo = study.plan(spec, store)
    store.make(spec, lambda out, scratch: study._write_study(todo, out), alias="small")
    text = words(report.make("small", store, tmp_path / "out"))
    assert "0 of 12 trainings are done, 12 are still to come" in text
    assert "real → real \u2013 0 of 2 trials" in text
    assert rows(tmp_path / "out") == []


def test_failed_trials_are_listed_with_their_first_error(store: Store, tmp_path: Path):
    with pytest.raises(TrialsFailed):
        study.run(study.resolve(failing(), store), store, device="cpu")
    text = words(report.make("small", store, tmp_path / "out"))
    assert "2 of 4 trainings are done, 2 failed" in text
    assert "wild trained on real, trial 1, fold 1" in text
    assert "the loss of tiny must stay finite" in text
    assert "\u2013 0 of 1 trials" in text
    assert "the loss of tiny must stay finite" in (tmp_path / "out" / "report.md").read_text()


# Around it


@pytest.mark.parametrize(("licence", "warned"), [("CC0 1.0", False), ("research only", True), ("unknown", True)])
def test_pictures_of_real_people_come_with_a_warning(
    tmp_path: Path, licence: str, warned: bool, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    faces = blobs(48)
    keep(Faces(faces.images, faces.index.assign(licence=licence)), store, "blobs")
    study.run(study.resolve(table(trials=1), store), store, device="cpu")
    path = report.make("small", store, tmp_path / "out")
    assert (f"contains images of {licence}; do not publish" in capfd.readouterr().err) is warned
    assert ("Not for publication" in words(path)) is warned


def test_the_terminal_shows_a_row_a_setting(finished: tuple[Store, Path]):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.terminal("small", finished[0]))
    text = console.export_text()
    for name in report.SETTINGS.values():
        assert name in text
    assert "12 of 12 trainings done" in text and "…" not in text


def test_a_study_is_found_by_its_file_too(finished: tuple[Store, Path], tmp_path: Path):
    (tmp_path / "a.toml").write_text('name = "small"')
    assert report.Study(str(tmp_path / "a.toml"), finished[0]).title == "small"
    (tmp_path / "a.toml").write_text('name = "other"')
    with pytest.raises(StoreError, match="has not been run"):
        report.Study(str(tmp_path / "a.toml"), finished[0])
    (tmp_path / "a.toml").write_text("")
    with pytest.raises(SpecError, match="must be a study with a name"):
        report.Study(str(tmp_path / "a.toml"), finished[0])


def test_what_is_no_study_has_no_report(store: Store):
    with pytest.raises(StoreError, match="a report is made of a study"):
        report.make("blobs", store)


def test_settings_are_those_of_studies():
    assert list(report.SETTINGS) == list(study.SETTINGS)


def test_a_report_needs_no_torch(finished: tuple[Store, Path], tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from mien import report; from mien.store import Store;"
        f"report.make('small', Store(Path({str(finished[0].root)!r})), Path({str(tmp_path)!r}));"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "report.html").read_text() == (finished[1] / "report.html").read_text()


def test_the_plot_has_a_dot_for_each_trial(finished: tuple[Store, Path]):
    tags: list[tuple[str, dict[str, Any]]] = Page(finished[1] / "report.html").tags  # type: ignore[assignment]
    assert sum(tag == "circle" for tag, _ in tags) == 5 * 2
    assert json.dumps(tags).count('"class": "mean"') == 5
