"""`mien doctor`: what this machine has, what would fail, and what to do about it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from worlds import inside

from mien.cli import doctor
from mien.runs import machine


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `mien doctor` finds on this machine."""
    return doctor.examine(tmp_path_factory.mktemp("place") / "store")


def levels(facts: dict[str, Any], **changes: Any) -> dict[str, str]:
    """The level of each problem that these facts have and the facts of this machine have not."""
    before = doctor.find_problems(facts)
    found = [one for one in doctor.find_problems({**facts, **changes}) if one not in before]
    for one in found:
        assert one.what and one.consequence and one.remedy
    return {one.what: one.level for one in found}


def test_a_machine_that_runs_the_tests_has_nothing_that_would_fail(
    facts: dict[str, Any], tmp_path: Path
):
    assert [one for one in doctor.find_problems(facts) if one.level == "fail"] == []
    text = inside(tmp_path, "doctor")
    assert "torch 2" in text and text.endswith("nothing would fail\n")
    assert not (tmp_path / "store").exists()
    answer = json.loads(inside(tmp_path, "doctor", "--json"))
    assert set(answer) == {*facts, "problems"}
    assert answer["memory"]["free"] > 0 and answer["cores"] >= 1


def test_a_store_that_cannot_be_a_folder_would_fail(tmp_path: Path):
    (tmp_path / "file").write_text("")
    text = inside(tmp_path, "doctor", "--store", "file/store", code=2)
    assert "file is a file. No run can be made. Name another folder by --store" in " ".join(
        text.split()
    )
    assert "mien: something would fail on this machine" in text


def test_packages_that_are_missing_or_too_old_are_named_with_what_installs_them():
    found = machine.list_packages(["no-such-package>=1", "numpy<1", "pillow>=1"])
    assert [one.fault for one in found] == ["not installed", f"version {found[1].version}", ""]
    faults = {"torch": "", "timm": ""}
    problems = list(doctor._check_packages(found, faults))
    assert [one.level for one in problems] == ["fail", "fail"]
    assert problems[0].remedy == "pip install 'no-such-package>=1'"


def test_an_extra_that_is_missing_is_a_note_with_the_line_that_installs_it(facts: dict[str, Any]):
    packages = [
        {**one, "fault": "not installed", "version": ""} if one["extra"] == "ray" else one
        for one in facts["packages"]
    ]
    assert any(one["extra"] == "ray" for one in packages)
    changed = {**facts, "packages": packages}
    (problem,) = [one for one in doctor.find_problems(changed) if "extra ray" in one.what]
    assert problem.level == "note" and "pip install 'mien[ray]'" in problem.remedy


def test_little_memory_and_little_disk_are_warnings_and_less_would_fail(facts: dict[str, Any]):
    def disk(free: float) -> dict[str, Any]:
        return {"store": {"path": "store", "free": int(free), "fault": ""}}

    total = facts["memory"]["total"]
    assert list(levels(facts, memory={"total": total, "free": 3 * 10**9}).values()) == ["warning"]
    assert list(levels(facts, memory={"total": total, "free": 10**9}).values()) == ["fail"]
    assert list(levels(facts, disks=disk(3e9)).values()) == ["warning"]
    assert list(levels(facts, disks=disk(3e8)).values()) == ["fail"]


def test_a_gpu_that_torch_does_not_use_is_a_warning(facts: dict[str, Any]):
    found = levels(facts, cards=[], cards_unused=["NVIDIA H100"])
    assert found == {"torch does not use the GPU that is here (NVIDIA H100)": "warning"}


def test_the_limits_of_a_container_count(tmp_path: Path, facts: dict[str, Any]):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.current").write_text("700000000\n")
    (tmp_path / "memory.stat").write_text("anon 500000000\ninactive_file 200000000\n")
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 8000000 kB\nMemAvailable: 4000000 kB\n")
    assert machine.count_allowed_cores(tmp_path) == 0.5
    assert machine.read_memory(table, tmp_path) == machine.Memory(10**9, 5 * 10**8)
    assert machine.read_memory(table, tmp_path / "none") == machine.Memory(
        8_192_000_000, 4096 * 10**6
    )
    assert machine.read_memory(tmp_path / "none", tmp_path / "none") == machine.Memory(None, None)
    (what,) = levels(facts, cores=8, cores_allowed=2.0)
    assert what == "This container may keep 2 of 8 cores busy"


def test_a_torch_that_cannot_be_loaded_is_reported_and_is_no_traceback(tmp_path: Path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is missing')\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "mien", "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "torch cannot be loaded: ImportError: libtorch.so is missing" in done.stdout
    told = " ".join(done.stdout.split())
    assert "pip install --force-reinstall torch torchvision timm" in told
