"""Reports: numbers are those of the records, holes are holes, and the page needs nobody else."""

import csv
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import drawn
import numpy as np
import pandas as pd
import pytest
from release_world import faces
from rich.console import Console
from safetensors.torch import save_file
from sklearn.metrics import f1_score, recall_score
from web_pages import find_faults, read_page
from worlds import (
    ALL_CONTROLS,
    FIVE_SETTINGS,
    FOUR_SETTINGS,
    blobs,
    failing,
    keep,
    modest,
    more_blobs,
    table,
    written_study,
)

from mien import published
from mien.classifiers import pretrained
from mien.classifiers.networks import Tiny
from mien.errors import StoreError, TrialsFailed, UsageError
from mien.faces import Faces, concatenate
from mien.pages import charts, tables
from mien.pages.tables import ReportTable, TableCell, make_row
from mien.report import comparison, preprint
from mien.report.content import collect_content
from mien.report.gallery import select_without_copies
from mien.report.sentences import format_signed, list_failure_reasons
from mien.report.terminal import make_terminal_table
from mien.report.words import list_missed_controls
from mien.report.write import format_plain_value, write_report
from mien.runs.jobs import note_failure
from mien.runs.spec import Spec
from mien.runs.store import Store
from mien.study import sources
from mien.study.file import resolve
from mien.study.predictions import read_predictions, score_predictions
from mien.study.results import StudyResults
from mien.study.run import run_study
from mien.study.settings import SETTINGS
from mien.study.specs import TrialRow
from mien.study.status import describe_trial

NETWORKS = {"vgg16": {}, "resnet50": {}}
GRID: dict[str, Any] = {
    "classifiers": list(NETWORKS),
    "classifier": {"size": 32, "weights": "none", **NETWORKS},
    "ablations": ["plain", "freeze30"],
    "settings": FOUR_SETTINGS,
    "controls": ALL_CONTROLS,
    "faces": "sevens",
}


def sevens() -> Faces:
    """People who show the preprint's seven classes, one in each clip."""
    faces = more_blobs(96, 6)
    clips = sorted(set(faces.index["clip"]))
    return Faces(
        faces.images,
        faces.index.assign(
            emotion=[
                published.PREPRINT_CLASSES[clips.index(clip) % 7] for clip in faces.index["clip"]
            ]
        ),
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("home") / "store")
    keep(more_blobs(96, 6), store, "blobs")
    keep(sevens(), store, "sevens")
    return store


@pytest.fixture(scope="module")
def finished(home: Store) -> tuple[Store, Path]:
    """A study of all settings by subject, one classifier and no controls, with its report."""
    written_study(home, settings=FIVE_SETTINGS)
    return home, write_report("small", home, home.root.parent / "report").parent


