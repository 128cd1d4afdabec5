"""Engines: the same results wherever jobs are done, and one that dies takes nothing with it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import letters
import numpy as np
import pytest
import torch
from worlds import SMALL_CLASSIFIER, blobs, keep, table

from mien.classifiers.fit import ClassifierTraining, fit_network
from mien.classifiers.predict import TrainedNetwork, predict_classes
from mien.classifiers.specs import ClassifierSpec
from mien.errors import UsageError
from mien.faces import Faces
from mien.generators import presets, shards
from mien.generators.generate import list_generation_jobs
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.runs import engine, stopping
from mien.runs.engine import run_jobs
from mien.runs.jobs import NOT_BEGUN_PREFIX, START_METHOD, Engine, Job, read_failure
from mien.runs.local import Local, select_cards
from mien.runs.ray import Ray, import_ray
from mien.runs.store import Store
from mien.study.file import resolve
from mien.study.run import run_study

LETTER = "letter-000000000000"
LETTERS = 9
GRID = {"trials": 1, "settings": ["real_to_real", "both_to_real"]}


def contents(store: Store) -> dict[str, str]:
    return {name: store.run(name).content for name in store.list_names()}


def job(make: Any, run: str = LETTER, after: tuple[str, ...] = (), **arguments: Any) -> Job:
    return Job(run, "a job", make, arguments, after)


# Jobs


def test_jobs_are_done_once_what_they_need_is_there_and_come_out_the_same(tmp_path: Path):
    one, other = Store(tmp_path / "one"), Store(tmp_path / "other")
    assert run_jobs(letters.letters(7), one, Local(0)) == {}
    assert run_jobs(letters.letters(7)[::-1], other, Local(2)) == {}
    assert contents(one) == contents(other)
    assert len(contents(one)) == 7
    assert not list((other.root / "work").iterdir())


@pytest.mark.parametrize(
    "how, error",
    [
        (
            "segfault",
            r"crashed in native code \(SIGSEGV\); its output is in work/letter-000000000000\.log",
        ),
        (
            "killed",
            r"was killed \(SIGKILL\): by a person, or by the system because memory was full",
        ),
        ("exit", "ended with exit code 7"),
        ("memory", "MemoryError: no room for another face"),
    ],
)
def test_what_crashes_costs_one_job_and_says_why(store: Store, how: str, error: str):
    first, *others = letters.letters(3)
    failed = run_jobs([first, job(letters.crash, how=how), *others], store, Local(2))
    assert list(failed) == [LETTER]
    assert re.search(error, failed[LETTER])
    assert read_failure(store, LETTER) == failed[LETTER]
    assert len(store.list_names()) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_what_needs_a_failed_job_is_not_begun(store: Store, workers: int):
    jobs = [
        job(letters.crash, how="memory"),
        job(letters.sleep, "letter-000000000001", (LETTER,), seconds=0),
    ]
    failed = run_jobs(jobs, store, Local(workers))
    assert failed["letter-000000000001"] == f"{NOT_BEGUN_PREFIX}{failed[LETTER]}"


def test_a_job_waits_for_its_own_parents_only(store: Store, capfd: pytest.CaptureFixture[str]):
    quick, *_ = letters.letters(1)
    slow = Job("letter-000000000001", "the slow one", letters.sleep, {"seconds": 3.0})
    child = Job("letter-000000000002", "the child", letters.sleep, {"seconds": 0.0}, (quick.run,))
    assert run_jobs([slow, quick, child], store, Local(2)) == {}
    labels = [
        line.split("] ")[1].split(":")[0]
        for line in capfd.readouterr().err.splitlines()
        if line[0] == "["
    ]
    assert labels == ["letter 0", "the child", "the slow one"]


def test_what_another_process_is_at_is_left_to_it_and_taken_over_when_its_heart_stops(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mien.runs.claims.DEAD_AFTER_S", 0.6)
    first, second = letters.letters(2)
    (store.root / "work").mkdir(parents=True)
    (store.root / "work" / f"{first.run}.claim").write_text("elsewhere 1 token 7")
    assert run_jobs([first, second], store, Local(0)) == {}
    assert store.list_names() == [second.run, first.run]


@pytest.mark.parametrize(
    "place, gpus, cards, given",
    [
        (0, 1.0, [], None),
        (1, 1.0, ["0", "1"], "1"),
        (1, 0.5, ["3", "5"], "3"),
        (2, 0.5, ["3", "5"], "5"),
        (2, 1 / 3, ["0", "1"], "0"),
        (3, 1 / 3, ["0", "1"], "1"),
        (1, 2.0, ["0", "1", "2", "3"], "2,3"),
    ],
)
def test_cards_are_shared_out(place: int, gpus: float, cards: list[str], given: str | None):
    assert select_cards(place, gpus, cards) == given


@pytest.mark.skipif(START_METHOD != "forkserver", reason="workers are not forked on this system")
def test_workers_share_what_they_find_loaded(store: Store):
    local = Local(1)
    local.begin(job(letters.collect), store)
    (outcome,) = local.collect_ended(60.0)
    frozen, visited = map(int, outcome.text.split())
    assert frozen > 10 * visited


def test_workers_see_their_share_of_the_cards(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mien.runs.devices.list_gpus", lambda choice: ["4", "6"])
    found = Local(gpus=0.5)
    assert found.slots == 4
    for number in range(4):
        found.begin(job(letters.cards, f"letter-{number:012d}"), store)
    seen: list[str] = []
    while len(seen) < 4:
        seen += [outcome.text for outcome in found.collect_ended(5.0)]
    assert sorted(seen) == ["4", "4", "6", "6"]
    with pytest.raises(
        UsageError, match=r"5 workers with 0\.5 of a card each need 3 cards, and there are 2"
    ):
        Local(5, gpus=0.5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dask", 1), "the engine must be local or ray; given: 'dask'"),
        (("local", -1), "must be 0 .this process. or more; given: -1"),
        (("local", 1, 0.0), "share of a card must be above 0"),
        (("local", 1, 1.5), "or a whole number; given: 1.5"),
        (("ray", 0), "a cluster needs one worker or more; given: 0"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(arguments: tuple[Any, ...], message: str):
    with pytest.raises(UsageError, match=message):
        engine.make_engine(*arguments)


# Numbers


def grid(folder: Path, name: str, where: Engine) -> dict[str, str]:
    """Run a small study, and return what its runs hold."""
    store = Store(folder / name)
    keep(blobs(), store, "blobs")
    run_study(resolve(table(**GRID), store), store, device="cpu", engine=where)
    return contents(store)


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return grid(tmp_path_factory.mktemp("inline"), "store", Local(0))


def test_a_study_in_processes_has_the_same_digests_and_numbers(
    inline: dict[str, str], tmp_path: Path
):
    assert (
        len(inline) == 12
    )  # faces, study, and by fold a split, a generator, a database and two trials
    assert grid(tmp_path, "store", Local(2)) == inline


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of two machines, both of them this one."""
    pytest.importorskip("ray", reason="needs mien[ray]")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep
        )  # where the letters are
        patch.setenv(
            "RAY_raylet_start_wait_time_s", "180"
        )  # on a busy machine half a minute is not enough
        found = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        found.add_node(num_cpus=1)
        yield found
        import_ray().shutdown()
        found.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_study_on_two_machines_of_a_ray_cluster_has_the_same_digests_and_numbers(
    inline: dict[str, str], cluster: Any, tmp_path: Path
):
    where = Ray(cluster.address)
    assert where.slots == 2
    assert grid(tmp_path, "store", where) == inline


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_crash_on_a_ray_cluster_costs_one_job_and_says_why(cluster: Any, store: Store):
    first, *others = letters.letters(3)
    failed = run_jobs(
        [first, job(letters.crash, how="segfault"), *others], store, Ray(cluster.address)
    )
    assert list(failed) == [LETTER] and "SIGSEGV" in failed[LETTER]
    assert len(store.list_names()) == 3


