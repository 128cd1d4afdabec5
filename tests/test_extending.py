"""docs/extending.md: each new member is put into a copy of the package, and then used there."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mien.audit.verdict import DEFAULT_THRESHOLDS, read_thresholds

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))

# Two images of noise, ingested: `store`, and `faces`, a run.
TWO_IMAGES = """
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from mien.faces import Faces
        from mien.ingest.run import run_ingest
        from mien.runs.store import Store

        for number, emotion in enumerate(["anger", "fear"]):
            Path("set", emotion).mkdir(parents=True)
            noise = np.random.default_rng(number).integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(noise).save(f"set/{emotion}/{number}.png")
        store = Store(Path("store"))
        faces = run_ingest("folder", Path("set"), store, size=16)
"""

# `study(...)` returns the spec of a study with these settings and controls.
STUDY = """
        from mien.classifiers.specs import ClassifierSpec
        from mien.study.controls import list_trial_kinds
        from mien.study.specs import StudySpec

        def study(**fields):
            return StudySpec(
                title="a study", faces="faces-0000000000", protocol="subject", folds=2,
                tested_folds=(0, 1), trials=1, class_set="", classes=("anger", "fear"),
                ablations=("plain",), inputs={}, generator={}, generate={}, counts="preprint",
                classifiers={"tiny": {"plain": ClassifierSpec(name="tiny")}}, seed=0, **fields,
            )
"""

# `run_controls(...)` runs a study of dark and light images with these controls.
RUN_STUDY = """
        from pathlib import Path
        import numpy as np
        import pandas as pd
        from PIL import Image
        from mien.faces import Faces
        from mien.ingest.run import run_ingest
        from mien.report.facts import list_facts
        from mien.report.sentences import describe_differences
        from mien.runs.store import Store
        from mien.study.file import read_study
        from mien.study.plan import describe_plan, plan_study
        from mien.study.results import StudyResults
        from mien.study.run import run_study
        from mien.study.settings import CONTROLS

        for number in range(24):
            emotion = ("anger", "fear")[number % 2]
            Path("set", emotion).mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 99, (16, 16)) + 99 * (number % 2)
            Image.fromarray(noise.astype(np.uint8)).save(f"set/{emotion}/{number}.png")
        store = Store(Path("store"))
        run_ingest("folder", Path("set"), store, size=16, alias="faces")

        def run_controls(*names, trials=1):
            Path("study.toml").write_text(
                f'name = "controlled"\\nfaces = "faces"\\nprotocol = "frame"\\nfolds = 2\\n'
                'settings = ["real_to_real", "both_to_real", "real_to_synthetic"]\\n'
                f'classifiers = ["tiny"]\\ntrials = {trials}\\ncontrols = {[*names]}\\n'
                '[classifier]\\nepochs = 1\\nsize = 16\\n[generator]\\npreset = "gaussian"\\n'
            )
            study = read_study(Path("study.toml"), store)
            run_study(study, store, device="cpu")
            found = StudyResults("controlled", store)
            assert not found.failed and all(cell.whole for cell in [*found.cells, *found.controls])
            return study, found
