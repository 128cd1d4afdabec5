"""Exported generators: the folder draws what mien draws, where mien is not installed."""

import hashlib
import json
import pickle
import pickletools
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.export.passes import move_to_device_pass
from worlds import ONE_PASS, films, keep, training_of

from mien.cli import main
from mien.errors import UsageError
from mien.export import run as run_module
from mien.export.revealed_faces import find_owners
from mien.export.run import export, get_denoiser, list_exportable, list_files
from mien.faces import EMOTIONS, Faces, make_index
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.unet import NO_LABEL
from mien.generators.distill import distill_generator, order_student
from mien.generators.kinds import GENERATORS, load_generator, sample_generator
from mien.generators.specs import (
    KIND_FACTS,
    GaussianSpec,
    KindFacts,
    NetSpec,
    SamplerSpec,
    TrainSpec,
    read_training,
)
from mien.generators.train import train_generator
from mien.runs.folders import write_whole_folder
from mien.runs.spec import Spec
from mien.runs.store import Run, Store

TINY = {
    "net": NetSpec(width=8, multipliers=(1, 2), blocks=1, patch=2, attention=(1,)).model_dump(),
    **{"images_seen": 120, "batch": 12, "learning_rate": 5e-3},
}
# To write a network of two levels with attention as a program takes seconds: one kind has it
PLAIN = {**TINY, "net": NetSpec(width=8, multipliers=(1,), blocks=1, attention=()).model_dump()}
# Settings of the trainings of these tests, where the defaults of a kind would be slow
OWN = {
    "edm": TINY,
    "ddpm": {**PLAIN, "steps": 20, "beta_last": 0.4, "label_drop": 0.0},
    "rectified": PLAIN,
}
# Kinds whose noise levels a scheduler of diffusers has; tests/test_student.py has the others
DENOISERS = [
    name
    for name, kind in GENERATORS.items()
    if kind.make_denoiser is not None and not KIND_FACTS[name].distilled
]
HAPPY, AFRAID = EMOTIONS.index("happiness"), EMOTIONS.index("fear")
SIGMAS = (0.002, 0.03, 0.4, 2.0, 11.0, 80.0, 200.0)

# Runs code where no mien can be imported, and fails if one was.
ALONE = """
import os, runpy, sys

class NoMien:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mien":
            raise ImportError("there must be no mien here")

def script(name, *arguments):
    sys.argv = [name, *arguments]
    runpy.run_path(f"folder/{name}", run_name="__main__")

sys.meta_path.insert(0, NoMien())
# else torch loads the operators of the mien that is installed
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
import numpy as np
import torch

torch.set_num_threads(1)
for kind in sys.argv[1:]:
    os.chdir(kind)
    script("sample.py", "happiness", "--count", "5", "--seed", "3", "--out", "alone")
    if not os.path.exists("given.npz"):
        os.chdir("..")
        continue
    given, said = np.load("given.npz"), {}
    denoise = torch.export.load("folder/denoiser.pt2").module()
    for name in {key[2:] for key in given}:
        with torch.inference_mode():
            inputs = (torch.from_numpy(given[part + name]) for part in ("x_", "s_", "l_"))
            said[name] = denoise(*inputs).numpy()
    np.savez("said.npz", **said)
    more = ("--count", "5", "--seed", "3", "--out", "scheduled.npy")
    script("sample_diffusers.py", "happiness", *more)
    os.chdir("..")
assert not [name for name in sys.modules if name.partition(".")[0] == "mien"]
"""


class FacesSpec(Spec):
    stage = "toyfaces"


