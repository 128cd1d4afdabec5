"""Maps of faces: where each face lies, and what is measured on it."""

from pathlib import Path

import numpy as np
import pytest
from drawn import keep, people
from worlds import tiny

from mien.audit.face_maps import read_map
from mien.audit.mapping import make_map
from mien.audit.origin import find_real_sides
from mien.audit.specs import JudgeSpec, MapSpec
from mien.classifiers.predict import save_network, start_network
from mien.errors import DataError, StoreError, UsageError
from mien.faces import Faces
from mien.generators import presets
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.prepare.specs import SplitSpec
from mien.prepare.splits import run_split
from mien.runs.store import Run, Store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run, Run, Run]:
    """A store with a split of drawn people, and a database whose images are copies of one side."""
    store = Store(tmp_path_factory.mktemp("maps") / "store")
    faces = keep(people(range(8), clips=1, frames=2, size=24), store, "faces")
    fields = {"faces": faces.name, "by": "subject", "folds": 2, "number": 0}
    train, test = (
        run_split(SplitSpec.model_validate({**fields, "side": side}), store)
        for side in ("train", "test")
    )
    copycat = train_generator(presets.read_preset("copycat", train.name), store)
    made = generate_database(order_database(copycat, "balanced:28", store), store, alias="made")
    return store, train, test, made


def test_the_sides_of_a_database_are_found_in_the_store(home: tuple[Store, Run, Run, Run]):
    store, train, test, made = home
    assert find_real_sides(made, store) == (train.name, test.name)
    with pytest.raises(UsageError, match="--train"):
        find_real_sides(train, store)


def test_each_face_has_its_place_and_its_nearest_training_face(home: tuple[Store, Run, Run, Run]):
    store, train, test, made = home
    spec = MapSpec(synthetic=made.name, train=train.name, test=test.name, space="random", points=20)
    found = read_map(make_map(spec, store))
    assert found.points["side"].value_counts().to_dict() == {
        side: min(20, count) for side, count in found.sizes.items()
    }
    assert 0 < found.shares[1] <= found.shares[0] <= 1

    # Copies lie nearer to the training faces than other people do, and the nearest is never
    # of the same clip
    mean = found.points.groupby("side")["distance"].mean()
    assert mean["synthetic"] < mean["held-out"]
    table = Faces.load(train.path).index
    clips = dict(zip(table["key"], table["clip"], strict=True))
    own = found.points[found.points["side"] == "training"]
    pairs = zip(own["key"], own["nearest"], strict=True)
    assert all(clips[key] != clips[nearest] for key, nearest in pairs)

    # The position leads to the face again; without a judge nothing is said about labels
    for row in found.points.iloc[::7].to_dict("records"):
        assert Faces.load(store.run(row["run"]).path).index["key"][row["position"]] == row["key"]
    assert found.points["agreement"].isna().all()


def test_the_judge_says_how_likely_each_label_is(home: tuple[Store, Run, Run, Run]):
    store, train, _, made = home
    judge = JudgeSpec(faces=train.name)
    faces = Faces.load(train.path)
    untrained = start_network(tiny(size=24), faces.classes, 0, None, faces.shown)
    store.make(judge, lambda out, scratch: save_network(untrained, out))
    found = read_map(make_map(MapSpec(synthetic=made.name, train=train.name), store))
    points = found.points
    assert set(points["side"]) == {"training", "synthetic"} and found.space == "judge"
    assert points["agreement"].between(0, 1).all()
    assert points["entropy"].between(0, np.log2(len(faces.classes)) + 1e-5).all()
    assert set(points["predicted"]) <= set(faces.classes)


def test_other_runs_and_sides_are_refused(home: tuple[Store, Run, Run, Run], tmp_path: Path):
    store, train, _, made = home
    with pytest.raises(StoreError, match="`mien ls map` lists them"):
        read_map(train)
    same = MapSpec(synthetic=made.name, train=train.name, test=train.name, space="pixels")
    with pytest.raises(DataError, match="held-out side of a map must be other faces"):
        make_map(same, store)
    with pytest.raises(DataError, match="training side of a map must be real"):
        make_map(MapSpec(synthetic=made.name, train=made.name, space="pixels"), store)