@pytest.fixture(scope="module")
def both(home: Store, finished: tuple[Store, Path]) -> tuple[Store, Path]:
    """Studies of the preprint's grid by frame and by subject, with all controls, in one report."""

    def nearly(row: TrialRow, test: str) -> float:
        return 0.97

    written_study(home, nearly, name="leaky", protocol="frame", folds=5, trials=3, **GRID)
    written_study(
        home,
        modest,
        name="honest",
        done=lambda row: row.spec.tests != ("synthetic", "real"),
        **GRID,
    )

    # In a process of its own, which a report without torch starts quickly; so is one of `finished`
    folder = home.root.parent
    code = (
        "import sys; from pathlib import Path; from mien.report.write import write_report\n"
        f"from mien.runs.store import Store\nfolder = Path({str(folder)!r})\n"
        "write_report(['leaky', 'honest'], Store(folder / 'store'), folder / 'both')\n"
        "write_report(['small'], Store(folder / 'store'), folder / 'again')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    return home, folder / "both"


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


def some(folder: Path, **which: str) -> list[dict[str, str]]:
    return [row for row in rows(folder) if all(row[name] == value for name, value in which.items())]


def words(path: Path) -> str:
    return " ".join(Page(path).text.split())


# The page


@pytest.mark.parametrize("name", ["finished", "both"])
def test_the_page_loads_nothing_from_anywhere(name: str, request: pytest.FixtureRequest):
    folder = request.getfixturevalue(name)[1]
    page = Page(folder / "report.html")
    assert page.open == []
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe")
        assert re.match(
            r"data:image/(png|svg\+xml);base64,", attributes.get("src") or "data:image/png;base64,"
        )
        link = attributes.get("href")
        assert link is None or (link.startswith("#") and link[1:] in targets)
    assert not re.search(r"https?://|url\(|@import", (folder / "report.html").read_text())


@pytest.mark.parametrize("name", ["finished", "both"])
def test_the_page_is_for_screen_readers_keyboards_and_telephones(
    name: str, request: pytest.FixtureRequest
):
    page = (request.getfixturevalue(name)[1] / "report.html").read_text(encoding="utf-8")
    assert find_faults(page) == []


def test_what_was_run_stands_in_the_folded_tables_and_what_is_missing_in_one_line(
    both: tuple[Store, Path],
):
    page = read_page((both[1] / "report.html").read_text(encoding="utf-8"))
    closed = [one for one in page.find("details") if "open" not in one.attributes]
    folded = [
        table
        for one in closed
        for table in one.find("table")
        if re.match(r"Table ([3-9]|1[0-4])\.", table.find("caption")[0].text)
    ]
    assert len(folded) == len(preprint.make_tables_3_to_14([StudyResults("leaky", both[0])])) == 8

    # Each row of a table has a number of ours, behind the published one
    for one in folded:
        rows_of = [row for row in one.find("tbody")[0].find("tr") if "group" not in row.classes]
        assert rows_of
        for row in rows_of:
            ours = [cell.text for cell in row.find("td")[1:]]
            assert any(re.search(r"\d", text) for text in ours), (row.text, ours)
    assert page.text.count("these studies have 16 by frame, 8 by subject") == 1


def test_it_says_what_was_run_and_what_that_means(finished: tuple[Store, Path]):
    store, folder = finished
    text = words(folder / "report.html")
    for part in (
        "Test people held out",
        "12 of 12 trials are done",
        store.resolve("small"),
        store.resolve("blobs"),
        "by subject, 2 folds",
        "Trained from random weights (weights = none): tiny",
        "Tests on synthetic faces show whether the classifier and the generator agree",
        "Each clip counts once",
        (
            "The study has no trials of these controls, so no cell is compared with them: majority "
            "class, 1-nearest neighbour, labels permuted, copycat"
        ),
        "real → real 96 images, 24 clips, 6 subjects",
    ):
        assert part in text
    assert "Failed trials" not in text and "Leak alarm" not in text and "Tables 3 to 14" not in text


def test_by_frame_it_says_that_test_frames_were_seen(both: tuple[Store, Path]):
    assert "As published: test frames seen in training" in words(both[1] / "report.html")
    assert "As published: test frames seen in training" in (both[1] / "report.md").read_text()


def test_a_table_of_contents_leads_to_each_study(both: tuple[Store, Path]):
    page = Page(both[1] / "report.html")
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links == ["#study-1", "#study-2"]


def test_names_and_errors_cannot_break_the_page(store: Store, tmp_path: Path):
    found = written_study(store, done=lambda row: False)
    note_failure(store, found.runs[0], ValueError("<script>alert(1)</script> | &"))
    path = write_report("small", store, tmp_path / "out")
    assert "script" not in [tag for tag, _ in Page(path).tags]
    assert "<script>alert(1)</script> | &" in words(path)


# Numbers


@pytest.mark.parametrize(("name", "title"), [("finished", "small"), ("both", "honest")])
def test_every_record_stands_in_the_table_for_programs(
    name: str, title: str, request: pytest.FixtureRequest
):
    store, folder = request.getfixturevalue(name)
    written = {
        (row["run"], f"{row['test']}/{row['level']}/{row['metric']}"): (
            float(row["value"]),
            int(row["n"]),
        )
        for row in some(folder, source="record", study=title)
    }
    expected = {
        (run.name, record.metric): (record.value, record.n)
        for trial in store.run(title).read_json("plan.json")["trials"]
        if store.is_done(trial["run"])
        for run in [store.run(trial["run"])]
        for record in score_predictions(read_predictions(run), run.name, run.spec)
    }
    assert written == expected


def test_pooled_accuracy_is_the_share_of_right_answers_over_all_folds(finished: tuple[Store, Path]):
    part = some(finished[1], setting="real_to_real", trial="2", level="images", metric="accuracy")
    folds = [row for row in part if row["fold"] != "all"]
    (pooled,) = [row for row in part if row["fold"] == "all"]
    right = sum(float(row["value"]) * int(row["n"]) for row in folds)
    assert (len(folds), int(pooled["n"])) == (2, 96)
    assert float(pooled["value"]) == pytest.approx(right / 96)


@pytest.mark.parity
def test_pooled_uf1_and_uar_are_those_of_all_folds_predictions_together(
    finished: tuple[Store, Path],
):
    store, folder = finished
    planned = store.run("small").read_json("plan.json")["trials"]
    runs = [store.run(row["run"]) for row in planned if (row["train"], row["trial"]) == ("both", 0)]
    whole = pd.concat([pd.read_parquet(run.find_file("predictions.parquet")) for run in runs])
    expected = {
        "uf1": f1_score(whole["true"], whole["predicted"], average="macro"),
        "uar": recall_score(whole["true"], whole["predicted"], average="macro"),
    }
    found = some(folder, setting="both_to_real", level="images", fold="all", trial="1")
    written = {row["metric"]: float(row["value"]) for row in found}
    assert len(runs) == 2
    assert {name: written[name] for name in expected} == pytest.approx(expected)


def test_page_and_markdown_print_the_mean_and_spread_of_the_trials(finished: tuple[Store, Path]):
    place = {"setting": "both_to_real", "level": "images", "metric": "accuracy"}
    values = [float(row["value"]) for row in some(finished[1], **place, source="pooled")]
    (mean,) = some(finished[1], **place, source="mean")
    assert len(values) == 2
    assert float(mean["value"]) == pytest.approx(np.mean(values))
    assert float(mean["sd"]) == pytest.approx(np.std(values, ddof=1))
    assert float(mean["low"]) < float(mean["value"]) < float(mean["high"])
    low, high = (f"{100 * float(mean[name]):.1f}" for name in ("low", "high"))
    text = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} (2) [{low}, {high}]"
    assert f"real + synthetic → real 96 images, 24 clips, 6 subjects tiny {text}" in words(
        finished[1] / "report.html"
    )
    assert f"| tiny | {text}" in (finished[1] / "report.md").read_text()