def toy() -> Faces:
    """Bright and dark noise around a face of a kind, under a licence of its own."""
    rng = np.random.default_rng(0)
    face = 60 * np.sin(np.arange(16) / 3)[:, None] * np.ones(16)
    images = (
        np.repeat([170, 80], 12)[:, None, None, None] + face + rng.normal(0, 15, (24, 1, 16, 16))
    )
    index = make_index(
        images.clip(0, 255).astype(np.uint8),
        key=[f"toy/{n}" for n in range(24)],
        dataset="toy",
        subject=[f"toy:{n // 8}" for n in range(24)],
        clip=[f"toy:{n // 4}" for n in range(24)],
        emotion=["happiness"] * 12 + ["fear"] * 12,
        licence="for tests only",
    )
    return Faces(images.clip(0, 255).astype(np.uint8), index)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A trained generator of each kind, by its alias."""
    home = Store(tmp_path_factory.mktemp("store"))
    home.make(FacesSpec(), lambda out, scratch: toy().save(out), "toy")
    keep(films(subjects=2, clips=1), home, "films")
    found = {}
    for kind, facts in KIND_FACTS.items():
        if facts.distilled:
            short = {"images": 16, "images_seen": 64, "batch": 16}
            found[kind] = distill_generator(order_student(found["edm"], settings=short), home)
            continue
        own = OWN.get(kind, TINY if issubclass(facts.spec, TrainSpec) else {})
        faces = "films" if facts.moves else "toy"
        spec = training_of(kind, **{"faces": faces, **own})
        found[kind] = train_generator(spec, home, alias=kind, device="cpu")
    return found


@dataclass
class Exported:
    """An exported folder, the generator that it is of, and what was made from it without mien."""

    generator: Diffusion
    folder: Path
    given: dict[str, np.ndarray]
    said: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def exports(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind, with the export, what the program is given, and what was made of it
    without mien.
    """
    place = tmp_path_factory.mktemp("exports")
    for kind in DENOISERS:
        export(runs[kind], place / kind / "folder", "diffusers")
        rng, given = np.random.default_rng(1), {}
        for count, labels in (
            (1, [HAPPY]),
            (2, [AFRAID, HAPPY]),
            (7, [HAPPY, AFRAID, NO_LABEL, HAPPY, 0, AFRAID, NO_LABEL]),
        ):
            for sigma in SIGMAS:
                each = np.full(count, sigma, dtype=np.float32) * np.linspace(
                    1, 1.5, count, dtype=np.float32
                )
                x = (
                    rng.normal(size=(count, 1, 16, 16)).astype(np.float32)
                    * each[:, None, None, None]
                )
                case = f"{count} images at {sigma}"
                given |= {f"x_{case}": x, f"s_{case}": each, f"l_{case}": np.array(labels)}
        np.savez(place / kind / "given.npz", **given)
    for kind in ONE_PASS:
        export(runs[kind], place / kind / "folder")
    command = [sys.executable, "-I", "-c", ALONE, *DENOISERS, *ONE_PASS]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture(scope="module", params=DENOISERS)
def exported(request: pytest.FixtureRequest, runs: dict[str, Run], exports: Path) -> Exported:
    generator, place = load_generator(runs[request.param], "cpu"), exports / request.param
    assert isinstance(generator, Diffusion)
    return Exported(
        generator,
        place / "folder",
        *(dict(np.load(place / f"{name}.npz")) for name in ("given", "said")),
    )


def drawn(generator: Diffusion, sampler: str) -> np.ndarray:
    """What mien draws from the seeds 3 to 7, as the scripts are asked to."""
    how = SamplerSpec.model_validate({"sampler": sampler})
    return sample_generator(generator, np.full(5, HAPPY), np.arange(3, 8), sampler=how).astype(int)


