"""Benchmarks run, and print ratios of sides that were measured in one process."""

import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_the_training_benchmark_prints_a_row_of_ratios_for_each_network():
    small = ["--size", "16", "--batch", "4", "--steps", "1", "--rounds", "1", "--device", "cpu"]
    command = [sys.executable, str(BENCHMARKS / "training.py"), "--networks", "tiny", *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 rounds of 1 steps a side; medians" in done.stdout
    (row,) = re.findall(r"\| tiny \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", done.stdout)
    assert all(float(number) > 0 for number in row)


def test_the_benchmark_of_presets_prints_a_row_of_figures_for_each():
    small = ["--presets", "nano", "--batch", "2", "--steps", "1", "--calls", "1", "--device", "cpu"]
    command = [sys.executable, str(BENCHMARKS / "presets.py"), *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    numbers = r"([\d.,]+)(?: [MGBs]+)?"
    (row,) = re.findall(rf"\| nano \| {' [|] '.join([numbers] * 7)} \|  \|", done.stdout)
    figures = [float(cell.replace(",", "")) for cell in row]
    assert figures[0] == 0.99 and figures[2] == 2 and all(figure > 0 for figure in figures)
    assert "no card here" in done.stdout
