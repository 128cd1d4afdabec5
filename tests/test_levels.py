"""Noise levels chosen for a generator: known answers, and `--steps auto` from store to release."""

import itertools
import math
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import release_world
import torch
from worlds import TINY_DIFFUSION

from mien.audit.levels import find_levels, list_levels_jobs, prepare_levels
from mien.cli import main
from mien.errors import SpecError, UsageError
from mien.faces import Faces
from mien.generators.diffusion.levels import add_up_deviations, choose_places, record_trajectory
from mien.generators.diffusion.samplers import euler, make_karras_levels
from mien.generators.generate import generate_database, read_levels
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.orders import order_database
from mien.generators.specs import (
    AUTO_STEPS,
    GaussianSpec,
    GenerateSpec,
    LevelsSpec,
    SamplerSpec,
    TrainSpec,
    make_levels_spec,
    read_steps,
)
from mien.generators.train import train_generator
from mien.publish.release import build
from mien.publish.remake import regenerate
from mien.runs.spec import read_spec
from mien.runs.store import Run, Store

S = 0.6  # the data are N(0, S^2)

pytestmark = pytest.mark.usefixtures("one_thread")


def perfect(x, sigma):
    return x * (S**2 / (S**2 + sigma**2))[:, None, None, None].to(x.dtype)


def solve(sigma: float, after: float) -> float:
    """What the ODE multiplies an image by from one noise level to another."""
    return math.sqrt((S**2 + after**2) / (S**2 + sigma**2))


@pytest.mark.parametrize("later_counts", [1.0, 1.15, 2.0])
def test_the_chosen_steps_cost_least_of_all_choices(later_counts: float):
    rng = np.random.default_rng(0)
    for steps in (1, 2, 4, 7):
        costs = rng.random((8, 8))

        def price(places: tuple[int, ...], costs: np.ndarray = costs) -> float:
            path = itertools.pairwise([0, *places, 7])
            return sum(later_counts**k * costs[step] for k, step in enumerate(path))

        best = min(itertools.combinations(range(1, 7), steps - 1), key=price)
        assert choose_places(costs, steps, later_counts) == [0, *best]


def test_a_deviation_is_how_far_eulers_step_misses_the_solution():
    grid = make_karras_levels(400, 0.02, 5.0)
    x = torch.full((2, 1, 1, 1), 3.0, dtype=torch.float64)
    states, predictions = record_trajectory(perfect, x, grid)
    missed = add_up_deviations(states, predictions, grid)
    for i, j in ((0, 100), (50, 300), (200, 399)):
        sigma, after = grid[i], grid[j]
        state = 3.0 * solve(grid[0], sigma)
        step = state * (S**2 + after * sigma) / (S**2 + sigma**2)
        expected = abs(step - state * solve(sigma, after))
        assert missed[i, j] == pytest.approx(2 * expected, rel=0.01), (i, j)
    assert (np.tril(missed) == 0).all()


@pytest.mark.parametrize("steps", [3, 5, 8])
def test_chosen_levels_lead_closer_to_the_solution_than_the_usual_ones(steps: int):
    grid = make_karras_levels(60, 0.002, 80.0)
    x = torch.full((1, 1, 1, 1), 48.0, dtype=torch.float64)
    costs = add_up_deviations(*record_trajectory(perfect, x, grid), grid)
    chosen = [grid[place] for place in choose_places(costs, steps, 1.15)]
    assert len(chosen) == steps and chosen[0] == 80.0 and chosen == sorted(chosen, reverse=True)
    end = 48.0 * solve(80.0, 0.0)
    misses = [
        abs(euler(perfect, x, levels).item() - end)
        for levels in ([*chosen, 0.0], make_karras_levels(steps, 0.002, 80.0))
    ]
    assert misses[0] < misses[1]


# Specs


def test_steps_may_be_a_number_or_chosen_levels():
    fields = {"generator": "generator-000000000000", "counts": {"fear": 3}}
    plain = read_steps({**fields, "steps": 7}, "test")
    assert (plain.steps, plain.levels) == (7, None)
    assert read_steps({**fields, "steps": "auto"}, "test").steps == AUTO_STEPS
    chosen = read_steps({**fields, "steps": "auto:7"}, "test")
    assert chosen.steps == 7 and chosen.levels == make_levels_spec(chosen).name
    # Levels are found for a guidance, and do not depend on what is drawn
    guided = read_steps({**fields, "steps": "auto:7", "guidance": 2.0}, "test")
    assert guided.levels != chosen.levels
    more = read_steps({**fields, "steps": "auto:7", "counts": {"fear": 9}, "seed": 3}, "test")
    assert more.levels == chosen.levels


@pytest.mark.parametrize("steps", ["automatic", "auto:", "auto:x", "auto:-3", "5"])
def test_other_texts_are_refused(steps: str):
    fields = {"generator": "generator-000000000000", "counts": {"fear": 3}, "steps": steps}
    with pytest.raises(SpecError, match="steps must be a whole number, auto, or auto and a number"):
        read_steps(fields, "test")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sampler": "ancestral", "steps": "auto"}, "levels do not apply to the sampler"),
        ({"sampler": "direct", "steps": "auto"}, "steps and guidance do not apply"),
        ({"steps": "auto:0"}, "steps"),
        ({"steps": "auto:41"}, "steps"),
        ({"steps": 2, "levels": [1.0, 2.0]}, "levels must fall"),
        ({"steps": 3, "levels": [2.0, 1.0]}, "steps must be the number of levels, which is 2"),
        ({"levels": "levels-000000000000"}, "steps must be given with levels"),
    ],
)
def test_levels_that_cannot_be_used_are_refused(fields: dict, said: str):
    base = {"generator": "generator-000000000000", "counts": {"fear": 3}}
    with pytest.raises(SpecError, match=said):
        read_steps({**base, **fields}, "test")


