"""TensorBoard shows what a training does, and changes nothing."""

import sys
from pathlib import Path

import numpy as np
import pytest
from worlds import FacesSpec, crowd, spec_of

from mien.errors import UsageError
from mien.generators.diffusion import fit, heldout
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.resources import Resources
from mien.generators.kinds import fit_generator, load_generator
from mien.generators.train import train_generator
from mien.runs.store import Store


def events(folder: Path):
    """What TensorBoard itself reads from a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder), size_guidance={"images": 0})
    read.Reload()
    return read


def test_tensorboard_shows_losses_levels_and_the_sheet_and_changes_no_byte(tmp_path: Path):
    stores = [Store(tmp_path / name) for name in ("watched", "alone")]
    for store in stores:
        store.make(FacesSpec(), lambda out, scratch: crowd().save(out), "toy")
    spec = spec_of("edm", faces=stores[0].resolve("toy"), held_out=0.25, images_seen=96)
    run = train_generator(
        spec, stores[0], device="cpu", resources=Resources(tensorboard=tmp_path / "board")
    )
    assert run.content == train_generator(spec, stores[1], device="cpu").content
    made = load_generator(run, "cpu")
    assert isinstance(made, Diffusion)
    shown = events(tmp_path / "board" / run.name)
    assert [point.step for point in shown.Scalars("loss")] == made.losses["images_seen"].tolist()
    assert np.allclose([point.value for point in shown.Scalars("loss")], made.losses["loss"])
    assert max(point.value for point in shown.Scalars("learning rate")) == pytest.approx(
        spec.learning_rate
    )
    tags = [tag for tag in shown.Tags()["scalars"] if tag.endswith("held out")]
    assert len(tags) == heldout.NOISE_LEVELS
    values = sorted(point.value for tag in tags for point in shown.Scalars(tag))
    assert np.allclose(values, sorted(made.levels["held_out"]))
    assert [(image.step, image.width > 16) for image in shown.Images("sheet")] == [(96, True)]


def test_a_resumed_training_shows_each_step_once(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    spec, resources = spec_of("edm"), Resources(tensorboard=tmp_path / "board")
    (tmp_path / "scratch").mkdir()
    fit_generator(crowd(), spec, tmp_path / "scratch", device="cpu", resources=resources)
    for path in (tmp_path / "scratch").glob(f"checkpoint-{spec.updates:09d}.*"):
        path.unlink()
    fit_generator(crowd(), spec, tmp_path / "scratch", device="cpu", resources=resources)
    steps = [point.step for point in events(tmp_path / "board" / spec.name).Scalars("loss")]
    assert steps == [12 * (step + 1) for step in range(spec.updates)]


def test_without_tensorboard_the_command_says_what_to_install_before_it_trains(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not there
    store = Store(tmp_path / "store")
    store.make(FacesSpec(), lambda out, scratch: crowd().save(out), "toy")
    with pytest.raises(UsageError, match=r"pip install 'mien\[tensorboard\]'"):
        train_generator(
            spec_of("edm", faces="toy"),
            store,
            device="cpu",
            resources=Resources(tensorboard=tmp_path / "board"),
        )
    assert not list((store.root / "work").glob("generator-*"))
