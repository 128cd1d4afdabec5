"""With what a training is done changes no result but in the order of sums: memory, and how a batch
is cut.
"""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from worlds import TINY_TRAINING, FacesSpec, fitted, inside, same_weights, settings, spec_of, toy

from mien.errors import UsageError
from mien.generators import edm, presets
from mien.generators.diffusion import fit, memory, precision, sums
from mien.generators.diffusion.fit import PIECE_IMAGES, DiffusionTraining
from mien.generators.diffusion.model import Diffusion
from mien.generators.diffusion.resources import Resources, parse_bytes
from mien.generators.kinds import fit_generator
from mien.runs import checkpoints, devices
from mien.runs.store import Store

CPU = torch.device("cpu")


def work_of(**fields) -> DiffusionTraining:
    spec = spec_of("edm", **fields)
    return DiffusionTraining(toy(), spec, edm.make_objective(spec), CPU)


# Sums


def added(parts: list[torch.Tensor], cuts: list[int]) -> torch.Tensor:
    """The sum of pieces that several holders add up, each those between two cuts, and one
    finishes.
    """
    nodes: list[sums.Node] = []
    for first, last in zip([0, *cuts], [*cuts, len(parts)], strict=True):
        held: list[sums.Node] = []
        for place in range(first, last):
            sums.append_node(held, sums.Node(0, place, [parts[place]]))
        for node in held:
            sums.append_node(nodes, node)
    return sums.add_up(nodes)[0]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13])
