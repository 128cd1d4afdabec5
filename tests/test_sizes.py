"""Images of other sizes than 48x48, and in colour: presets and the demo are fitted to them."""

import json
from pathlib import Path

import numpy as np
import pytest
from worlds import blobs, inside, keep, settings

from mien.cli.demo.plan import PLAN, make_plan
from mien.errors import SpecError, UsageError
from mien.faces import Faces
from mien.generators.kinds import GENERATORS
from mien.generators.presets import PRESETS, estimate_cpu_seconds, read_preset
from mien.generators.specs import SteppedSpec, TrainSpec
from mien.runs.store import Store

NETWORKS = [name for name in PRESETS if isinstance(read_preset(name, "faces"), SteppedSpec)]


def work(name: str, side: int) -> float:
    """The arithmetic for an image in the network that a preset has at a size."""
    size = (1, side, side)
    spec = read_preset(name, "faces", size=size)
    count_workload = GENERATORS[spec.kind].count_workload
    assert count_workload is not None
    return count_workload(spec, size).products


@pytest.mark.parametrize("name", PRESETS)
def test_presets_do_not_change_for_small_images(name: str):
    for side in (24, 48, 64):
        assert read_preset(name, "faces", size=(1, side, side)) == read_preset(name, "faces")


@pytest.mark.parametrize("name", NETWORKS)
def test_twice_the_size_costs_at_most_twice_and_has_the_same_coarse_levels(name: str):
    small, large = (read_preset(name, "faces", size=(1, side, side)) for side in (48, 96))
    assert large.net.divisor == 2 * small.net.divisor  # pyright: ignore
    assert 1 < work(name, 96) / work(name, 48) < 2
    assert work(name, 128) / work(name, 96) == pytest.approx(128**2 / 96**2, rel=0.1)


def test_sides_that_a_finer_network_does_not_divide_keep_the_network():
    nano = read_preset("nano", "faces")
    assert read_preset("nano", "faces", size=(1, 72, 72)) == nano
    assert read_preset("nano", "faces", size=(1, 80, 80)) != nano


def test_settings_and_times_hold_for_the_fitted_network():
    spec = read_preset("nano", "faces", {"net": {"width": 24}, "p_mean": -0.5}, (1, 96, 96))
    assert isinstance(spec, TrainSpec)
    assert (spec.net.width, spec.net.multipliers, spec.p_mean) == (24, (1, 2, 4, 4), -0.5)
    seconds = [
        estimate_cpu_seconds(read_preset("nano", "faces", size=size), size, 1) or 0.0
        for size in ((1, 48, 48), (1, 96, 96), (1, 128, 128))
    ]
    assert seconds[0] < seconds[1] < seconds[2] < 6 * seconds[0]


def test_the_command_fits_the_preset_to_the_faces(tmp_path: Path):
    store = Store(tmp_path / "store")
    grey = blobs(n=24, size=96)
    keep(Faces(np.repeat(grey.images, 3, axis=1), grey.index), store, "coloured")
    texts = settings("images_seen=8", "batch=4", "net.width=4")
    inside(tmp_path, "train", "coloured", "--preset", "smoke", *texts, "--as", "made")
    run = store.run("made")
    assert run.spec["net"]["multipliers"] == [1, 2, 4, 4]
    assert json.loads(run.find_file("generator.json").read_text())["size"] == [3, 96, 96]


# The demo


def test_the_plan_of_the_demo_is_fitted_and_the_usual_one_keeps_its_name():
    assert make_plan(48, "grey") == PLAN and PLAN.digest == "415a2ea9d0d0"
    large = make_plan(96, "rgb")
    assert large.digest != PLAN.digest
    assert "net = { width = 12 }" in large.people_study
    assert "p_mean = -0.6" in large.people_study
    assert large.training.net.multipliers == (1, 2, 4, 4)


def test_other_sizes_and_colours_are_refused():
    with pytest.raises(UsageError, match="--size must be 48, 64, 96 or 128"):
        make_plan(100, "grey")
    with pytest.raises(UsageError, match="--colour must be grey or rgb"):
        make_plan(48, "sepia")
    with pytest.raises(SpecError):
        read_preset("nano", "faces", {"net": {"width": 0}}, (1, 96, 96))