def test_controls_stand_in_the_table_for_programs(both: tuple[Store, Path]):
    found = some(
        both[1],
        study="honest",
        source="mean",
        setting="real_to_real",
        level="images",
        metric="accuracy",
    )
    control = {
        (row["control"], row["classifier"]): float(row["value"]) for row in found if row["control"]
    }
    assert set(control) == {
        *((name, name) for name in ("majority", "nearest")),
        *(("permuted", name) for name in ("nearest", *NETWORKS)),
    }
    assert all(0.1 < value < 0.5 for value in control.values())
    assert {row["ablation"] for row in found if not row["control"]} == {"plain", "freeze30"}


def test_confusion_matrices_add_up_to_the_tests(finished: tuple[Store, Path]):
    content = collect_content([StudyResults("small", finished[0])])
    confusions = content["studies"][0]["confusions"]
    assert len(confusions) == 5
    assert [row["total"] for row in confusions[0]["rows"]] == [
        48
    ] * 4  # 24 images a class, two trials
    assert all(
        sum(cell["share"] for cell in row["cells"]) == pytest.approx(1)
        for row in confusions[0]["rows"]
    )


def test_recall_is_printed_with_the_images_that_it_rests_on(finished: tuple[Store, Path]):
    recall = comparison.make_recall_table(StudyResults("small", finished[0]))
    assert recall is not None
    head, first = recall.lines[:2]
    assert [entry.text for entry in head.entries] == ["real → real, images", *["24"] * 4]
    (record,) = some(
        finished[1], setting="real_to_real", source="mean", level="images", metric="uar"
    )
    mean = np.mean([float(entry.text) for entry in first.entries[1:]])
    assert mean == pytest.approx(
        100 * float(record["value"]), abs=0.1
    )  # classes of one size: their mean is UAR


# Controls, alarms, answers


def test_what_does_not_clear_its_controls_is_marked_and_says_which(both: tuple[Store, Path]):
    page = (both[1] / "report.html").read_text()
    assert re.search(r'class="low" title="not above [^"]*labels permuted \(1-NN\)[^"]*">▽', page)
    text = words(both[1] / "report.html")
    assert re.search(
        r"real → real, vgg16, plain: not above .*labels permuted \(vgg16\) \([+\u2212]\d", text
    )
    leaky, honest = (StudyResults(name, both[0]) for name in ("leaky", "honest"))
    assert any(list_missed_controls(leaky, cell, "accuracy") for cell in leaky.cells)
    assert not [text for text in list_failure_reasons(honest) if text.startswith("real → real")]


def test_a_control_that_was_not_run_is_said_to_be_missing(home: Store, tmp_path: Path):
    written_study(home, name="uncontrolled", controls=["nearest"], done=lambda row: not row.control)
    path = write_report("uncontrolled", home, tmp_path)
    text = words(path)
    assert "1-nearest neighbour \u2013 0 of 2 trials" in text
    assert (
        "The study has no trials of these controls, so no cell is compared with them: majority "
        "class, labels permuted, copycat."
    ) in text
    assert "▽" not in text


def test_a_leak_raises_an_alarm_at_the_top(home: Store, tmp_path: Path):
    written_study(home, lambda row, test: 0.99, name="leak", trials=1)
    path = write_report("leak", home, tmp_path)
    text = words(path)
    assert text.index("Leak alarm real → real, tiny: ") < text.index("Test people held out")
    for part in (
        "same person under two names",
        "near-duplicate images",
        "borders",
        "saw the test people",
    ):
        assert part in text
    assert "> **Leak alarm.** real → real, tiny: " in (tmp_path / "report.md").read_text()


def test_differences_are_said_with_their_numbers(home: Store, tmp_path: Path):
    found = written_study(
        home,
        lambda row, test: {"both": 0.95, "both_copycat": 0.95}.get(row.spec.train, 0.4),
        name="asked",
        settings=["real_to_real", "both_to_real"],
        controls=["copycat"],
    )
    (one,) = found.compare("both_to_real")
    points = (
        f"{100 * one.gap.value:+.1f} points, 95 % interval {100 * one.gap.low:+.1f} to "
        f"{100 * one.gap.high:+.1f}"
    )
    text = words(write_report("asked", home, tmp_path))
    assert (
        "Adding synthetic images to the real ones changes the accuracy of tiny by clip by "
        f"{points}, p = {one.p:.3f} (6 subjects, 2 trials)."
    ) in text
    assert (
        "Adding synthetic images instead of copies of the real images changes the accuracy of tiny "
        "by clip"
    ) in text


# Beside the preprint


def test_tables_3_to_14_hold_the_published_trials_and_ours(both: tuple[Store, Path]):
    studies = [StudyResults(name, both[0]) for name in ("leaky", "honest")]
    sheets = preprint.make_tables_3_to_14(studies)
    # plain and freeze30; nothing was augmented
    assert [sheet.caption.split(".")[0] for sheet in sheets] == [
        f"Table {number}" for number in (3, 4, 5, 6, 11, 12, 13, 14)
    ]
    assert sheets[0].head == ("", "trial 1", "trial 2", "trial 3", "trial 4", "trial 5", "average")
    texts = [[entry.plain for entry in one.entries] for one in sheets[0].lines]
    assert texts[:2] == [
        ["VGG-16"],
        ["published", "99.13", "99.35", "99.30", "99.42", "99.46", "99.33"],
    ]
    cell = studies[0].find_cell("real_to_real", "vgg16")
    assert cell is not None
    ours = [f"{100 * one.accuracy:.2f}" for one in cell.done]
    assert texts[2][:6] == ["frame (leaky)", *ours, "\u2013", "\u2013"]
    assert texts[2][6].startswith(f"{100 * cell.average_trials('accuracy'):.2f} ± ")
    assert texts[3][0] == "subject (honest)" and texts[3][6].split()[-1] == "(2)"
    assert ["Inception V3"] not in texts  # it was not run
    controls = [one[0] for one in texts[texts.index(["Controls"]) + 1 :]]
    assert (
        "1-nearest neighbour, frame (leaky)" in controls
        and "labels permuted (vgg16), subject (honest)" in controls
    )
    assert sheets[0].note == (
        "Tests of a trial, frame (leaky): 20 images, 15 clips, 6 subjects; subject (honest): 96 "
        "images, 24 clips, 6 subjects."
    )