@pytest.mark.parametrize("kind", ONE_PASS)
def test_a_generator_in_one_pass_draws_the_same_images_without_mien(
    kind: str, runs: dict[str, Run], exports: Path
):
    folder, generator = exports / kind / "folder", load_generator(runs[kind], "cpu")
    images = np.load(folder.parent / "alone.npy")
    assert images.shape == (5, 1, 16, 16) and images.std() > 5
    drawn_here = sample_generator(generator, np.full(5, HAPPY), np.arange(3, 8)).astype(int)
    assert np.abs(images - drawn_here).max() <= 1

    # The folder says what it is
    about, text = (
        json.loads((folder / "export.json").read_text()),
        (folder / "README.md").read_text(),
    )
    there = {path.name for path in folder.iterdir()}
    assert set(list_files(about)) | {"README.md"} == there
    assert about["kind"] == kind and about["provenance"]["run"] == runs[kind].name
    assert f"[n, {about['noise']}]" in text and "for tests only" in text and kind in text
    for name, digest in about["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    has_mean = "mean" in dict(generator.network.named_buffers())  # pyright: ignore
    assert ("mean face of 24 images" in list_files(about)["generator.pt2"]) == has_mean


@pytest.mark.parametrize("kind", ONE_PASS)
def test_a_generator_in_one_pass_has_no_scheduler(kind: str, runs: dict[str, Run], tmp_path: Path):
    with pytest.raises(UsageError, match=f"a {kind} generator has none; use the format 'program'"):
        export(runs[kind], tmp_path / "out", "diffusers")


def test_the_program_says_what_the_denoiser_says_for_any_number_of_images(exported: Exported):
    denoise = get_denoiser(exported.generator, exported.generator.network)
    assert len(exported.said) == 3 * len(SIGMAS)
    for case, said in exported.said.items():
        parts = [torch.from_numpy(exported.given[part + case]) for part in ("x_", "s_", "l_")]
        expected = denoise(*parts).numpy()
        assert np.abs(said - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max()), case


def test_the_script_draws_what_mien_draws(exported: Exported):
    images = np.load(exported.folder.parent / "alone.npy")
    assert images.shape == (5, 1, 16, 16) and images.dtype == np.uint8 and images.std() > 5
    assert np.abs(images - drawn(exported.generator, "dpmpp2m")).max() <= 1
    sheet = (exported.folder.parent / "alone.pgm").read_bytes()
    assert sheet == b"P5 16 80 255\n" + images.tobytes()


def test_the_scheduler_of_diffusers_drives_the_program_to_the_same_images(exported: Exported):
    images = np.load(exported.folder.parent / "scheduled.npy")
    kind = exported.generator.spec.kind
    sampler = {"rectified": "euler"}.get(kind, KIND_FACTS[kind].sampler)  # as the scheduler is
    assert np.abs(images - drawn(exported.generator, sampler)).max() <= 1


# low, high and start of the noise, and the default steps of the scheduler
NOISE = {
    "edm": (0.002, 80.0, 80.0, 16),
    "rectified": (0.002, 80.0, 80.0, 50),
    "ddpm": (0.0100005, 10.4336, 10.4814, 20),
}


def test_the_noise_levels_of_an_export_are_those_written_down(exported: Exported):
    about = json.loads((exported.folder / "export.json").read_text())
    sigma, sampler, scheduler = about["sigma"], about["sampler"], about["scheduler"]
    noise = (sigma["low"], sigma["high"], sampler["start"], scheduler["steps"])
    assert noise == pytest.approx(NOISE[about["kind"]], rel=1e-3)
    assert (sampler["name"], sampler["steps"], sampler["clip_x0"]) == ("dpmpp2m", 16, True)
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "README.md",
        "denoiser.pt2",
        "export.json",
        "mean.npy",
        "sample.py",
        "sample_diffusers.py",
        "scheduler",
    ]


def test_the_folder_says_whose_it_is_and_where_it_came_from(
    exported: Exported, runs: dict[str, Run]
):
    about = json.loads((exported.folder / "export.json").read_text())
    run = runs[about["kind"]]
    assert about["licence"] == "for tests only"
    assert list(about["classes"].items()) == [("fear", AFRAID), ("happiness", HAPPY)]
    assert about["null_label"] == (
        None if about["kind"] == "ddpm" else NO_LABEL
    )  # the ddpm saw every label
    origin = about["provenance"]
    assert (origin["run"], origin["content"]) == (run.name, run.content)
    assert origin["trained_on"] == {
        "run": run.spec["faces"],
        "images": 24,
        "subjects": 3,
        "clips": 6,
    }
    for name, digest in about["sha256"].items():
        assert hashlib.sha256((exported.folder / name).read_bytes()).hexdigest() == digest
    text = (exported.folder / "README.md").read_text()
    assert "for tests only" in text and run.name in text
    there = {path.name for path in exported.folder.iterdir()}
    assert {name.rstrip("/") for name in list_files(about)} | {"README.md"} == there


