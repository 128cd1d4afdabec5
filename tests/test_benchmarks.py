"""Benchmarks run, and print ratios of sides that were measured in one process."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_training_benchmark_prints_a_row_of_ratios_for_each_network(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small = ["--size", "16", "--batch", "4", "--steps", "1", "--rounds", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["training.py", "--networks", "tiny", *small])
    runpy.run_path(str(BENCHMARKS / "training.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "1 rounds of 1 steps a side; medians" in printed
    (row,) = re.findall(r"\| tiny \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", printed)
    assert all(float(number) > 0 for number in row)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_benchmarks_of_generators_print_a_row_a_side_and_keep_what_they_drew(tmp_path: Path):
    def run(name: str, *arguments: str) -> str:
        command = [sys.executable, str(BENCHMARKS / name), str(tmp_path), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    short = ["--seconds", "2", "--images", "14"]
    sides = ["gaussian", "edm", "diffusers"]
    out = run("quality.py", *short, "--ancestral", "2", "--sides", *sides)
    assert [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][
        2:
    ] == sides
    assert (
        run("quality.py", *short, "--ancestral", "2", "--sides", "gaussian").splitlines()[-1] in out
    )
    out = run("sampling.py", *short, "--seeds", "2", "--long", "3", "--kinds", "edm")
    assert "| mien unipc | 10 | 10 |" in out and "over diffusers'" in out
    kept = json.loads(next(tmp_path.glob("sampling-edm-*.json")).read_text())
    assert len(kept["mien unipc 10"]["fd_test"]) == 2
    run("plots.py", str(tmp_path))
    assert (tmp_path / "quality-steps.png").stat().st_size > 10_000


def test_the_benchmark_of_presets_prints_a_row_of_figures_for_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small = ["--presets", "nano", "--batch", "2", "--steps", "1", "--calls", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["presets.py", *small])
    runpy.run_path(
        str(BENCHMARKS / "presets.py"), run_name="__main__"
    )  # which starts a process for each preset
    printed = capsys.readouterr().out
    numbers = r"([\d.,]+)(?: [MGBs]+)?"
    (row,) = re.findall(rf"\| nano \| {' [|] '.join([numbers] * 7)} \|  \|", printed)
    figures = [float(cell.replace(",", "")) for cell in row]
    assert figures[0] == 0.99 and figures[2] == 2 and all(figure > 0 for figure in figures)
    assert "no card here" in printed


@pytest.mark.slow
def test_the_benchmark_of_the_audit_prints_how_often_each_test_fires(tmp_path: Path):
    small = [
        "--images",
        "64",
        "--people",
        "8",
        "6",
        "--sets",
        "1",
        "--clean",
        "2",
        "--kinds",
        "exact",
    ]
    command = [sys.executable, str(BENCHMARKS / "audit_power.py"), str(tmp_path), *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "192 of 6 held out, 64 synthetic images" in done.stdout
    assert re.findall(r"\| exact \| (.*) \|", done.stdout) == ["0 | 0", "1 | 1 | 1 | 1 | 1"]
    assert (
        len(list(tmp_path.glob("8-6-64-*.json"))) == 2 + 1 + 3
    )  # 0.1, 0.3 and 1 % of 64 are one image


@pytest.mark.slow
def test_the_benchmark_of_the_audit_prints_what_each_part_takes_and_draws_it(tmp_path: Path):
    small = ["--images", "1000", "--workers", "0", "--plot", str(tmp_path / "plot.png")]
    command = [sys.executable, str(BENCHMARKS / "audit.py"), str(tmp_path / "bench"), *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = re.findall(r"\| 1,000 \| 1,000 \| (.*) \|", done.stdout)
    assert len(row.split(" | ")) == 9 and all(float(cell) > 0 for cell in row.split(" | "))
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_without_a_card_the_gpu_benchmark_says_what_it_would_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    if torch.cuda.is_available():
        pytest.skip("this machine has a card")
    before = (BENCHMARKS.parent / "docs" / "benchmarks.md").read_bytes()
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "nothing was measured" in printed and "in all at most 480 s" in printed
    assert len(re.findall(r"at most +\d+ s  [A-Z]", printed)) == 7
    assert (BENCHMARKS.parent / "docs" / "benchmarks.md").read_bytes() == before


def test_the_gpu_benchmark_keeps_the_error_of_a_section_and_replaces_only_its_tables(
    tmp_path: Path,
):
    program = runpy.run_path(str(BENCHMARKS / "gpu.py"))
    text = program["run_section"]("precision", "cuda:99", "small", 60.0)
    assert "This section failed" in text and "cuda:99" in text
    assert "was stopped after 0 s" in program["run_section"]("tests", "cpu", "small", 0.1)
    page = tmp_path / "page.md"
    page.write_text(f"before\n{program['BEGIN']}\nold\n{program['END']}\nafter\n")
    program["write_tables"](text, page)
    written = page.read_text()
    assert written.startswith("before\n") and written.endswith("after\n")
    assert text.strip() in written and "old" not in written
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="must contain the lines"):
        program["write_tables"](text, page)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_section_of_the_gpu_benchmark_runs_on_a_processor(tmp_path: Path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--device", "cpu", "--scale", "small"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "gpu.md").read_text()
    assert text.count("### ") == 7 and "failed" not in text