def test_what_was_never_run_is_left_out_and_counted(both: tuple[Store, Path]):
    """The honest study has no result of training on synthetic faces."""
    leaky, honest = (StudyResults(name, both[0]) for name in ("leaky", "honest"))
    captions = [sheet.caption.split(".")[0] for sheet in preprint.make_tables_3_to_14([honest])]
    assert captions == [f"Table {number}" for number in (3, 5, 11, 13)]
    assert preprint.count_left_out([leaky, honest]) == (
        "Of the preprint's 36 results these studies have 16 by frame, 8 by subject; rows, tables "
        "and figures without a result are left out."
    )
    for file in ("report.html", "report.md", "tables.tex"):
        assert "not run" not in (both[1] / file).read_text()
    assert "these studies have 16 by frame, 8 by subject" in words(both[1] / "report.html")


def test_the_figures_are_written_and_the_same_each_time(both: tuple[Store, Path]):
    folder = both[1] / "figures"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"figure-{number}.svg" for number in (12, 13, 14, 15, 20, 21, 22, 23)
    ]
    studies = [StudyResults(name, both[0]) for name in ("leaky", "honest")]
    again = preprint.make_figures(studies)
    assert (folder / "figure-12.svg").read_text() == again[0]["svg"]
    for part in (
        "Figure 12. real → real, plain",
        "VGG-16",
        "99.3",
        "1-nearest neighbour",
        "subject",
    ):
        assert part in again[0]["svg"]
    texts = [[entry.plain for entry in line.entries] for line in again[0]["numbers"].lines]
    assert ["VGG-16"] in texts and ["published", "99.33", "\u2013"] in texts


def test_a_bar_is_as_high_as_its_number():
    values = [charts.Bar(30.0, 1.0, {"floor": 20.0}), charts.Bar(60.0, 1.0, {})]
    low, high = (charts.draw_bars("a", ["x"], {"frame": [bar]}) for bar in values)
    tall = [max(bar_heights(one)) for one in (low, high)]
    assert tall[1] == pytest.approx(2 * tall[0], rel=0.01)


def bar_heights(svg: str) -> list[float]:
    """The heights of the bars of a chart, which are the orange paths."""
    paths = re.findall(r'<path d="([^"]+)"[^>]*style="fill: #e69f00', svg)
    ys = [[float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)] for path in paths]
    return [max(one) - min(one) for one in ys if one]


def test_table_15_sets_ours_beside_the_competitors(both: tuple[Store, Path]):
    studies = [StudyResults(name, both[0]) for name in ("leaky", "honest")]
    sheet = preprint.make_table_15(studies)
    texts = [[entry.plain for entry in one.entries] for one in sheet.lines]
    assert ["TLCNN [27]", "CASME II", "69.10", "\u2013"] in texts
    assert any(
        one[0].startswith("mien, leaky: by frame, sevens real tests: 20 images") for one in texts
    )
    place = next(k for k, one in enumerate(texts) if one[0].startswith("mien, honest: by subject"))
    assert texts[place + 1][:2] == ["vgg16", "real → real"]
    assert len(texts) == 10 + 2 * (1 + 3 * 2) - 2  # two networks lack synthetic → real


def test_tables_1_and_2_set_our_counts_beside_the_published(both: tuple[Store, Path]):
    studies = [StudyResults(name, both[0]) for name in ("leaky", "honest")]
    sheets = preprint.make_tables_1_and_2(studies)
    texts = {
        one.entries[0].text: [entry.text for entry in one.entries[1:]] for one in sheets[0].lines
    }
    assert texts["fear"] == ["127", "2", "12", "3", "3"]
    assert texts["repression"] == ["2,187", "27", "12", "3", "3"]
    assert texts["total"] == ["17,124", "255", "96", "24", "6"]
    assert [sheet.caption[:8] for sheet in sheets] == [
        "Table 1.",
        "Table 2.",
        "Table 2.",
    ]  # one set of faces


def test_published_numbers_stand_beside_ours_and_are_labelled(both: tuple[Store, Path]):
    text = words(both[1] / "report.html")
    assert published.find_average("real_to_real", "resnet50") == 88.34
    assert "published 88.34" in text and "published 93.21" in text  # plain and freeze30
    assert (
        "the preprint's average for the same setting, network and ablation, on CASME II"
    ) in text
    shown = some(both[1], study="honest", source="published", setting="real_to_real")
    assert {(row["classifier"], row["ablation"]): float(row["value"]) for row in shown} == {
        ("vgg16", "plain"): 0.9933,
        ("vgg16", "freeze30"): 0.9652,
        ("resnet50", "plain"): 0.8834,
        ("resnet50", "freeze30"): 0.9321,
    }


def test_a_tiny_network_that_was_named_vgg16_is_not_the_preprints(home: Store, tmp_path: Path):
    written_study(
        home,
        name="named",
        classifiers=["vgg16"],
        classifier={"vgg16": {"name": "tiny", "size": 16}},
    )
    path = write_report("named", home, tmp_path)
    assert "99.33" not in words(path) and "vgg16 (tiny)" in words(path)
    assert not (tmp_path / "figures").exists()


