"""The command line, as a user meets it: real commands in a real folder."""

import json
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from worlds import STUDY_TEXT, TINY_TRAINING, blobs, inside, keep, mien, run_inside, settings, start

from mien.audit.specs import FeaturesSpec
from mien.cli import main
from mien.cli.base import app, read_pairs, read_set_options
from mien.cli.following import propose_alias
from mien.errors import SpecError, UsageError
from mien.generators.diffusion import fit
from mien.generators.presets import estimate_cpu_seconds, read_preset
from mien.generators.specs import TrainSpec
from mien.runs.machine import list_nvidia_cards
from mien.runs.store import Store


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small drawn dataset, read, cut to its apexes, and split."""
    folder = tmp_path_factory.mktemp("place")
    inside(
        folder,
        "toy",
        "drawn",
        "--subjects",
        "4",
        "--clips",
        "8",
        "--balance",
        "even",
        "--workers",
        "1",
    )
    inside(folder, "ingest", "casme2", "drawn", "--name", "drawn", "--as", "drawn")
    inside(folder, "preprocess", "drawn", "--window", "2", "--as", "faces")
    inside(folder, "split", "faces", "--folds", "2", "--as", "fold")
    return folder


def test_the_next_command_names_no_alias_that_names_something_else(place: Path):
    inside(place, "preprocess", "drawn", "--frames", "all", "--as", "whole")
    inside(place, "preprocess", "drawn", "--window", "1", "--as", "narrow")
    text = inside(place, "split", "faces", "--folds", "2", "--as", "fold")
    assert "mien train fold-train" in text and "--as generator" in text
    assert ("--preset nano" in text) is not bool(list_nvidia_cards())
    home = Store(place / "store")
    assert propose_alias("fold", home.run("narrow"), home, "-train") == "fold-2"
    assert propose_alias("fold", home.run("faces"), home, "-train") == "fold"
    assert propose_alias("nothing", home.run("faces"), home) == "nothing"


def test_a_study_that_was_never_run_is_said_to_be_so(place: Path):
    for command in (["study", "status", "smoke"], ["report", "smoke"]):
        text = inside(place, *command, code=2)
        assert "the study smoke has not been run in" in text and "mien study run smoke" in text


def test_a_store_that_does_not_exist_is_named(tmp_path: Path):
    assert "which does not exist" in inside(tmp_path, "ls")


def test_every_stage_leads_to_the_next(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fit, "MEASURE_S", 0.2)  # no more than a guess of the cost is wanted
    text = inside(
        place,
        "train",
        "fold-train",
        "--preset",
        "smoke",
        *settings(*TINY_TRAINING),
        "--as",
        "generator",
    )
    assert "(generator)" in text
    text = inside(
        place,
        "generate",
        "generator",
        "--counts",
        "balanced:21",
        "--steps",
        "3",
        "--as",
        "synthetic",
    )
    assert "21 synthetic images" in text
    text = inside(place, "show", "synthetic")
    assert "class" in text and "parent" in text and "generator" in text
    assert (Store(place / "store").run("synthetic").path / "sheet.png").stat().st_size > 1000
    (place / "study.toml").write_text(STUDY_TEXT)
    text = inside(place, "study", "plan", "study.toml")
    assert "2 generators" in text and "to do on this machine (cpu)" in text and "in all" in text
    counted = inside(place, "study", "plan", "study.toml", "--no-timing")
    assert "2 generators" in counted and "to do on this machine" not in counted
    refused = inside(place, "study", "plan", "study.toml", "--no-timing", "--measure", code=2)
    assert "omit it, or --measure" in refused
    wrong = STUDY_TEXT.replace('"tiny"', '"resnet5"')
    (place / "wrong.toml").write_text(wrong)
    text = inside(place, "study", "plan", "wrong.toml", code=2)  # counts come before networks
    assert text.index("2 generators") < text.index("resnet5'") and "resnet50" in text
    inside(
        place,
        "study",
        "run",
        "study.toml",
        "--only",
        "control=nearest,setting=real_to_real",
        "--workers",
        "0",
    )
    planned = inside(place, "study", "plan", "study.toml", "--no-timing", "--only", "fold=1")
    assert planned.splitlines()[-1].startswith("next: mien study run study.toml --only fold=1")
    assert inside(place, "study", "plan", "study.toml", "--only", "fold=9", code=2).startswith(
        "mien: --only fold=9"
    )
    home = Store(place / "store")
    assert not [name for name in home.list_names() if home.run(name).spec.get("kind") == "copycat"]
    assert "2 of 12" in inside(place, "study", "status", "tiny-study")
    inside(place, "study", "run", "study.toml", "--workers", "0")
    # by default in processes, of which none is needed now
    text = inside(place, "study", "run", "study.toml")
    assert "real → real" in text
    assert "12 of 12" in inside(place, "study", "status", "study.toml")
    assert "nothing is left to do" in inside(place, "study", "plan", "study.toml")
    text = inside(place, "report", "tiny-study", "--out", "report")
    assert "report.html" in text
    for name in ("report.html", "report.md", "tables.tex", "tables.csv"):
        assert (place / "report" / name).exists()
    listed = inside(place, "ls")
    for alias in (
        "drawn",
        "faces",
        "fold-train",
        "fold-test",
        "generator",
        "synthetic",
        "tiny-study",
    ):
        assert alias in listed
    assert "altered" not in inside(place, "verify")


def test_an_altered_file_is_named_by_verify_and_refused_by_the_next_stage(place: Path):
    inside(place, "split", "faces", "--folds", "3", "--as", "other")
    images = Store(place / "store").run("other-test").path / "images.npy"
    data = bytearray(images.read_bytes())
    data[-1] ^= 1
    images.write_bytes(data)
    assert "images.npy does not match its sha256" in mien(place, "verify", "other-test", code=2)
    assert "was altered" in inside(place, "train", "other-test", "--preset", "smoke", code=2)
    inside(place, "rm", "other-test")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nope"], "No such command"),
        (["show", "drwan"], "Did you mean 'drawn'"),
        (["ingest", "casme22", "drawn"], "Did you mean 'casme2'"),
        (["ingest", "casme2", "nowhere"], "nowhere must be a folder"),
        (["ingest", "folder", "store"], "What to do|must"),
        (["preprocess", "faces", "--frames", "apexes"], "'all', 'apex' or 'onset"),
        (["train", "faces", "--preset", "smok"], "Did you mean 'smoke'"),
        (["train", "faces", "--preset", "smoke", "--set", "batchs=3"], "Did you mean 'batch'"),
        (["train", "faces", "--preset", "smoke", "--set", "batch"], "NAME=VALUE"),
        (["train", "faces", "--preset", "smoke", "--minutes", "0"], "must be above 0"),
        (["split", "faces", "--folds", "99"], "99"),
        (["generate", "faces"], "is not a trained generator"),
        (["train", "faces", "--preset", "smoke", "--as", "a/b"], "an alias must be"),
        (["study", "run", "missing.toml"], "there must be a TOML file"),
        (["report", "nothing"], "nothing"),
        (["study", "status", "nothing"], "nothing"),
        (["preprocess", "faces", "--classes", "casme5"], "Did you mean 'casme2-5'"),
        (["rm", "drawn"], "must not have been used for other runs"),
        (["verify", "nothing"], "there is no run or alias"),
        (["train", "generator", "--preset", "smoke"], "this needs a run of faces"),
        (["train", "faces", "--preset", "smoke", "--set", "seed=3"], "--seed N"),
        (
            ["train", "faces", "--preset", "smoke", "--set", 'kind=["ddpm"]'],
            "kind must be one of ddpm",
        ),
        (
            ["train", "faces", "--preset", "smoke", "--set", "net.width=99999"],
            "must be 1024 or less",
        ),
        (["train", "faces", "--preset", "smoke", "--minutes", "inf"], "at most 43,200"),
        (["generate", "generator", "--counts", "balanced:99999999999"], "must be 10000000 or less"),
        (["toy", "drawn2", "--clips", "1000000000"], "at most 100,000"),
        (["toy", "drawn2", "--subjects", "2", "--clips", "6"], "must be 7 or more, .* given: 6"),
        (["report", "tiny-study", "--out", "study.toml"], "--out must be a folder"),
    ],
)
def test_a_wrong_argument_is_one_clear_message_and_code_2(
    place: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    before = Store(place / "store").list_names()
    monkeypatch.chdir(place)
    monkeypatch.setenv("MIEN_STORE", "store")
    monkeypatch.setattr(sys, "argv", ["mien", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert Store(place / "store").list_names() == before


def test_a_training_on_a_cpu_says_beforehand_how_long_it_takes(place: Path):
    home = Store(place / "store")
    spec = read_preset("base", home.resolve("fold-train"))
    assert isinstance(spec, TrainSpec) and spec.images_seen == 8_000_000
    seconds = estimate_cpu_seconds(spec, (1, 48, 48), 2)
    assert seconds is not None and 9 < seconds / 86_400 < 12  # docs/benchmarks.md: 10 days
    assert estimate_cpu_seconds(spec, (1, 96, 96), 2) == pytest.approx(4 * seconds)
    other = read_preset("base", "faces", {"net": {"width": 8}})
    assert estimate_cpu_seconds(other, (1, 48, 48), 2) is None

    # The command prints it before the training, and no time where no speed is known
    short = ["train", "fold-train", "--preset", "nano", "--set", "images_seen=16"]
    text = inside(place, *short)
    assert "this training takes about" in text and "on this CPU" in text
    assert "this training takes" not in inside(place, *short)  # it is done


def test_no_short_help_is_cut_in_80_columns(capsys: pytest.CaptureFixture[str]):
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    inner = [name for name, command in group.commands.items() if isinstance(command, TyperGroup)]
    assert {"study", "publish", "review"} <= set(inner)
    for arguments in ([], *([name] for name in inner)):
        group.main([*arguments, "--help"], standalone_mode=False, max_content_width=80)
        listed = capsys.readouterr().out.partition("Commands:")[2].strip("\n").partition("\n\n")[0]
        lines = listed.splitlines()
        assert all(len(line) <= 80 and line.endswith((".", "?")) for line in lines), listed
        assert "..." not in listed and all(line[2:3].strip() for line in lines)  # none wraps


@pytest.mark.parametrize(
    "sign, code", [pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow), (signal.SIGINT, 130)]
)
def test_a_stopped_training_continues_and_ends_with_the_same_bytes(
    place: Path, tmp_path: Path, sign: int, code: int
):
    def command(name: str) -> list[str]:
        longer = settings(*TINY_TRAINING[:-1], "images_seen=480")
        return [
            "--store",
            name,
            "train",
            source,
            "--preset",
            "smoke",
            "--seed",
            str(int(sign)),
            *longer,
        ]

    source = Store(place / "store").run("fold-train").name
    stores = [tmp_path / "undisturbed", tmp_path / "stopped"]
    for store in stores:
        (store / "runs").mkdir(parents=True)
        (store / "runs" / source).symlink_to(place / "store" / "runs" / source)
    inside(tmp_path, *command("undisturbed"))
    worker = start(tmp_path, *command("stopped"))
    deadline = time.monotonic() + 60
    while not list(stores[1].glob("work/generator-*/scratch")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    assert worker.poll() is None, "it finished before it was stopped"
    worker.send_signal(sign)
    _, err = worker.communicate(timeout=60)
    assert worker.returncode == code
    assert ("stopped; run the same command again" in err) == (sign == signal.SIGINT)
    assert [name for name in Store(stores[1]).list_names() if name.startswith("generator")] == []
    inside(tmp_path, *command("stopped"))
    ends = [Store(store).run("generator").content for store in stores]
    assert ends[0] == ends[1]


def test_help_starts_in_a_blink(tmp_path: Path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    mien(tmp_path, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # seconds of a processor, of which other programs take none; 0.2 on a quiet machine
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0
    code = (
        "import sys, mien.cli; sys.exit(bool({'torch', 'pandas', 'pydantic', 'numpy'} & "
        "set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_set_reads_values_as_toml_and_dots_as_tables():
    assert read_set_options(
        ["net.width=8", "kind=ddpm", "mirror=false", "net.attention=[1, 2]"]
    ) == {"net": {"width": 8, "attention": [1, 2]}, "kind": "ddpm", "mirror": False}
    with pytest.raises(SpecError):
        read_set_options(["net=3", "net.width=8"])
    with pytest.raises(UsageError):
        read_pairs(["=x"], "--map")


def test_what_a_run_says_of_itself_is_json(place: Path):
    run = Store(place / "store").run("faces")
    assert json.loads((run.path / "spec.json").read_text())["stage"] == "faces"
    assert {"made", "versions", "machine"} <= set(json.loads((run.path / "about.json").read_text()))


def test_runs_that_mien_made_for_others_are_listed_with_all_or_by_their_stage(tmp_path: Path):
    store = Store(tmp_path / "store")
    faces = keep(blobs(8), store, "mine")

    def build(out: Path, scratch: Path) -> None:
        (out / "features.txt").write_text("1", encoding="utf-8")

    spec = FeaturesSpec(faces=faces.name, space="random", train=faces.name)
    features = store.make(spec, build).name
    listed = inside(tmp_path, "ls")
    assert faces.name in listed and features not in listed
    assert "1 run that was made for other runs: not listed; `mien ls --all`" in listed
    for arguments in (["--all"], ["features"]):
        listed = inside(tmp_path, "ls", *arguments)
        assert features in listed and "not listed" not in listed
    # One that the user has named is his own
    store.set_alias("kept", features)
    assert features in inside(tmp_path, "ls")


def test_an_alias_that_names_another_run_from_now_on_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    store = Store(tmp_path / "store")
    first = keep(blobs(8), store, "mine")
    keep(blobs(8), store, "mine")
    assert "the alias" not in capfd.readouterr().err
    second = keep(blobs(16), store, "mine")
    said = capfd.readouterr().err
    assert f"the alias mine named {first.name} and now names {second.name}" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--guidance-mix", "-1"], "guidance_mix"),
        (["--steps", "0"], "steps"),
        (["--guide", "nobody"], "guide"),
        (["--reject", "memorized", "--test", "mine"], "Did you mean 'memorised'"),
        (["--reject", "memorised", "--test", "other"], "no run or alias 'other'"),
        (["--engine", "spark"], "local or ray"),
        (["--device", "tpu"], "tpu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_generate_refuses_wrong_options_before_it_prints_anything(
    copies: Path, arguments: list[str], message: str
):
    code, text = run_inside(copies, "generate", "copier", *arguments)
    assert code == 2 and message in text and "images per class" not in text


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has faces and a generator."""
    folder = tmp_path_factory.mktemp("copies")
    keep(blobs(16), Store(folder / "store"), "mine")
    inside(folder, "train", "mine", "--preset", "copycat", "--as", "copier")
    return folder