def test_a_spec_without_levels_has_the_fields_that_it_had():
    plain = read_spec(
        GenerateSpec, {"generator": "generator-000000000000", "counts": {"fear": 3}}, "test"
    )
    assert "levels" not in plain.model_dump() and "levels" not in SamplerSpec().model_dump()


# From the store to a release


@dataclass
class Home:
    """A store with real faces, a trained generator, and what is released of it."""

    root: Path
    store: Store
    real: Run
    generator: Run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("home")
    store = Store(root / "store")
    real = release_world.faces(root / "photos", store)
    fields = {"faces": real.name, "kind": "edm", **TINY_DIFFUSION, "images_seen": 600}
    spec = read_spec(TrainSpec, fields, "test")
    return Home(root, store, real, train_generator(spec, store, alias="trained", device="cpu"))


def test_the_levels_are_those_that_draw_closer_to_real_faces(home: Home):
    spec = order_database(home.generator, "each:4", home.store, steps="auto:3")
    prepare_levels(spec, home.store, "cpu")
    found = home.store.run(str(spec.levels)).read_json("levels.json")
    better = min(found["distances"], key=lambda name: found["distances"][name])
    assert found["used"] == better and found["levels"] == found[better]
    assert len(found["levels"]) == 3 and found["compared_with"] == "120 images of training people"

    # The images are those of the numbers, whichever way they are given
    run = generate_database(spec, home.store, device="cpu")
    images, table = Faces.load(run.path).images, Faces.load(run.path).index
    numbers = SamplerSpec(steps=3, levels=tuple(found["levels"]))
    again = sample_generator(
        load_generator(home.generator, "cpu"),
        Faces.load(run.path).number_labels(),
        table["seed"].to_numpy(dtype=np.int64),
        sampler=numbers,
    )
    assert (again == images).all()


def test_the_usual_levels_are_those_that_are_drawn_without_auto(home: Home):
    usual = make_karras_levels(4, 0.002, 80.0)[:-1]
    generator = load_generator(home.generator, "cpu")
    labels, numbers = Faces.load(home.real.path).number_labels()[:2], np.array([5, 6])
    pictures = [
        sample_generator(generator, labels, numbers, sampler=how)
        for how in (SamplerSpec(steps=4), SamplerSpec(steps=4, levels=tuple(usual)))
    ]
    assert (pictures[0] == pictures[1]).all()
    other = SamplerSpec(steps=4, levels=(80.0, 3.0, 1.0, 0.2))
    assert (sample_generator(generator, labels, numbers, sampler=other) != pictures[0]).any()


def test_the_command_says_both_distances_of_levels_that_were_found_before(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MIEN_STORE", str(home.store.root))

    def generate(*arguments: str) -> tuple[int, str]:
        command = ["mien", "generate", "trained", "--device", "cpu", *arguments]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), " ".join(capsys.readouterr().err.split())

    code, said = generate("--steps", "auto:3", "--counts", "each:2")
    assert code == 0 and "choosing" not in said  # they were found above
    assert "3 noise levels chosen for this generator: distance" in said
    assert "with the usual levels (512 images each)" in said and "levels are used" in said
    code, said = generate("--steps", "fast")
    assert code == 2 and "auto and a number, such as auto:8" in said


def test_a_generator_that_draws_in_one_step_has_no_levels(home: Home):
    plain = train_generator(GaussianSpec(faces=home.real.name), home.store)
    with pytest.raises(SpecError, match="steps and guidance do not apply"):
        order_database(plain, "each:2", home.store, steps="auto")
    fields = make_levels_spec(
        order_database(home.generator, "each:2", home.store, steps="auto")
    ).model_dump()
    wrong = LevelsSpec.model_validate({**fields, "generator": plain.name})
    with pytest.raises(UsageError, match="needs a generator that draws in steps"):
        find_levels(wrong, home.store, device="cpu")


def test_the_job_of_a_study_makes_the_run_that_the_database_needs(home: Home):
    spec = order_database(home.generator, "each:2", home.store, steps="auto:2", guidance=1.5)
    (job,) = list_levels_jobs(spec, "cpu")
    assert job.run == spec.levels and job.after == (home.generator.name,)
    job.make(home.store, **job.arguments)
    how = read_levels(spec, home.store)
    assert isinstance(how.levels, tuple) and len(how.levels) == 2
    assert list_levels_jobs(order_database(home.generator, "each:2", home.store), "cpu") == []


def test_an_image_of_a_release_is_drawn_again_with_its_levels(home: Home):
    """Also where the run of the levels is gone: it is found again, and is the same."""
    spec = order_database(
        home.generator, "disgust=7,fear=5,happiness=12", home.store, steps="auto:2"
    )
    prepare_levels(spec, home.store, "cpu")
    made = generate_database(spec, home.store, alias="made", device="cpu")
    release_world.audit(home.store, home.real, made)
    release_world.answer(home.root / "dataset.toml", home.store, made.name)
    answers = home.root / "dataset.toml"
    folder = build(made.name, home.root / "release", home.store, answers)
    found = home.store.run(str(spec.levels)).content
    elsewhere = Store(home.root / "elsewhere")
    for run in (home.real, home.generator):
        shutil.copytree(run.path, elsewhere.root / "runs" / run.name)
    for store in (home.store, elsewhere):
        again = regenerate(folder, "fear-00001", store, "cpu")
        assert again.pixels_equal and again.bytes_equal, again.reason
    assert elsewhere.run(str(spec.levels)).content == found
