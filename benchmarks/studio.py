"""The studio at 1,000, 20,000 and 100,000 images: seconds to pages, memory, and its size."""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib import metadata
from pathlib import Path

import numpy as np

from mien.api import keep_faces
from mien.faces import Faces
from mien.runs.store import Store

SIZES = (1_000, 20_000, 100_000)

PACKAGES = ("fastapi", "starlette", "uvicorn", "python-multipart", "opentelemetry-api", "h11")

EMOTIONS_SHOWN = ("disgust", "happiness", "surprise", "others")

REPEATS = 5


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    print(f"packages of the extra: {measure_packages():.1f} MB")
    print("images | first page | gallery | order by subject | facts | sheet | memory")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(size, Path(folder) / "store"), flush=True)


def measure_packages() -> float:
    """Return how many MB the packages of the extra have on this disk."""
    total = 0
    for name in PACKAGES:
        files = metadata.distribution(name).files or []
        paths = [Path(str(file.locate())) for file in files]
        total += sum(path.stat().st_size for path in paths if path.is_file())
    return total / 1e6


def measure(size: int, folder: Path) -> str:
    """Return the row of a set of so many random images of 48 x 48 pixels."""
    # The set
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, 48, 48), dtype=np.uint8)
    labels = [EMOTIONS_SHOWN[number % 4] for number in range(size)]
    subjects = [str(number // 50) for number in range(size)]
    faces = Faces.from_arrays(images, labels, subjects=subjects, licence="cc0")
    run = keep_faces(faces, "faces", store=Store(folder)).run
    assert run is not None

    # The command, until the gallery has answered
    command = [sys.executable, "-m", "mien", "studio", "--no-open", "--port", "0"]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--store", str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    opener.open(address).read()
    first = time.perf_counter() - began

    # Its answers, and its memory
    base = address.partition("/?")[0]
    at = ",".join(str(place) for place in range(0, size, max(1, size // 240)))[:8000].rpartition(
        ","
    )[0]
    asked = (
        "/gallery?set=faces",
        "/gallery/order?set=faces&sort=subject",
        f"/gallery/facts?set=faces&at={at}",
        f"/sheet/{run.name}?at={at}",
    )
    seconds = [measure_answer(opener, base + place) for place in asked]
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+)", status)
    memory = int(found[1]) / 1024 if found else float("nan")
    process.kill()
    process.wait()
    times = " | ".join(f"{1000 * value:.0f} ms" for value in seconds)
    return f"{size:,} | {first:.1f} s | {times} | {memory:.0f} MB"


def measure_answer(opener: urllib.request.OpenerDirector, address: str) -> float:
    """Return the median seconds of an answer, after a first one."""
    opener.open(address).read()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        opener.open(address).read()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