def test_a_sum_has_the_same_bits_whoever_adds_which_pieces(count: int):
    parts = list(torch.randn(count, 1000, generator=torch.Generator().manual_seed(count)))
    whole = added(parts, [])
    assert torch.allclose(whole, torch.stack(parts).sum(dim=0), atol=1e-5)
    for cut in range(count + 1):
        assert torch.equal(added(parts, [cut]), whole)
        assert torch.equal(added(parts, [cut // 2, cut]), whole)


# Pieces


def test_pieces_of_any_size_give_the_same_weights_but_for_the_order_of_sums():
    ends = []
    for size in (8, 12, 5, 1):
        work = work_of()
        work.piece_size = size
        with devices.open_workers(CPU, work.piece_count) as pool:
            for step in range(4):
                work.make_step(step, pool)
        ends.append(work.network.state_dict())
    for other in ends[1:]:
        assert all(
            torch.allclose(ends[0][name], tensor, atol=3e-5) for name, tensor in other.items()
        )


def test_dropout_is_of_the_image_and_not_of_the_piece():
    work = work_of(images_seen=400, batch=20)
    whole = work.draw_dropout_masks(3, slice(0, 20))
    assert whole and all(kept.float().mean() < 1 for kept in whole)
    for rows in (slice(0, 8), slice(5, 6), slice(7, 19), slice(16, 20)):
        assert all(
            torch.equal(a[rows], b)
            for a, b in zip(whole, work.draw_dropout_masks(3, rows), strict=True)
        )
    assert not torch.equal(whole[0], work.draw_dropout_masks(4, slice(0, 20))[0])


def test_a_resumed_training_keeps_the_size_of_its_pieces(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(fit, "CHECKPOINT_S", 0.0)
    spec = spec_of("edm")
    with monkeypatch.context() as short:
        short.setitem(PIECE_IMAGES, "cpu", 3)
        whole = fitted(toy(), spec, tmp_path)
    _, state = checkpoints.load_checkpoint(tmp_path) or ({}, {})
    assert state["piece"] == 3
    for path in tmp_path.glob(f"checkpoint-{state['step']:09d}.*"):
        path.unlink()
    assert same_weights(
        whole.network, fitted(toy(), spec, tmp_path).network
    )  # one more step, with all the memory there is


# Memory

LIMITED = textwrap.dedent("""
    import sys
    from pathlib import Path
    import numpy as np
    import torch
    from mien.faces import Faces, make_index
    from mien.generators.diffusion import memory
    from mien.generators.diffusion.resources import Resources
    from mien.generators.kinds import fit_generator
    from mien.generators.specs import TrainSpec
    torch.set_num_threads(2)
    images = np.random.default_rng(0).integers(0, 256, (16, 1, 48, 48), dtype=np.uint8)
    index = make_index(images, key=[str(n) for n in range(16)], emotion=["fear", "anger"] * 8)
    net = {"width": 64, "multipliers": (1, 2), "blocks": 2, "attention": ()}
    spec = TrainSpec(faces="f", net=net, batch=16, images_seen=16, early=0.0)
    before = memory.read_peak_rss()
    budget = before + int(sys.argv[2]) * 10**6 if sys.argv[2] != "none" else None
    faces, resources = Faces(images, index), Resources(memory=budget)
    fit_generator(faces, spec, Path(sys.argv[1]), device="cpu", resources=resources)
    print((memory.read_peak_rss() - before) / 1e6)
""")


def grown(folder: Path, budget: str) -> float:
    """The megabytes that a training adds to its process, with so many to spare."""
    command = [sys.executable, "-c", LIMITED, str(folder), budget]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.slow
def test_a_training_stays_within_the_memory_that_it_is_given(tmp_path: Path):
    free = grown(tmp_path, "none")
    wanted = round(free / 2)
    assert grown(tmp_path, str(wanted)) <= wanted


def test_too_little_memory_is_named_with_what_it_takes():
    with pytest.raises(
        UsageError, match=r"--memory must be .* or more for this training.* given: 1 MB"
    ):
        memory.find_piece_size(work_of(), 10**6, 1)


def test_sizes_of_memory_are_read():
    assert (
        parse_bytes("6GB") == 6 * 10**9
        and parse_bytes(" 1.5 gib ") == 3 * 2**29
        and parse_bytes("800MB") == 8 * 10**8
    )


@pytest.mark.parametrize(
    "text", ["6", "foo", "", "GB", "-6GB", "0GB", "6 TBs", "6GB extra", "1e3MB", "naNGB"]
)
def test_what_is_no_size_of_memory_is_refused(text: str):
    with pytest.raises(UsageError, match="must be a size with its unit"):
        parse_bytes(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    Store(folder / "store").make(FacesSpec(), lambda out, scratch: toy().save(out), "toy")
    return folder


def test_memory_is_no_part_of_what_names_a_training(place: Path):
    train = [
        "train",
        "toy",
        "--preset",
        "base",
        "--device",
        "cpu",
        *settings(*TINY_TRAINING, "held_out=0"),
    ]
    text = inside(place, *train, "--memory", "8GB", "--as", "one")
    assert "8 of 8 images at a time, to stay within 8.00 GB" in text
    slow = "training in float32: this device (cpu) is not fast at bf16"
    assert (slow in text) == (not precision.multiplies_bf16())
    store = Store(place / "store")
    assert store.resolve("one") in inside(place, *train) and store.run("one").spec["precision"] == (
        "bf16" if precision.multiplies_bf16() else "float32"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--memory", "6"], "must be a size with its unit"),
        (["--memory", "6MB", "--preset", "smoke"], "or more for this training"),
    ],
)
def test_memory_that_cannot_be_met_is_an_error_of_the_command(
    place: Path, given: list[str], message: str
):
    assert message in inside(place, "train", "toy", *given, code=2)


def test_memory_stands_with_what_learns_in_steps(tmp_path: Path):
    with pytest.raises(UsageError, match="trained in steps"):
        fit_generator(
            toy(), presets.read_preset("copycat", "f"), tmp_path, resources=Resources(memory=10**9)
        )


def test_plenty_of_memory_changes_no_bit(tmp_path: Path):
    spec = spec_of("edm")
    (tmp_path / "other").mkdir()
    plenty = fit_generator(
        toy(), spec, tmp_path / "other", device="cpu", resources=Resources(memory=10**11)
    )
    assert isinstance(plenty, Diffusion) and same_weights(
        fitted(toy(), spec, tmp_path).network, plenty.network
    )
