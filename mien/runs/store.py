"""The store: one folder of runs, each complete or absent, named by its spec.

    mien-store/
      runs/edm-1f0c.../   a finished run: its files, spec.json, about.json, and, written last,
                          manifest.json
      aliases/faces       a readable name: a file that holds the name of a run
      work/edm-1f0c.../   an unfinished run: its checkpoints; work/edm-1f0c....claim names the
                          process that makes it

Two processes that want the same run do not both make it: one claims it, the other waits and uses
the result. A claim carries a heartbeat. If the heartbeat stops, its process counts as dead, and the
next process resumes from the checkpoints. Heartbeats are counters, watched by the clock of the
process that waits: no two clocks are ever compared. A process that was only suspended finds its
claim lost and writes no run. Only renames and exclusive creation are used, which network file
systems also support.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from mien.errors import StoreError, UsageError
from mien.outside import describe_system_error, expand_home, is_disk_full, is_foreign
from mien.runs import stopping
from mien.runs.claims import (
    ClaimLost,
    HeartbeatWatch,
    create_claim,
    is_dead,
    make_owner,
    remove_dead_claim,
    renew_claim,
)
from mien.runs.files import hash_file, read_json, write_file, write_json_file
from mien.runs.progress import say
from mien.runs.spec import RUN_NAME, Spec, compute_digest, list_parents, suggest

RunSummary = Mapping[str, Any]
"""What a run holds: `holds`, a few words, `counts`, rows of a table, and further facts as JSON."""

Builder = Callable[[Path, Path], RunSummary | None]
"""A function that makes a run: it writes the files into the first folder, which is empty, keeps
checkpoints in the second, and returns the summary, if the run has one.
"""

ALIAS_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\Z")

ALIAS_FILE_BYTES = 200  # how much is read of the file of an alias, which holds the name of a run

# a run that is being deleted
DELETED_PATTERN = re.compile(r"\.((?P<run>[a-z][a-z0-9_]*-[0-9a-f]{12})\.)?[0-9a-f]{32}\Z")

# a file that is being written, next to its target
TEMPORARY_PATTERN = re.compile(r"\..+\.[0-9a-f]{32}\Z")

# A temporary file older than this belongs to a dead process, even if clocks differ.
STALE_S = 3600.0

MANIFEST, ABOUT, SPEC = "manifest.json", "about.json", "spec.json"

SUMMARY_FILE = "summary.json"

FOREIGN_ENTRY_FAULTS = ("is not one of its files", "is not one of its folders")

RECORD_KEYS = {"sha256", "size"}  # what the manifest records of each file

RECORDED_LIBRARIES = (
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


@dataclass(frozen=True)
class Run:
    """A finished run: `name` is `stage-digest`, `path` its folder."""

    name: str
    path: Path

    @property
    def stage(self) -> str:
        """The stage that made the run, such as `ingest` or `edm`."""
        return self.name.rsplit("-", 1)[0]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The spec of the run, as JSON; raises StoreError if it cannot be read."""
        spec = read_json(self.path / SPEC)
        if not isinstance(spec, dict):
            raise StoreError(
                f"{self.name} was altered after it was made: {SPEC} cannot be read. {self.advice}"
            )
        return spec

    @property
    def advice(self) -> str:
        """Advice on a run that was altered."""
        return f"Delete {self.path} and make it again with the command that made it"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """`files`, the sha256 and size of each file, and `content`, the digest of them all.

        Raises StoreError if the manifest cannot be read.
        """
        manifest = read_json(self.path / MANIFEST)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        records = list(files.values()) if isinstance(files, dict) else [None]
        if not all(isinstance(record, dict) and record.keys() >= RECORD_KEYS for record in records):
            raise StoreError(
                f"{self.name} was altered after it was made: {MANIFEST} cannot be read. "
                f"{self.advice}"
            )
        return {"content": manifest.get("content"), "files": files}

    @cached_property
    def about(self) -> dict[str, Any]:
        """When, where and with what the run was made; {} if that cannot be read.

        It is not a part of the result.
        """
        about = read_json(self.path / ABOUT)
        return about if isinstance(about, dict) else {}

    @property
    def seconds(self) -> float:
        """How long it took to make the run; 0 if that is not known."""
        seconds = self.about.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else 0.0

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary of the run: `holds`, a few words, and `counts`, rows of a table; else {}."""
        summary = read_json(self.path / SUMMARY_FILE)
        return summary if isinstance(summary, dict) else {}

    @property
    def content(self) -> str:
        """The digest of all its files: equal content means equal results."""
        return self.manifest["content"]

    def find_file(self, name: str) -> Path:
        """Return the path of a file of this run; raises StoreError if it has no such file."""
        if name not in self.manifest["files"]:
            files = ", ".join(sorted(self.manifest["files"]))
            raise StoreError(f"{self.name} must have the file {name}, and has only {files}")
        return self.path / name

    def read_json(self, name: str) -> Any:
        """Return the content of one of its JSON files."""
        return json.loads(self.find_file(name).read_text(encoding="utf-8"))


class Store:
    """A folder of runs; `root` is created with the first run.

    Raises StoreError if `root` is a file or is below one.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = expand_home(Path(root))
        _require_folder(self.root)
        self._verified: dict[Path, tuple[int, int]] = {}
        self._new: list[Path] = []  # folders that this process made

    # Finding runs

    def list_names(self) -> list[str]:
        """Return the names of all finished runs, oldest first."""
        runs = [path for path in self._list_entries("runs") if RUN_NAME.match(path.name)]
        finished_at = {
            path.name: time
            for path in runs
            if (time := _read_modified_ns(path / MANIFEST)) is not None
        }
        return sorted(finished_at, key=lambda name: (finished_at[name], name))

    def read_aliases(self) -> dict[str, str]:
        """Return the run of each alias; files that name no run are those of
        `find_broken_aliases`.
        """
        read = {path.name: _read_alias(path) for path in self._list_entries("aliases")}
        return {
            name: run
            for name, (run, fault) in read.items()
            if ALIAS_PATTERN.match(name) and not fault
        }

    def find_broken_aliases(self) -> dict[str, str]:
        """Return the entries among the aliases that are not valid, each with its fault."""
        paths = [
            path for path in self._list_entries("aliases") if not TEMPORARY_PATTERN.match(path.name)
        ]
        read = {path.name: _read_alias(path)[1] for path in paths}
        return {
            name: fault or "does not have the name of an alias"
            for name, fault in read.items()
            if fault or not ALIAS_PATTERN.match(name)
        }

    def resolve(self, name: str) -> str:
        """Return the name of the run that `name` means.

        `name` is a run, an alias, or the unique beginning of the name of a run.
        Raises StoreError if no run, or more than one, is meant.
        """
        # A run's own name or an alias.
        if RUN_NAME.match(name):
            return name
        aliases = self.read_aliases()
        if name in aliases:
            return aliases[name]
        fault = self.find_broken_aliases().get(name) if ALIAS_PATTERN.match(name) else None
        if fault:
            raise StoreError(
                f"the alias '{name}' must be a file with the name of a run, and "
                f"{self.root / 'aliases' / name} {fault}; delete it, and set the alias again with "
                "--as"
            )

        # The beginning of the name of a run.
        names = self.list_names()
        matches = [run for run in names if run.startswith(name)] if name else []
        if len(matches) == 1:
            return matches[0]
        if len(matches) > 1:
            raise StoreError(
                f"'{name}' must be the beginning of one run, and could be {', '.join(matches)}; "
                "give more of the name"
            )
        raise StoreError(self._explain_unknown(name))

    def _explain_unknown(self, name: str) -> str:
        """Return the message that there is no such run, with the nearest name."""
        near = suggest(name, [*self.read_aliases(), *self.list_names()])
        return f"there is no run or alias '{name}' in {self.root}.{near} `mien ls` lists all runs"

    def find_broken_runs(self) -> list[str]:
        """Return the entries of the runs folder that are not finished runs, such as partial copies.

        Files that operating systems and file servers leave in any folder are not included.
        """
        paths = self._list_entries("runs")
        return sorted(
            path.name
            for path in paths
            if not (RUN_NAME.match(path.name) and self.is_done(path.name))
        )

    def find_foreign_files(self) -> list[str]:
        """Return what operating systems and file servers have left in the store, relative to it.

        Such files are ignored everywhere.
        """
        paths = []
        for folder, folders, files in os.walk(self.root):
            relative = Path(folder).relative_to(self.root)
            paths += [str(relative / name) for name in (*folders, *files) if is_foreign(name)]
            folders[:] = [name for name in folders if not is_foreign(name)]
        return sorted(paths)

    def _list_entries(self, folder: str, pattern: re.Pattern[str] | None = None) -> list[Path]:
        """Return the entries of a folder of the store, sorted by name, without foreign files.

        With `pattern`, only those whose names match it.
        """
        path = self.root / folder
        if not path.is_dir():
            return []
        with os.scandir(path) as entries:  # a store has thousands of runs, and few match
            names = [
                entry.name for entry in entries if pattern is None or pattern.match(entry.name)
            ]
        return [path / name for name in sorted(names) if not is_foreign(name)]

    def is_done(self, name: str) -> bool:
        """Whether the run of this name (not an alias) is finished."""
        return (self.root / "runs" / name / MANIFEST).exists()

    def run(self, name: str) -> Run:
        """Return the finished run that `name` means, after checking its files against their sha256.

        Raises StoreError if there is no such run, or if one of its files was altered.
        """
        run = Run(self.resolve(name), self.root / "runs" / self.resolve(name))
        if not self.is_done(run.name):
            raise StoreError(
                f"{run.name} must be a finished run in {self.root}, and is not; run the command "
                "that makes it again"
            )
        faults = self.find_faults(run)
        if faults and all(fault.endswith(FOREIGN_ENTRY_FAULTS) for fault in faults):
            raise StoreError(
                f"{run.name} must hold its own files only: {'; '.join(faults)}. Move it out of "
                f"{run.path}"
            )
        if faults:
            raise StoreError(
                f"{run.name} was altered after it was made: {'; '.join(faults)}. {run.advice}"
            )
        return run

    def explain_alteration(self, name: str) -> str:
        """Return what is wrong with the finished run of this name (not an alias), and what to do.

        The text is empty if the run is as it was made, or does not exist.
        """
        if not self.is_done(name):
            return ""
        try:
            self.run(name)
        except StoreError as error:
            return str(error)
        return ""

    def find_faults(self, run: Run, thorough: bool = False) -> list[str]:
        """Return the faults of a run's files; none if they are as they were made.

        The files are compared with the manifest, and the spec with the digest in the run's name. A
        file that was correct before is read again only if its size or time changed, or if
        `thorough`; then about.json is checked too.
        """
        # Each file against the manifest.
        try:
            files: dict[str, dict[str, Any]] = run.manifest["files"]
            content = run.content
        except StoreError:
            return [f"{MANIFEST} cannot be read"]
        checked = [
            self._find_fault(run.path, name, record, thorough) for name, record in files.items()
        ]
        faults = [fault for fault in checked if fault]

        # Spec against name, folder against list of files, manifest against itself.
        if not any(fault.startswith(SPEC) for fault in faults) and not _matches_name(run):
            faults.append(f"{SPEC} is not the one that {run.name} is named by")
        faults += _find_strange_entries(run.path, set(files))
        if thorough and not run.about:
            faults.append(f"{ABOUT} cannot be read")
        if content != digest_content(files):
            faults.append(f"{MANIFEST} does not add up")
        return faults

    def _find_fault(self, folder: Path, name: str, record: dict[str, Any], thorough: bool) -> str:
        """Return the fault of a file of a run; empty if it matches its record."""
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            return f"{name}, in {MANIFEST}, is not a path in the run's own folder"
        if path.is_symlink():
            return f"{name} is a link"
        if not path.is_file():
            return f"{name} is missing"

        # Read the file, unless it was correct before and has not changed since.
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_size)
        if thorough or self._verified.get(path) != stamp:
            if hash_file(path) != record["sha256"]:
                return f"{name} does not match its sha256"
            self._verified[path] = stamp
        return (
            ""
            if state.st_size == record["size"]
            else f"{name} does not match its size in {MANIFEST}"
        )

    # Making runs

    def make(self, spec: Spec, build: Builder, alias: str | None = None) -> Run:
        """Return the run of `spec`; `build` is called only if the run does not exist yet.

        `build(out, scratch)` writes the files into `out`, and returns what is stored as
        summary.json, or None. The files that it keeps in `scratch` survive a killed process, so
        that the next call can resume from them. The run's folder appears complete, by one rename,
        or not at all.
        """
        if alias is not None:
            self._require_room_for(alias)
        parent_names = [
            name for name in list_parents(spec.model_dump(mode="json")) if self.is_done(name)
        ]

        # Build it under a claim; start over if the claim is lost.
        try:
            while not self.is_done(spec.name):
                with suppress(ClaimLost), self.claim(spec.name) as require_claim:
                    # Another process may have finished it while this one waited.
                    if not self.is_done(spec.name):
                        self._build(spec, build, require_claim, parent_names)
        except BaseException as error:
            self._forget_folders()
            if isinstance(error, OSError) and is_disk_full(error):
                raise StoreError(describe_system_error(error, self.root)) from error
            raise

        # Check it, name it, and tidy up.
        self._new.clear()
        run = self.run(spec.name)
        if alias is not None:
            self.set_alias(alias, run.name)
        self.remove_leftovers()
        return run

    def _build(
        self, spec: Spec, build: Builder, require_claim: Callable[[], None], parent_names: list[str]
    ) -> None:
        """Build a run in a new folder; on failure, keep only what helps to resume."""
        # An empty folder for the result; the outputs of dead processes go.
        work = self.root / "work" / spec.name
        require_claim()
        for old in work.glob("out-*"):
            shutil.rmtree(old, ignore_errors=True)
        out, scratch = work / f"out-{uuid.uuid4().hex}", self.make_scratch(spec.name)
        fresh = not any(scratch.iterdir())
        out.mkdir()

        # Note the parents before looking for them: `remove` reads the notes before it deletes.
        try:
            self.note_spec(spec)
            deleted = [name for name in parent_names if not self.is_done(name)]
            if deleted:
                raise StoreError(
                    f"{deleted[0]}, a parent of {spec.name}, must exist, and was deleted just now; "
                    "make it again"
                )
            self._fill(spec, build, out, scratch, require_claim)
        except BaseException as error:
            # If another process finished the run or deleted `out`, this one was suspended.
            overtaken = self.is_done(spec.name) or not out.is_dir()
            shutil.rmtree(out, ignore_errors=True)
            if isinstance(error, Exception) and overtaken:
                raise ClaimLost(spec.name) from error
            if fresh and _is_refusal(error):
                shutil.rmtree(scratch, ignore_errors=True)
            if not isinstance(error, ClaimLost):
                self.remove_useless_work(spec.name)
            raise
        shutil.rmtree(work, ignore_errors=True)

    def note_spec(self, spec: Spec) -> None:
        """Write the spec of an unfinished run to its work folder, so that no parent is deleted."""
        path = self.root / "work" / spec.name / SPEC
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"stage": spec.stage, **spec.model_dump(mode="json")}
        if read_json(path) != fields:
            write_json_file(path, fields)

    def remove_useless_work(self, name: str) -> None:
        """Delete the work folder of an unfinished run if nothing in it would help to resume."""
        work = self.root / "work" / name
        with suppress(OSError):
            (work / "scratch").rmdir()
        with suppress(OSError):
            if {path.name for path in work.iterdir()} <= {SPEC}:
                shutil.rmtree(work)

    def _fill(
        self,
        spec: Spec,
        build: Builder,
        out: Path,
        scratch: Path,
        require_claim: Callable[[], None],
    ) -> None:
        """Build into `out`, complete it with its spec and manifest, and move it among the runs."""
        began = time.time()
        summary = build(out, scratch)
        if summary is not None:
            text = json.dumps(summary, indent=spec.summary_indent)
            (out / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")

        # The manifest is written last, when the disk has all other files.
        write_json_file(out / SPEC, {"stage": spec.stage, **spec.model_dump(mode="json")})
        files = {
            str(path.relative_to(out)): {
                "sha256": hash_file(path, flush=True),
                "size": path.stat().st_size,
            }
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }
        write_json_file(out / ABOUT, describe_making(time.time() - began))
        write_json_file(out / MANIFEST, {"content": digest_content(files), "files": files})

        # One rename publishes the run; an interrupted copy of one in its place is deleted.
        final = self.root / "runs" / spec.name
        final.parent.mkdir(exist_ok=True)
        require_claim()
        if final.exists() and not (final / MANIFEST).exists():
            shutil.rmtree(final)
        try:
            out.rename(final)
        except OSError:
            if not self.is_done(spec.name):  # if it is done, another process was faster
                raise

    def make_scratch(self, name: str) -> Path:
        """Return the folder for the checkpoints of an unfinished run, which outlive the process."""
        path = self.root / "work" / name / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def is_being_made(self, name: str) -> bool:
        """Whether a process seems to be making the run of this name now."""
        claim = self.read_claim(name)
        return bool(claim) and not is_dead(claim)

    def read_claim(self, name: str) -> str:
        """Return the text of the claim on a run, owner and heartbeat; empty without one."""
        try:
            return (self.root / "work" / f"{name}.claim").read_text(
                encoding="utf-8", errors="replace"
            )
        except OSError:
            return ""

    def measure_once(self, key: str, measure: Callable[[], float]) -> float:
        """Return a number that is measured on this machine once, and read from then on.

        In this way a budget in minutes becomes a number of images that does not change when the
        command is run again.
        """
        path = self.root / "memo" / f"{key}.json"
        stored = read_json(path)
        if isinstance(stored, int | float):
            return float(stored)
        self._make_folder("memo")
        value = measure()
        write_json_file(path, value)
        return value

    def remove_leftovers(self) -> None:
        """Delete what dead processes left behind, except for what helps to resume.

        It deletes the work of finished runs, incomplete outputs (checkpoints stay), claims of dead
        processes, runs whose deletion was interrupted, and temporary files older than an hour. A
        finished run is claimed only for a moment, so a claim on it that no heartbeat has renewed
        for an hour is left over too, even if its text is damaged and names no process.
        """
        # Work of finished runs, dead claims, incomplete outputs.
        for path in self._list_entries("work"):
            run = path.name.partition(".")[0]
            with suppress(OSError):
                if DELETED_PATTERN.match(path.name) or (
                    run
                    and self.is_done(run)
                    and (not self.is_being_made(run) or self._has_stale_claim(run))
                ):
                    _delete(path)
                elif path.suffix == ".claim" and is_dead(claim := self.read_claim(path.stem)):
                    remove_dead_claim(path, claim)
                elif RUN_NAME.match(path.name) and any(path.glob("out-*")):
                    self._remove_unfinished_output(path)

        # Runs whose deletion was interrupted.
        for path in self._list_entries("runs", DELETED_PATTERN):
            with suppress(OSError):
                _delete(path)

        # Temporary files that nobody writes any more.
        for path in (
            path for folder in ("aliases", "memo", "work") for path in self._list_entries(folder)
        ):
            with suppress(OSError):
                if (
                    TEMPORARY_PATTERN.match(path.name)
                    and path.is_file()
                    and time.time() - path.stat().st_mtime > STALE_S
                ):
                    _delete(path)

    def _has_stale_claim(self, name: str) -> bool:
        """Whether nobody has renewed the claim on a run for an hour."""
        path = self.root / "work" / f"{name}.claim"
        return path.is_file() and time.time() - path.stat().st_mtime > STALE_S

    def _remove_unfinished_output(self, work: Path) -> None:
        """Delete the incomplete output of a dead process, under a claim of this one."""
        claim = work.with_name(f"{work.name}.claim")
        text = self.read_claim(work.name)
        if text and not is_dead(text):
            return
        if text:
            remove_dead_claim(claim, text)
        if create_claim(claim, f"{make_owner()} 0"):
            try:
                for out in work.glob("out-*"):
                    _delete(out)
                self.remove_useless_work(work.name)
            finally:
                claim.unlink(missing_ok=True)

    # Names

    def set_alias(self, alias: str, run: str, *, silent: bool = False) -> None:
        """Make `alias` name `run` from now on; say so if it named another run, unless `silent`."""
        self._require_room_for(alias)
        before = self.read_aliases().get(alias, run)
        if before != run and not silent:
            say(
                f"the alias {alias} named {before} and now names {run}; both runs stay in the store"
            )
        write_file(self._make_folder("aliases") / alias, run + "\n")

    def _require_room_for(self, alias: str) -> None:
        """Raise StoreError unless `alias` is valid and its path is not a folder."""
        require_alias(alias)
        path = self.root / "aliases" / alias
        if path.is_dir() and not path.is_symlink():
            raise StoreError(
                f"the alias '{alias}' must be a file, and {path} is a folder; delete it, or choose "
                "another"
            )

    # Deleting runs

    def remove(self, name: str) -> list[str]:
        """Delete a run, the unfinished runs begun from it and its aliases; return what is gone.

        If the process is killed at any moment, the same call completes the deletion: one rename
        hides the run before any of its files is deleted, and its aliases go last. If the run is a
        link, only the link is deleted.

        Raises StoreError if there is no such run, if it is being made, or if other runs were made,
        or are being made, from it.
        """
        # Refuse if anything depends on the run.
        run = self._resolve_for_removal(name)
        if self.is_being_made(run):
            raise StoreError(f"{run} must not be deleted while it is being made; stop that first")
        self._require_childless(run)

        # Hide it by one rename, and check again that no run was begun from it before that.
        path = self.root / "runs" / run
        removed_aliases = [alias for alias, target in self.read_aliases().items() if target == run]
        aliases = [self.root / "aliases" / alias for alias in removed_aliases]
        if path.is_symlink():
            path.unlink(missing_ok=True)
            removed_aliases.append(f"runs/{run}")
        elif path.exists():
            grave = path.with_name(f".{run}.{uuid.uuid4().hex}")
            with suppress(FileNotFoundError):  # another process was faster
                path.rename(grave)
                try:
                    self._require_childless(run)
                except StoreError:
                    grave.rename(path)
                    raise

        # Delete the hidden run, what was begun from it, and last the aliases.
        for grave in self._find_deleted(run):
            _delete(grave)
            removed_aliases.append(f"runs/{run}")
        removed_aliases += self._remove_work(run)
        for alias in aliases:
            alias.unlink(missing_ok=True)
        self.remove_leftovers()
        return list(dict.fromkeys(removed_aliases))

    def _resolve_for_removal(self, name: str) -> str:
        """Return the name of the run to delete, also if only parts of it are left.

        Raises StoreError if there is no such run.
        """
        # Runs whose deletion was interrupted, and unfinished runs.
        incomplete = {
            match["run"]
            for path in self._list_entries("runs")
            if (match := DELETED_PATTERN.match(path.name)) and match["run"]
        }
        incomplete |= {
            path.name for path in self._list_entries("work") if RUN_NAME.match(path.name)
        }

        # The name may be the beginning of one of these too.
        try:
            run = self.resolve(name)
        except StoreError:
            matches = (
                [candidate for candidate in incomplete if candidate.startswith(name)]
                if name
                else []
            )
            if len(matches) != 1:
                raise
            run = matches[0]
        exists = (
            os.path.lexists(self.root / "runs" / run)
            or run in incomplete
            or run in self.read_aliases().values()
        )
        if not exists:
            raise StoreError(self._explain_unknown(run))
        return run

    def _find_deleted(self, run: str) -> list[Path]:
        """Return the hidden folders of a run that is being deleted."""
        return [
            path
            for path in self._list_entries("runs")
            if (match := DELETED_PATTERN.match(path.name)) and match["run"] == run
        ]

    def _require_childless(self, run: str) -> None:
        """Raise StoreError if other runs were made from a run, or are being made from it."""
        # Unfinished runs first: a run that is finished meanwhile moves to `runs`.
        making = [child for child in self._list_unfinished_children(run) if self._is_alive(child)]
        if making:
            raise StoreError(
                f"{run} must not be deleted while other runs are made from it, and "
                f"{', '.join(making)} is being made; wait for that, or stop it"
            )

        # Finished runs.
        specs = {
            run_name: read_json(self.root / "runs" / run_name / SPEC)
            for run_name in self.list_names()
            if run_name != run
        }
        children = [run_name for run_name, spec in specs.items() if run in list_parents(spec)]
        if children:
            raise StoreError(
                f"{run} must not have been used for other runs, and {', '.join(children)} was made "
                "from it; delete that first"
            )

    def _list_unfinished_children(self, run: str) -> list[str]:
        """Return the unfinished runs that are made from a run."""
        begun = [
            path.name
            for path in self._list_entries("work")
            if RUN_NAME.match(path.name) and path.name != run
        ]
        return [
            child
            for child in begun
            if run in list_parents(read_json(self.root / "work" / child / SPEC))
        ]

    def _is_alive(self, name: str) -> bool:
        """Whether a process is making a run, or a part of it, now."""
        claims = (path.stem for path in self._list_entries("work") if path.suffix == ".claim")
        return any(self.is_being_made(claim) for claim in claims if claim.partition(".")[0] == name)

    def _remove_work(self, run: str) -> list[str]:
        """Delete the work of a run and of those begun from it; return what was deleted."""
        deleted = []
        for name in (run, *self._list_unfinished_children(run)):
            for path in [
                path for path in self._list_entries("work") if path.name.partition(".")[0] == name
            ]:
                _delete(path)
                deleted.append(f"work/{path.name}")
        return deleted

    # Claims

    @contextmanager
    def claim(self, name: str) -> Iterator[Callable[[], None]]:
        """Hold the claim on `name` in this context; yields a check that raises Lost if it is lost.

        The call waits while another process holds the claim. If this process is suspended for so
        long that another takes the claim over, it is asked to stop, and any error in it from then
        on becomes Lost.
        """
        # Create the claim, as soon as nobody else has one that is alive.
        path, owner = self.root / "work" / f"{name}.claim", make_owner()
        pulse, reported = HeartbeatWatch(), False
        while not create_claim(self._make_folder("work") / path.name, f"{owner} 0"):
            text = self.read_claim(name)
            if pulse.has_stopped(text):
                remove_dead_claim(path, text)
                continue
            if text and not reported:
                machine, pid = [*text.split(), "?", "?"][:2]
                say(
                    f"{name} is being made by process {pid} on {machine.partition('/')[0]}; "
                    "waiting for it"
                )
                reported = True
            stopping.raise_if_asked()
            time.sleep(0.2)

        # A thread beats while the work is done.
        lost, stop = ClaimLost(name), threading.Event()

        def require_claim() -> None:
            if not self.read_claim(name).startswith(owner):
                raise lost

        beat = threading.Thread(target=renew_claim, args=(path, owner, stop, lost), daemon=True)
        beat.start()

        # Do the work; then remove the claim, if it is still this process's own.
        try:
            yield require_claim
        except Exception:
            require_claim()
            raise
        finally:
            stop.set()
            beat.join()
            stopping.withdraw_stop(lost)
            with suppress(OSError):
                if path.read_text(encoding="utf-8").startswith(owner):
                    path.unlink()

    def _make_folder(self, name: str) -> Path:
        """Return a folder of the store, which is created if need be."""
        path = self.root / name
        new = [folder for folder in (*reversed(path.parents), path) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                "the store must be a folder that can be written; "
                f"{describe_system_error(error, path)}"
            ) from None
        self._new += new
        return path

    def _forget_folders(self) -> None:
        """Delete the folders that this process made, if they are still empty."""
        for path in reversed(self._new):
            with suppress(OSError):
                path.rmdir()
        self._new.clear()


def _require_folder(root: Path) -> None:
    """Raise StoreError if a store is not a folder and cannot become one."""
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise StoreError(
                f"the store must be a folder, and {root} is not one; check --store and MIEN_STORE"
            )
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (
            describe_system_error(error, root) if isinstance(error, OSError) else f"{root}: {error}"
        )
        raise StoreError(f"the store must be a folder; {reason}") from None


def require_alias(alias: str) -> None:
    """Raise StoreError unless `alias` can name a run."""
    if not ALIAS_PATTERN.match(alias) or RUN_NAME.match(alias):
        raise StoreError(
            "an alias must be 1 to 80 letters, digits, '.', '_' or '-', begin with a letter or "
            f"digit, and not look like a run's own name; given: '{alias}'"
        )


def describe_making(seconds: float) -> dict[str, Any]:
    """Return the content of about.json: when, where, with what and how long a run was made."""
    return {
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 2),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "commit": _read_commit(),
        "versions": dict(_read_versions()),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


@cache
def _read_versions() -> dict[str, str]:
    versions = {}
    for library in RECORDED_LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return versions


# Read once: the code that runs is the code that was loaded, and git takes longer than a small run.
@cache
def _read_commit() -> str:
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return ""


def digest_content(files: dict[str, dict[str, Any]]) -> str:
    """Return the digest of all files of a run, from their records in the manifest."""
    text = "\n".join(f"{record['sha256']}  {name}" for name, record in sorted(files.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _read_alias(path: Path) -> tuple[str, str]:
    """Return the run that the file of an alias names, and its fault; one of the two is empty."""
    if path.is_symlink():
        return "", "is a link"
    if not path.is_file():
        return "", "is not a file"
    with path.open("rb") as file:
        text = file.read(ALIAS_FILE_BYTES + 1).decode("utf-8", errors="replace").strip()
    return (text, "") if RUN_NAME.match(text) else ("", "holds something else")


def _read_modified_ns(path: Path) -> int | None:
    """Return when a file was written last, in ns; None if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def _is_refusal(error: BaseException) -> bool:
    """Whether an error is a refusal of the input, so that none of the work is worth keeping."""
    return (
        isinstance(error, UsageError)
        and not isinstance(error, StoreError)
        and not is_disk_full(error)
    )


def _matches_name(run: Run) -> bool:
    """Whether a run's name is the digest of its spec."""
    spec = read_json(run.path / SPEC)
    return isinstance(spec, dict) and run.name == f"{spec.get('stage')}-{compute_digest(spec)}"


def _find_strange_entries(root: Path, files: set[str]) -> list[str]:
    """Return the faults for entries that do not belong in a run's folder, except foreign files."""
    own_files = files | {MANIFEST, ABOUT}
    own_folders = {str(folder) for name in own_files for folder in Path(name).parents}
    faults = []
    for folder, folders, names in os.walk(root):
        relative = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not is_foreign(name))
        for name in (*folders, *sorted(name for name in names if not is_foreign(name))):
            path, shown_path = relative / name, str(relative / name)
            if (root / path).is_symlink():
                faults += [] if shown_path in files else [f"{shown_path} is a link"]
            elif name in folders:
                faults += (
                    [] if shown_path in own_folders else [f"{shown_path} {FOREIGN_ENTRY_FAULTS[1]}"]
                )
            elif shown_path not in own_files:
                faults.append(f"{shown_path} {FOREIGN_ENTRY_FAULTS[0]}")
    return faults


def _delete(path: Path) -> None:
    """Delete a file, a folder or a link (not its target), also if another process does too."""
    for _ in range(20):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
        return
