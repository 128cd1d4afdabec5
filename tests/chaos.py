"""Faults at random moments, and what is left after them: `make chaos SEED=1 COUNT=500`, or python
tests/chaos.py.

Each fault hits a command that works on a store of its own: jobs of milliseconds, or a small study.
Afterwards no run may be altered or half, the same command has to finish, and all must be as if
nothing had happened. What was done twice is counted. Processes are forked from this one, which has
everything loaded, so that a fault takes a second.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import letters
from worlds import blobs, keep, table

from mien.classifiers import fit as classifier_fit
from mien.errors import MienError, TrialsFailed
from mien.generators.diffusion import fit
from mien.runs import claims, jobs, local
from mien.runs.claims import DEAD_AFTER_S
from mien.runs.engine import run_jobs
from mien.runs.files import read_json
from mien.runs.jobs import Engine
from mien.runs.local import Local
from mien.runs.store import ABOUT, Run, Store
from mien.study.file import resolve
from mien.study.run import run_study

JOBS, PAUSE = 10, 0.01
WORKERS = 2
PATIENCE_S = 900.0
FORK: Any = multiprocessing.get_context("fork")


class Harm(Exception):
    """Something that no fault may cause."""


@dataclass
class Scene:
    """A command under way: what it works on, where, and what it makes when nothing disturbs it."""

    task: str
    folder: Path
    expected: dict[str, str]
    seconds: float
    rng: random.Random
    deleted: str = ""

    @property
    def store(self) -> Store:
        return Store(self.folder / "disk" / "store")

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def start(self, limit: int | None = None) -> Any:
        """Start the command, as a process that leads a group of its own."""
        process = FORK.Process(
            target=command, args=(self.task, self.store.root, self.journal, limit)
        )
        process.start()
        return process

    def moment(self) -> None:
        """Wait for some time within that which the command takes."""
        time.sleep(self.rng.uniform(0, 0.9 * self.seconds))

    def finish(self) -> None:
        """Give the same command again, until it ends well: the second time at the latest."""
        for _ in range(2):
            if ended(self.start()) == 0:
                return
        raise Harm("the same command does not finish")


def command(task: str, root: Path, journal: Path, limit: int | None) -> None:
    """Do what is to be done, as the whole life of this process; its exit code is that of `mien
    study run`.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(journal.parent / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if limit is not None:
        sys.dont_write_bytecode = True  # byte code that finds no room would be cut off, and kept
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    code = 0
    try:
        if task == "letters":
            code = (
                5
                if run_jobs(letters.letters(JOBS, PAUSE, journal), Store(root), Local(WORKERS))
                else 0
            )
        else:
            work_on_study(Store(root), Local(WORKERS))
    except KeyboardInterrupt:
        code = 130
    except TrialsFailed:
        code = 5
    except (MienError, OSError) as error:
        print(f"mien: {error}", file=sys.stderr, flush=True)
        code = 2
    os._exit(code)


def work_on_study(store: Store, where: Engine) -> None:
    fields = {"trials": 1, "settings": ["real_to_real", "both_to_real"]}
    run_study(resolve(table(**fields), store), store, device="cpu", engine=where)


def ended(process: Any) -> int:
    """Wait for a command, and return its exit code; whoever it started must have ended with it."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        raise Harm("it hangs")
    return process.exitcode


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are alive."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def send(pid: int, number: int) -> bool:
    """Send a signal, if the process is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def die_out(pids: list[int]) -> None:
    """Wait until processes are gone."""
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise Harm("a worker outlives its command")
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Faults: each returns how many steps may be done again for it


def worker_killed(scene: Scene) -> int:
    """kill -9 of one worker."""
    driver = scene.start()
    scene.moment()
    found = children(driver.pid)
    hit = bool(found) and send(scene.rng.choice(found), signal.SIGKILL)
    if ended(driver) not in (0, 5):
        raise Harm("a killed worker must cost its own job alone")
    return int(hit)


def driver_killed(scene: Scene) -> int:
    """kill -9 of the command."""
    driver = scene.start()
    scene.moment()
    workers = children(driver.pid)
    send(driver.pid, signal.SIGKILL)
    ended(driver)
    die_out(workers)
    return WORKERS


def all_killed(scene: Scene) -> int:
    """kill -9 of the command and its workers in one moment, as when the power fails."""
    driver = scene.start()
    scene.moment()
    for pid in [driver.pid, *children(driver.pid)]:
        send(pid, signal.SIGKILL)
    ended(driver)
    return WORKERS


def two_drivers(scene: Scene) -> int:
    """Two commands at once."""
    drivers = [scene.start(), scene.start()]
    if [ended(driver) for driver in drivers] != [0, 0]:
        raise Harm("of two commands, one failed")
    return 0


def two_drivers_one_killed(scene: Scene) -> int:
    """Two commands at once, of which one is killed: the other does all the rest."""
    drivers = [scene.start(), scene.start()]
    scene.moment()
    workers = children(drivers[0].pid)
    send(drivers[0].pid, signal.SIGKILL)
    ended(drivers[0])
    die_out(workers)
    if ended(drivers[1]) != 0:
        raise Harm("the command that lived on failed")
    return WORKERS


def interrupted(scene: Scene) -> int:
    """Ctrl-C, once: all that was done is kept."""
    driver = scene.start()
    scene.moment()
    send(driver.pid, signal.SIGINT)
    if ended(driver) not in (0, 130):
        raise Harm("Ctrl-C must end in 130")
    return 0


def interrupted_twice(scene: Scene) -> int:
    """Ctrl-C, twice: it stops at once."""
    driver = scene.start()
    scene.moment()
    workers = children(driver.pid)
    for _ in range(2):
        send(driver.pid, signal.SIGINT)
        time.sleep(0.05)
    ended(driver)
    die_out(workers)
    return WORKERS


def disk_full(scene: Scene) -> int:
    """A full disk: a small one in memory, where mounting is allowed."""
    with disk(scene, "tmpfs", "-o", "size=24m"):
        driver = scene.start()
        scene.moment()
        ballast = scene.folder / "disk" / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                pass
        ended(driver)
        ballast.unlink()
        scene.finish()
    return JOBS  # a step whose checkpoint found no room is done again, once a job


def quota(scene: Scene) -> int:
    """A quota: no file may grow beyond some bytes, so that writing breaks off in the middle."""
    code = ended(scene.start(limit=scene.rng.randrange(0, 3000)))
    if code == 0 and scene.task == "study":
        raise Harm("what did not fit was taken for whole")
    return 20 * JOBS


def read_only(scene: Scene) -> int:
    """A store that became read-only while nobody looked: nothing changes, and it ends with an
    error.
    """
    driver_killed(scene)
    before = sorted(str(path) for path in scene.store.root.rglob("*"))
    with disk(scene, "--bind"):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(scene.folder / "disk")], check=True)
        code = ended(scene.start())
        if code == 0 and set(scene.store.list_names()) != set(scene.expected):
            raise Harm("it claims to be done, and cannot be")
        if before != sorted(str(path) for path in scene.store.root.rglob("*")):
            raise Harm("it wrote on what is read-only")
    return 2 * WORKERS


