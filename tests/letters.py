"""Jobs that take milliseconds, keep a checkpoint after each step, and note what they did: for tests
of engines.
"""

import ctypes
import gc
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from mien.runs import stopping
from mien.runs.engine import run_jobs
from mien.runs.files import write_whole
from mien.runs.jobs import Job
from mien.runs.ray import Ray
from mien.runs.spec import Spec
from mien.runs.store import Store
from mien.seeds import derive_seed

STEPS = 6


class Letter(Spec):
    stage: ClassVar[str] = "letter"
    text: str
    parents: tuple[str, ...] = ()


def write(store: Store, text: str, parents: list[str], pause: float, journal: str) -> str:
    """Make a letter in STEPS steps, each of which is a function of the one before; the parents have
    to be there.
    """
    spec = Letter(text=text, parents=tuple(parents))

    def build(out: Path, scratch: Path) -> None:
        for parent in parents:
            store.run(parent)
        state = kept(scratch, text)
        while len(state) < STEPS:
            note(journal, f"step {spec.name} {len(state)} {os.getpid()}")
            time.sleep(pause)
            state.append(derive_seed(text, *state))
            write_whole(scratch / f"step-{len(state)}", " ".join(map(str, state)).encode())
            stopping.raise_if_asked()
        (out / "letter.txt").write_text(f"{text} {state}\n")
        (out / "enclosure.bin").write_bytes(bytes(derive_seed(text, n) % 256 for n in range(2000)))

    return store.make(spec, build).name


def kept(scratch: Path, text: str) -> list[int]:
    """The newest checkpoint that is whole: a list whose every number follows from those before
    it.
    """
    for number in range(STEPS, 0, -1):
        try:
            state = [int(word) for word in (scratch / f"step-{number}").read_text().split()]
        except (OSError, ValueError):
            continue
        if state == [derive_seed(text, *state[:place]) for place in range(number)]:
            return state
    return []


def note(journal: str, text: str) -> None:
    """Add a line to a file; lines of several processes do not mix."""
    if journal:
        handle = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{text}\n".encode())
        os.close(handle)


def repeated(journal: Path) -> int:
    """How many steps were done again."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    steps = [line.rpartition(" ")[0] for line in lines if line.startswith("step")]
    return sum(count - 1 for count in Counter(steps).values())


def shared(journal: Path) -> list[str]:
    """The letters that a process went on with after another one had taken them over."""
    steps = [line.split() for line in journal.read_text().splitlines() if line.startswith("step")]
    writers: dict[str, list[str]] = {}
    for _, name, _, pid in steps:
        if writers.setdefault(name, [pid])[-1] != pid:
            writers[name].append(pid)
    return [name for name, pids in writers.items() if len(pids) > len(set(pids))]


def letters(count: int, pause: float = 0.0, journal: Path | str = "") -> list[Job]:
    """Jobs of which every third needs the two before it."""
    jobs: list[Job] = []
    for number in range(count):
        parents = [job.run for job in jobs[-2:]] if number % 3 == 2 else []
        fields: dict[str, Any] = {"text": f"letter {number}", "parents": parents}
        name = Letter(text=fields["text"], parents=tuple(parents)).name
        told = {**fields, "pause": pause, "journal": str(journal)}
        jobs.append(Job(name, f"letter {number}", write, told, tuple(parents)))
    return jobs


def deliver(root: str, count: str, pause: str, journal: str) -> NoReturn:
    """Write letters on a Ray cluster, as the whole life of this process."""
    failed = run_jobs(letters(int(count), float(pause), journal), Store(Path(root)), Ray())
    sys.exit(5 if failed else 0)


# Jobs that go wrong


def crash(store: Store, how: str) -> str:
    """End this process in a way that Python does not see."""
    if how == "segfault":
        ctypes.string_at(0)
    if how == "killed":
        os.kill(os.getpid(), 9)
    if how == "memory":
        raise MemoryError("no room for another face")
    os._exit(7)


def sleep(store: Store, seconds: float) -> str:
    """Sleep, deaf to everything but a kill."""
    time.sleep(seconds)
    return "slept"


def collect(store: Store) -> str:
    """Say how many objects a garbage collection in this process leaves alone, and visits."""
    return f"{gc.get_freeze_count()} {len(gc.get_objects())}"


def cards(store: Store) -> str:
    """Say which graphics cards this process sees."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")
