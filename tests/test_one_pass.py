"""Generators that make an image in one pass: what they share, and the arithmetic of each."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from sklearn.neighbors import NearestNeighbors
from torch.distributions import Normal, kl_divergence
from worlds import HAPPY, ONE_PASS, TINY_DECODER, Stop, same_weights, toy, training_of

from mien.errors import DataError, SpecError, TrainingError, UsageError
from mien.faces import EMOTIONS, Faces
from mien.generators import gan, imle, vae
from mien.generators.diffusion.resources import Resources
from mien.generators.kinds import GENERATORS, fit_generator, sample_generator
from mien.generators.one_pass import collapse, fit
from mien.generators.one_pass.matching import make_features, match_images
from mien.generators.one_pass.mixture import LatentMixture, fit_mixtures
from mien.generators.one_pass.model import OnePass
from mien.generators.one_pass.plain import Critic
from mien.generators.presets import CPU_SPEEDS, PRESETS, estimate_cpu_seconds, read_preset
from mien.generators.specs import KIND_FACTS, GanSpec, ImleSpec, OnePassSpec, VaeSpec
from mien.publish.lineage import STATED_SPEC_FIELDS
from mien.runs import checkpoints
from mien.seeds import make_rng

pytestmark = pytest.mark.usefixtures("one_thread")

EACH = pytest.mark.parametrize("kind", ONE_PASS)
AFRAID = EMOTIONS.index("fear")


def one_pass(kind: str, folder: Path, faces: Faces | None = None, **fields: Any) -> OnePass:
    """The trained generator of a kind, tiny."""
    folder.mkdir(exist_ok=True)
    spec = training_of(kind, **fields)
    generator = fit_generator(toy() if faces is None else faces, spec, folder, device="cpu")
    assert isinstance(generator, OnePass)
    return generator


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnePass]:
    return {kind: one_pass(kind, tmp_path_factory.mktemp(kind)) for kind in ONE_PASS}


# What they share


@EACH
def test_an_interrupted_training_ends_with_the_same_weights(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: dict[str, OnePass]
):
    monkeypatch.setattr(fit, "SAVE_INTERVAL_S", 0.0)
    save = checkpoints.save_checkpoint

    def save_and_stop(folder: Path, tensors: Any, state: Any) -> None:
        save(folder, tensors, state)
        if state["step"] in (2, 4):
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", save_and_stop)
        for _ in range(2):
            with pytest.raises(Stop):
                one_pass(kind, tmp_path)
    torch.manual_seed(99)
    resumed = one_pass(kind, tmp_path)
    assert same_weights(resumed.network, trained[kind].network)
    assert resumed.losses.equals(trained[kind].losses) and resumed.facts == trained[kind].facts
    with pytest.raises(UsageError, match="empty folder"):
        one_pass(kind, tmp_path, seed=1)


@EACH
def test_the_number_of_cores_changes_nothing(kind: str, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(fit.PIECE_IMAGES, "cpu", 5)  # so that there are several pieces
    made = []
    for count in (1, 3):
        torch.set_num_threads(count)
        made.append(one_pass(kind, tmp_path / str(count), images_seen=36))
    assert same_weights(made[0].network, made[1].network)


@EACH
def test_an_image_is_the_same_alone_and_in_company(kind: str, trained: dict[str, OnePass]):
    labels, numbers = np.array([HAPPY, AFRAID] * 10), np.arange(100, 120)
    together = sample_generator(trained[kind], labels, numbers)
    assert (sample_generator(trained[kind], labels[17:18], numbers[17:18])[0] == together[17]).all()
    order = make_rng("order").permutation(20)[:16]
    drawn = sample_generator(trained[kind], labels[order], numbers[order])
    assert (drawn == together[order]).all()
    assert len({image.tobytes() for image in together}) == 20


@EACH
@pytest.mark.parametrize(("channels", "size"), [(3, 24), (2, 16)])
def test_any_channels_and_sizes_are_learnt(kind: str, channels: int, size: int, tmp_path: Path):
    faces = toy(8, size, channels)
    made = one_pass(kind, tmp_path, faces, images_seen=24)
    drawn = sample_generator(made, np.array([HAPPY]), np.arange(1))
    assert drawn.shape == (1, channels, size, size)
    with pytest.raises(DataError, match="multiples of 4"):
        one_pass(kind, tmp_path, toy(size=18))


@EACH
def test_labels_matter_after_training(kind: str, tmp_path: Path):
    settings = {"learning_rate": 2e-3, "classes_until": 0.1} if kind == "gan" else {}
    how = {"images_seen": 720, "learning_rate": 8e-3, **settings}
    made = one_pass(kind, tmp_path, **how)
    drawn = sample_generator(made, np.array([HAPPY] * 8 + [AFRAID] * 8), np.arange(16))
    assert drawn[:8].mean() > drawn[8:].mean() + 60


@EACH
def test_a_loss_that_is_no_number_stops_the_training(kind: str, tmp_path: Path, monkeypatch):
    def descend(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(fit.OnePassTraining, "descend", descend)
    with pytest.raises(TrainingError, match="in 5 steps in a row"):
        one_pass(kind, tmp_path)


@EACH
def test_a_training_that_diverges_is_refused(kind: str, tmp_path: Path):
    with pytest.raises(TrainingError, match="learning_rate"):
        one_pass(kind, tmp_path, learning_rate=1e5, images_seen=480)


def test_an_update_with_infinite_gradients_changes_nothing():
    spec = training_of("vae")
    assert isinstance(spec, VaeSpec)
    training = vae.make_training(toy(), spec, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in training.collect_tensors().items()}
    weight = next(training.networks["autoencoder"].parameters())

    def compute(rows: slice) -> torch.Tensor:
        total = sum(each.square().sum() for each in training.networks["autoencoder"].parameters())
        return (total + weight.square().sum() * float("inf")).expand(rows.stop - rows.start)

    with ThreadPoolExecutor(1) as pool:
        assert training.descend("autoencoder", 0, compute, pool) is None
    assert all(torch.equal(before[name], each) for name, each in training.collect_tensors().items())


@EACH
def test_what_only_diffusion_models_can_do_is_refused(kind: str, tmp_path: Path):
    spec = training_of(kind)
    with pytest.raises(UsageError, match=f"need a diffusion model, and a {kind} generator"):
        fit_generator(toy(), spec, tmp_path, device="cpu", resources=Resources(memory=10**9))
    with pytest.raises(DataError, match="two different images or more"):
        fit_generator(toy().select(np.arange(1)), spec, tmp_path, device="cpu")


@EACH
def test_its_preset_has_a_known_speed_and_about_a_million_weights(kind: str):
    spec = read_preset(kind, "f")
    assert isinstance(spec, OnePassSpec) and spec.kind == kind and kind in CPU_SPEEDS
    seconds = estimate_cpu_seconds(spec, (1, 48, 48), 1)
    assert seconds == pytest.approx(spec.images_seen / CPU_SPEEDS[kind])
    other = spec.model_copy(update={"net": spec.net.model_copy(update={"width": 16})})
    assert estimate_cpu_seconds(other, (1, 48, 48), 1) is None
    count = GENERATORS[kind].count_workload
    assert count is not None and kind in PRESETS
    work = count(spec, (1, 48, 48))
    assert 3e5 < work.weights < 4e6 and work.products > 1e7


def list_fields(model: type[BaseModel]) -> set[str]:
    """The names of the fields of a spec, and of the specs within it."""
    fields = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            fields |= list_fields(field.annotation)
    return fields


def test_a_release_states_every_setting_of_the_training_of_its_generator():
    for facts in KIND_FACTS.values():
        assert list_fields(facts.spec) - STATED_SPEC_FIELDS == set()


# The variational autoencoder


def test_the_divergence_is_that_of_torch_and_groups_have_free_bits():
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(5, 8, generator=rng)
    log_variances = torch.randn(5, 8, generator=rng)
    expected = kl_divergence(Normal(means, (log_variances / 2).exp()), Normal(0, 1))
    whole = vae.compute_divergence(means, log_variances, 0.0)
    assert torch.allclose(whole, expected.sum(dim=1), atol=1e-5)

    # A group with less than its free bits counts as these, and has no gradient
    groups = expected.unflatten(1, (2, vae.GROUP)).sum(dim=2)
    limit = float(groups.median())
    free = vae.compute_divergence(means, log_variances, limit)
    assert torch.allclose(free, groups.clamp(min=limit).sum(dim=1), atol=1e-5)
    assert not torch.allclose(free, whole)
    still = torch.zeros(1, 8, requires_grad=True)
    vae.compute_divergence(still, torch.zeros(1, 8), 0.25).sum().backward()
    assert still.grad is not None and (still.grad == 0).all()


def test_the_difference_of_gradients_is_that_of_numpy():
    rng = make_rng("edges")
    one, two = (rng.normal(size=(3, 2, 6, 5)).astype(np.float32) for _ in range(2))
    expected = [
        sum(np.abs(np.diff(a, axis=axis) - np.diff(b, axis=axis)).mean() for axis in (1, 2))
        for a, b in zip(one, two, strict=True)
    ]
    found = vae.compute_edge_difference(torch.from_numpy(one), torch.from_numpy(two))
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def mixture_spec(**fields: Any) -> VaeSpec:
    spec = training_of("vae", **fields)
    assert isinstance(spec, VaeSpec)
    return spec


def test_a_mixture_finds_two_groups_and_draws_their_moments():
    rng = make_rng("mixture")
    latents = rng.normal(size=(400, 3)) * [1, 0.5, 2] + np.repeat([[-6, 0, 0], [6, 0, 0]], 200, 0)
    labels, clips = np.full(400, HAPPY), [f"clip {number // 2}" for number in range(400)]
    spec = mixture_spec(net={"latent": 3}, components=2, prior=1e-6)
    variances = np.full((400, 3), 0.25)
    (found,) = fit_mixtures(latents, variances, labels, clips, spec).values()
    assert found.weights == pytest.approx([0.5, 0.5], abs=0.01)
    assert sorted(found.means[:, 0]) == pytest.approx([-6, 6], abs=0.2)

    # Drawn numbers have the moments of the latent numbers, with their own variances added
    mixture = LatentMixture(3, 2)
    mixture.fill(HAPPY, found)
    noise = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    drawn = mixture(noise, torch.full((20_000,), HAPPY), 1.0).numpy()
    expected = np.cov(latents, rowvar=False) + np.diag([0.25] * 3)
    assert np.allclose(np.cov(drawn, rowvar=False), expected, atol=0.05 * expected.max())
    halved = mixture(noise, torch.full((20_000,), HAPPY), 0.5).numpy()
    assert halved[drawn[:, 0] > 0].std(axis=0) == pytest.approx(
        drawn[drawn[:, 0] > 0].std(axis=0) / 2, rel=0.02
    )


def test_no_component_describes_fewer_clips_than_asked_however_far_apart_they_are():
    """An image far from all others would have a component of its own otherwise."""
    rng = make_rng("lonely")
    latents = rng.normal(size=(60, 2))
    latents[:5] += 40  # five frames of one clip
    clips = ["alone"] * 5 + [f"clip {number}" for number in range(55)]
    labels, variances = np.full(60, HAPPY), np.zeros((60, 2))
    spec = mixture_spec(net={"latent": 2}, components=4, least_clips=10)
    (found,) = fit_mixtures(latents, variances, labels, clips, spec).values()
    assert all(np.linalg.norm(mean - 40) > 20 for mean in found.means)
    (loose,) = fit_mixtures(latents, variances, labels, [*map(str, range(60))], spec).values()
    assert len(loose.weights) >= len(found.weights)


def test_the_covariance_of_a_component_is_drawn_to_that_of_all_classes():
    rng = make_rng("shrinkage")
    latents = np.concatenate([rng.normal(size=(90, 3)), np.repeat([[5.0, 5, 5]], 10, axis=0)])
    labels = np.array([HAPPY] * 90 + [AFRAID] * 10)
    clips = [str(number) for number in range(100)]
    spec = mixture_spec(net={"latent": 3}, components=1, prior=30.0)
    found = fit_mixtures(latents, np.zeros((100, 3)), labels, clips, spec)
    pooled = np.cov(latents[:90], rowvar=False, bias=True) * 90 / 100
    expected = (10 * 0 + 30 * pooled) / 40
    assert np.allclose(found[AFRAID].covariances[0], expected, atol=1e-3)


def test_the_active_numbers_and_components_are_in_the_summary(trained: dict[str, OnePass]):
    made = trained["vae"]
    line = GENERATORS["vae"].summarise(made)
    assert f"{made.facts['active']} of 4 latent numbers in use" in line
    assert made.facts["components"] == {"fear": 1, "happiness": 1}


# The generator that learns against a critic


def test_the_penalty_of_a_linear_critic_is_the_square_of_its_weights():
    """Known answer: a critic w x has the gradient w everywhere."""
    rng = torch.Generator().manual_seed(0)
    weights, x = (torch.randn(size, 2, 4, 4, generator=rng) for size in (1, 5))
    numbers, squares = gan.compute_penalties(lambda at: (at * weights).sum(dim=(1, 2, 3)), x)
    assert torch.allclose(numbers, (x * weights).sum(dim=(1, 2, 3)))
    assert torch.allclose(squares, weights.square().sum().expand(5), rtol=1e-5)


def test_the_penalty_of_a_network_is_that_of_finite_differences():
    spec = training_of("gan", net={"width": 4, "multipliers": [1], "latent": 4})
    assert isinstance(spec, GanSpec)
    critic = Critic((1, 4, 4), spec.net).double()
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x, labels = torch.randn(1, 1, 4, 4).double(), torch.tensor([HAPPY])
    (found,) = gan.compute_penalties(lambda at: critic(at, labels, 0.5), x)[1].tolist()
    steps = 1e-5 * torch.eye(16).double().reshape(16, 1, 4, 4)
    with torch.no_grad():
        sides = [critic(x + sign * steps, labels.expand(16), 0.5) for sign in (1, -1)]
    expected = ((sides[0] - sides[1]) / 2e-5).square().sum()
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_the_loss_of_pairs_is_the_logistic_loss_of_their_difference():
    rng = make_rng("pairs")
    own, other = rng.normal(0, 3, (2, 50))
    found = gan.compute_pair_losses(torch.from_numpy(own), torch.from_numpy(other))
    chance = 1 / (1 + np.exp(-(own - other)))  # that the critic takes the right one for real
    assert np.allclose(found.numpy(), -np.log(chance))
    equal = gan.compute_pair_losses(torch.zeros(1), torch.zeros(1))
    assert float(equal) == pytest.approx(np.log(2))


def test_classes_come_into_play_late():
    shares = [gan.find_share(done, 0.2, 0.4) for done in (0, 0.2, 0.25, 0.3, 0.4, 1)]
    assert shares == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    assert [gan.find_share(done, 0.5, 0.5) for done in (0.4, 0.5)] == [0, 1]
    with pytest.raises(SpecError, match="classes_until must be classes_from or more"):
        training_of("gan", classes_from=0.5, classes_until=0.4)

    # Before that, a generator draws the same image for every class
    network = gan.make_network(GanSpec(faces="f", net=TINY_DECODER), (1, 16, 16))
    noise = torch.randn(1, 4)
    images = [
        [network.draw(noise, torch.tensor([label]), share) for label in (HAPPY, AFRAID)]
        for share in (0.0, 1.0)
    ]
    (one, two), (third, fourth) = images
    assert torch.equal(one, two) and not torch.allclose(third, fourth)


def test_an_untrained_gan_has_no_normalisation_and_keeps_the_variance():
    torch.manual_seed(0)
    network = gan.make_network(GanSpec(faces="f"), (1, 48, 48))
    critic = Critic((1, 48, 48), GanSpec(faces="f").net)
    kinds = {type(layer).__name__ for layer in (*network.modules(), *critic.modules())}
    assert not [kind for kind in kinds if "Norm" in kind]
    drawn = network.draw(torch.randn(32, network.noise_size), torch.full((32,), HAPPY), 1.0)
    assert 0.1 < float(drawn.detach().std()) < 3


def test_collapse_is_noticed_and_reported(tmp_path: Path):
    """Equal faces have no variety, faces like the real ones all, and noise is unlike any."""
    faces = toy(40)
    real = torch.from_numpy(faces.images[:40]).float()
    others = real[20:]
    same = real[:1].expand(20, -1, -1, -1)
    assert collapse.measure_variety(same, real[:20]) == 0
    assert collapse.measure_variety(others, real[:20]) == pytest.approx(1, abs=0.1)
    assert collapse.measure_precision(others, real[:20]) > 0.6
    assert collapse.measure_precision(torch.rand(20, 1, 16, 16) * 255, real[:20]) == 0
    assert collapse.measure_precision(real[:20], real[:20]) == 1
    assert np.isnan(collapse.measure_variety(others, same))

    # In a training: the table, the facts and the summary
    made = one_pass("gan", tmp_path, toy(12), gamma=0.0, gamma_last=0.0, learning_rate=1e-12)
    table = made.tables["collapse"]
    assert list(table.columns) == collapse.COLLAPSE_COLUMNS and len(table) >= 4
    assert table["step"].iloc[-1] == 6 and set(table["emotion"]) == {"fear", "happiness"}
    last = table[table["step"] == 6]
    for name, column, limit in (
        ("collapsed", "variety", collapse.LEAST_VARIETY),
        ("unlike", "precision", collapse.LEAST_PRECISION),
    ):
        assert made.facts[name] == last.loc[last[column] < limit, "emotion"].tolist()
    line = GENERATORS["gan"].summarise(replace(made, facts={"collapsed": ["fear"], "unlike": []}))
    assert line.endswith("warning: collapsed in fear")
    none = GENERATORS["gan"].summarise(replace(made, facts={"collapsed": [], "unlike": []}))
    assert none.endswith("no class has collapsed")


# The generator that approaches every training image


def test_images_are_matched_as_by_scikit_learn_and_by_hand():
    rng = torch.Generator().manual_seed(0)
    images, draws = (
        torch.randn(30, 1, 8, 8, generator=rng),
        torch.randn(200, 1, 8, 8, generator=rng),
    )
    known, pool = make_features(images, 0.7), make_features(draws, 0.7)

    # The distance is the mean square over pixels, and over pixels of the blurred images
    blurred = [
        x.unflatten(2, (2, 4)).unflatten(4, (2, 4)).mean(dim=(3, 5)) for x in (images, draws)
    ]
    expected = [
        float((images[0] - draws[k]).square().mean())
        + 0.7 * float((blurred[0][0] - blurred[1][k]).square().mean())
        for k in range(200)
    ]
    assert np.allclose(torch.cdist(known[:1], pool).square()[0].numpy(), expected, rtol=1e-3)

    # Without rejection: the nearest of all draws
    chosen, rejected = match_images(known, pool, known, 0.0)
    nearest = NearestNeighbors(n_neighbors=1).fit(pool.numpy()).kneighbors(known.numpy())[1][:, 0]
    assert rejected == 0 and (chosen.numpy() == nearest).all()

    # With rejection: the nearest of those that are far from every image
    squares = torch.cdist(pool, known).square().min(dim=1).values
    limit = float(squares.sort().values[50]) + 1e-6
    chosen, rejected = match_images(known, pool, known, limit)
    kept = np.flatnonzero((squares >= limit).numpy())
    brute = [
        kept[np.argmin([float((known[k] - pool[j]).square().sum()) for j in kept])]
        for k in range(30)
    ]
    assert rejected == pytest.approx(51 / 200) and chosen.tolist() == brute

    # However large the limit, as many draws as images are kept
    chosen, rejected = match_images(known, pool, known, 1e9)
    assert rejected == pytest.approx(170 / 200) and len(chosen) == 30


def test_images_are_matched_anew_when_all_were_shown_as_often():
    spec = training_of("imle", matched=24, repeats=2, batch=8)
    assert isinstance(spec, ImleSpec)
    training = imle.make_training(toy(), spec, torch.device("cpu"))
    assert training.round_steps == 6
    shown: list[torch.Tensor] = []
    matched = []
    scale = training.scale_rows

    def watch(rows: torch.Tensor) -> torch.Tensor:
        shown.append(rows)
        return scale(rows)

    with ThreadPoolExecutor(1) as pool:
        for number in range(7):
            training.scale_rows = watch  # pyright: ignore[reportAttributeAccessIssue]
            assert training.make_step(number, pool) is not None
            matched.append(training.latents)
    assert all(torch.equal(matched[0], latents) for latents in matched[:6])
    assert not torch.equal(matched[0], matched[6])

    # A round shows each of its images twice, and a match has the class of its image
    in_round = [rows for rows in shown if len(rows) == 8][:6]
    counts = torch.cat(in_round).bincount(minlength=len(training.images))
    assert torch.equal(counts, 2 * training.rows.bincount(minlength=len(training.images)))