def is_pickle(data: bytes) -> bool:
    """Whether data are instructions of a pickle up to the last; weights may begin like one."""
    try:
        return sum(1 for _ in pickletools.genops(data)) > 1
    except ValueError:
        return False


def test_a_pickle_is_known_as_one():
    assert is_pickle(pickle.dumps({"a": [1.0]})) and not is_pickle(b"\x80\x88\xf5\xbd\xe4\x1a")


def test_the_program_holds_no_pickle_and_no_path_of_this_machine(exported: Exported):
    with zipfile.ZipFile(exported.folder / "denoiser.pt2") as archive:
        for name in archive.namelist():
            data = archive.read(name)
            assert b"mien/" not in data and str(Path.cwd()).encode() not in data, name
            assert not data.startswith(b"PK\x03\x04"), name  # a file of torch.save
            assert not is_pickle(data), name


def test_the_program_goes_to_another_device_whole(exports: Path):
    moved = move_to_device_pass(
        torch.export.load(exports / "ddpm" / "folder" / "denoiser.pt2"), "meta"
    )
    x, sigma = torch.empty(3, 1, 16, 16, device="meta"), torch.empty(3, device="meta")
    said = moved.module()(x, sigma, torch.empty(3, dtype=torch.int64, device="meta"))
    assert said.device.type == "meta" and said.shape == x.shape


def test_an_export_is_whole_or_absent(tmp_path: Path):
    out = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt), write_whole_folder(out) as folder:
        (folder / "half").write_text("x")
        assert not out.exists() and folder.parent == tmp_path  # one rename away
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    out.mkdir()
    with write_whole_folder(out) as folder:
        (folder / "all").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "all"]


PEOPLE = {
    "one subject": ([("a:1", f"a:c{n // 4}") for n in range(12)], "12 of 12 show one subject"),
    "one clip of somebody": ([("", "a:c0")] * 9, "9 of 9 show one clip"),
    "one image of somebody": ([("", "")], "1 of 1 show one image"),
    "one subject among few others": (
        [("a:1", "")] * 18 + [("a:2", ""), ("", "")],
        "18 of 20 show one subject",
    ),
    "two subjects": ([("a:1", "a:c0"), ("a:2", "a:c1")], "2 images of 2 subjects"),
    "some subjects, some unknown": (
        [("a:1", "")] * 5 + [("", "")] * 4,
        "9 images of 1 subject and 4 images of unknown",
    ),
    "pictures of unknown people": ([("", "")] * 7, "7 images of unknown subjects"),
}


@pytest.mark.parametrize("made", [0, 30], ids=["real", "and generated"])
@pytest.mark.parametrize(("people", "said"), PEOPLE.values(), ids=PEOPLE)
def test_it_is_known_whose_the_mean_face_is(people: list[tuple[str, str]], said: str, made: int):
    seen = pd.DataFrame(people, columns=["subject", "clip"]).assign(dataset="a")
    more = pd.DataFrame({"subject": [""] * made, "clip": "", "dataset": "synthetic"})
    # of faces that were generated, those count that were seen
    seen = pd.concat([seen, more], ignore_index=True)
    found = find_owners(seen.assign(key=[f"a/{n}" for n in range(len(seen))]))
    count = f"{round(found.share * found.images)} of {found.images} show one {found.unit}"
    assert (count if found.one else found.text).startswith(said)


