"""The store: one folder of finished runs, each whole or absent, named by what it depends on.

    mien-store/
      runs/edm-1f0c.../       a finished run: its files, spec.json, about.json, and manifest.json, written last
      aliases/faces           readable names: a file that holds the name of a run
      work/edm-1f0c.../       what an unfinished run has so far (checkpoints), and who works on it

Two processes that want the same run do not both make it: one claims it, the other waits and takes the result over. A
claim carries a heartbeat; one that stands still belongs to a dead process, and the next process goes on from its
checkpoints. Heartbeats are counted, and watched by the clock of the one who waits: no two clocks are ever compared. Who
was only asleep finds its claim lost and makes nothing. Only renames and exclusive creation are used, which network file
systems have too.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from mien import stopping
from mien.errors import StoreError
from mien.outside import expanded
from mien.progress import say
from mien.spec import RUN_NAME, Spec, nearest, parents

Build = Callable[[Path, Path], None]
"""What makes a run: it writes its files into the first folder, which is empty, and keeps checkpoints in the second."""

ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
MANIFEST, ABOUT = "manifest.json", "about.json"
KNOWN = {"sha256", "size"}  # of each file
HEARTBEAT_S = 2.0
DEAD_AFTER_S = 60.0  # a claim whose heartbeat stands still for this long, by the clock of the one who waits
LIBRARIES = ("mien", "torch", "numpy", "pandas", "timm", "opencv-python-headless", "pillow", "pyarrow", "scikit-learn")


class Lost(BaseException):
    """Another process has taken over what this one was making, since its heart stood still."""


@dataclass(frozen=True)
class Run:
    """A finished run: `name` is `stage-digest`, `path` its folder."""

    name: str
    path: Path

    @property
    def stage(self) -> str:
        """The stage that made it, such as `ingest` or `edm`."""
        return self.name.rsplit("-", 1)[0]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """What it depends on, as JSON; raises StoreError if that cannot be read."""
        spec = read_json(self.path / "spec.json")
        if not isinstance(spec, dict):
            raise StoreError(f"{self.name} was altered after it was made: spec.json cannot be read. {self.mend}")
        return spec

    @property
    def mend(self) -> str:
        """What to do about a run that was altered."""
        return f"Delete {self.path} and make it again with the command that made it"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The sha256 and size of each file, and `content`, the digest of them all; raises StoreError if unreadable."""
        manifest = read_json(self.path / MANIFEST)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        known = list(files.values()) if isinstance(files, dict) else [None]
        if not all(isinstance(each, dict) and each.keys() >= KNOWN for each in known):
            raise StoreError(f"{self.name} was altered after it was made: {MANIFEST} cannot be read. {self.mend}")
        return {"content": manifest.get("content"), "files": files}

    @cached_property
    def about(self) -> dict[str, Any]:
        """When, where and with what it was made: beside the result and no part of it, so {} if it cannot be read."""
        about = read_json(self.path / ABOUT)
        return about if isinstance(about, dict) else {}

    @property
    def seconds(self) -> float:
        """How long its making took, 0 if that is not known."""
        taken = self.about.get("seconds")
        return float(taken) if isinstance(taken, int | float) else 0.0

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What it says of itself: `holds`, a few words, and `counts`, rows of a table; {} if it says nothing."""
        summary = read_json(self.path / "summary.json")
        return summary if isinstance(summary, dict) else {}

    @property
    def content(self) -> str:
        """The digest of all its files: equal content means equal results."""
        return self.manifest["content"]

    def file(self, name: str) -> Path:
        """Return the path of a file of this run; raises StoreError if it has no such file."""
        if name not in self.manifest["files"]:
            has = ", ".join(sorted(self.manifest["files"]))
            raise StoreError(f"{self.name} has no file {name}; it has {has}")
        return self.path / name

    def json(self, name: str) -> Any:
        """Return the content of one of its JSON files."""
        return json.loads(self.file(name).read_text(encoding="utf-8"))


class Store:
    """A folder of runs; `root` is made when the first run is."""

    def __init__(self, root: Path) -> None:
        self.root = expanded(root)
        self._verified: dict[Path, tuple[int, int]] = {}

    # Finding runs

    def names(self) -> list[str]:
        """Return the names of all finished runs, oldest first."""
        folder = self.root / "runs"
        found = [path for path in folder.iterdir() if (path / MANIFEST).exists()] if folder.is_dir() else []
        return [path.name for path in sorted(found, key=lambda path: ((path / MANIFEST).stat().st_mtime_ns, path.name))]

    def aliases(self) -> dict[str, str]:
        """Return each alias with the run it names."""
        folder = self.root / "aliases"
        there = folder.iterdir() if folder.is_dir() else ()
        files = sorted(path for path in there if ALIAS.match(path.name) and path.is_file())
        return {path.name: path.read_text(encoding="utf-8", errors="replace").strip() for path in files}

    def resolve(self, name: str) -> str:
        """Return the run name that `name` (a run, an alias, or the unique beginning of a run's name) stands for."""
        if RUN_NAME.match(name):
            return name
        aliases = self.aliases()
        if name in aliases:
            if not RUN_NAME.match(aliases[name]):
                raise StoreError(
                    f"the alias '{name}' must name a run, and {self.root / 'aliases' / name} does not; give the alias "
                    "again with --as, or delete the file"
                )
            return aliases[name]
        names = self.names()
        matches = [run for run in names if run.startswith(name)] if name else []
        if len(matches) == 1:
            return matches[0]
        if len(matches) > 1:
            raise StoreError(f"'{name}' must name one run, and could be {', '.join(matches)}; give more of the name")
        known = [*aliases, *names]
        raise StoreError(
            f"there is no run or alias '{name}' in {self.root}.{nearest(name, known)} `mien ls` lists what is there"
        )

    def broken(self) -> list[str]:
        """Return the folders among the runs that have no manifest: what a hand, or a copy cut short, left there."""
        folder = self.root / "runs"
        there = folder.iterdir() if folder.is_dir() else ()
        return sorted(path.name for path in there if path.name[0] != "." and not (path / MANIFEST).exists())

    def done(self, name: str) -> bool:
        """Whether the run of this name (not an alias) is finished."""
        return (self.root / "runs" / name / MANIFEST).exists()

    def run(self, name: str) -> Run:
        """Return the finished run that `name` stands for, after checking its files against their sha256.

        Raises StoreError if there is none, or if a file was altered.
        """
        run = Run(self.resolve(name), self.root / "runs" / self.resolve(name))
        if not self.done(run.name):
            raise StoreError(
                f"{run.name} must be a finished run in {self.root}, and is not; run the command that makes it again"
            )
        faults = self.faults(run)
        if faults:
            raise StoreError(f"{run.name} was altered after it was made: {'; '.join(faults)}. {run.mend}")
        return run

    def altered(self, name: str) -> str:
        """Say what is wrong with the finished run of this name (not an alias), and what to do; nothing if all is well.

        A run that is not there has not been altered.
        """
        if not self.done(name):
            return ""
        try:
            self.run(name)
        except StoreError as error:
            return str(error)
        return ""

    def faults(self, run: Run, thorough: bool = False) -> list[str]:
        """Return what is wrong with a run's files, nothing if they are as they were made.

        A file found right before is read again only if its size or time changed, or if `thorough`; then what stands
        beside the result is read too.
        """
        try:
            files: dict[str, dict[str, Any]] = run.manifest["files"]
            content = run.content
        except StoreError:
            return [f"{MANIFEST} cannot be read"]
        faults = []
        for name, known in files.items():
            path = run.path / name
            if not path.is_file():
                faults.append(f"{name} is missing")
                continue
            state = path.stat()
            stamp = (state.st_mtime_ns, state.st_size)
            if not thorough and self._verified.get(path) == stamp:
                continue
            if sha256(path) != known["sha256"]:
                faults.append(f"{name} does not match its sha256")
            else:
                self._verified[path] = stamp
        present = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
        faults += [f"{name} is not one of its files" for name in sorted(present - set(files) - {MANIFEST, ABOUT})]
        if thorough and not run.about:
            faults.append(f"{ABOUT} cannot be read")
        if content != _content(files):
            faults.append(f"{MANIFEST} does not add up")
        return faults

    # Making runs

    def make(self, spec: Spec, build: Build, alias: str | None = None) -> Run:
        """Return the run of `spec`; `build` is called only if the run is not there yet.

        `build(out, scratch)` writes the files into `out`. What it keeps in `scratch` outlives a killed process, so that
        the next call can go on from there. The run's folder appears whole, by one rename, or not at all.
        """
        if alias is not None:
            require_alias(alias)
        while not self.done(spec.name):
            with suppress(Lost), self.claim(spec.name) as require_claim:
                if not self.done(spec.name):  # another process may have finished it while we waited
                    self._build(spec, build, require_claim)
        run = self.run(spec.name)
        if alias is not None:
            self.name(alias, run.name)
        return run

    def _build(self, spec: Spec, build: Build, require_claim: Callable[[], None]) -> None:
        work = self.root / "work" / spec.name
        require_claim()
        for old in work.glob("out-*"):
            shutil.rmtree(old, ignore_errors=True)
        out, scratch = work / f"out-{uuid.uuid4().hex}", self.scratch(spec.name)
        out.mkdir()
        try:
            self._fill(spec, build, out, scratch, require_claim)
        except Exception as error:
            if self.done(spec.name) or not out.is_dir():  # swept away by one that was asleep, and did not know it
                raise Lost(spec.name) from error
            raise
        shutil.rmtree(work, ignore_errors=True)

    def _fill(self, spec: Spec, build: Build, out: Path, scratch: Path, require_claim: Callable[[], None]) -> None:
        began = time.time()
        build(out, scratch)
        _write_json(out / "spec.json", {"stage": spec.stage, **spec.model_dump(mode="json")})
        files = {
            str(path.relative_to(out)): {"sha256": sha256(path, kept=True), "size": path.stat().st_size}
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        _write_json(out / ABOUT, about(time.time() - began))
        _write_json(out / MANIFEST, {"content": _content(files), "files": files})
        final = self.root / "runs" / spec.name
        final.parent.mkdir(exist_ok=True)
        require_claim()
        if final.exists() and not (final / MANIFEST).exists():  # left over by a copy that was cut short
            shutil.rmtree(final)
        try:
            out.rename(final)
        except OSError:
            if not self.done(spec.name):  # another process was faster: its run is as good as ours
                raise

    def scratch(self, name: str) -> Path:
        """Return the folder of what an unfinished run has so far, which outlives a killed process."""
        path = self.root / "work" / name / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def working(self, name: str) -> bool:
        """Whether a process seems to be making the run of this name just now."""
        claim = self.claimed(name)
        return bool(claim) and not _dead(claim)

    def claimed(self, name: str) -> str:
        """Return what the claim on a run says: its owner and heartbeat; nothing if nobody has claimed it."""
        try:
            return (self.root / "work" / f"{name}.claim").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def memo(self, key: str, measure: Callable[[], float]) -> float:
        """Return a number that was measured on this machine, measuring it only the first time.

        A budget in minutes becomes a number of images in this way: the same command finds the same number again.
        """
        path = self.root / "memo" / f"{key}.json"
        known = read_json(path)
        if isinstance(known, int | float):
            return float(known)
        self._folder("memo")
        value = measure()
        _write_json(path, value)
        return value

    def sweep(self) -> None:
        """Delete what a process that was killed at the last moment left behind of runs that are finished."""
        folder = self.root / "work"
        for path in folder.iterdir() if folder.is_dir() else ():
            run = path.name.partition(".")[0]
            if run and self.done(run) and not self.working(run):
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    # Names

    def name(self, alias: str, run: str) -> None:
        """Let `alias` stand for `run` from now on."""
        require_alias(alias)
        _write(self._folder("aliases") / alias, run + "\n")

    def remove(self, name: str) -> list[str]:
        """Delete a run and the aliases that name it, and return what was deleted.

        Raises StoreError if other runs were made from it.
        """
        run = self.resolve(name)
        specs = {other: read_json(self.root / "runs" / other / "spec.json") for other in self.names() if other != run}
        children = [other for other, spec in specs.items() if run in parents(spec)]
        if children:
            raise StoreError(f"{run} must not be the parent of other runs, and {', '.join(children)} came from it")
        gone = [alias for alias, target in self.aliases().items() if target == run]
        for alias in gone:
            (self.root / "aliases" / alias).unlink(missing_ok=True)
        for folder in ("runs", "work"):
            path = self.root / folder / run
            if path.exists():
                grave = path.with_name(f".{uuid.uuid4().hex}")
                path.rename(grave)
                shutil.rmtree(grave)
                gone.append(f"{folder}/{run}")
        return gone

    # Claims

    @contextmanager
    def claim(self, name: str) -> Iterator[Callable[[], None]]:
        """Be the only one to work on `name` inside, once nobody else is; yields what raises Lost if that has changed.

        A process that was asleep for so long that another took its place is asked to stop, and whatever goes wrong in
        it from then on is Lost.
        """
        path = self._folder("work") / f"{name}.claim"
        owner = f"{_machine()} {os.getpid()} {uuid.uuid4().hex}"
        pulse, told = Pulse(), False
        while not _create(path, f"{owner} 0"):
            now = self.claimed(name)
            if pulse.stopped(now):
                _break(path, now)
                continue
            if now and not told:
                who, pid = [*now.split(), "?", "?"][:2]
                say(f"{name} is being made by process {pid} on {who.partition('/')[0]}; waiting for it")
                told = True
            stopping.obey()
            time.sleep(0.2)
        lost, stop = Lost(name), threading.Event()

        def require_claim() -> None:
            if not self.claimed(name).startswith(owner):
                raise lost

        beat = threading.Thread(target=_beat, args=(path, owner, stop, lost), daemon=True)
        beat.start()
        try:
            yield require_claim
        except Exception:
            require_claim()
            raise
        finally:
            stop.set()
            beat.join()
            stopping.withdraw(lost)
            with suppress(OSError):
                if path.read_text(encoding="utf-8").startswith(owner):
                    path.unlink()

    def _folder(self, name: str) -> Path:
        path = self.root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"the store must be a folder that can be written; {path}: {error.strerror}") from None
        return path


def require_alias(alias: str) -> None:
    """Raise StoreError unless `alias` can name a run."""
    if not ALIAS.match(alias) or RUN_NAME.match(alias):
        raise StoreError(
            "an alias must be 1 to 80 letters, digits, '.', '_' or '-', begin with a letter or digit, and not look "
            f"like a run's own name; given: '{alias}'"
        )


class Pulse:
    """Whether the heart of a claim beats, by the clock of the process that watches it."""

    def __init__(self) -> None:
        self._seen: str | None = None
        self._since = 0.0

    def stopped(self, claim: str) -> bool:
        """Whether the claim, as it reads now, belongs to a process that is dead."""
        if claim != self._seen:
            self._seen, self._since = claim, time.monotonic()
        return _dead(claim) or time.monotonic() - self._since > DEAD_AFTER_S


def sha256(path: Path, kept: bool = False) -> str:
    """Return the sha256 of a file, 64 hexadecimal digits; `kept` waits until the disk has the file."""
    with path.open("rb") as file:
        if kept:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, None if there is no such file or it is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_error(path: Path) -> str:
    """Return the error that was noted in a JSON file, nothing if none was."""
    noted = read_json(path)
    return str(noted.get("error", "")) if isinstance(noted, dict) else ""


def about(seconds: float) -> dict[str, Any]:
    """Return what is written beside a result, and is no part of it: when, where, with what, and for how long."""
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 2),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": dict(_versions()),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for library in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions


