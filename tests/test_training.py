"""What training loops share: bytes, batches, averages, checkpoints, and when to stop."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mien.errors import DataError, TrainingError, UsageError, WeightsError
from mien.faces import make_index
from mien.generators import scaling
from mien.generators.diffusion.averages import Average, blend, find_exponent
from mien.generators.diffusion.batches import compute_chances, compute_learning_rate, draw_batch
from mien.generators.diffusion.fit import require_side
from mien.generators.diffusion.losses import MAX_BAD_STEPS, LossWatch
from mien.runs import checkpoints, devices


def table(clips: list[tuple[str, str, int]]):
    """An index of clips (emotion, name, frames); a clip without a name is so many photographs."""
    rows = [(emotion, name) for emotion, name, frames in clips for _ in range(frames)]
    images = np.zeros((len(rows), 1, 2, 2), dtype=np.uint8)
    return make_index(
        images,
        key=[str(n) for n in range(len(rows))],
        emotion=[r[0] for r in rows],
        clip=[r[1] for r in rows],
    )


def test_bytes_become_minus_one_to_one_and_come_back():
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    x = scaling.scale_for_model(images)
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    assert (scaling.scale_to_bytes(x) == images).all()
    assert (scaling.scale_to_bytes(x + 0.3 / 127.5) == images).all()  # rounds, and does not cut off
    assert scaling.scale_to_bytes(torch.tensor([[[[-3.0, 3.0]]]])).tolist() == [[[[0, 255]]]]


def test_an_unknown_or_missing_device_is_refused():
    assert devices.find_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="auto, cpu, cuda, one GPU"):
        devices.find_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="cuda"):
            devices.find_device("cuda")


def test_chances_follow_balance_and_clips():
    index = table([("anger", "a", 30), ("anger", "b", 10), ("fear", "", 10)])
    emotions, clips = index["emotion"].to_numpy(), index["clip"].to_numpy()

    def share(chances, which):
        return chances[which].sum()

    for g, angry in [(0.0, 40 / 50), (1.0, 1 / 2), (0.5, 40**0.5 / (40**0.5 + 10**0.5))]:
        for clip_first in (False, True):
            chances = compute_chances(index, g, clip_first)
            assert chances.sum() == pytest.approx(1)
            assert share(chances, emotions == "anger") == pytest.approx(angry)
            long = share(chances, clips == "a") / share(chances, emotions == "anger")
            assert long == pytest.approx(0.5 if clip_first else 0.75)
            assert np.allclose(chances[emotions == "fear"], chances[emotions == "fear"][0])


def test_a_batch_depends_on_seed_and_step_alone_and_holds_the_expected_shares():
    chances = compute_chances(table([("anger", "", 75), ("fear", "", 25)]), 0.0, True)
    first = draw_batch(chances, 32, 1, 5)
    draw_batch(chances, 32, 1, 6)
    assert (draw_batch(chances, 32, 1, 5) == first).all()
    assert (draw_batch(chances, 32, 2, 5) != first).any()
    assert (draw_batch(chances, 32, 1, 6) != first).any()
    for step in range(50):
        assert abs((draw_batch(chances, 32, 0, step) >= 75).sum() - 8) <= 1
    drawn = np.concatenate([draw_batch(chances, 32, 0, step) for step in range(2000)])
    assert np.bincount(drawn, minlength=100) / len(drawn) == pytest.approx(chances, rel=0.25)


def test_the_learning_rate_rises_stays_and_falls():
    rates = [compute_learning_rate(step, 100, 2.0, 0.1, 0.4) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == 2.0 and rates[60] == 2.0
    assert rates[80] == pytest.approx(1.0) and rates[99] == pytest.approx(0.05)
    assert compute_learning_rate(0, 100, 2.0, 0.0, 0.0) == 2.0


def test_the_average_has_the_width_that_was_asked_for():
    assert find_exponent(0.10) == pytest.approx(
        6.94, abs=0.005
    )  # Karras et al. 2024 give 6.94 for 10 %
    assert find_exponent(0.05) == pytest.approx(16.97, abs=0.005)  # and 16.97 for 5 %
    module, steps = nn.Linear(1, 1, bias=False), 2000
    with torch.no_grad():
        module.weight.fill_(1e9)  # what it was before training must not count
    average = Average(module, 0.1)
    squares = Average(module, 0.1)
    for step in range(steps):
        with torch.no_grad():
            module.weight.fill_(step / steps)
            average.update(module, step)
            module.weight.fill_((step / steps) ** 2)
            squares.update(module, step)
    mean, square = average.tensors["weight"].item(), squares.tensors["weight"].item()
    assert mean == pytest.approx((6.94 + 1) / (6.94 + 2), abs=0.002)
    assert (square - mean**2) ** 0.5 == pytest.approx(0.1, abs=0.005)


def test_an_average_of_no_width_is_the_last_weights():
    module = nn.BatchNorm1d(2)
    average = Average(module, 0.0)
    module(torch.randn(8, 2))
    with torch.no_grad():
        module.weight.fill_(3.0)
    average.update(module, 9)
    assert all(
        torch.equal(average.tensors[name], tensor) for name, tensor in module.state_dict().items()
    )


def test_a_checkpoint_comes_back_and_only_two_stay(tmp_path: Path):
    assert checkpoints.load_checkpoint(tmp_path) is None
    for step in (1, 2, 3):
        checkpoints.save_checkpoint(
            tmp_path, {"w": torch.full((2,), float(step))}, {"step": step, "loss": 0.1}
        )
    tensors, state = checkpoints.load_checkpoint(tmp_path) or ({}, {})
    assert state == {"step": 3, "loss": 0.1} and tensors["w"].tolist() == [3.0, 3.0]
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("separator", ["/", "."])
def test_groups_of_tensors_have_names_in_a_checkpoint_and_come_back(separator: str):
    bias, moment = torch.ones(2), torch.zeros(3)
    groups = {"network": {"head.bias": bias}, "optimiser": {"0.step": moment}, "best": {}}
    packed = checkpoints.pack_groups(groups, separator)
    assert list(packed) == [f"network{separator}head.bias", f"optimiser{separator}0.step"]
    assert checkpoints.unpack_groups(packed, separator, ["best"]) == groups


@pytest.mark.parametrize("harm", ["cut", "flip", "gone", "head"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str):
    for step in (1, 2):
        checkpoints.save_checkpoint(tmp_path, {"w": torch.full((50,), float(step))}, {"step": step})
    path = tmp_path / "checkpoint-000000002.safetensors"
    data = path.read_bytes()
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif harm == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{")
    _, state = checkpoints.load_checkpoint(tmp_path) or ({}, {})
    assert state == {"step": 1}


def test_weights_come_back_and_wrong_ones_are_refused(tmp_path: Path):
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    checkpoints.save_weights(tmp_path / "w.safetensors", first.state_dict())
    checkpoints.load_weights(tmp_path / "w.safetensors", second)
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(WeightsError, match="differs in bias, weight"):
        checkpoints.load_weights(tmp_path / "w.safetensors", nn.Linear(4, 4))
    (tmp_path / "bad").write_bytes(json.dumps({}).encode())
    with pytest.raises(WeightsError, match="safetensors"):
        checkpoints.load_weights(tmp_path / "bad", first)


def test_an_average_of_any_width_comes_out_of_two_that_were_kept():
    """A weight that wanders: averages of widths 5 and 10 %, kept 16 times, give those of 3 to 20 %
    at any of them.
    """
    module = nn.Linear(1, 1, bias=False)
    widths = (0.03, 0.05, 0.1, 0.15, 0.2)
    averages = {width: Average(module, width) for width in widths}
    rng, path, kept = np.random.default_rng(0), 0.0, {}
    for step in range(800):
        path += rng.normal()
        nn.init.constant_(module.weight, path)
        for average in averages.values():
            average.update(module, step)
        if (step + 1) % 50 == 0:
            kept[step + 1] = {
                width: float(average.tensors["weight"]) for width, average in averages.items()
            }
    for until in (400, 800):
        pairs = [(step, width) for step in kept if step <= until for width in (0.05, 0.1)]
        for width in widths:
            shares = blend(pairs, (until, width))
            found = sum(
                share * kept[step][tracked]
                for share, (step, tracked) in zip(shares, pairs, strict=True)
            )
            assert found == pytest.approx(
                kept[until][width], abs=0.4
            )  # of a path that wanders over tens
            if width in (0.05, 0.1):
                assert found == pytest.approx(kept[until][width], abs=1e-3)


def test_an_optimiser_comes_back():
    module = nn.Linear(3, 1)
    optimisers = [torch.optim.Adam(module.parameters(), fused=True) for _ in range(2)]
    module(torch.ones(1, 3)).sum().backward()
    optimisers[0].step()
    checkpoints.unpack_optimiser(optimisers[1], checkpoints.pack_optimiser(optimisers[0]))
    for before, after in zip(*(o.state_dict()["state"].values() for o in optimisers), strict=True):
        assert before.keys() == after.keys() and all(
            torch.equal(before[k], after[k]) for k in before
        )


def test_randomness_is_left_as_it_was_and_each_step_has_its_own():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    drawn = []
    with devices.isolate_randomness(torch.device("cpu")):
        for step in (0, 1, 0):
            checkpoints.begin_step(7, step)
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(torch.rand(2), wanted)


def test_several_steps_without_a_number_stop_the_training():
    watch = LossWatch(2, 8)
    for step in range(MAX_BAD_STEPS - 1):
        watch.skip(step)
    watch.record(4, 1.0)  # one good step, and counting begins again
    for step in range(MAX_BAD_STEPS - 1):
        watch.skip(step)
    with pytest.raises(TrainingError, match="learning_rate"):
        watch.skip(9)
    assert watch.skipped == 2 * MAX_BAD_STEPS - 1


def test_a_loss_that_explodes_stops_the_training_and_one_that_wavers_does_not():
    watch = LossWatch(2, 8)
    for step in range(20):
        watch.record(step, 1.0 + step % 3)
    with pytest.raises(TrainingError, match="step 22"):
        for step in range(20, 30):
            watch.record(step, 60.0)


def test_the_loss_table_goes_on_from_its_state():
    losses = np.random.default_rng(0).random(12).tolist()
    whole, part = LossWatch(4, 8), LossWatch(4, 8)
    for step, loss in enumerate(losses):
        whole.record(step, loss)
    for step, loss in enumerate(losses[:6]):
        part.record(step, loss)
    rest = LossWatch(4, 8, json.loads(json.dumps(part.state)))
    for step, loss in enumerate(losses[6:], start=6):
        rest.record(step, loss)
    assert rest.make_table().equals(whole.make_table())
    assert whole.make_table()["images_seen"].tolist() == [32, 64, 96]


def test_a_size_that_does_not_fit_is_named():
    require_side(48, 48, 16)
    with pytest.raises(DataError, match="multiples of 16"):
        require_side(48, 50, 16)
