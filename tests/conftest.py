"""Fixtures that several files of tests share; what trains is made once in each process.

The process that only hands out the tests to workers loads this file too. So the fixtures import
what takes seconds, torch above all.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import shape_checks  # first of all that loads mien: it installs the checks

if TYPE_CHECKING:
    from mien.runs.store import Store

# The files that take longest, the longest first. They are started first: a worker that started one
# of them last would be busy for a minute after the others.
LONGEST = (
    *("audit", "generators", "study", "report", "examples", "export", "cli", "advise", "publish"),
    *("demo", "memorisation", "conclusions", "ways", "chaos", "classifiers", "publish_check"),
    *("results", "install", "extending", "weight_files", "torchvision", "plain_folders", "python"),
    *("timm_networks", "benchmarks", "damaged_trees", "ingest", "filter", "uses", "copies"),
    *("tensorboard", "architecture", "engine"),
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: it works while others wait for a process or a clock."""
    from mien.runs.machine import count_usable_cores

    return count_usable_cores() + 1


def pytest_collection_finish() -> None:
    """Leave what is loaded out of the search for garbage, which would go through it many times."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Check the shapes of arrays in each test from its first calls on."""
    shape_checks.begin_test()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the files that take longest before all others, and skip what needs a GPU on
    a machine without one.
    """
    import torch

    places = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    without = pytest.mark.skip(reason="needs an NVIDIA GPU that torch can use")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(without)


@pytest.fixture(scope="session", autouse=True)
def no_wait_for_the_disk() -> Iterator[None]:
    """The machine does not lose its power during the tests: a file need not be on the disk, which
    takes milliseconds, before the next one is written.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which also fails if the file is not open
        yield


@pytest.fixture
def store(tmp_path: Path) -> "Store":
    """An empty store, in the folder `store` of the test's own folder."""
    from mien.runs.store import Store

    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small are slower on two threads, much slower where other programs run too."""
    import torch

    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(cores)


@pytest.fixture(scope="session")
def audit_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store: 16 training people, 12 held out, and what is audited."""
    import numpy as np
    import pandas as pd
    from drawn import keep, people

    from mien.faces import Faces
    from mien.generators import presets
    from mien.generators.generate import generate_database
    from mien.generators.orders import order_database
    from mien.generators.train import train_generator
    from mien.runs.store import Store

    folder = tmp_path_factory.mktemp("audit")
    store = Store(folder / "store")
    third = people(range(28, 42), clips=1, frames=2)
    train = keep(people(range(16), clips=1, frames=2), store, "train")
    keep(people(range(16, 28), clips=1, frames=2), store, "test")
    keep(third, store, "unseen")
    dealt = np.random.default_rng(0).permutation(third.index["emotion"].to_numpy())
    keep(
        Faces(third.images, third.index.assign(emotion=pd.Series(dealt, dtype="str"))),
        store,
        "shuffled",
    )
    copycat = train_generator(presets.read_preset("copycat", train.name), store, alias="copycat")
    generate_database(order_database(copycat, "balanced:60", store), store, alias="copies")
    return folder
