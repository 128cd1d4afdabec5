"""Inputs and datasets in studies: equal splits, whole pipelines, and what the report says of
them.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from spots import EMOTIONS, TINY, apexes, keep, moving, table
from worlds import plan_trials

from mien.classifiers import pretrained
from mien.classifiers.augment import AugmentParameters, augment
from mien.classifiers.fit import fit_network
from mien.classifiers.networks import build_network
from mien.classifiers.predict import load_network, predict_classes, save_network
from mien.classifiers.specs import ClassifierSpec, select_networks
from mien.errors import DataError, LeakageError, SpecError
from mien.faces import Faces
from mien.pages.sheets import draw_side_by_side
from mien.prepare import joins
from mien.prepare.inputs import compute_onset_difference
from mien.prepare.preprocess import preprocess, run_preprocess
from mien.prepare.specs import JoinSpec, PreprocessSpec
from mien.prepare.views import make_view
from mien.report.facts import list_facts
from mien.report.write import write_report
from mien.runs.spec import read_spec
from mien.runs.store import Store
from mien.study import trials
from mien.study.databases import list_databases
from mien.study.fields import StudyFile
from mien.study.file import resolve
from mien.study.plan import plan_study
from mien.study.results import StudyResults
from mien.study.run import run_study
from mien.study.specs import StudySpec, TrialSpec


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("views") / "store")
    for name in ("a", "b"):
        apexes(store, name)
    joins.run_join(JoinSpec(faces=("a-apex", "b-apex")), store, alias="both")
    return store


ABLATED = {
    "ablations": ["plain", "difference", "two"],
    "ablation": {
        "difference": {"input": ["onset-difference"]},
        "two": {"input": ["gray", "onset-difference"], "epochs": 3, "augment": {}},
    },
    "controls": ["majority", "permuted"],
}


# Views


def test_a_view_shows_the_same_images_and_finds_the_onset_that_was_left_out(home: Store):
    whole, chosen = moving("a"), Faces.load(home.run("a-apex").path)
    with pytest.raises(DataError, match="needs the onset frame"):
        preprocess(chosen, PreprocessSpec(faces="x", frames="all", input=("onset-difference",)))
    shown = Faces.load(make_view(home.run("a-apex"), {"input": ["onset-difference"]}, home).path)
    assert list(shown.index["key"]) == list(chosen.index["key"]) and shown.channels == (
        "onset-difference",
    )
    small = preprocess(whole, PreprocessSpec(faces="x", frames="all", size=16))
    grey = dict(zip(small.index["key"], small.images[:, 0], strict=True))
    for key, image in zip(shown.index["key"], shown.images[:, 0], strict=True):
        assert np.array_equal(image, compute_onset_difference(grey[key], grey[f"{key[:-1]}0"]))


def test_a_view_of_a_join_and_of_a_class_set_is_made_from_the_beginning(home: Store):
    folded = run_preprocess(PreprocessSpec(faces="both", frames="all", classes="preprint-7"), home)
    shown = Faces.load(make_view(folded, {"input": ["gray", "onset-difference"]}, home).path)
    assert shown.size == (2, 16, 16) and list(shown.index["key"]) == list(
        Faces.load(folded.path).index["key"]
    )
    for wrong, message in ((["hogg"], "Did you mean 'hog'"), ("hog", "list in brackets")):
        with pytest.raises(SpecError, match=message):
            make_view(folded, {"input": wrong}, home)


# Inputs in a study


@pytest.fixture(scope="module")
def compared(home: Store) -> StudySpec:
    spec = resolve(table(**ABLATED), home)
    run_study(spec, home, device="cpu")
    return spec


def test_inputs_are_compared_on_equal_splits_with_equal_seeds(home: Store, compared: StudySpec):
    rows = [row for row in plan_study(compared, home).rows if not row.control]
    assert len(rows) == 3 * 2 * 2 and all(
        row.spec.name in plan_study(compared, home).done for row in rows
    )
    by_place: dict[tuple[int, int], dict[str, TrialSpec]] = {}
    for row in rows:
        by_place.setdefault((row.trial, row.fold), {})[row.ablation] = row.spec
    for specs in by_place.values():
        sides = {name: trials.load_train_and_tests(spec, home) for name, spec in specs.items()}
        keys = {
            name: (tuple(a.index["key"]), tuple(b["real"].index["key"]))
            for name, (a, b) in sides.items()
        }
        assert len(set(keys.values())) == 1 and len({spec.seed for spec in specs.values()}) == 1
        assert [sides[name][0].channels for name in ("plain", "difference", "two")] == [
            (),
            ("onset-difference",),
            ("gray", "onset-difference"),
        ]
    networks = select_networks(compared.classifiers["tiny"])
    assert networks["two"].epochs == 3 and networks["plain"].epochs == 2


def test_a_report_says_what_each_ablation_shows(home: Store, compared: StudySpec, tmp_path: Path):
    page = write_report("views", home, tmp_path / "out").with_name("report.md").read_text()
    shown = compared.inputs["two"].faces
    assert f"two shows: gray and onset-difference, of the same images ({shown})" in page
    assert "difference shows: onset-difference" in page and "of each dataset" not in page


def test_inputs_stand_with_real_faces_alone(home: Store):
    with pytest.raises(ValueError, match="has its own input and can be used only with the setting"):
        table(**{**ABLATED, "settings": ["real_to_real", "both_to_real"]})
    with pytest.raises(SpecError, match=r"ablation\.difference: .*Did you mean 'lbp'"):
        resolve(table(ablations=["difference"], ablation={"difference": {"input": ["lpb"]}}), home)


# Channels elsewhere


def test_generator_and_classifier_work_on_two_channels(home: Store, tmp_path: Path):
    run = make_view(home.run("a-apex"), {"input": ["gray", "onset-difference"]}, home)
    changes = {"generator": {"preset": "gaussian"}, "counts": "balanced:24"}
    spec = resolve(
        table(name="two", faces=run.name, settings=["synthetic_to_real"], trials=1, **changes), home
    )
    run_study(spec, home, device="cpu")
    made = Faces.load(home.run(list_databases(spec, home)[0].generate.name).path)
    assert made.channels == ("gray", "onset-difference") and made.size == (2, 16, 16)
    sheet = draw_side_by_side(Faces.load(run.path), made, per_class=2)
    assert sheet.height > 4 * 32
    text = write_report("two", home, tmp_path / "out").with_name("report.md").read_text()
    assert "16 x 16, gray and onset-difference, licence" in text


def test_a_classifier_of_four_channels_is_saved_and_refuses_others(tmp_path: Path):
    faces = moving("a")
    four = Faces(
        np.repeat(faces.images, 4, axis=1), faces.index, channels=("gray", "hog", "lbp", "clahe")
    )
    spec = ClassifierSpec.model_validate({"name": "tiny", **TINY})
    fitted = fit_network(four, spec, EMOTIONS, 0, device="cpu")
    save_network(fitted, tmp_path)
    again = load_network(tmp_path, "cpu")
    assert np.array_equal(predict_classes(again, four), predict_classes(fitted, four))
    with pytest.raises(DataError, match="needs images of 4 channels; these have 3"):
        predict_classes(fitted, Faces(np.repeat(faces.images, 3, axis=1), faces.index))


def test_weights_of_three_channels_are_spread_over_more():
    spec = ClassifierSpec(name="resnet18", size=32, weights="none")
    network, mean, _ = build_network(spec, 2, tuple("abcde"))
    plain, *_ = build_network(spec, 2)
    wide = pretrained.widen_first_layer(network, dict(plain.state_dict()), network.state_dict())
    network.load_state_dict(wide)
    first, old = network.get_parameter("conv1.weight"), plain.get_parameter("conv1.weight")
    assert first.shape[1] == len(mean) == 5
    assert torch.allclose(first[:, 4], old[:, 1] * 3 / 5)
    assert len(set(mean)) == 1 and pretrained.widen_first_layer(plain, wide, wide) is wide


def test_light_moves_each_channel_about_its_own_rest():
    images = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    still = np.zeros(2)
    how = AugmentParameters(still, still, still, np.array([0.5, 1.2]), np.zeros(2, dtype=bool))
    lit = augment(images, how, 8, (0, 128, None)) * 255
    assert lit[0, :, 4, 4].tolist() == pytest.approx([50, 114, 100], abs=1e-3)
    assert lit[1, :, 4, 4].tolist() == pytest.approx([120, 94.4, 100], abs=1e-3)
    assert torch.equal(augment(images, how, 8), augment(images, how, 8, (0, 0, 0)))


# Datasets in a study


def test_each_dataset_is_left_out_once_and_scored_alone(home: Store, tmp_path: Path):
    fields = {"name": "cross", "faces": "both", "protocol": "dataset", "controls": ["majority"]}
    settings = ["real_to_real", "both_to_real"]
    changes = {"generator": {"preset": "gaussian"}, "settings": settings, "trials": 1}
    given = {"classifiers": ["tiny"], "classifier": TINY}
    spec = resolve(StudyFile.model_validate({**fields, **changes, **given}), home)
    assert spec.folds == 2 and spec.tested_folds == (0, 1)
    run_study(spec, home, device="cpu")
    for trial in plan_trials(spec, home):
        train, tests = trials.load_train_and_tests(trial, home)
        real = train.index[train.index["source"] == "real"]
        assert set(real["dataset"]).isdisjoint(tests["real"].index["dataset"])
    one, other = list_databases(spec, home)
    wrong = next(trial for trial in plan_trials(spec, home) if trial.synthetic == one.generate.name)
    with pytest.raises(LeakageError, match="no dataset that training has seen"):
        trials.load_train_and_tests(
            wrong.model_copy(update={"synthetic": other.generate.name}), home
        )
    found = StudyResults("cross", home)
    cell = found.find_cell("real_to_real", "tiny", "clips")
    assert cell is not None and found.datasets == ("a", "b")
    parts = [part for name in found.datasets if (part := found.restrict_to_dataset(cell, name))]
    assert len(parts) == 2
    assert sum(int(part.sum_confusions().sum()) for part in parts) == int(
        cell.sum_confusions().sum()
    )
    assert np.mean([part.average_trials("accuracy") for part in parts]) == pytest.approx(
        cell.average_trials("accuracy")
    )
    page = write_report("cross", home, tmp_path / "out").with_name("report.md").read_text()
    assert "Test datasets unseen" in page and "each of which leaves one dataset out (a, b)" in page
    assert (
        "Accuracy in per cent of each dataset, by clip" in page
        and "which was held out of training" in page
    )


def test_folds_by_dataset_stand_with_that_protocol():
    with pytest.raises(ValueError, match="folds = 'datasets' needs protocol 'dataset'"):
        table(folds="datasets")
    assert table(protocol="dataset", folds="datasets").folds == "datasets"


# Inputs of classifiers


CLIPS_OF = {"clips": 3, "until": "apex"}


def test_each_classifier_may_see_its_own_input(home: Store):
    """A clip is one row, named by its apex, so clips and frames are the same images."""
    keep(moving("c", subjects=6), home, "c")
    run_preprocess(
        read_spec(PreprocessSpec, {"faces": "c", "window": 0, "size": 16}, "test"),
        home,
        alias="c-apex",
    )
    study = resolve(
        table(
            faces="c-apex",
            trials=1,
            classifiers=["tiny"],
            ablations=["plain", "pair"],
            ablation={"pair": {"clips": "onset,apex"}},
            classifier={**TINY, "tiny": {**CLIPS_OF, "input": ["onset-difference"]}},
        ),
        home,
    )
    plain, pair = (study.classifier_inputs["tiny"][name] for name in ("plain", "pair"))
    assert plain.text == "onset-difference at 3 moments of each clip until its apex"
    assert Faces.load(home.run(plain.faces).path).channels == (
        *("onset-difference-t0", "onset-difference-t1", "onset-difference-t2"),
    )
    assert pair.clips == "onset,apex" and pair.faces != plain.faces
    assert {row.spec.faces for row in plan_study(study, home).rows} == {plain.faces, pair.faces}

    # A flow can be named like any other input, and the trial runs on it
    study = resolve(
        table(
            faces="c-apex",
            trials=1,
            classifier={**TINY, "tiny": {"input": ["flow"], "flow": {"reach": 0.1}}},
        ),
        home,
    )
    run_study(study, home)
    results = StudyResults("views", home)
    assert results.classifier_inputs["tiny"]["plain"].input == (
        *("flow-right", "flow-down", "strain"),
    )
    assert results.plan.trials and not results.plan.databases
    sees = dict(list_facts(results))["tiny sees"]
    assert sees.startswith("flow-right and flow-down and strain, of the same images")


def test_studies_without_inputs_of_classifiers_do_not_name_them(home: Store):
    assert "classifier_inputs" not in resolve(table(), home).model_dump(mode="json")


@pytest.mark.parametrize("shown", [{"input": ["hog"]}, {"clips": 8}, {"flow": {"reach": 0.02}}])
def test_an_input_for_all_classifiers_is_refused_with_the_table_that_takes_it(shown: dict):
    name = next(iter(shown))
    with pytest.raises(
        ValueError, match=rf"\[classifier\] must not have {name}.* here \[classifier\.tiny\]"
    ):
        table(classifier={**TINY, **shown})


def test_wrong_inputs_of_classifiers_are_refused(home: Store):
    with pytest.raises(SpecError, match=r"classifier\.tiny.*Did you mean 'flow'"):
        resolve(table(classifier={**TINY, "tiny": {"input": ["flaw"]}}), home)
    with pytest.raises(DataError, match="--frames apex --window 0"):
        resolve(table(classifier={**TINY, "tiny": {"clips": 2, "until": "apex"}}), home)
    with pytest.raises(ValueError, match="the classifier tiny has its own input"):
        table(classifier={**TINY, "tiny": {"input": ["flow"]}}, settings=["both_to_real"])


def test_controls_of_movement_retrain_each_classifier_on_changed_images(home: Store):
    keep(moving("d", subjects=6), home, "d")
    run_preprocess(
        read_spec(PreprocessSpec, {"faces": "d", "window": 0, "size": 16}, "test"),
        home,
        alias="d-apex",
    )
    controls = ["nearest", "shuffled_motion", "no_motion"]
    fields = {"faces": "d-apex", "trials": 1, "controls": controls}
    view = {"clips": "onset,apex", "input": ["onset-difference"]}
    study = resolve(table(**fields, classifier={**TINY, "tiny": view}), home)
    rows = [row for row in plan_study(study, home).rows if row.fold == 0]
    changes = [(row.control, row.classifier, row.spec.motion) for row in rows]
    assert changes == [
        ("", "tiny", None),
        ("nearest", "nearest", None),
        ("shuffled_motion", "tiny", "shuffled"),
        ("no_motion", "tiny", "removed"),
    ]
    # nothing is random without movement, so only the shuffled movement has a seed
    assert [row.spec.motion_seed is not None for row in rows] == [False, False, True, False]
    removed = trials.load_train_and_tests(rows[-1].spec, home)[0]
    assert (np.asarray(removed.images) == 128).all()
    shuffled, plain = (trials.load_train_and_tests(rows[place].spec, home)[0] for place in (2, 0))
    assert not np.array_equal(shuffled.images, plain.images)
    assert shuffled.index.equals(plain.index)
    with pytest.raises(
        DataError, match="the control shuffled_motion, with the classifier tiny, needs"
    ):
        resolve(table(**fields), home)