def test_published_numbers_of_seven_classes_do_not_stand_beside_fewer(
    home: Store, both: tuple[Store, Path], tmp_path: Path
):
    four = {
        **GRID,
        "faces": "blobs",
        "controls": [],
        "trials": 1,
        "ablations": ["plain"],
        "settings": ["real_to_real"],
    }
    written_study(home, name="four", **four)
    text = words(write_report("four", home, tmp_path / "four"))
    assert "99.33" not in text and "Table 3" not in text
    assert (
        "Published numbers are for 7 classes and are not shown here, since this study has 4."
        in text
    )
    assert some(tmp_path / "four", source="published") == []
    text = words(write_report(["honest", "four"], home, tmp_path / "mixed"))
    assert "honest, by subject, 7 classes" in text and "four, by subject, 4 classes" in text
    assert "subject (honest)" in text and "subject (four)" not in text


def test_studies_stand_side_by_side(both: tuple[Store, Path]):
    found = comparison.compare_studies(
        [StudyResults(name, both[0]) for name in ("leaky", "honest")]
    )
    assert found.head == ("train → test", "published", "leaky, by frame", "honest, by subject")
    assert [entry.text for entry in found.lines[1].entries[:2]] == ["vgg16, plain", "99.33"]
    left, right = (float(entry.text) for entry in found.lines[1].entries[2:])
    assert left > 80 > right
    constant = next(one for one in found.lines if one.entries[0].text == "constant answer")
    assert constant.kind == "control" and all(
        float(entry.text) < 40 for entry in constant.entries[2:]
    )


def test_a_study_stands_in_a_report_once(finished: tuple[Store, Path], tmp_path: Path):
    with pytest.raises(UsageError, match="each named once"):
        write_report(["small", "small"], finished[0], tmp_path)


def test_headings_of_a_study_stand_under_its_own_where_there_are_several(
    finished: tuple[Store, Path], both: tuple[Store, Path]
):
    alone, several = (
        one[1].joinpath("report.md").read_text().splitlines() for one in (finished, both)
    )
    assert "## What was run" in alone and "### By image" in alone
    assert (
        several.count("## leaky") == several.count("## honest") == 1
        and "## What was run" not in several
    )
    assert several.count("### What was run") == 2 and "#### Accuracy, %, by image" in several
    assert "#### Images of each class" in several and "### Images of each class" in alone


def test_a_control_that_draws_no_lots_has_no_spread(both: tuple[Store, Path]):
    honest = StudyResults("honest", both[0])
    floors = dict(honest.name_controls("real_to_real", "images"))
    shown = {
        name: comparison.make_control_entry(cell, "accuracy").plain for name, cell in floors.items()
    }
    for name in ("constant answer", "majority class", "1-nearest neighbour"):
        assert shown[name].endswith(" (1)") and "±" not in shown[name]
    assert "± " in shown["labels permuted (1-NN)"] and "± " in shown["labels permuted (vgg16)"]
    leaky = StudyResults("leaky", both[0])  # by frame each trial has a split of its own
    (nearest,) = [
        cell
        for name, cell in leaky.name_controls("real_to_real", "images")
        if name == "1-nearest neighbour"
    ]
    assert len(nearest.trials) == 3
    trial = next(one for one in honest.trials if one.control == "nearest")
    assert describe_trial(honest, trial) == "nearest (nearest) trained on real, fold 0"


def test_no_difference_has_no_sign():
    assert [format_signed(one) for one in (0.0, -0.0004, 0.0004, 0.012, -0.012)] == [
        "0.0", "0.0", "0.0", "+1.2", "\u22121.2",
    ]  # fmt: skip


def test_accuracies_of_table_15_and_their_spread_have_two_decimals(both: tuple[Store, Path]):
    sheet = preprint.make_table_15([StudyResults("leaky", both[0])])
    texts = [one.entries[2].plain for one in sheet.lines if len(one.entries) > 2]
    assert all(re.match(r"\d+\.\d\d( ± \d+\.\d\d \(3\)( ▽)?)?$", text) for text in texts)


# LaTeX