def unfinished_work_damaged(scene: Scene) -> int:
    """Checkpoints, shards, claims and notes of a killed command, overwritten or cut short."""
    driver_killed(scene)
    hit = damage(
        scene,
        [path for path in (scene.store.root / "work").rglob("*") if path.is_file()],
        share=0.5,
    )
    return WORKERS + letters.STEPS * hit


def finished_run_damaged(scene: Scene) -> int:
    """A file of a finished run, overwritten or cut short: it is named and refused, and made again
    once deleted.
    """
    driver_killed(scene)
    names = [name for name in scene.store.list_names() if name.rpartition("-")[0] not in ("made",)]
    if not names:
        return WORKERS
    name = scene.rng.choice(names)
    files = [path for path in (scene.store.root / "runs" / name).rglob("*") if path.name != ABOUT]
    hit = scene.rng.choice(files)
    before = read_json(hit) or hit.read_bytes()
    damage(scene, [hit], share=1.0)
    if (read_json(hit) or hit.read_bytes()) == before:
        return WORKERS  # a blank or the last line end of its JSON: it says what it said
    if not Store(scene.store.root).find_faults(
        Run(name, scene.store.root / "runs" / name), thorough=True
    ):
        raise Harm(f"verify finds nothing wrong with {name}")
    ended(scene.start())
    if not Store(scene.store.root).find_faults(
        Run(name, scene.store.root / "runs" / name), thorough=True
    ):
        raise Harm("what was altered was made again over what lay there")
    shutil.rmtree(scene.store.root / "runs" / name)
    scene.deleted = name
    return WORKERS + letters.STEPS


