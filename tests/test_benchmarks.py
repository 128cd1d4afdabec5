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