@cache  # what runs is what was loaded, whatever becomes of the files; and git takes longer than a small run
def _commit() -> str:
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def _content(files: dict[str, dict[str, Any]]) -> str:
    text = "\n".join(f"{known['sha256']}  {name}" for name, known in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_json(path: Path, data: Any) -> None:
    _write(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def _create(path: Path, text: str) -> bool:
    """Create a file with this text, whole, unless there is one already."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return temporary.stat().st_nlink == 2  # over a network, the answer to a link that was made may be lost
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _beat(path: Path, owner: str, stop: threading.Event, lost: Lost) -> None:
    count = 0
    while not stop.wait(HEARTBEAT_S):
        count += 1
        with suppress(OSError):  # a full disk, or a file server that pauses, must not end the work
            if not path.read_text(encoding="utf-8").startswith(owner):
                stopping.ask(lost)
                return
            _write(path, f"{owner} {count}")


@cache
def _machine() -> str:
    """Return a name for all processes that this one can see: the host's, and a digest that tells containers apart."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{socket.gethostname()}/{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"


def _dead(claim: str) -> bool:
    """Whether the claim's process was on this machine and is gone."""
    host, _, rest = claim.partition(" ")
    pid = rest.partition(" ")[0]
    if host != _machine() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError, IndexError):  # one that was killed, and whose parent has not looked yet
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    return False


def _break(path: Path, claim: str) -> None:
    """Take a dead claim away, unless somebody else has just put a new one in its place."""
    grave = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(grave)
        if grave.read_text(encoding="utf-8") != claim:
            with suppress(FileExistsError):
                os.link(grave, path)
        grave.unlink()