@pytest.mark.parametrize("gone", [False, True], ids=["faces there", "faces gone"])
def test_people_who_were_held_out_are_not_in_the_mean_face(tmp_path: Path, gone: bool):
    home, faces = Store(tmp_path / "store"), toy()
    faces = Faces(faces.images, faces.index.assign(subject=["toy:1", "toy:2"] * 12))
    kept = home.make(FacesSpec(), lambda out, scratch: faces.save(out), "pair")
    fields = {**TINY, "images_seen": 12, "held_out": 0.5}
    run = train_generator(read_training({"faces": "pair", "kind": "edm", **fields}, "test"), home)
    if gone:
        shutil.rmtree(kept.path)
    with pytest.raises(UsageError, match="12 of 12 show one subject"):
        export(run, tmp_path / "out")


@pytest.mark.parametrize("residual", [True, False], ids=["with a mean face", "without"])
def test_the_face_of_one_person_is_exported_only_where_that_is_allowed(
    tmp_path: Path,
    residual: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    home, faces = Store(tmp_path / "store"), toy()
    faces = Faces(faces.images, faces.index.assign(subject="toy:7"))
    home.make(FacesSpec(), lambda out, scratch: faces.save(out), "alone")
    fields = {**TINY, "images_seen": 12, "residual": residual}
    run = train_generator(read_training({"faces": "alone", "kind": "edm", **fields}, "test"), home)
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, {"edm": run}, run.name, "--out", "new/folder") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "24 of 24 show one subject" in told and "--allow-face" in told and "toy:7" not in told
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert call(monkeypatch, {"edm": run}, run.name, "--out", "new/folder", "--allow-face") == 0
    printed = capsys.readouterr()
    assert ("mean.npy is the mean face of 24 images of 1 subject" in printed.err) is residual
    assert np.load(tmp_path / "new" / "folder" / "mean.npy").any() == residual
    assert call(monkeypatch, {"edm": run}, "alone", "--out", "pictures", "--allow-face") == 2

    # The command says what it wrote: without --format, nothing for diffusers
    text = printed.out
    assert ("where images start: the mean face of 24 images of 1 subject" in text) is residual
    assert (
        "denoiser.pt2: the denoiser, a program of torch.export" in text and "for tests only" in text
    )
    assert "diffusers" not in text and not (tmp_path / "new" / "folder" / "scheduler").exists()
    assert (tmp_path / "new" / "folder" / "sample.py").exists()


@pytest.mark.parametrize("kind", [kind for kind in KIND_FACTS if kind not in list_exportable()])
def test_a_kind_without_a_denoiser_is_refused_with_its_reason(
    kind: str, runs: dict[str, Run], tmp_path: Path
):
    with pytest.raises(UsageError, match=f"is a {kind}, which {KIND_FACTS[kind].not_exported}"):
        export(runs[kind], tmp_path / "out")


def test_a_kind_that_says_nothing_of_exports_is_refused_in_words(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    silent = replace(KIND_FACTS["gaussian"], not_exported=KindFacts(GaussianSpec).not_exported)
    monkeypatch.setattr(run_module, "KIND_FACTS", {**KIND_FACTS, "gaussian": silent})
    with pytest.raises(UsageError, match="is a gaussian, which has no network that removes noise"):
        export(runs["gaussian"], tmp_path / "out")


def call(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Run], *arguments: str) -> int:
    """Run `mien export` here and return its exit code."""
    monkeypatch.setenv("MIEN_STORE", str(runs["edm"].path.parent.parent))
    monkeypatch.setattr(sys, "argv", ["mien", "export", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["copycat", "--out", "out"], "holds the real images"),
        (
            ["gaussian", "--out", "out"],
            "must name a network .ddpm or edm or .*, and .* is a gaussian",
        ),
        (["toy", "--out", "out"], "holds 24 images of real people"),
        (["edm", "--out", "out", "--format", "diffuser"], "Did you mean 'diffusers'"),
        (["edm", "--out", "taken"], "and .*taken holds files"),
        (["edm", "--out", "taken/file"], "and .*file is a file"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    tmp_path: Path,
    runs: dict[str, Run],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, runs, *arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.rglob("*")] == ["taken", "file"]
    assert (tmp_path / "taken" / "file").read_text() == "mine"
