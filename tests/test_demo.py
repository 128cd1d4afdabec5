"""The demo: a small one runs, ends in eight lines of its own numbers, and the README is current."""

import importlib.util
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType

import pytest

from mien.cli.demo.findings import ROWS, Change, DemoFindings, Score, list_lines, read_findings
from mien.cli.demo.pictures import draw_changes, write_pictures
from mien.cli.demo.plan import PLAN, DemoPlan
from mien.cli.demo.run import run, select_with_needs
from mien.faces import Faces
from mien.report.sentences import MINUS
from mien.runs.jobs import Job
from mien.runs.local import Local
from mien.runs.store import Store

ROOT = Path(__file__).parent.parent

# The same code with a tenth of the people and next to no training
SMALL = DemoPlan(people=8, clips=28, width=8, images_seen=32, synthetic=35, trials=2, epochs=1)


def load_tool() -> ModuleType:
    """Return tools/readme.py as a module."""
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small demo that has run."""
    folder = tmp_path_factory.mktemp("demo")
    run(folder, "cpu", SMALL, Local(0))
    return folder


def made_findings(low: float, high: float, answer: str) -> DemoFindings:
    """Findings whose changes have this interval and answer."""
    change = Change((low + high) / 2, low, high, answer)
    scores = dict.fromkeys(ROWS, Score(87.25, 81.0, 90.0))
    changes = {"synthetic": change, "copies": change}
    return DemoFindings(48, 24, 336, 835, 1, 4, 420, 14.3, scores, scores, changes, ())


# A small run


def test_a_small_demo_ends_in_eight_lines_with_its_own_numbers(finished: Path):
    store = Store(finished / "store")
    found = read_findings(store)
    lines = list_lines(found, "report.html")
    assert len(lines) == 8 and max(map(len, lines)) <= 80
    assert found.people == 8 and found.held_out == 4
    assert (found.frames_trials, found.held_trials, found.synthetic) == (1, 2, 35)
    assert found.frames_images + found.held_images < len(Faces.load(store.run("faces").path))
    assert f"{found.changes['synthetic'].value:+.1f}".replace("-", MINUS) in lines[4]
    assert f"{found.frames['labels permuted, nearest neighbour'].value:.1f}" in lines[1]


def test_a_random_split_of_frames_is_perfect_for_permuted_labels(finished: Path):
    found = read_findings(Store(finished / "store"))
    assert found.frames["labels permuted, nearest neighbour"].value == 100
    assert found.held["labels permuted, nearest neighbour"].value < 60


def test_the_demo_draws_five_pictures_and_names_what_it_made(finished: Path):
    store = Store(finished / "store")
    numbers = [path.name[0] for path in write_pictures(finished / "pictures", store)]
    assert numbers == ["1", "2", "3", "4", "5"]
    assert {"faces", "train", "test", "generator", "synthetic", "demo"} <= set(store.read_aliases())
    assert (finished / "report" / "report.html").is_file()


def test_a_second_run_of_the_demo_makes_nothing_again(
    finished: Path, capsys: pytest.CaptureFixture[str]
):
    runs = finished / "store" / "runs"
    before = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    run(finished, "cpu", SMALL, Local(0))
    after = {path.name: path.stat().st_mtime_ns for path in runs.iterdir()}
    assert after == before
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_a_job_is_chosen_with_all_that_it_needs_and_nothing_else():
    def job(run: str, *after: str) -> Job:
        return Job(run, run, str, after=after)

    jobs = [job("model"), job("other"), job("part", "model"), job("set", "part"), job("end", "set")]
    names = [each.run for each in select_with_needs(jobs, {"set"})]
    assert names == ["model", "part", "set"]


# The eight lines


@pytest.mark.parametrize(
    ("low", "high", "answer", "words"),
    [
        (1.0, 5.0, "yes", ("they help", "better than")),
        (-5.0, -1.0, "no", ("they do harm", "worse than")),
        (-1.0, 2.0, "cannot tell", ("zero inside", "zero inside")),
        (0.1, 2.0, "cannot tell", ("p > 0.05", "p > 0.05")),
        (float("nan"), float("nan"), "cannot tell", ("missing", "missing")),
    ],
)
def test_the_lines_say_what_the_intervals_say(
    low: float, high: float, answer: str, words: tuple[str, str]
):
    lines = list_lines(made_findings(low, high, answer), "mien-demo/report/report.html")
    assert len(lines) == 8 and max(map(len, lines)) <= 80
    for line, word in zip(lines[4:6], words, strict=True):
        assert word in line
        assert ("cannot tell" in line) == (answer == "cannot tell")


def test_the_longest_numbers_fit_into_eighty_columns():
    found = made_findings(-100.0, 100.0, "cannot tell")
    full = dict.fromkeys(ROWS, Score(100.0, 100.0, 100.0))
    found = replace(found, people=1000, held_out=500, frames=full, held=full, frames_images=9_999)
    lines = list_lines(found, "r.html")
    assert max(map(len, lines)) <= 80


def test_the_picture_of_changes_shows_zero_whatever_they_are():
    for low, high in ((2.0, 9.0), (-9.0, -2.0)):
        svg = draw_changes(made_findings(low, high, "yes"))
        assert ">0</text>" in svg and svg.count("stroke-dasharray") > 0


# The README


def test_the_readme_shows_a_run_of_the_demo_as_it_is_now():
    tool = load_tool()
    digest, found = tool.unpack((ROOT / "docs" / "demo.json").read_text(encoding="utf-8"))
    assert digest == PLAN.digest, "the demo's plan has changed: make demo && make readme"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tool.with_block(text, tool.render_block(digest, found)) == text


def test_another_plan_has_another_digest():
    for name, value in asdict(PLAN).items():
        other = "rgb" if name == "colour" else value + 1
        assert replace(PLAN, **{name: other}).digest != PLAN.digest


def test_what_the_tool_packs_it_unpacks():
    tool, found = load_tool(), made_findings(1.0, 5.0, "yes")
    assert tool.unpack(tool.pack(found)) == (PLAN.digest, found)
