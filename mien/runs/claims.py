"""Claims: one process at a time makes a run; a dead process loses its claim."""

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from mien.runs import stopping
from mien.runs.files import write_file
from mien.runs.progress import Reached, read_progress

HEARTBEAT_S = 2.0

# A claim counts as dead if its heartbeat has stopped for so long, by the clock of the watcher.
DEAD_AFTER_S = 60.0


class ClaimLost(BaseException):
    """Another process has taken over the run of this one, since its heartbeat had stopped."""


class HeartbeatWatch:
    """Whether the heartbeat of a claim goes on, by the clock of the process that watches it."""

    def __init__(self) -> None:
        self._seen: str | None = None
        self._since = 0.0

    def has_stopped(self, claim: str) -> bool:
        """Whether the claim, with its present text, belongs to a dead process."""
        if claim != self._seen:
            self._seen, self._since = claim, time.monotonic()
        return is_dead(claim) or time.monotonic() - self._since > DEAD_AFTER_S


def make_owner() -> str:
    """Return the beginning of a new claim of this process: machine, process and a random part."""
    return f"{name_machine()} {os.getpid()} {uuid.uuid4().hex}"


def create_claim(path: Path, text: str) -> bool:
    """Create a complete file with this text; return False if it exists or has no folder."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:
        # On a network, the link may have been made and only the answer lost.
        return temporary.stat().st_nlink == 2
    except FileNotFoundError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def renew_claim(path: Path, owner: str, stop: threading.Event, lost: ClaimLost) -> None:
    """Count the heartbeat of a claim until `stop`; ask the work to stop if the claim is lost.

    The claim also says how far the work has come.
    """
    count = 0
    while not stop.wait(HEARTBEAT_S):
        count += 1
        with suppress(OSError):  # a full disk or a slow file server must not end the work
            if not path.read_text(encoding="utf-8").startswith(owner):
                stopping.request_stop(lost)
                return
            write_file(path, f"{owner} {count}{_describe_progress()}")


def _describe_progress() -> str:
    """Return the line of a claim that says how far its process has come; empty if nobody knows."""
    reached = read_progress()
    return "" if reached is None else f"\n{json.dumps(asdict(reached))}"


def read_claimed_progress(claim: str) -> Reached | None:
    """Return how far the process of a claim has come, None if the claim does not say."""
    try:
        fields = json.loads(claim.partition("\n")[2])
        return Reached(**fields) if isinstance(fields, dict) else None
    except (ValueError, TypeError):
        return None


@cache
def name_machine() -> str:
    """Return a name for the processes that this one can see: host, and digest of container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return f"{socket.gethostname()}/{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:8]}"


def is_dead(claim: str) -> bool:
    """Whether the claim's process was on this machine and is gone."""
    host, _, after_host = claim.partition(" ")
    pid = after_host.partition(" ")[0]
    if host != name_machine() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    with suppress(OSError, IndexError):
        # A zombie was killed, and its parent has not read its exit code yet.
        stat_text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        return stat_text.rpartition(")")[2].split()[0] == "Z"
    return False


def remove_dead_claim(path: Path, claim: str) -> None:
    """Remove a dead claim, unless another process has just replaced it."""
    renamed = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(renamed)
        if renamed.read_text(encoding="utf-8") != claim:
            with suppress(FileExistsError):
                os.link(renamed, path)
        renamed.unlink()
