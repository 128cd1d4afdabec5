"""What is being made now is known to other processes, which can ask its command to stop."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mien.errors import StoreError
from mien.runs.activity import Activity, list_activity, request_stop_of
from mien.runs.store import Store

RUN = "generate-0123456789ab"

WORK = """
import sys, time
from mien.runs import stopping
from mien.runs.progress import track
from mien.runs.store import Store

with stopping.defer_signals(), Store(sys.argv[1]).claim(sys.argv[2]), track("drawing", 10) as bar:
    bar.update(1)
    bar.update(4, "loss 0.5")
    while not stopping.stop_requested():
        time.sleep(0.05)
    print("saved its state", flush=True)
"""


def wait_for_progress(store: Store) -> Activity:
    """Return what is being made, as soon as it says how far it is."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for activity in list_activity(store):
            if activity.reached is not None:
                return activity
        time.sleep(0.1)
    raise AssertionError("no progress within a minute")


@pytest.mark.parametrize("ignored", [False, True])
def test_another_process_sees_the_progress_and_stops_the_work(tmp_path: Path, ignored: bool):
    """In the background, as after `&` in a script, a process ignores Ctrl-C."""
    store = Store(tmp_path / "store")
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, str(store.root), RUN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )
    activity = wait_for_progress(store)
    assert (activity.run, activity.pid, activity.is_here) == (RUN, process.pid, True)
    reached = activity.reached
    assert reached is not None
    assert (reached.label, reached.done, reached.total) == ("drawing", 4, 10)
    assert reached.note == "loss 0.5" and reached.seconds_left is not None

    assert request_stop_of(store, RUN).pid == process.pid
    assert "saved its state" in process.communicate(timeout=60)[0] and process.returncode != 0
    assert list_activity(store) == []
    with pytest.raises(StoreError, match="being made now, and is not"):
        request_stop_of(store, RUN)


def test_a_process_of_another_machine_is_shown_and_not_stopped(tmp_path: Path):
    store = Store(tmp_path / "store")
    (store.root / "work").mkdir(parents=True)
    claim = store.root / "work" / f"{RUN}.claim"
    claim.write_text("elsewhere/0a1b2c3d 77 0123 5\n{damaged", encoding="utf-8")
    (activity,) = list_activity(store)
    assert (activity.machine, activity.pid, activity.is_here) == ("elsewhere", 77, False)
    assert activity.reached is None
    with pytest.raises(StoreError, match="stop process 77 on that machine"):
        request_stop_of(store, RUN)