"""

# What is done with the new member of each family, in a process that imports the copy.
USES = {
    "A dataset reader": """
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from mien.ingest.run import choose_reader, list_readers, run_ingest
        from mien.ingest.terms import find_terms
        from mien.faces import Faces
        from mien.runs.store import Store

        for name in ("mood-p01-joy-1", "mood-p02-calm-1"):
            Path("set").mkdir(exist_ok=True)
            seed = np.random.default_rng(len(name))
            Image.fromarray(seed.integers(0, 256, (24, 24), dtype=np.uint8)).save(f"set/{name}.png")
        assert choose_reader(Path("set"))[0] == "mood" and "mood" in list_readers()
        run = run_ingest("mood", Path("set"), Store(Path("store")), size=16)
        faces = Faces.load(run.path)
        assert dict(zip(faces.index["subject"], faces.index["emotion"])) == {
            "mood:p01": "happiness", "mood:p02": "neutral"
        }
        assert find_terms("folder", "Mood", "CC0 1.0", "CC0 1.0").originals == "no"
    """,
    "An input": """
        import numpy as np
        from mien.prepare.inputs import stack_inputs
        from mien.prepare.specs import PreprocessSpec

        spec = PreprocessSpec(faces="faces-0000000000", input=("gray", "negative"))
        grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        shown = stack_inputs(grey, grey, spec.input)
        assert (shown[:, 0] == grey).all() and (shown[:, 1] == 255 - grey).all()
    """,
    "A generator": TWO_IMAGES
    + """
        from mien.generators.generate import generate_database
        from mien.generators.presets import read_preset
        from mien.generators.specs import GenerateSpec
        from mien.generators.train import train_generator

        model = train_generator(read_preset("meanface", faces.name), store)
        spec = GenerateSpec(generator=model.name, counts={"anger": 2, "fear": 1}, sampler="direct")
        database = Faces.load(generate_database(spec, store, workers=1).path)
        assert sorted(database.index["emotion"]) == ["anger", "anger", "fear"]
        difference = database.images.mean(axis=0) - Faces.load(faces.path).images.mean(axis=0)
        assert 0 < np.abs(difference).max() < 40
    """,
    "A classifier that is no network": """
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from mien.errors import SpecError
        from mien.ingest.run import run_ingest
        from mien.report.write import write_report
        from mien.runs.store import Store
        from mien.study.fields import StudyFile
        from mien.study.file import resolve
        from mien.study.results import StudyResults
        from mien.study.run import run_study

        for number in range(16):
            path = Path("set", ["anger", "fear"][number % 2], f"s{number // 4}_{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(0, 99, (16, 16), dtype=np.uint8)
            noise[:, 8 * (number % 2) :][:, :8] += 100
            Image.fromarray(noise).save(path)
        store = Store(Path("store"))
        faces = run_ingest("folder", Path("set"), store, size=16, subject_pattern="(s[0-9])_")
        study = StudyFile(
            name="linear", faces=faces.name, protocol="subject", folds=2, trials=2,
            settings=("real_to_real",), classifiers=("ridge",), controls=("nearest",),
        )
        run_study(resolve(study, store), store, device="cpu")
        results = StudyResults("linear", store)
        assert results.cells[0].average_trials("accuracy") == 1 and len(results.runs) == 4
        page = write_report(["linear"], store, Path("report"))
        assert "ridge" in page.read_text(encoding="utf-8")

        # It has no fields that a table or an ablation could change
        for change, message in (
            ({"classifier": {"ridge": {"epochs": 2}}}, "remove [classifier.ridge]"),
            ({"ablations": ("plain", "augment")}, "augment changes augment"),
        ):
            try:
                resolve(study.model_copy(update=change), store)
            except SpecError as error:
                assert message in str(error)
            else:
                raise AssertionError(change)
    """,
    "A study setting": STUDY
    + """
        (kind,) = list_trial_kinds(study(settings=["both_to_synthetic"], controls=[]))
        assert (kind.arm.train, kind.tests) == ("both", ("synthetic",))
    """,
    "A control": STUDY
    + """
        chosen = {"settings": ["real_to_synthetic"], "controls": ["permuted_to_synthetic"]}
        cell, nearest, control = list_trial_kinds(study(**chosen))
        assert (cell.control, nearest.classifier, control.classifier) == ("", "nearest", "tiny")
        assert nearest.control == control.control == "permuted_to_synthetic"
        assert (control.arm, control.tests) == (cell.arm, cell.tests)
    """,
    "A control without learning": RUN_STUDY
    + """
        study, found = run_controls("chance", trials=2)
        labels = {found.label_control(cell) for cell in found.controls}
        assert labels == {"chance"} and len(found.controls[0].done) == 2
        scores = [cell.average_trials("accuracy") for cell in found.controls]
        assert 0.2 < sum(scores) / len(scores) < 0.8
        assert ("control chance", CONTROLS["chance"].shows) in list_facts(found)
        runs = [store.run(trial.run) for trial in found.trials if trial.control == "chance"]
        first, second = (
            list(pd.read_parquet(run.find_file("predictions.parquet"))["predicted"])
            for run in runs if run.spec["train"] == "real"
        )
        assert first != second
    """,
    "A control that replaces the generator": RUN_STUDY
    + """
        study, found = run_controls("mixup", "again")
        text = describe_plan(plan_study(study, store))
        assert "1 mixup database" in text and "1 again database" in text
        assert {found.label_control(cell) for cell in found.controls} == {
            f"{label} ({name})"
            for label in ("mixup", "real images again") for name in ("1-NN", "tiny")
        }
        assert "averages of two real images of one class changes" in " ".join(
            describe_differences(found)
        )

        # What the controls make: averages of two images, and the images themselves
        real = Faces.load(store.run("faces").path)
        (database,) = found.plan.databases
        mixed, again = (
            Faces.load(store.run(database.controls[name]).path) for name in ("mixup", "again")
        )
        counts = real.index["emotion"].value_counts().to_dict()
        assert mixed.index["emotion"].value_counts().to_dict() == counts
        originals = {image.tobytes() for image in real.images}
        assert {image.tobytes() for image in again.images} <= originals
        dark = mixed.images[(mixed.index["emotion"] == "anger").to_numpy()]
        assert dark.mean() < 60 and 10 < dark.std() < real.images.std()
    """,
    "An audit part": TWO_IMAGES
    + """
        from mien.audit.part import PartInput, make_empty_side
        from mien.audit.parts import measure_part, plan_parts
        from mien.audit.verdict import QUESTIONS

        plan = plan_parts("made-0000000000", faces.name, "", ("pixels",), "bilinear", {})
        assert plan["brightness"].synthetic == "made-0000000000"
        real = Faces.load(faces.path)
        first = real.select(np.array([0]))
        sides = {"train": real, "test": make_empty_side(real), "synthetic": first}
        (record,) = measure_part("brightness", PartInput(**sides, spaces={}, find=None)).records
        assert record.value == real.images[0].mean() - real.images.mean()
        assert QUESTIONS["Is it as light as real faces?"] == ("brightness",)
    """,
    "A sampler": """
        import torch
        from mien.cli.stages import generate
        from mien.generators.diffusion.samplers import SOLVERS, make_karras_levels
        from mien.generators.specs import SamplerSpec

        calls = []
        def denoise(x, sigma):  # of images from N(0, 0.36)
            calls.append(sigma)
            return x * (0.36 / (0.36 + sigma**2))[:, None, None, None].to(x.dtype)

        noise = torch.randn(2000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        levels = make_karras_levels(80, 0.002, 80.0)
        images = SOLVERS[SamplerSpec(sampler="midpoint").sampler](denoise, 80 * noise, levels)
        assert len(calls) == 2 * 80 - 1  # the last step, to zero noise, needs one call
        assert abs(images.std().item() - 0.6) < 0.03, images.std()
        helps = [part.help for part in generate.__annotations__["sampler"].__metadata__]
        assert "midpoint (the midpoint method" in helps[0]
    """,
}


def read_blocks(section: str) -> list[tuple[str, str, str]]:
    """Return file, position and code of each Python block of a section."""
    blocks = re.findall(r"```python\n# (\S+), (.+?)\n(.*?)```", section, re.S)
    assert len(blocks) == section.count("```python")
    return blocks


def insert(package: Path, file: str, position: str, code: str) -> None:
    """Put a block where its first line says."""
    path = package / file
    if position == "a new file":
        assert not path.exists()
        path.write_text(code, encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    word, name = position.split() if " " in position else (position, "")
    start = {
        "imports": r"(from|import) ",
        "in": rf"{name}\b.* = .*[\[{{(\])}}]$",
        "above": rf"{name}\b",
    }[word]
    at = next(number for number, line in enumerate(lines) if re.match(start, line))
    if word == "in" and not lines[at].endswith(("[", "{", "(")):  # a table of one line
        code = f"{lines[at][:-1]}, {code.strip()}{lines.pop(at)[-1]}"
        lines.insert(at, code)
    else:
        lines.insert(at + (word == "in"), code)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


# A process loads the libraries once, then does each member's code in a process of its own: the code
# is in FOLDER/code.py, the copy of the package beside it, and FOLDER/stderr is what the code said.
RUN_EACH = """
import gc, os, sys
import cv2, jaxtyping, jinja2, numpy, openpyxl, pandas, PIL.ImageDraw, pyarrow.parquet
import pydantic.types, regex, rich.progress, scipy.optimize, sklearn.neighbors, torch._dynamo, typer

gc.collect()
gc.freeze()

for folder in sys.argv[1:]:
    if not os.fork():
        os.chdir(folder)
        os.dup2(os.open("stderr", os.O_WRONLY | os.O_CREAT), 2)
        sys.path.insert(0, folder)
        exec(compile(open("code.py").read(), "code.py", "exec"), {})
        os._exit(0)
    if os.wait()[1]:
        print(folder)
"""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the uses of the members that failed said, by the members' titles.

    Each member was put into a copy of the package of its own, which the use imports.
    """
    folders = {title: tmp_path_factory.mktemp("package") for title in USES}
    for title, folder in folders.items():
        package = folder / "mien"
        shutil.copytree(ROOT / "mien", package, ignore=shutil.ignore_patterns("*.shapes-*.pyc*"))
        for file, position, code in read_blocks(SECTIONS[title]):
            insert(folder, file, position, code)
        (folder / "code.py").write_text(textwrap.dedent(USES[title]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH, *map(str, folders.values())],
        # torch would load the package that is installed
        env={**os.environ, "PYTHONPATH": "", "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    failed = done.stdout.splitlines()
    return {
        title: (folder / "stderr").read_text(encoding="utf-8")
        for title, folder in folders.items()
        if str(folder) in failed
    }


WORDS_ONLY = {"A network"}


def test_every_section_is_used():
    assert {"A threshold", *WORDS_ONLY, *USES} == set(SECTIONS)


@pytest.mark.parametrize("title", USES)
def test_a_member_that_the_page_adds_is_used_by_the_package(title: str, faults: dict[str, str]):
    assert title not in faults, faults[title]


@pytest.mark.parametrize("title", USES)
def test_without_its_entry_a_member_is_unknown(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception):  # noqa: B017
        exec(textwrap.dedent(USES[title]), {})


def test_a_threshold_of_the_page_is_read_as_one_more_check(tmp_path: Path):
    (block,) = re.findall(r"```toml\n(.*?)```", SECTIONS["A threshold"], re.S)
    (tmp_path / "mine.toml").write_text(block, encoding="utf-8")
    added = set(read_thresholds(tmp_path / "mine.toml")) - set(read_thresholds(DEFAULT_THRESHOLDS))
    assert added == {"fidelity.kernel.dinov2"}