def asleep(scene: Scene) -> int:
    """A worker that is stopped for longer than a dead one is waited for, and then goes on."""
    drivers = [scene.start(), scene.start()]
    scene.moment()
    found = children(drivers[0].pid)
    sleeper = scene.rng.choice(found) if found else 0
    if sleeper:
        send(sleeper, signal.SIGSTOP)
        time.sleep(2 * DEAD_AFTER_S)
        send(sleeper, signal.SIGCONT)
    if [ended(driver) for driver in drivers] != [0, 0]:
        raise Harm("a worker that slept made a command fail")
    return letters.STEPS


def foreign_claim(scene: Scene) -> int:
    """Claims of a machine that is gone, with clocks that are off by hours."""
    driver_killed(scene)
    todo = [name for name in scene.expected if name not in scene.store.list_names()]
    (scene.store.root / "work").mkdir(parents=True, exist_ok=True)
    for name in todo:
        claim = scene.store.root / "work" / f"{name}.claim"
        claim.write_text(
            f"elsewhere/0 {scene.rng.randrange(1, 99999)} token {scene.rng.randrange(99)}"
        )
        when = time.time() + scene.rng.uniform(-9999, 9999)
        os.utime(claim, (when, when))
    return WORKERS


FAULTS: dict[str, Callable[[Scene], int]] = {
    each.__name__: each
    for each in (
        *(
            worker_killed,
            driver_killed,
            all_killed,
            two_drivers,
            two_drivers_one_killed,
            interrupted,
        ),
        *(
            interrupted_twice,
            disk_full,
            quota,
            read_only,
            unfinished_work_damaged,
            finished_run_damaged,
        ),
        *(asleep, foreign_claim),
    )
}
MOUNTING = ("disk_full", "read_only")


@contextmanager
def disk(scene: Scene, kind: str, *options: str) -> Iterator[None]:
    """Put the scene on a disk of its own, with what it has."""
    place = scene.folder / "disk"
    if kind == "--bind":
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    else:
        kept = shutil.copytree(place, scene.folder / "kept")
        subprocess.run(["mount", "-t", kind, *options, kind, str(place)], check=True)
        shutil.copytree(kept, place, dirs_exist_ok=True)
    try:
        yield
    finally:
        if kind != "--bind":
            shutil.rmtree(scene.folder / "kept")
            shutil.copytree(place, scene.folder / "kept")
        for _ in range(100):
            if (
                subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode
                == 0
            ):
                break
            time.sleep(0.1)
        if kind != "--bind":
            shutil.copytree(scene.folder / "kept", place, dirs_exist_ok=True)


def damage(scene: Scene, files: list[Path], share: float) -> int:
    """Overwrite a byte of, or cut short, a share of the files; return how many."""
    hit = [path for path in sorted(files) if path.is_file() and scene.rng.random() <= share]
    for path in hit:
        data = bytearray(path.read_bytes())
        if scene.rng.random() < 0.5 or not data:
            data = data[: scene.rng.randrange(0, max(1, len(data)))]
        else:
            data[scene.rng.randrange(len(data))] ^= 1 + scene.rng.randrange(255)
        path.write_bytes(data)
    return len(hit)


def list_litter(store: Store) -> list[str]:
    """Return the names of what is left in the folder of unfinished work."""
    return [path.name for path in (store.root / "work").iterdir() if not path.name.startswith(".")]


def check(scene: Scene) -> None:
    """Raise Harm unless the store is as if nothing had happened."""
    store = Store(scene.store.root)
    if store.find_broken_runs():
        raise Harm(f"half a run: {store.find_broken_runs()}")
    for name in store.list_names():
        faults = store.find_faults(Run(name, store.root / "runs" / name), thorough=True)
        if faults:
            raise Harm(f"{name}: {'; '.join(faults)}")
    found = {name: store.run(name).content for name in store.list_names()}
    expected = dict(scene.expected)
    if scene.task == "study" and scene.deleted not in found:  # no trial that was left needed it
        expected.pop(scene.deleted, None)
    if found != expected:
        raise Harm(f"other results: {sorted(set(found.items()) ^ set(expected.items()))[:3]}")
    litter = list_litter(store)

    # A damaged claim on a finished run keeps the work of this run until it is old
    claimed = {path.stem for path in (store.root / "work").glob("*.claim")}
    if litter and all(name.partition(".")[0] in claimed for name in litter):
        for name in claimed:
            os.utime(store.root / "work" / f"{name}.claim", (0, 0))
        store.remove_leftovers()
        litter = list_litter(store)
    if litter:
        raise Harm(f"litter: {litter[:3]}")


