"""Killed, stopped, interrupted, without room or with damaged files: the same command finishes, with
the same bytes.

A fault of each kind at a random moment; `make chaos SEED=1 COUNT=500` makes many, of studies too.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).parent / "chaos.py"
QUICK = (
    *(
        "worker_killed",
        "driver_killed",
        "all_killed",
        "two_drivers_one_killed",
        "interrupted",
        "interrupted_twice",
    ),
    *(
        "disk_full",
        "quota",
        "read_only",
        "unfinished_work_damaged",
        "finished_run_damaged",
        "asleep",
    ),
)


def unleash(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHAOS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_fault_of_each_kind_harms_nothing():
    done = unleash("--seed", "1", "--count", str(len(QUICK)), "--studies", "0", "--kinds", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["harmed"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_faults_of_a_study_harm_nothing():
    done = unleash("--seed", "2", "--count", "28", "--studies", "1")
    assert done.returncode == 0, done.stdout + done.stderr
