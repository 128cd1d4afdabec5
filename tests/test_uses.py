"""Ways of using synthetic faces: which images are used, when, how many, and from whom."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from worlds import CLASSES, blobs, fit_with_stops, keep, same_weights, table, tiny

from mien.classifiers.fit import ClassifierTraining, fit_network
from mien.classifiers.phases import plan_phases
from mien.classifiers.predict import start_network
from mien.classifiers.specs import ClassifierSpec, TrainingUse
from mien.classifiers.tags import add_tag, remove_tag, tell_origin
from mien.errors import DataError, SpecError
from mien.faces import Faces, concatenate
from mien.pages.tables import EMPTY_CELL
from mien.prepare import splits
from mien.prepare.specs import SplitSpec
from mien.report.write import write_report
from mien.runs.store import Store
from mien.study.file import resolve
from mien.study.plan import describe_plan, plan_study
from mien.study.results import StudyResults
from mien.study.run import list_study_jobs, run_study
from mien.study.select import parse_only, select_rows
from mien.study.settings import find_setting
from mien.study.specs import StudySpec
from mien.study.trials import load_train_and_tests
from mien.study.uses.choose import choose_rows
from mien.study.uses.specs import FilterRule
from mien.study.uses.table import USES, resolve_use

BOTH = {"settings": ["real_to_real", "both_to_real"], "trials": 1, "only_folds": (0,)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    home = Store(tmp_path / "store")
    keep(blobs(), home, "blobs")
    return home


def mix(real: int = 48, synthetic: int = 96) -> Faces:
    """Real images, then images that count as synthetic."""
    drawn = blobs(synthetic, seed=1)
    drawn = Faces(
        drawn.images, drawn.index.assign(source="generate-1", key=drawn.index["key"] + "+")
    )
    return concatenate([blobs(real), drawn])


def trained_for(updates: int, batch: int = 16) -> ClassifierSpec:
    """A small network that is trained for a number of updates."""
    return ClassifierSpec(name="tiny", size=16, updates=updates, batch=batch)


# Which images, and how many


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.5, 5), (1.0, 10), (3.0, 30), (None, 40), (9.0, 40)]
)
def test_a_ratio_takes_so_many_synthetic_images_per_real_one_or_all_that_there_are(
    ratio: float | None, expected: int
) -> None:
    synthetic = ["fear"] * 30 + ["sadness"] * 10
    rows = choose_rows(synthetic, ["fear"] * 10, ratio, False, 0)
    assert len(rows) == len(set(rows)) == expected
    counts = Counter(synthetic[row] for row in rows)
    assert abs(counts["fear"] - 3 * counts["sadness"]) <= 3  # in the proportions of the database


def test_a_larger_ratio_has_the_images_of_a_smaller_one() -> None:
    synthetic, real = ["fear", "sadness"] * 40, ["fear"] * 10
    small, large = (set(choose_rows(synthetic, real, ratio, False, 3)) for ratio in (2.0, 6.0))
    assert small < large


def test_a_balance_fills_rare_classes_to_the_size_of_the_largest() -> None:
    real = ["fear"] * 20 + ["sadness"] * 5 + ["surprise"] * 12
    synthetic = ["fear"] * 30 + ["sadness"] * 30 + ["surprise"] * 3
    rows = choose_rows(synthetic, real, None, True, 0)
    assert Counter(synthetic[row] for row in rows) == {"sadness": 15, "surprise": 3}


def test_a_balance_under_a_ratio_fills_the_rarest_class_first() -> None:
    real = ["fear"] * 20 + ["sadness"] * 5
    rows = choose_rows(["fear"] * 50 + ["sadness"] * 50, real, 1.0, True, 0)
    counts = Counter("fear" if row < 50 else "sadness" for row in rows)
    assert counts == {"fear": 5, "sadness": 20}  # 25 and 25 in all


# When: phases


def test_a_pretraining_shows_synthetic_images_alone_and_then_real_ones_alone() -> None:
    is_synthetic = np.arange(144) >= 48
    spec = trained_for(50, batch=16)
    first, second = plan_phases(is_synthetic, spec, TrainingUse(pretrain=0.4, rate=0.2), 0)
    assert (first.steps, second.steps, second.first) == (20, 30, 20)
    shown = np.concatenate([first.choose_rows(step) for step in range(20)])
    assert is_synthetic[shown].all()
    later = np.concatenate([second.choose_rows(step) for step in range(20, 50)])
    assert not is_synthetic[later].any() and set(later) == set(range(48))
    assert second.compute_learning_rate(20, 1.0) == pytest.approx(0.2)
    assert first.compute_learning_rate(19, 1.0) < 0.01 < first.compute_learning_rate(0, 1.0) == 1


def test_a_share_of_synthetic_images_stays_after_a_pretraining() -> None:
    is_synthetic = np.arange(400) >= 100
    spec = trained_for(400, batch=20)
    phase = plan_phases(is_synthetic, spec, TrainingUse(pretrain=0.5, keep=0.25), 0)[1]
    rows = np.concatenate([phase.choose_rows(step) for step in range(200, 400)])
    assert 0.2 < is_synthetic[rows].mean() < 0.3


def test_a_pretraining_without_synthetic_images_is_refused() -> None:
    with pytest.raises(DataError, match="no synthetic ones"):
        plan_phases(np.zeros(20, dtype=bool), tiny(), TrainingUse(pretrain=0.5), 0)
    with pytest.raises(DataError, match="two updates"):
        plan_phases(np.arange(20) > 9, trained_for(1), TrainingUse(pretrain=0.5), 0)


def test_a_training_in_phases_has_as_many_updates_as_one_without() -> None:
    spec, faces = trained_for(12, batch=16), mix()
    first = start_network(spec, faces.classes, 0, None, faces.shown, (), ())
    for use in (None, TrainingUse(pretrain=0.4)):
        work = ClassifierTraining(first, faces, 0, torch.device("cpu"), use)
        ended = [epoch for step in range(12) if (epoch := work.find_ended_epoch(step))]
        assert work.steps == 12
        assert ended == list(range(1, len(ended) + 1)) and work.find_ended_epoch(11)


def test_a_mixed_training_is_the_same_with_and_without_a_use_that_changes_nothing() -> None:
    spec, faces = tiny(epochs=2), mix()
    plain, used = (
        fit_network(faces, spec, faces.classes, 0, device="cpu", use=use)
        for use in (None, TrainingUse())
    )
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(tensor, used.network.state_dict()[name])


def test_a_training_in_phases_resumes_with_the_same_result(tmp_path: Path) -> None:
    spec, faces, use = trained_for(9), mix(), TrainingUse(pretrain=0.5, tag="normalisation")
    whole = fit_network(faces, spec, CLASSES, 0, device="cpu", use=use)
    resumed = fit_with_stops(faces, spec, 0, tmp_path, (3, 7), use=use)  # before and after
    assert same_weights(whole.network, resumed.network)


# Tags


def test_synthetic_images_have_normalisation_statistics_of_their_own() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1))
    add_tag(network, "normalisation", "small")
    dark, light = torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2)
    mixed = torch.cat([dark[:2], light, dark[2:]])
    tell_origin(network, torch.tensor([False, False, True, True, True, True, False, False]))
    network.train()
    out = network(mixed)
    assert torch.allclose(out, torch.zeros_like(out), atol=1e-6)  # each group by its own mean
    remove_tag(network)
    norm = network.get_submodule("0")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
    assert norm.running_mean.item() == 0  # of the real images alone


def test_a_token_shifts_the_logits_of_synthetic_images_in_training_only() -> None:
    spec, faces = tiny(), mix()
    network = start_network(spec, faces.classes, 0, None, faces.shown, (), ()).network
    add_tag(network, "token", "tiny")
    x = torch.rand(6, 3, 48, 48)
    tell_origin(network, torch.tensor([True] * 3 + [False] * 3))
    network.eval()
    before = network(x)
    for (
        module
    ) in network.modules():  # normalisation as in prediction, so that only the head differs
        module.training = type(module).__name__ == "HeadByOrigin"
    shifted = (network(x) - before).abs().sum(dim=1)
    assert (shifted[:3] > 0).all() and (shifted[3:] == 0).all()
    remove_tag(network)
    network.eval()
    assert torch.equal(network(x), before)


@pytest.mark.parametrize("tag", ["normalisation", "token"])
def test_a_tagged_training_ends_with_the_plain_network(tag: Any) -> None:
    spec, faces = tiny(epochs=1), mix()
    plain = fit_network(faces, spec, faces.classes, 0, device="cpu")
    tagged = fit_network(faces, spec, faces.classes, 0, device="cpu", use=TrainingUse(tag=tag))
    assert list(plain.network.state_dict()) == list(tagged.network.state_dict())
    assert not np.allclose(plain.predict(faces), tagged.predict(faces))


def test_a_tag_of_normalisation_needs_layers_of_it() -> None:
    with pytest.raises(SpecError, match="'token'"):
        add_tag(nn.Sequential(nn.Linear(2, 2)), "normalisation", "small")


# Whose: shares of the people


def test_smaller_shares_of_the_people_are_part_of_larger_ones() -> None:
    faces = blobs(240, subjects=20)
    train = splits.split(faces, "subject", 5, 0, 0).train
    people = [
        set(faces.index["subject"][splits.keep_people(faces, train, share, 0)])
        for share in (0.125, 0.25, 0.5, None)
    ]
    assert [len(names) for names in people] == [2, 4, 8, 16]
    assert people[0] < people[1] < people[2] < people[3]


def test_the_split_of_a_share_of_the_people_is_a_run_of_its_own(store: Store) -> None:
    fields = {"faces": "blobs", "by": "subject", "folds": 2, "number": 0, "side": "train"}
    all_people = splits.run_split(SplitSpec(**fields), store)
    some = splits.run_split(SplitSpec(**fields, people=0.7), store)
    assert len(Faces.load(some.path).subjects) < len(Faces.load(all_people.path).subjects)


# In a study


def test_each_way_ratio_and_share_is_a_setting_that_is_tested_on_real_faces(store: Store) -> None:
    study = resolve(
        table(
            **BOTH, counts="each:24", uses=["mixed", "pretrain"], ratios=[0.5, 1], people=[0.7, 1]
        ),
        store,
    )
    assert study.setting_names[:2] == ["real_to_real:people0.7", "real_to_real"]
    assert "both_to_real:pretrain:x0.5:people0.7" in study.setting_names
    assert len(study.setting_names) == 2 + 2 * 2 * 2
    assert {find_setting(name).test for name in study.setting_names} == {"real"}
    assert find_setting("both_to_real:pretrain:x0.5:people0.7").label == (
        "real + synthetic → real (pretrain, 0.5 per real image, 70 % of the people)"
    )


def test_the_generator_of_a_share_sees_only_its_people(store: Store) -> None:
    study = resolve(table(**BOTH, people=[0.7, 1.0]), store)
    plan = plan_study(study, store)
    assert [database.people for database in plan.databases] == [0.7, None]
    jobs = {job.run: job for job in list_study_jobs(plan, list(plan.rows), store, "cpu", 1)}
    for database in plan.databases:
        split = jobs[database.train.name].arguments["split"]
        assert split["people" if database.people else "seed"] == (database.people or 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uses": ["mixd"]}, "mixed"),
        ({"uses": ["pretrain+pretrain"]}, "cannot be combined"),
        ({"uses": ["mixed"], "settings": ["real_to_real"]}, "both_to_real"),
        ({"uses": ["pretrain"], "settings": ["synthetic_to_real"]}, "both_to_real"),
        ({"people": [0.5]}, "must include 1.0"),
        ({"people": [0.5, 1.0], "protocol": "frame", "only_folds": ()}, "people needs protocol"),
        ({"ratios": [50.0], "counts": "each:5"}, r"like\*50"),
        ({"use": {"late": {"pretrain": 0.2}}}, "belongs to no way"),
        ({"uses": ["pretrain"], "use": {"pretrain": {"pretrain": 0.2}}}, "another name"),
        ({"uses": ["x4"], "use": {"x4": {"pretrain": 0.2}}}, "not look like a ratio"),
        ({"uses": ["late"], "use": {"late": {"rate": 0.2}}}, "add pretrain"),
        ({"uses": ["late"], "use": {"late": {"filter": {"bnd": 1}}}}, "band"),
        ({"uses": ["pretrain"], "classifiers": ["svm"], "classifier": {}}, "needs a network"),
    ],
)
def test_what_no_study_can_use_is_refused_at_once(
    store: Store, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises((SpecError, ValueError), match=message):
        resolve(table(**{**BOTH, **changes}), store)


def test_two_ways_combine_into_one_that_has_the_fields_of_both() -> None:
    use = resolve_use("filtered+pretrain", {}, "study")
    assert use.filter == FilterRule() and use.pretrain == USES["pretrain"]["pretrain"]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StudySpec, StudyResults]:
    """A study with three ways of use at a ratio of one, and copies in the same ways."""
    home = Store(tmp_path_factory.mktemp("uses") / "store")
    keep(blobs(), home, "blobs")
    study = resolve(
        table(
            **BOTH,
            counts="each:20",
            classifier={"size": 16, "batch": 16, "updates": 6},
            uses=["mixed", "pretrain+tagged", "loose+balanced", "half-guided"],
            use={"loose": {"filter": {"agreement": 0.0, "band": [0.0, 1.0]}}},
            ratios=[1.0],
            controls=["copycat"],
            ablations=["plain", "weighted"],
        ),
        home,
    )
    run_study(study, home, device="cpu")
    return home, study, StudyResults("small", home)


def test_a_study_of_ways_fills_every_cell_and_those_of_copies(
    used: tuple[Store, StudySpec, StudyResults],
) -> None:
    _, _, results = used
    assert results.settings == [
        "real_to_real",
        "both_to_real:x1",
        "both_to_real:pretrain+tagged:x1",
        "both_to_real:loose+balanced:x1",
        "both_to_real:half-guided:x1",
    ]
    assert all(cell.whole for cell in [*results.cells, *results.controls])
    copies = {cell.setting for cell in results.controls if cell.classifier == "tiny"}
    assert copies == set(results.settings[1:])


def test_a_ratio_of_one_trains_on_as_many_synthetic_images_as_real_ones(
    used: tuple[Store, StudySpec, StudyResults],
) -> None:
    home, study, _ = used
    rows = [row for row in plan_study(study, home).rows if row.arm.use == "mixed"]
    for row in (row for row in rows if row.arm.train != "real"):
        train, tests = load_train_and_tests(row.spec, home)
        assert 2 * (train.index["source"] == "real").sum() == len(train)
        assert len(tests["real"])


def test_a_filtered_database_without_a_ratio_is_trained_on_whole(store: Store) -> None:
    study = resolve(table(**BOTH, counts="each:20", uses=["mixed", "filtered"]), store)
    specs = {row.arm.use: row.spec for row in plan_study(study, store).rows}
    assert specs["filtered"].has_own_use and not specs["mixed"].has_own_use


def test_a_trial_of_a_share_of_the_people_is_trained_on_these_alone(store: Store) -> None:
    study = resolve(table(people=[0.7, 1.0], trials=1), store)
    people = {}
    for row in plan_study(study, store).rows:
        train, tests = load_train_and_tests(row.spec, store)
        people[row.fold, row.arm.people] = set(train.subjects)
        assert not people[row.fold, row.arm.people] & set(tests["real"].subjects)
    for fold in range(2):
        assert people[fold, 0.7] < people[fold, None]


def test_only_selects_one_way_with_its_copies(used: tuple[Store, StudySpec, StudyResults]) -> None:
    home, study, _ = used
    only = parse_only(["setting=both_to_real:pretrain+tagged:x1"], study)
    rows = select_rows(plan_study(study, home).rows, only)
    assert {(row.arm.use, row.control) for row in rows} == {
        ("pretrain+tagged", ""),
        ("pretrain+tagged", "copycat"),
    }


def test_a_study_of_ways_is_planned_and_reported_with_their_names(
    used: tuple[Store, StudySpec, StudyResults], tmp_path: Path
) -> None:
    home, study, results = used
    assert "filtered database" in describe_plan(plan_study(study, home))
    page = write_report([results.title], home, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "loose+balanced, 1 per real image" in text and "class weights" in text


def test_a_study_has_only_the_cells_that_it_lists(store: Store, tmp_path: Path) -> None:
    listed = [
        "setting=real_to_real",
        "setting=both_to_real:x1,ablation=plain,control=copycat",
        "setting=both_to_real:pretrain:x1,ablation=strong",
    ]
    study = resolve(
        table(
            **BOTH,
            counts="each:20",
            classifier={"size": 16, "batch": 16, "updates": 4},
            uses=["mixed", "pretrain"],
            ratios=[0.5, 1.0],
            ablations=["plain", "strong"],
            controls=["copycat"],
            generator={"preset": "gaussian"},
            generate={},
            cells=listed,
        ),
        store,
    )
    rows = plan_study(study, store).rows
    assert {(row.arm.train, row.arm.use, row.ablation, row.control) for row in rows} == {
        ("real", "mixed", "plain", ""),
        ("real", "mixed", "strong", ""),
        ("both_copycat", "mixed", "plain", "copycat"),
        ("both", "pretrain", "strong", ""),
    }
    assert len(rows) == 4 and "some of 5 settings" in describe_plan(plan_study(study, store))

    # Results and reports have these cells, each under its own ablation
    run_study(study, store, device="cpu")
    results = StudyResults("small", store)
    assert all(cell.whole for cell in [*results.cells, *results.controls])
    assert {(cell.setting, cell.ablation) for cell in results.cells} == {
        ("real_to_real", "plain"),
        ("real_to_real", "strong"),
        ("both_to_real:pretrain:x1", "strong"),
    }
    report = write_report([results.title], store, tmp_path / "report").with_suffix(".md")
    row = report.read_text(encoding="utf-8").partition("(pretrain, 1 per real image)**")[2]
    assert row.splitlines()[1].startswith(f"| tiny | {EMPTY_CELL} |")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("setting=real_to_fake", "cells setting=real_to_fake: the study has"),
        ("ablation=plain,control=copycat", "the study has none"),
        ("folds=1", "cells must be like"),
    ],
)
def test_a_cell_that_no_study_has_is_refused(store: Store, cell: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        resolve(table(**BOTH, cells=[cell]), store)