# All of them


def prepared(task: str, folder: Path) -> tuple[dict[str, str], float]:
    """What a task makes undisturbed, and how long it takes; `folder` keeps what is there before."""
    store = Store(folder / "disk" / "store")
    store.root.mkdir(parents=True)
    if task == "study":
        # this process itself starts no threads
        first = FORK.Process(target=keep, args=(blobs(), store, "blobs"))
        first.start()
        first.join()
    whole = Scene(
        task,
        Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-whole"))),
        {},
        0.0,
        random.Random(),
    )
    began = time.monotonic()
    if ended(whole.start()) != 0:
        raise Harm((whole.folder / "log").read_text())
    seconds = time.monotonic() - began
    return {name: whole.store.run(name).content for name in whole.store.list_names()}, seconds


def main() -> int:
    """Inject faults, and say what came of them; 1 if anything was harmed."""
    parser = argparse.ArgumentParser(
        description="Faults at random moments, and what is left after them."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument(
        "--studies", type=float, default=0.1, help="the share of faults that hit a study"
    )
    parser.add_argument("--kinds", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no fault after so long")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    jobs.START_METHOD = local.START_METHOD = "fork"
    claims.HEARTBEAT_S, claims.DEAD_AFTER_S = 0.1, 1.5
    classifier_fit.CHECKPOINT_EVERY_S = fit.CHECKPOINT_S = 0.0
    # The many processes that are forked from this one then share what it has loaded
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory(prefix="mien-chaos-") as folder:
        return unleash(given, Path(folder))


def unleash(given: argparse.Namespace, folder: Path) -> int:
    """Inject faults in `folder`, of all kinds in turn."""
    began, rng = time.monotonic(), random.Random(given.seed)
    kinds = [kind for kind in given.kinds if kind not in MOUNTING or may_mount(folder)]
    tasks = ["letters", *(["study"] if given.studies > 0 else [])]
    known = {task: prepared(task, folder / task) for task in tasks}
    tally: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"faults": 0, "steps again": 0, "harm": []}
    )
    for number in range(given.count):
        if time.monotonic() - began > 60 * given.minutes:
            break
        kind, task = (
            kinds[number % len(kinds)],
            "study" if rng.random() < given.studies else "letters",
        )
        place = Path(shutil.copytree(folder / task, folder / f"{number}"))
        scene = Scene(task, place, *known[task], random.Random(f"{given.seed} {number}"))
        line = tally[kind]
        line["faults"] += 1
        try:
            allowed = FAULTS[kind](scene)
            scene.finish()
            check(scene)
            again = letters.repeated(scene.journal)
            line["steps again"] += again
            if again > allowed:
                raise Harm(f"{again} steps were done again, and {allowed} may be")
        except Harm as harm:
            log = scene.folder / "log"
            last = log.read_text()[-1500:] if log.exists() else ""
            line["harm"].append(f"fault {number}, {task}: {harm}\n{last}")
            print(f"{kind}: {line['harm'][-1]}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
    for kind, line in tally.items():
        print(
            f"{kind:<26}{line['faults']:>5} faults{line['steps again']:>6} steps "
            f"again{len(line['harm']):>5} harmed"
        )
    total, harmed = (
        sum(n(line) for line in tally.values())
        for n in (lambda x: x["faults"], lambda x: len(x["harm"]))
    )
    left_out = [kind for kind in given.kinds if kind not in kinds]
    print(
        f"{total} faults, {harmed} harmed, seed {given.seed}, {time.monotonic() - began:.0f} s",
        end="",
    )
    print(
        f"; left out, since nothing can be mounted here: {', '.join(left_out)}" if left_out else ""
    )
    print(json.dumps({"faults": total, "harmed": harmed, "kinds": sorted(tally)}))
    return int(harmed > 0)


def may_mount(folder: Path) -> bool:
    """Whether this process can mount a disk."""
    place = folder / "mount"
    place.mkdir(exist_ok=True)
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], check=False).returncode
    ):
        return False
    return subprocess.run(["umount", str(place)], check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