# Faults on a cluster: the command is a process of its own, and what is killed is in the middle of a
# job


def drive(store: Store, journal: Path, address: str) -> subprocess.Popen[bytes]:
    """Start a command that writes letters on a Ray cluster."""
    command = "import sys, letters; letters.deliver(*sys.argv[1:])"
    arguments = [sys.executable, "-c", command, str(store.root), str(LETTERS), "1", str(journal)]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        arguments, env={**os.environ, "PYTHONPATH": paths, "RAY_ADDRESS": address}
    )


def wait_for(look: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Return what is seen, once there is something to see."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


def writers(store: Store, journal: Path) -> list[int]:
    """The processes that have written a step of the letter that they are at."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    claims = [store.read_claim(path.stem).split() for path in (store.root / "work").glob("*.claim")]
    at_work = {claim[1] for claim in claims if claim}
    return sorted({int(pid) for pid in at_work & {line.split()[-1] for line in lines}})


def lineage(pid: int) -> list[int]:
    """A process and those that it descends from: of a job, its fork server, Ray's worker and the
    raylet follow.
    """
    found: list[int] = []
    while pid > 1 and (state := state_of(pid)):
        found.append(pid)
        pid = int(state[1])
    return found


def state_of(pid: int) -> list[str]:
    """What the system says of a process that is alive: its state, its parent; nothing of one that
    is gone.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if state[0] in "ZX" else state


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and they in turn."""
    alive = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [each for each in alive if pid in lineage(each)[1:]]


def assert_as_undisturbed(store: Store, journal: Path, undisturbed: Store, again: int) -> None:
    """Nothing is missing, half or altered; no letter had two writers at a time, and few steps were
    done again.
    """
    assert contents(store) == contents(undisturbed)
    assert not store.find_broken_runs() and not list((store.root / "work").iterdir())
    assert not letters.shared(journal)
    assert letters.repeated(journal) <= again


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("undisturbed") / "store")
    assert run_jobs(letters.letters(LETTERS), store, Local(0)) == {}
    return store


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("victim", ["worker", "machine", "command"])
def test_what_is_killed_on_a_ray_cluster_costs_a_step_and_leaves_no_job_behind(
    victim: str, cluster: Any, store: Store, undisturbed: Store, tmp_path: Path
):
    journal, third = tmp_path / "journal", cluster.add_node(num_cpus=1)
    machine = third.all_processes["raylet"][0].process
    command = drive(store, journal, cluster.address)
    try:
        there = wait_for(
            lambda: [pid for pid in writers(store, journal) if machine.pid in lineage(pid)]
        )
        _, _, worker, *_ = lineage(there[0])
        others = [pid for pid in writers(store, journal) if machine.pid not in lineage(pid)]
        os.kill(
            {"worker": worker, "machine": machine.pid, "command": command.pid}[victim],
            signal.SIGKILL,
        )
        if victim != "worker":
            {"machine": machine, "command": command}[
                victim
            ].wait()  # a zombie counts as alive, to Ray
        orphans = [*there, *others] if victim == "command" else there
        wait_for(lambda: not any(state_of(pid) for pid in orphans), 30.0)
        if victim == "command":
            assert len(store.list_names()) < LETTERS
            command = drive(store, journal, cluster.address)
        assert command.wait(300) == 0
        assert_as_undisturbed(store, journal, undisturbed, again=3)
        assert (
            len({line.split()[-1] for line in journal.read_text().splitlines()}) > LETTERS
        )  # a job was begun twice
    finally:
        command.kill()
        command.wait()
        cluster.remove_node(third, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")
def test_a_command_that_is_killed_takes_the_ray_that_it_started_with_it(
    store: Store, undisturbed: Store, tmp_path: Path
):
    pytest.importorskip("ray", reason="needs mien[ray]")
    journal = tmp_path / "journal"
    command = drive(store, journal, "local")
    try:
        wait_for(lambda: writers(store, journal))
        orphans = descendants(command.pid)
        at_work = writers(store, journal)
        assert set(at_work) <= set(orphans)
        command.kill()
        command.wait()
        wait_for(lambda: not any(state_of(pid) for pid in at_work), 30.0)
        wait_for(
            lambda: not any(state_of(pid) for pid in orphans), 120.0
        )  # Ray's agents take a minute to notice
        command = drive(store, journal, "local")
        assert command.wait(300) == 0
        assert_as_undisturbed(store, journal, undisturbed, again=2)
    finally:
        command.kill()
        command.wait()


def test_the_threads_of_a_network_are_those_of_its_spec_whatever_torch_has(
    monkeypatch: pytest.MonkeyPatch,
):
    spec = ClassifierSpec.model_validate({**SMALL_CLASSIFIER, "epochs": 1})
    seen: list[int] = []
    take = ClassifierTraining.make_step

    def watched(work: ClassifierTraining, step: int) -> Any:
        seen.append(torch.get_num_threads())
        return take(work, step)

    monkeypatch.setattr(ClassifierTraining, "make_step", watched)
    for count in (1, 3):
        fit_network(
            blobs(16),
            spec.model_copy(update={"threads": count}),
            blobs(16).classes,
            0,
            device="cpu",
        )
    assert set(seen) == {1, 3}


def test_a_database_drawn_in_parts_is_the_one_drawn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(shards.SHARD_IMAGES, "cpu", 8)
    found = []
    for name, most in (("whole", 1), ("parts", 3)):
        store = Store(tmp_path / name)
        faces = keep(blobs(), store, "blobs")
        trained = train_generator(presets.read_preset("gaussian", faces.name), store, device="cpu")
        spec = order_database(trained, "balanced:36", store)
        jobs = list_generation_jobs(spec, store, "cpu", most)
        assert len(jobs) == (1 if most == 1 else 4)
        assert run_jobs(jobs, store, Local(0)) == {}
        found.append(store.run(spec.name).content)
        assert not list((store.root / "work").iterdir())
    assert found[0] == found[1]


# Stopping


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A training that is sent signals after chosen steps: {"after": {step: signals}}, and counts
    its steps.
    """
    told: dict[str, Any] = {"after": {}, "steps": 0}
    take = ClassifierTraining.make_step

    def step(work: ClassifierTraining, number: int) -> Any:
        told["steps"] += 1
        for each in told["after"].pop(number, ()):
            signal.raise_signal(each)
        return take(work, number)

    monkeypatch.setattr(ClassifierTraining, "make_step", step)
    # tests that run in the background may ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield told
    signal.signal(signal.SIGINT, before)


def fit(faces: Faces, scratch: Path) -> TrainedNetwork:
    spec = ClassifierSpec.model_validate({**SMALL_CLASSIFIER, "epochs": 2})
    return fit_network(faces, spec, faces.classes, 0, scratch, "cpu")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_keeps_the_step_at_hand_and_the_same_call_goes_on(
    fitted: dict[str, Any], tmp_path: Path, number: int
):
    faces = blobs()
    whole = fit(faces, tmp_path / "whole")
    steps, fitted["steps"] = fitted["steps"], 0
    fitted["after"][3] = [number]
    (tmp_path / "scratch").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fit(faces, tmp_path / "scratch")
    assert fitted["steps"] == 4 and list((tmp_path / "scratch").glob("checkpoint-*4.json"))
    again = fit(faces, tmp_path / "scratch")
    assert fitted["steps"] == steps
    np.testing.assert_array_equal(predict_classes(again, faces), predict_classes(whole, faces))
    assert not stopping.stop_requested()


def test_the_second_ctrl_c_stops_at_once(fitted: dict[str, Any], tmp_path: Path):
    fitted["after"][3] = [signal.SIGINT, signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        fit(blobs(), tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))
    assert (
        not stopping.stop_requested()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


def test_a_signal_that_this_process_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping.defer_signals():
            signal.raise_signal(signal.SIGINT)
            assert not stopping.stop_requested()
    finally:
        signal.signal(signal.SIGINT, before)
