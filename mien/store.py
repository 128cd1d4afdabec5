"""The store: one folder of finished runs, each whole or absent, named by what it depends on.

    mien-store/
      runs/edm-1f0c.../       a finished run: its files, spec.json, about.json, and manifest.json, written last
      aliases/faces           readable names: a file that holds the name of a run
      work/edm-1f0c.../       what an unfinished run has so far (checkpoints), and who works on it

Two processes that want the same run do not both make it: one claims it, the other waits and takes
the result over. A claim carries a heartbeat; one that stands still belongs to a dead process, and
the next process goes on from its checkpoints. Heartbeats are counted, and watched by the clock of
the one who waits: no two clocks are ever compared. Who was only asleep finds its claim lost and
makes nothing. Only renames and exclusive creation are used, which network file systems have too.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import socket
import stat
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
from mien.errors import StoreError, UsageError
from mien.outside import expanded, foreign, no_room, read_text, told
from mien.progress import say
from mien.spec import RUN_NAME, Spec, digest_of, nearest, parents

Build = Callable[[Path, Path], None]
"""What makes a run: it writes its files into the first folder, which is empty, and keeps
checkpoints in the second.
"""

ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")
ALIAS_BYTES = 200  # the most that the file of an alias has: a run's name
GRAVE = re.compile(
    r"\.((?P<run>[a-z][a-z0-9_]*-[0-9a-f]{12})\.)?[0-9a-f]{32}\Z"
)  # what is being deleted
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\Z")  # a file that is being written, beside its place
# after which a file that is being written belongs to a dead process, whatever the clocks
STALE_S = 3600.0
MANIFEST, ABOUT, SPEC = "manifest.json", "about.json", "spec.json"
STRANGE = ("is not one of its files", "is not one of its folders")
KNOWN = {"sha256", "size"}  # of each file
HEARTBEAT_S = 2.0
DEAD_AFTER_S = (
    60.0  # a claim whose heartbeat stands still for this long, by the clock of the one who waits
)
LIBRARIES = (
    "mien",
    "torch",
    "numpy",
    "pandas",
    "timm",
    "opencv-python-headless",
    "pillow",
    "pyarrow",
    "scikit-learn",
)


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
        spec = read_json(self.path / SPEC)
        if not isinstance(spec, dict):
            raise StoreError(
                f"{self.name} was altered after it was made: {SPEC} cannot be read. {self.mend}"
            )
        return spec

    @property
    def mend(self) -> str:
        """What to do about a run that was altered."""
        return f"Delete {self.path} and make it again with the command that made it"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """The sha256 and size of each file, and `content`, the digest of them all; raises
        StoreError if unreadable.
        """
        manifest = read_json(self.path / MANIFEST)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        known = list(files.values()) if isinstance(files, dict) else [None]
        if not all(isinstance(each, dict) and each.keys() >= KNOWN for each in known):
            raise StoreError(
                f"{self.name} was altered after it was made: {MANIFEST} cannot be read. {self.mend}"
            )
        return {"content": manifest.get("content"), "files": files}

    @cached_property
    def about(self) -> dict[str, Any]:
        """When, where and with what it was made: beside the result and no part of it, so {} if it
        cannot be read.
        """
        about = read_json(self.path / ABOUT)
        return about if isinstance(about, dict) else {}

    @property
    def seconds(self) -> float:
        """How long its making took, 0 if that is not known."""
        taken = self.about.get("seconds")
        return float(taken) if isinstance(taken, int | float) else 0.0

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What it says of itself: `holds`, a few words, and `counts`, rows of a table; {} if it
        says nothing.
        """
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
    """A folder of runs; `root` is made when the first run is. Raises StoreError if it is a file, or
    lies below one.
    """

    def __init__(self, root: Path) -> None:
        self.root = expanded(root)
        _require_folder(self.root)
        self._verified: dict[Path, tuple[int, int]] = {}
        self._new: list[Path] = []  # folders that this process made

    # Finding runs

    def names(self) -> list[str]:
        """Return the names of all finished runs, oldest first."""
        runs = [path for path in self._entries("runs") if RUN_NAME.match(path.name)]
        made = {
            path.name: time for path in runs if (time := _modified(path / MANIFEST)) is not None
        }
        return sorted(made, key=lambda name: (made[name], name))

    def aliases(self) -> dict[str, str]:
        """Return each alias with the run it names; those that name none are `broken_aliases`."""
        read = {path.name: _alias(path) for path in self._entries("aliases")}
        return {name: run for name, (run, fault) in read.items() if ALIAS.match(name) and not fault}

    def broken_aliases(self) -> dict[str, str]:
        """Return what lies among the aliases and is none, with what is wrong with it."""
        there = [path for path in self._entries("aliases") if not TEMPORARY.match(path.name)]
        read = {path.name: _alias(path)[1] for path in there}
        return {
            name: fault or "has no alias's name"
            for name, fault in read.items()
            if fault or not ALIAS.match(name)
        }

    def resolve(self, name: str) -> str:
        """Return the run name that `name` (a run, an alias, or the unique beginning of a run's
        name) stands for.
        """
        if RUN_NAME.match(name):
            return name
        aliases = self.aliases()
        if name in aliases:
            return aliases[name]
        fault = self.broken_aliases().get(name) if ALIAS.match(name) else None
        if fault:
            raise StoreError(
                f"the alias '{name}' must be a file that names a run, and "
                f"{self.root / 'aliases' / name} {fault}; "
                "delete it, and give the alias again with --as"
            )
        names = self.names()
        matches = [run for run in names if run.startswith(name)] if name else []
        if len(matches) == 1:
            return matches[0]
        if len(matches) > 1:
            raise StoreError(
                f"'{name}' must name one run, and could be {', '.join(matches)}; give more of the "
                "name"
            )
        raise StoreError(self._unknown(name))

    def _unknown(self, name: str) -> str:
        """Say that there is no such run, and what is near."""
        near = nearest(name, [*self.aliases(), *self.names()])
        return (
            f"there is no run or alias '{name}' in {self.root}.{near} `mien ls` lists what is there"
        )

    def broken(self) -> list[str]:
        """Return what lies among the runs and is no finished run: what a hand, or a copy cut short,
        left there.

        What systems and file servers leave in any folder is not told.
        """
        there = self._entries("runs")
        return sorted(
            path.name for path in there if not (RUN_NAME.match(path.name) and self.done(path.name))
        )

    def foreign(self) -> list[str]:
        """Return what systems and file servers have left in the store, relative to it; it is passed
        over.
        """
        found = []
        for folder, folders, files in os.walk(self.root):
            here = Path(folder).relative_to(self.root)
            found += [str(here / name) for name in (*folders, *files) if foreign(name)]
            folders[:] = [name for name in folders if not foreign(name)]
        return sorted(found)

    def _entries(self, folder: str) -> list[Path]:
        """Return what lies in a folder of the store, in the order of names, without what systems
        leave there.
        """
        path = self.root / folder
        return (
            sorted(each for each in path.iterdir() if not foreign(each.name))
            if path.is_dir()
            else []
        )

    def done(self, name: str) -> bool:
        """Whether the run of this name (not an alias) is finished."""
        return (self.root / "runs" / name / MANIFEST).exists()

    def run(self, name: str) -> Run:
        """Return the finished run that `name` stands for, after checking its files against their
        sha256.

        Raises StoreError if there is none, or if a file was altered.
        """
        run = Run(self.resolve(name), self.root / "runs" / self.resolve(name))
        if not self.done(run.name):
            raise StoreError(
                f"{run.name} must be a finished run in {self.root}, and is not; run the command "
                "that makes it again"
            )
        faults = self.faults(run)
        if faults and all(fault.endswith(STRANGE) for fault in faults):
            raise StoreError(
                f"{run.name} must hold its own files only: {'; '.join(faults)}. Move it out of "
                f"{run.path}"
            )
        if faults:
            raise StoreError(
                f"{run.name} was altered after it was made: {'; '.join(faults)}. {run.mend}"
            )
        return run

    def altered(self, name: str) -> str:
        """Say what is wrong with the finished run of this name (not an alias), and what to do;
        nothing if all is well.

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

        That is held against the manifest, and the spec against the digest in the run's own name. A
        file found right before is read again only if its size or time changed, or if `thorough`;
        then what stands beside the result is read too.
        """
        try:
            files: dict[str, dict[str, Any]] = run.manifest["files"]
            content = run.content
        except StoreError:
            return [f"{MANIFEST} cannot be read"]
        checked = [self._fault(run.path, name, known, thorough) for name, known in files.items()]
        faults = [fault for fault in checked if fault]
        if not any(fault.startswith(SPEC) for fault in faults) and not _named_by(run):
            faults.append(f"{SPEC} is not the one that {run.name} is named by")
        faults += _strange(run.path, set(files))
        if thorough and not run.about:
            faults.append(f"{ABOUT} cannot be read")
        if content != _content(files):
            faults.append(f"{MANIFEST} does not add up")
        return faults

    def _fault(self, folder: Path, name: str, known: dict[str, Any], thorough: bool) -> str:
        """Return what is wrong with a file of a run, nothing if it is as the manifest says."""
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{name}, in {MANIFEST}, is no file of its own"
        if path.is_symlink():
            return f"{name} is a link"
        if not path.is_file():
            return f"{name} is missing"
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if thorough or self._verified.get(path) != stamp:
            if sha256(path) != known["sha256"]:
                return f"{name} does not match its sha256"
            self._verified[path] = stamp
        return (
            ""
            if state.st_size == known["size"]
            else f"{name} does not match its size in {MANIFEST}"
        )

    # Making runs

    def make(self, spec: Spec, build: Build, alias: str | None = None) -> Run:
        """Return the run of `spec`; `build` is called only if the run is not there yet.

        `build(out, scratch)` writes the files into `out`. What it keeps in `scratch` outlives a
        killed process, so that the next call can go on from there. The run's folder appears whole,
        by one rename, or not at all.
        """
        if alias is not None:
            self._require_room_for(alias)
        there = [name for name in parents(spec.model_dump(mode="json")) if self.done(name)]
        try:
            while not self.done(spec.name):
                with suppress(Lost), self.claim(spec.name) as require_claim:
                    if not self.done(
                        spec.name
                    ):  # another process may have finished it while we waited
                        self._build(spec, build, require_claim, there)
        except BaseException as error:
            self._forget_folders()
            if isinstance(error, OSError) and no_room(error):
                raise StoreError(told(error, self.root)) from error
            raise
        self._new.clear()
        run = self.run(spec.name)
        if alias is not None:
            self.name(alias, run.name)
        self.sweep()
        return run

    def _build(
        self, spec: Spec, build: Build, require_claim: Callable[[], None], there: list[str]
    ) -> None:
        work = self.root / "work" / spec.name
        require_claim()
        for old in work.glob("out-*"):
            shutil.rmtree(old, ignore_errors=True)
        out, scratch = work / f"out-{uuid.uuid4().hex}", self.scratch(spec.name)
        fresh = not any(scratch.iterdir())
        out.mkdir()
        try:
            self.note(spec)
            lost = [
                name for name in there if not self.done(name)
            ]  # `remove` looks at what is noted, and after it here
            if lost:
                raise StoreError(
                    f"{lost[0]}, which {spec.name} is made from, must be there, and was deleted "
                    "just now"
                )
            self._fill(spec, build, out, scratch, require_claim)
        except BaseException as error:
            gone = (
                self.done(spec.name) or not out.is_dir()
            )  # swept away by one that was asleep, and did not know it
            shutil.rmtree(out, ignore_errors=True)
            if isinstance(error, Exception) and gone:
                raise Lost(spec.name) from error
            if fresh and _refused(error):
                shutil.rmtree(scratch, ignore_errors=True)
            if not isinstance(error, Lost):
                self.tidy(spec.name)
            raise
        shutil.rmtree(work, ignore_errors=True)

    def note(self, spec: Spec) -> None:
        """Note beside the unfinished run what it is made from, so that this is not deleted
        meanwhile.
        """
        path = self.root / "work" / spec.name / SPEC
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"stage": spec.stage, **spec.model_dump(mode="json")}
        if read_json(path) != fields:
            _write_json(path, fields)

    def tidy(self, name: str) -> None:
        """Delete the work folder of an unfinished run if nothing in it would help to go on."""
        work = self.root / "work" / name
        with suppress(OSError):
            (work / "scratch").rmdir()
        with suppress(OSError):
            if {path.name for path in work.iterdir()} <= {SPEC}:
                shutil.rmtree(work)

    def _fill(
        self, spec: Spec, build: Build, out: Path, scratch: Path, require_claim: Callable[[], None]
    ) -> None:
        began = time.time()
        build(out, scratch)
        _write_json(out / SPEC, {"stage": spec.stage, **spec.model_dump(mode="json")})
        files = {
            str(path.relative_to(out)): {
                "sha256": sha256(path, kept=True),
                "size": path.stat().st_size,
            }
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        _write_json(out / ABOUT, about(time.time() - began))
        _write_json(out / MANIFEST, {"content": _content(files), "files": files})
        final = self.root / "runs" / spec.name
        final.parent.mkdir(exist_ok=True)
        require_claim()
        if (
            final.exists() and not (final / MANIFEST).exists()
        ):  # left over by a copy that was cut short
            shutil.rmtree(final)
        try:
            out.rename(final)
        except OSError:
            if not self.done(spec.name):  # another process was faster: its run is as good as ours
                raise

    def scratch(self, name: str) -> Path:
        """Return the folder of what an unfinished run has so far, which outlives a killed
        process.
        """
        path = self.root / "work" / name / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def working(self, name: str) -> bool:
        """Whether a process seems to be making the run of this name just now."""
        claim = self.claimed(name)
        return bool(claim) and not _dead(claim)

    def claimed(self, name: str) -> str:
        """Return what the claim on a run says: its owner and heartbeat; nothing if nobody has
        claimed it.
        """
        try:
            return (self.root / "work" / f"{name}.claim").read_text(
                encoding="utf-8", errors="replace"
            )
        except OSError:
            return ""

    def memo(self, key: str, measure: Callable[[], float]) -> float:
        """Return a number that was measured on this machine, measuring it only the first time.

        A budget in minutes becomes a number of images in this way: the same command finds the same
        number again.
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
        """Delete what processes that are dead left behind, and nothing that would help to go on.

        That is what belongs to finished runs, half of what was to become a run (checkpoints stay),
        claims of the dead, runs whose deletion was cut short, and files beside their places whose
        writing stopped an hour ago or more.
        """
        for path in self._entries("work"):
            run = path.name.partition(".")[0]
            with suppress(OSError):
                if GRAVE.match(path.name) or (run and self.done(run) and not self.working(run)):
                    _delete(path)
                elif path.suffix == ".claim" and _dead(claim := self.claimed(path.stem)):
                    _break(path, claim)
                elif RUN_NAME.match(path.name) and any(path.glob("out-*")):
                    self._sweep_unfinished(path)
        for path in self._entries("runs"):
            if GRAVE.match(path.name):
                with suppress(OSError):
                    _delete(path)
        for path in (
            path for folder in ("aliases", "memo", "work") for path in self._entries(folder)
        ):
            with suppress(OSError):
                if (
                    TEMPORARY.match(path.name)
                    and path.is_file()
                    and time.time() - path.stat().st_mtime > STALE_S
                ):
                    _delete(path)

    def _sweep_unfinished(self, work: Path) -> None:
        """Delete half a run that a dead process left, as its owner for that moment."""
        claim = work.with_name(f"{work.name}.claim")
        now = self.claimed(work.name)
        if now and not _dead(now):
            return
        if now:
            _break(claim, now)
        if _create(claim, f"{_owner()} 0"):
            try:
                for out in work.glob("out-*"):
                    _delete(out)
                self.tidy(work.name)
            finally:
                claim.unlink(missing_ok=True)

    # Names

    def name(self, alias: str, run: str) -> None:
        """Let `alias` stand for `run` from now on."""
        self._require_room_for(alias)
        _write(self._folder("aliases") / alias, run + "\n")

    def _require_room_for(self, alias: str) -> None:
        """Raise StoreError unless `alias` can name a run, and nothing but a file has its place."""
        require_alias(alias)
        path = self.root / "aliases" / alias
        if path.is_dir() and not path.is_symlink():
            raise StoreError(
                f"the alias '{alias}' must be a file, and {path} is a folder; delete it, or "
                "choose another"
            )

    # Deleting runs

    def remove(self, name: str) -> list[str]:
        """Delete a run, what unfinished runs made of it, and the aliases that name it; return what
        was deleted.

        Killed at any moment, the same call ends it. The run is out of sight by one rename, before
        anything of it is deleted, and its aliases go last. A run that is a link is taken away, and
        what it leads to stays.

        Raises StoreError if there is none, if it is being made, or if other runs were, or just now
        are, made from it.
        """
        run = self._resolve_for_removal(name)
        if self.working(run):
            raise StoreError(f"{run} must not be deleted while it is being made; stop that first")
        self._require_childless(run)
        place = self.root / "runs" / run
        gone = [alias for alias, target in self.aliases().items() if target == run]
        aliases = [self.root / "aliases" / alias for alias in gone]
        if place.is_symlink():
            place.unlink(missing_ok=True)
            gone.append(f"runs/{run}")
        elif place.exists():
            grave = place.with_name(f".{run}.{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # another process was faster
                place.rename(grave)
                try:
                    self._require_childless(run)  # of one that was begun before the rename
                except StoreError:
                    grave.rename(place)
                    raise
        for grave in self._graves(run):
            _delete(grave)
            gone.append(f"runs/{run}")
        gone += self._remove_work(run)
        for alias in aliases:
            alias.unlink(missing_ok=True)
        self.sweep()
        return list(dict.fromkeys(gone))

    def _resolve_for_removal(self, name: str) -> str:
        """Return the run that is to be deleted, also where a deletion was cut short; raises
        StoreError if none is.
        """
        halves = {
            match["run"]
            for path in self._entries("runs")
            if (match := GRAVE.match(path.name)) and match["run"]
        }
        halves |= {path.name for path in self._entries("work") if RUN_NAME.match(path.name)}
        try:
            run = self.resolve(name)
        except StoreError:
            begun = [half for half in halves if half.startswith(name)] if name else []
            if len(begun) != 1:
                raise
            run = begun[0]
        there = (
            os.path.lexists(self.root / "runs" / run)
            or run in halves
            or run in self.aliases().values()
        )
        if not there:
            raise StoreError(self._unknown(run))
        return run

    def _graves(self, run: str) -> list[Path]:
        """Return what is left of a run that is being deleted."""
        return [
            path
            for path in self._entries("runs")
            if (match := GRAVE.match(path.name)) and match["run"] == run
        ]

    def _require_childless(self, run: str) -> None:
        """Raise StoreError if other runs were made from a run, or just now are."""
        making = [
            child for child in self._begun(run) if self._alive(child)
        ]  # first: what is done moves to `runs`
        if making:
            raise StoreError(
                f"{run} must not be deleted while other runs are made from it, and "
                f"{', '.join(making)} is being made; "
                "wait for that, or stop it"
            )
        specs = {
            other: read_json(self.root / "runs" / other / SPEC)
            for other in self.names()
            if other != run
        }
        children = [other for other, spec in specs.items() if run in parents(spec)]
        if children:
            raise StoreError(
                f"{run} must not be the parent of other runs, and {', '.join(children)} came from "
                "it"
            )

    def _begun(self, run: str) -> list[str]:
        """Return the unfinished runs that are made from a run."""
        begun = [
            path.name
            for path in self._entries("work")
            if RUN_NAME.match(path.name) and path.name != run
        ]
        return [
            child for child in begun if run in parents(read_json(self.root / "work" / child / SPEC))
        ]

    def _alive(self, name: str) -> bool:
        """Whether a process is making a run, or a part of it, just now."""
        claims = (path.stem for path in self._entries("work") if path.suffix == ".claim")
        return any(self.working(claim) for claim in claims if claim.partition(".")[0] == name)

    def _remove_work(self, run: str) -> list[str]:
        """Delete what is unfinished of a run, and of those that were begun from it; return what was
        deleted.
        """
        gone = []
        for name in (run, *self._begun(run)):
            for path in [
                path for path in self._entries("work") if path.name.partition(".")[0] == name
            ]:
                _delete(path)
                gone.append(f"work/{path.name}")
        return gone

    # Claims

    @contextmanager
    def claim(self, name: str) -> Iterator[Callable[[], None]]:
        """Be the only one to work on `name` inside, once nobody else is; yields what raises Lost if
        that has changed.

        A process that was asleep for so long that another took its place is asked to stop, and
        whatever goes wrong in it from then on is Lost.
        """
        path, owner = self.root / "work" / f"{name}.claim", _owner()
        pulse, said = Pulse(), False
        while not _create(self._folder("work") / path.name, f"{owner} 0"):
            now = self.claimed(name)
            if pulse.stopped(now):
                _break(path, now)
                continue
            if now and not said:
                who, pid = [*now.split(), "?", "?"][:2]
                say(
                    f"{name} is being made by process {pid} on {who.partition('/')[0]}; waiting "
                    "for it"
                )
                said = True
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
        new = [each for each in (*reversed(path.parents), path) if not each.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"the store must be a folder that can be written; {told(error, path)}"
            ) from None
        self._new += new
        return path

    def _forget_folders(self) -> None:
        """Delete the folders that this process made, as far as they are still empty."""
        for path in reversed(self._new):
            with suppress(OSError):
                path.rmdir()
        self._new.clear()


def _require_folder(root: Path) -> None:
    """Raise StoreError if a store is no folder and cannot become one, since a file is there or in
    its path.
    """
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise StoreError(
                f"the store must be a folder, and {root} is not one; check --store and MIEN_STORE"
            )
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = told(error, root) if isinstance(error, OSError) else f"{root}: {error}"
        raise StoreError(f"the store must be a folder; {reason}") from None


def require_alias(alias: str) -> None:
    """Raise StoreError unless `alias` can name a run."""
    if not ALIAS.match(alias) or RUN_NAME.match(alias):
        raise StoreError(
            "an alias must be 1 to 80 letters, digits, '.', '_' or '-', begin with a letter or "
            "digit, and not look "
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
    """Return the sha256 of a file, 64 hexadecimal digits; `kept` waits until the disk has the
    file.
    """
    with path.open("rb") as file:
        if kept:
            os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, None if there is no such file or it is no JSON."""
    try:
        return json.loads(read_text(path))
    except (UsageError, ValueError, RecursionError):
        return None


def read_error(path: Path) -> str:
    """Return the error that was noted in a JSON file, nothing if none was."""
    noted = read_json(path)
    return str(noted.get("error", "")) if isinstance(noted, dict) else ""


def about(seconds: float) -> dict[str, Any]:
    """Return what is written beside a result, and is no part of it: when, where, with what, and for
    how long.
    """
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


# what runs is what was loaded, whatever becomes of the files; and git takes longer than a small run
@cache
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


def _alias(path: Path) -> tuple[str, str]:
    """Return the run that the file of an alias names, and what is wrong with it; one of the two is
    empty.
    """
    if path.is_symlink():
        return "", "is a link"
    if not path.is_file():
        return "", "is no file"
    with path.open("rb") as file:
        text = file.read(ALIAS_BYTES + 1).decode("utf-8", errors="replace").strip()
    return (text, "") if RUN_NAME.match(text) else ("", "holds something else")


def _modified(path: Path) -> int | None:
    """Return when a file was written last, None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _refused(error: BaseException) -> bool:
    """Whether an error says that the input will not do, so that nothing of the work is worth
    keeping.
    """
    return (
        isinstance(error, UsageError) and not isinstance(error, StoreError) and not no_room(error)
    )


def _named_by(run: Run) -> bool:
    """Whether a run's spec is the one that its name is a digest of."""
    spec = read_json(run.path / SPEC)
    return isinstance(spec, dict) and run.name == f"{spec.get('stage')}-{digest_of(spec)}"


def _strange(root: Path, files: set[str]) -> list[str]:
    """Return what lies in a run's folder and does not belong there; what systems leave anywhere is
    passed over.
    """
    ours = files | {MANIFEST, ABOUT}
    homes = {str(home) for name in ours for home in Path(name).parents}
    faults = []
    for folder, folders, names in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not foreign(name))
        for name in (*folders, *sorted(name for name in names if not foreign(name))):
            path, shown = here / name, str(here / name)
            if (root / path).is_symlink():
                faults += [] if shown in files else [f"{shown} is a link"]
            elif name in folders:
                faults += [] if shown in homes else [f"{shown} {STRANGE[1]}"]
            elif shown not in ours:
                faults.append(f"{shown} {STRANGE[0]}")
    return faults


def _delete(path: Path) -> None:
    """Delete a file or a folder, also while another process deletes it; a link is deleted, not what
    it leads to.
    """
    for _ in range(20):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        return


def _owner() -> str:
    """Return what a new claim of this process begins with."""
    return f"{_machine()} {os.getpid()} {uuid.uuid4().hex}"


def _create(path: Path, text: str) -> bool:
    """Create a file with this text, whole, unless there is one already, or its folder was taken
    away.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        return (
            temporary.stat().st_nlink == 2
        )  # over a network, the answer to a link that was made may be lost
    except FileNotFoundError:
        return False
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
    """Return a name for all processes that this one can see: the host's, and a digest that tells
    containers apart.
    """
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
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            == "Z"
        )
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
