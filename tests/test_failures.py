"""Trainings that went astray, disks that fill up while images are drawn, and commands that are
refused at once.
"""

import errno
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import keep, people
from worlds import CLASSES, HAPPY, OWN_FIELDS, TINY_DIFFUSION, blobs, inside, tiny, toy

from mien.classifiers.fit import fit_network
from mien.errors import StoreError, TrainingError, UsageError, WeightsError
from mien.generators import presets
from mien.generators.diffusion.losses import LossWatch
from mien.generators.generate import generate_database
from mien.generators.kinds import load_generator, sample_generator
from mien.generators.specs import GenerateSpec, TrainSpec
from mien.generators.train import train_generator
from mien.runs import checkpoints, engine
from mien.runs.jobs import Job, note_failure, restore_error
from mien.runs.local import Local
from mien.runs.store import Store

torch.set_num_threads(1)


def trained(store: Store, **fields: Any) -> Any:
    faces = keep(toy(), store, "toy")
    spec = TrainSpec.model_validate(
        {"faces": faces.name, **TINY_DIFFUSION, **OWN_FIELDS["edm"], **fields}
    )
    return train_generator(spec, store, device="cpu")


# Astray


@pytest.mark.parametrize(
    "fields", [{"learning_rate": 1e30}, {"learning_rate": 1e25, "images_seen": 48}]
)
@pytest.mark.parametrize("images", [12, 36])
def test_a_generator_whose_steps_were_skipped_is_no_result(
    store: Store, fields: dict[str, Any], images: int
):
    with pytest.raises(TrainingError, match="learning_rate"):
        trained(store, **{"images_seen": images, **fields})
    assert [name for name in store.list_names() if name.startswith("generator")] == []


@pytest.mark.parametrize(
    ("skipped", "steps", "fails"), [(1, 4, True), (2, 19, True), (1, 10, False), (2, 100, False)]
)
def test_more_than_a_tenth_of_skipped_steps_is_a_failure(skipped: int, steps: int, fails: bool):
    watch = LossWatch(1, 8)
    for step in range(steps):
        watch.skip(step) if step % 4 == 0 and watch.skipped < skipped else watch.record(step, 1.0)
    if fails:
        with pytest.raises(TrainingError, match=f"in {skipped} of {steps}"):
            watch.end(steps)
    else:
        watch.end(steps)


def test_a_classifier_whose_last_step_went_astray_is_no_result():
    with pytest.raises(TrainingError, match="lower its"):
        fit_network(blobs(16), tiny(learning_rate=1e30, epochs=1, batch=16), CLASSES, seed=0)


def test_weights_that_are_no_numbers_are_named_and_not_drawn_from(store: Store):
    generator = load_generator(trained(store), "cpu")
    network = generator.network  # pyright: ignore[reportAttributeAccessIssue]
    next(network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match="training failed"):
        sample_generator(generator, np.full(1, HAPPY), np.zeros(1, np.int64))
    checkpoints.save_weights(store.root / "nan.safetensors", network.state_dict())
    with pytest.raises(WeightsError, match="must hold finite weights"):
        checkpoints.load_weights(store.root / "nan.safetensors", network)


# Full disks