# Commands that are refused for a wrong name or option
REFUSED = (
    "audit nobody --train mine",
    "generate nobody",
    "train nobody",
    "export nobody --out there",
    "filter nobody --train mine",
    "advise nobody",
    "generate copier --guidance-mix -1",
    "train mine --preset nobody",
    "audit mine --train mine --spaces nobody",
    "study plan missing.toml --no-timing",
    "study run nobody",
    "study status nobody",
    "report nobody",
)


@pytest.fixture(scope="module")
def refused(copies: Path) -> dict[str, list[str]]:
    """For each of these commands, its exit code and whether torch is loaded after it, in words.

    One process gives them all: to start one for each would take most of the time.
    """
    text = (
        "import sys\nfrom mien.cli import main\nfor line in sys.argv[1:]:\n"
        "    sys.argv = ['mien', *line.split(), '--store', 'store']\n    try:\n        main()\n"
        "    except SystemExit as end:\n        print(line, end.code, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", text, *REFUSED]
    done = subprocess.run(command, cwd=copies, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines()]
    return {" ".join(words[:-2]): words[-2:] for words in lines}


@pytest.mark.parametrize("command", REFUSED)
def test_a_wrong_name_or_option_is_refused_before_torch_is_loaded(
    refused: dict[str, list[str]], command: str
):
    assert refused[command] == ["2", "False"]