@pytest.mark.parametrize("name", ["finished", "both"])
def test_latex_is_balanced_and_its_rows_are_as_wide_as_their_tables(
    name: str, request: pytest.FixtureRequest
):
    text = (request.getfixturevalue(name)[1] / "tables.tex").read_text()
    depth: list[str] = []
    for command, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if command == "begin":
            depth.append(environment)
        else:
            assert depth.pop() == environment
    assert depth == [] and text.count("{") == text.count("}")
    bodies = re.findall(r"\\begin\{tabular\}\{(l[lr]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(bodies) == text.count(r"\begin{tabular}") > 5
    for columns, body in bodies:
        lines = [one for one in body.splitlines() if one.endswith(r"\\")]
        assert lines
        for one in lines:
            spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", one)]
            assert len(re.findall(r"(?<!\\)&", one)) + 1 + sum(spans) - len(spans) == len(columns)
    commands = set(re.findall(r"\\([a-z]+)", text))
    assert commands <= {
        "begin",
        "end",
        "centering",
        "caption",
        "footnotesize",
        "toprule",
        "midrule",
        "bottomrule",
        "addlinespace",
        "par",
        "smallskip",
        "multicolumn",
        "textbf",
        "resizebox",
        "ifdim",
        "width",
        "linewidth",
        "else",
        "fi",
        "pm",
        "to",
        "nabla",
        "times",
        "usepackage",
        "textbackslash",
        "label",
    }


@pytest.mark.parametrize("name", ["finished", "both"])
def test_latex_has_no_sign_that_was_not_escaped(name: str, request: pytest.FixtureRequest):
    text = (request.getfixturevalue(name)[1] / "tables.tex").read_text()
    assert text.splitlines()[0].startswith("% ") and "booktabs" in text.splitlines()[0]
    body = "\n".join(text.splitlines()[1:])
    assert not re.search(r"(?<!\\)[%#_]|~|\^", body)
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    assert body.isascii()


def labels(folder: Path) -> list[str]:
    return re.findall(r"\\label\{(.*)\}", (folder / "tables.tex").read_text())


def test_each_table_has_a_label_that_it_keeps_beside_others(
    both: tuple[Store, Path], tmp_path: Path
):
    text, found = (both[1] / "tables.tex").read_text(), labels(both[1])
    assert len(found) == len(set(found)) == text.count(r"\begin{table}") > 20
    assert all(re.fullmatch(r"tab:[a-z0-9-]+:[a-z0-9-]+", one) for one in found)
    assert "tab:honest:accuracy-by-image" in found and "tab:leaky:accuracy-by-image" in found
    own = [
        one
        for one in labels(write_report("honest", both[0], tmp_path).parent)
        if one.startswith("tab:honest:")
    ]
    assert own == [one for one in found if one.startswith("tab:honest:")] != []


def test_names_that_look_alike_to_latex_have_labels_of_their_own():
    label, again = tables.LatexLabels(), tables.LatexLabels()
    pairs = [
        ("a b", "x"),
        ("a_b", "x"),
        ("a→b", "x"),
        ("表情", "x"),
        ("顔", "x"),
        ("Étude %", "x{"),
        ("a b", "x"),
    ]
    found = [label(*pair) for pair in pairs]
    assert len(set(found)) == len(pairs) and found == [again(*pair) for pair in pairs]
    assert found[0] == "tab:a-b:x" and found[5] == "tab:etude:x"


def test_every_special_sign_is_escaped():
    text = tables.escape_latex("50 % of a_b & c#d {e} ~ ^ \\ $ ± → \u2013 \u2212 \u00d7 ▽ < >")
    assert text == (
        r"50 \% of a\_b \& c\#d \{e\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$ "
        r"$\pm$ $\to$ -- $-$ "
        r"$\times$ $\nabla$ $<$ $>$"
    )


def test_a_table_is_golden_in_both_forms():
    rows = (
        make_row(TableCell("a → b", "9 images"), kind="group"),
        make_row("x_1", TableCell("1.0", "± 2", "low")),
        make_row("total", "3"),
    )
    sheet = ReportTable("Both", ("", "n"), rows, "A note.")
    assert tables.format_markdown(sheet) == [
        "### Both",
        "",
        "A note.",
        "",
        "|  | n |",
        "| --- | --: |",
        ("| **a → b** 9 images |  |"),
        "| x_1 | 1.0 ± 2 ▽ |",
        "| total | 3 |",
        "",
    ]
    assert tables.format_latex(sheet, "tab:both")[2:4] == [r"\caption{Both}", r"\label{tab:both}"]
    assert tables.format_latex(sheet, "tab:both")[4].endswith(
        r"\linewidth\else\width\fi}{!}{\begin{tabular}{lr}"
    )
    assert tables.format_latex(sheet, "tab:both")[5:10] == [
        r"\toprule",
        r" & n \\",
        r"\midrule",
        r"\multicolumn{2}{l}{\textbf{a $\to$ b} 9 images} \\",
        r"x\_1 & 1.0 $\pm$ 2 $\nabla$ \\",
    ]


# Holes


def test_a_missing_trial_is_a_hole_and_never_a_mean_of_the_rest(
    finished: tuple[Store, Path], tmp_path: Path
):
    store = Store(tmp_path / "store")
    shutil.copytree(finished[0].root, store.root)
    planned = store.run("small").read_json("plan.json")["trials"]
    gone = next(
        row["run"] for row in planned if (row["train"], row["trial"], row["fold"]) == ("both", 1, 1)
    )
    shutil.rmtree(store.root / "runs" / gone)
    path = write_report("small", store, tmp_path / "out")
    assert re.search(r"real \+ synthetic → real [\w ,]* tiny \u2013 1 of 2 trials", words(path))
    assert "11 of 12 trials are done, 1 is still to come" in words(path)
    assert not re.search(r" real → real [\w ,]* tiny \u2013", words(path))
    assert "Adding synthetic images to the real ones changes" not in words(path)
    kept = some(path.parent, setting="both_to_real", source="pooled")
    assert {row["trial"] for row in kept} == {"1"}
    assert some(path.parent, setting="both_to_real", source="mean") == []


@pytest.mark.parametrize("changes", [{"settings": FIVE_SETTINGS}, GRID])
def test_a_report_of_a_study_that_has_only_begun(
    home: Store, tmp_path: Path, changes: dict[str, Any]
):
    found = written_study(home, name="begun", seed=7, done=lambda row: False, **changes)
    text = words(write_report("begun", home, tmp_path / "out"))
    whole = len(found.runs)
    assert f"0 of {whole} trials are done, {whole} are still to come" in text
    assert "\u2013 0 of 2 trials" in text
    assert [row["source"] for row in rows(tmp_path / "out") if row["source"] != "published"] == []
    assert (tmp_path / "out" / "tables.tex").exists()


def test_failed_trials_are_listed_with_their_first_error(store: Store, tmp_path: Path):
    with pytest.raises(TrialsFailed):
        run_study(resolve(failing(), store), store, device="cpu")
    text = words(write_report("small", store, tmp_path / "out"))
    assert "2 of 4 trials are done, 2 failed" in text
    assert "wild trained on real, trial 1, fold 1" in text
    assert "the loss of tiny must stay finite" in text
    assert "\u2013 0 of 1 trial" in text
    assert "the loss of tiny must stay finite" in (tmp_path / "out" / "report.md").read_text()


# Around it


def licensed(root: Path, *licences: str, **changes: Any) -> Store:
    """A store with a study of faces under these licences, in turn."""
    store, faces = Store(root / "store"), blobs(48)
    named = [licences[place % len(licences)] for place in range(len(faces))]
    keep(Faces(faces.images, faces.index.assign(licence=named)), store, "blobs")
    written_study(store, **{"trials": 1, "settings": FOUR_SETTINGS, **changes})
    return store


def sheet_of(page: Path) -> str:
    """The texts that stand for the pictures of faces, if there are any."""
    texts = [str(attributes.get("alt")) for tag, attributes in Page(page).tags if tag == "img"]
    return "; ".join(text for text in texts if ", label " in text)


@pytest.mark.parametrize(
    ("licences", "free"),
    [
        (["CC BY 4.0"], True),
        (["CC0 1.0", "cc-by-sa-4.0"], True),
        (["cc-by-nc-4.0"], False),
        (["unknown"], False),
        (["CC0 1.0", "by agreement"], False),
        (["cc-by-nd-4.0"], False),
    ],
)
def test_real_faces_are_shown_unasked_only_under_free_licences(
    tmp_path: Path, licences: list[str], free: bool, capfd: pytest.CaptureFixture[str]
):
    store = licensed(tmp_path, *licences)
    path = write_report("small", store, tmp_path / "out")
    assert ("Four real faces, label " in sheet_of(path)) is free
    assert (
        "Real faces are not shown, since no free licence is known for" in words(path)
    ) is not free
    assert ("real faces are not shown" in capfd.readouterr().err) is not free
    assert "Not for publication" not in words(path)


def test_real_faces_are_shown_or_left_out_as_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = licensed(tmp_path, "research only")
    path = write_report("small", store, tmp_path / "out", real_faces=True)
    assert "Four real faces, label " in sheet_of(path) and "Not for publication" in words(path)
    assert (
        "contains images under this licence: research only; do not publish it"
        in capfd.readouterr().err
    )
    path = write_report(
        "small", licensed(tmp_path / "free", "CC0 1.0"), tmp_path / "asked", real_faces=False
    )
    assert "synthetic faces, label fear" in sheet_of(
        path
    ) and "Real faces are not shown, as requested." in words(path)


def test_without_a_database_there_may_be_no_picture_at_all(tmp_path: Path):
    store = licensed(tmp_path, "unknown", settings=["real_to_real"])
    assert sheet_of(write_report("small", store, tmp_path / "out")) == ""
    assert "Four real faces, label fear" in sheet_of(
        write_report("small", store, tmp_path / "out", real_faces=True)
    )


def test_copies_of_real_faces_are_not_shown_as_synthetic_ones():
    real, others = drawn.people(range(4), size=48), drawn.people(range(8, 12), size=48, seed=1)
    shown = select_without_copies(others, real)
    assert shown is not None and {
        (shown.index["emotion"] == name).sum() for name in shown.classes
    } == {4}
    assert (
        select_without_copies(Faces(np.ascontiguousarray(real.images[..., ::-1]), real.index), real)
        is None
    )
    half = concatenate([real.select(np.arange(len(real)) % 2 == 0), others])
    kept = select_without_copies(half, real)
    assert (
        kept is not None
        and len(kept) > 0
        and not set(kept.index["subject"]) & set(real.index["subject"])
    )


def test_a_licence_said_by_hand_frees_no_known_set(tmp_path: Path):
    store = Store(tmp_path / "store")
    mine, theirs = (faces(tmp_path / name, store, name=name) for name in ("photos", "jaffe"))
    assert sources.find_withheld_sources(mine, store) == []
    assert sources.find_withheld_sources(theirs, store) == ["jaffe (CC0 1.0)"]
    shutil.rmtree(mine.path)
    split = store.make(
        SplitOf(faces=mine.name), lambda out, scratch: Faces.load(theirs.path).save(out)
    )
    assert "which the store no longer holds" in sources.find_withheld_sources(split, store)[-1]


class SplitOf(Spec):
    """Faces that were made from others."""

    stage: ClassVar[str] = "part"
    faces: str


def test_a_file_of_weights_stands_by_its_name(tmp_path: Path):
    store = licensed(tmp_path, "CC0", done=lambda row: False)
    save_file(Tiny(3).state_dict(), tmp_path / "of faces.safetensors")
    name = pretrained.import_weights(tmp_path / "of faces.safetensors", store)
    one = {"name": "tiny", "size": 16, "epochs": 1}
    two = {"ablations": ["plain", "none"], "ablation": {"none": {"weights": "none"}}}
    for title, change in (("main", {}), ("ablated", two)):
        written_study(
            store, name=title, done=lambda row: False, classifier={**one, "weights": name}, **change
        )
    for path in (write_report(title, store, tmp_path / title) for title in ("main", "ablated")):
        text = words(path) + (path.parent / "report.md").read_text()
        assert text.count(f"weights of faces.safetensors (sha256 {name[5:17]})") == 2
        assert not re.search(r"[0-9a-f]{40}", text)


def shown(store: Store, name: str) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(make_terminal_table(name, store))
    return console.export_text()


def test_the_terminal_shows_a_row_a_setting_in_80_columns(finished: tuple[Store, Path]):
    text = shown(finished[0], "small")
    lines = text.splitlines()
    for setting in SETTINGS.values():
        assert setting.label in text
    assert "12 of 12 trials done" in text and "…" not in text and "plain" not in text
    legend = [one.strip() for one in lines if one.strip()]
    assert "▽ not above its controls" in legend
    assert "constant answer: always the commonest class of the test images" in legend


def test_the_terminal_shows_controls_under_their_cells(home: Store):
    written_study(home, name="shown", settings=["real_to_real"], controls=["nearest", "permuted"])
    lines = shown(home, "shown").splitlines()
    place = next(k for k, one in enumerate(lines) if one.startswith("real → real"))
    names = [
        "constant answer",
        "1-nearest neighbour",
        "labels permuted (1-NN)",
        "labels permuted (tiny)",
    ]
    for name, one in zip(names, lines[place + 1 :], strict=False):
        assert one.strip().startswith(name)


def test_what_is_no_study_has_no_report(store: Store):
    with pytest.raises(StoreError, match="a study must be named"):
        write_report("blobs", store)


def test_a_report_needs_no_torch_and_is_the_same_in_another_process(
    finished: tuple[Store, Path], both: tuple[Store, Path]
):
    again = finished[0].root.parent / "again"
    for name in ("report.html", "tables.tex"):
        assert (again / name).read_text() == (finished[1] / name).read_text()


def test_the_plot_has_a_dot_for_each_trial(finished: tuple[Store, Path]):
    tags = Page(finished[1] / "report.html").tags
    number = {name: sum(one.get("class") == name for _, one in tags) for name in ("dot", "mean")}
    assert number == {"dot": 5 * 2 + 1, "mean": 5 + 1}  # one each in the legend


def test_a_study_that_was_trained_is_reported_with_its_learning_curves(
    store: Store, tmp_path: Path
):
    # Networks keep a row for each epoch; controls that are no networks keep nothing
    spec = resolve(
        table(settings=["real_to_real", "both_to_real"], controls=ALL_CONTROLS, trials=1), store
    )
    run_study(spec, store, device="cpu")
    found = StudyResults("small", store)
    curves = {
        trial.run: pd.read_csv(run.path / "curve.csv")
        for trial in found.trials
        if ((run := store.run(trial.run)).path / "curve.csv").exists()
    }
    networks = [
        one
        for one in found.trials
        if isinstance(store.run(one.run).read_json("spec.json")["classifier"], dict)
    ]
    assert set(curves) == {one.run for one in networks} and len(networks) < len(found.trials)
    assert all(list(one["epoch"]) == [1, 2, 3] for one in curves.values())

    # The chart's table has the mean over folds, of the classifiers and not of their controls
    path = write_report("small", store, tmp_path / "out")
    text = words(path)
    assert "Adding synthetic images to the real ones changes the accuracy of tiny by " in text
    assert "trials are done. The finished" in text and not re.search(r"\d of \d trials", text)
    for column in ("loss", "accuracy"):
        (chart,) = [
            one
            for one in collect_content([found])["studies"][0]["curves"]
            if one["name"] == f"classifier-{column}-small"
        ]
        assert chart["numbers"].head == ("epoch", "tiny on real", "tiny on real + synthetic")
        last = [entry.text for entry in chart["numbers"].lines[-1].entries]
        expected = [
            np.mean(
                [
                    curves[one.run][column].iloc[-1]
                    for one in networks
                    if not one.control and one.train == train
                ]
            )
            for train in ("real", "both")
        ]
        assert last == ["3", *(f"{value:.4f}" for value in expected)]
        assert (path.parent / "figures" / f"{chart['name']}.svg").exists()


def test_trials_without_learning_curves_are_reported_without_them(finished: tuple[Store, Path]):
    # Trials of earlier versions kept no curve.csv
    store, folder = finished
    assert not list((store.root / "runs").glob("trial-*/curve.csv"))
    assert "Learning curves" not in words(folder / "report.html")


def test_names_and_licences_do_nothing_in_a_report_in_markdown():
    name = "<img src=x onerror=f()> [a](https://e.example) | b"
    sheet = tables.ReportTable(
        name,
        ("by", name),
        (tables.make_row(name, "0.5", kind="group"), tables.make_row(name, "-0.5")),
        name,
    )
    text = "\n".join(tables.format_markdown(sheet))
    assert "onerror" in text and not re.search(r"<(?=[A-Za-z])|(?<!\\)\]\(", text)
    assert {
        len(re.findall(r"(?<!\\)\|", row)) for row in text.splitlines() if row.startswith("|")
    } == {3}


def test_names_in_brackets_are_no_markup_in_the_terminal(capsys: pytest.CaptureFixture[str]):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=format_plain_value("a[/b]"), box=None)
    table.add_column("by")
    table.add_row(format_plain_value("[red]c[/nothing]\x1b[2J"))
    Console(width=80).print(table)
    assert "a[/b]" in (shown := capsys.readouterr().out) and "[red]c[/nothing]\\x1b[2J" in shown