def test_images_that_find_no_room_are_one_message_and_what_was_drawn_is_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        sys, "dont_write_bytecode", True
    )  # it would be cut off, and kept for later tests
    faces = keep(people(range(2), clips=1, frames=1, size=48), store, "faces")
    model = train_generator(presets.read_preset("gaussian", faces.name), store, device="cpu")
    spec = GenerateSpec(generator=model.name, counts={"happiness": 40}, sampler="direct")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(StoreError, match="make room"):
            generate_database(spec, store, device="cpu", shard=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(list(store.make_scratch(spec.name).glob("images-*.npy"))) >= 2
    run = generate_database(spec, store, device="cpu", shard=10)
    assert len(np.load(run.find_file("images.npy"))) == 40


def full(store: Store) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


def fine(store: Store) -> str:
    return "done"


def test_a_full_disk_ends_all_jobs_with_one_message(store: Store):
    jobs = [Job("one", "one", full), *(Job(f"more{n}", "more", fine) for n in range(3))]
    with pytest.raises(StoreError, match="make room"):
        engine.run_jobs(jobs, store, Local(0))


def test_a_path_that_cannot_be_read_is_a_fault_of_the_input(store: Store):
    text = note_failure(
        store, "letter-0123456789ab", PermissionError(errno.EACCES, "Permission denied", "/x")
    )
    assert text.startswith("/x: Permission denied; make it readable")
    assert restore_error(store, "letter-0123456789ab", text).exit_code == UsageError.exit_code
    assert not list((store.root / "work").iterdir())


# Refused at once


def test_ctrl_c_reaches_no_fork_server_that_is_still_loading(tmp_path: Path):
    code = """
        import os, signal, sys, threading, time
        from pathlib import Path
        from multiprocessing import forkserver
        from mien.runs import local
        from mien.runs.engine import run_jobs
        from mien.runs.jobs import Job
        from mien.runs.local import Local
        from mien.runs.store import Store
        from letters import sleep
        local.PRELOADED_MODULES = ["json", "letters"]
        def ctrl_c():
            while forkserver._forkserver._forkserver_pid is None:
                time.sleep(0.01)
            time.sleep(0.05)
            os.killpg(0, signal.SIGINT)
        if __name__ == "__main__":
            os.setpgid(0, 0)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Thread(target=ctrl_c, daemon=True).start()
            try:
                jobs = [Job("a", "a", sleep, {"seconds": 0.2})]
                run_jobs(jobs, Store(Path("store")), Local(1, cores=1))
            except KeyboardInterrupt:
                sys.exit(130)
    """
    where = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": where},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [
                "audit",
                "faces",
                "--train",
                "faces",
                "--test",
                "faces",
                "--weights",
                "pixels=/etc/passwd",
            ],
            "takes a file",
        ),
        (
            [
                "audit",
                "faces",
                "--train",
                "faces",
                "--test",
                "faces",
                "--weights",
                "dinov2=/etc/passwd",
            ],
            "in --spaces",
        ),
        (["audit", "faces", "--train", "faces", "--test", "faces", "--weights", "x"], "NAME=VALUE"),
        (["review", "queue", "faces", "--out", "table.txt"], "ends in .csv"),
        (["review", "queue", "faces", "--out", "there.csv"], "exists already"),
        (["review", "queue", "faces", "--out", "there.csv/queue.csv"], "can be written"),
        (["review", "queue", "faces", "--out", "~nobody-at-all/queue.csv"], "who is not known"),
        (["review", "queue", "faces", "--out", f"{'q' * 300}.csv"], "shorter path"),
        (["leakage", "faces", "faces", "--out", "/dev/null/deep/x"], "can be written"),
        (["leakage", "faces", "faces", "--out", "new/below/" + "x" * 300], "shorter path"),
        (["leakage", "faces", "faces", "--out", "~nobody-at-all/x"], "who is not known"),
        (["leakage", "faces", "faces", "--out", "there.csv/x"], "can be written"),
        (["export", "faces", "--out", "/proc/mine"], "can be written"),
        (["export", "faces", "--out", "~nobody-at-all/x"], "who is not known"),
        (["publish", "build", "faces", "--out", "/sys/new/x"], "can be written"),
        (["publish", "build", "faces", "--out", "~nobody-at-all/x"], "who is not known"),
        (["report", "none", "--out", "~nobody-at-all/x"], "who is not known"),
        (["report", "none", "--out", "there.csv/figures"], "can be written"),
        (
            ["regenerate", "faces", "--image", "happiness-00001", "--out", "there.csv"],
            "is there already",
        ),
        (
            ["regenerate", "faces", "--image", "happiness-00001", "--out", "/dev/null/x.png"],
            "can be written",
        ),
        (["toy", "there.csv/drawn"], "can be written"),
        (["toy", "~nobody-at-all/drawn"], "who is not known"),
        (["ls", "--store", "there.csv"], "the store must be a folder"),
        (["ls", "--store", "/dev/null"], "the store must be a folder"),
        (["show", "x", "--store", "there.csv/store"], "the store must be a folder"),
        (["export", "x", "--out", "new", "--store", "there.csv"], "the store must be a folder"),
        (["train", "faces", "--minutes", "5", "--tensorboard", "there.csv/logs"], "--tensorboard"),
        (["split", "faces", "--as", "x" * 75], "an alias must be"),
        (["split", "faces", "--as", "-"], "an alias must be"),
        (["generate", "faces", "--counts", f"balanced:{'7' * 5000}"], "is not a trained generator"),
        (["rm", "edm-000000000000"], "no run or alias"),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_work(
    tmp_path: Path, arguments: list[str], said: str
):
    store = Store(tmp_path / "store")
    keep(people(range(2), clips=1, frames=1, size=16), store, "faces")
    (tmp_path / "there.csv").write_text("decisions")
    before = sorted(tmp_path.rglob("*"))
    text = inside(tmp_path, *arguments, code=2)
    assert said in text and len(text) < 1000
    assert sorted(tmp_path.rglob("*")) == before
