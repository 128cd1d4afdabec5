"""Missing ImageNet weights are refused at once, with the file, the place and the remedy."""

from pathlib import Path

import pytest
from worlds import blobs, keep, run_inside

from mien.runs.store import Store

STUDY = """
name = "small"
faces = "blobs"
protocol = "subject"
folds = 2
trials = 1
settings = ["both_to_real"]
classifiers = ["resnet18", "vgg16"]

[classifier]
size = 48

[generator]
preset = "gaussian"
"""


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with faces, in the current folder of a machine without weights and network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    store = Store(tmp_path / "store")
    keep(blobs(), store, "blobs")
    keep(blobs(40, seed=1), store, "other")
    (tmp_path / "small.toml").write_text(STUDY)
    return store


@pytest.mark.parametrize(
    ("arguments", "networks"),
    [
        (["study", "run", "small.toml"], ["resnet18", "vgg16"]),
        (["study", "plan", "small.toml", "--measure"], ["resnet18", "vgg16"]),
        (
            ["audit", "other", "--train", "blobs", "--spaces", "pixels,dinov2"],
            ["vit_small_patch14_dinov2"],
        ),
    ],
    ids=["a study's run", "a study's plan", "an audit"],
)
def test_missing_weights_are_refused_before_anything_is_made(
    offline: Store, arguments: list[str], networks: list[str]
):
    before = offline.list_names()
    aliases = dict(offline.read_aliases())
    code, err = run_inside(Path.cwd(), *arguments, columns=1000)

    # One message: what must hold, which files, where they were looked for, what to do
    assert code == 2 and err.count("mien: ") == 1
    assert f"must be in {Path.cwd() / 'hub'}" in err and "cannot be reached" in err
    assert all(f"{name}: the file model.safetensors of timm/{name}." in err for name in networks)
    assert 'weights = "FILE"' in err

    # Nothing was made, named, trained or timed
    assert offline.list_names() == before
    assert offline.read_aliases() == aliases
    assert "timing" not in err and "features of" not in err


def test_a_map_without_weights_is_told_which_spaces_need_none(offline: Store):
    before = offline.list_names()
    code, err = run_inside(
        Path.cwd(), "map", "other", "--train", "blobs", "--space", "dinov2", columns=1000
    )

    assert code == 2 and err.count("mien: ") == 1
    assert "give --space judge, random or pixels" in err and "--weights" not in err
    assert offline.list_names() == before


def test_a_study_whose_weights_are_not_needed_runs(offline: Store, tmp_path: Path):
    (tmp_path / "small.toml").write_text(
        STUDY.replace("size = 48", 'size = 48\nweights = "none"\nepochs = 1')
        .replace('["resnet18", "vgg16"]', '["resnet18"]')
        .replace("both_to_real", "real_to_real")
    )
    assert run_inside(tmp_path, "study", "run", "small.toml", "--workers", "0")[0] == 0
