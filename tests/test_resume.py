"""Killed at any moment, the same command continues and ends with the same bytes."""

import shutil
import time
from pathlib import Path

import pytest
from worlds import STUDY_TEXT, TINY_TRAINING, mien, settings, start

from mien.runs.store import Store

COMMANDS = {
    "train": [
        "train",
        "fold-train",
        "--preset",
        "smoke",
        *settings(*TINY_TRAINING[:-1], "images_seen=16000"),
    ],
    "generate": ["generate", "generator", "--counts", "balanced:1400", "--steps", "40"],
    "study": ["study", "run", "study.toml"],
}
STUDY_STAGES = {"study", "split", "generator", "generate", "trial"}
MADE = {"train": {"generator"}, "generate": {"generate"}, "study": STUDY_STAGES}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands need, and nothing that they make."""
    folder = tmp_path_factory.mktemp("before")
    mien(
        folder,
        "toy",
        "drawn",
        "--subjects",
        "4",
        "--clips",
        "16",
        "--balance",
        "even",
        "--workers",
        "2",
    )
    mien(folder, "ingest", "casme2", "drawn", "--name", "drawn", "--as", "drawn")
    mien(folder, "preprocess", "drawn", "--as", "faces")
    mien(folder, "split", "faces", "--folds", "2", "--as", "fold")
    mien(
        folder,
        "train",
        "fold-train",
        "--preset",
        "smoke",
        *settings(*TINY_TRAINING),
        "--as",
        "generator",
    )
    (folder / "study.toml").write_text(STUDY_TEXT.replace("images_seen = 64", "images_seen = 1600"))
    return folder


@pytest.fixture(scope="module")
def undisturbed(
    before: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, str], float]]:
    """What each command makes when nobody kills it, and how long it takes."""
    found = {}
    for name, command in COMMANDS.items():
        folder = copy(before, tmp_path_factory.mktemp(name))
        began = time.monotonic()
        mien(folder, *command)
        found[name] = made(folder, name), time.monotonic() - began
    return found


def copy(source: Path, target: Path) -> Path:
    return shutil.copytree(source, target / "copy", ignore=shutil.ignore_patterns("drawn"))


def made(folder: Path, name: str) -> dict[str, str]:
    """The content of each run that a command makes."""
    store = Store(folder / "store")
    runs = [store.run(run) for run in store.list_names()]
    return {run.name: run.content for run in runs if run.stage in MADE[name]}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_continues_to_the_same_bytes(
    before: Path,
    undisturbed: dict[str, tuple[dict[str, str], float]],
    tmp_path: Path,
    name: str,
    share: float,
):
    expected, seconds = undisturbed[name]
    folder = copy(before, tmp_path)
    worker = start(folder, *COMMANDS[name])
    time.sleep(share * seconds)
    assert worker.poll() is None, "it ended before it could be killed"
    worker.kill()
    worker.communicate(timeout=60)
    Store(folder / "store").list_names()  # whatever it left can be listed
    assert "altered" not in mien(folder, "verify")
    mien(folder, *COMMANDS[name])
    assert made(folder, name) == expected
    assert not [path for path in (folder / "store" / "work").iterdir() if path.suffix != ".claim"]
