"""Write requirements.lock and its two companions from pyproject.toml: versions and hashes, no
addresses.

PyPI's torch for Linux wants some gigabytes of CUDA packages, which a machine without an NVIDIA card
has no use for. They stand in requirements-cuda.lock, and `make setup` installs it only beside a
torch that was built for CUDA. Where there is no such card and pip finds torch's CPU build (by its
`find-links`, say), requirements-cpu.lock is taken.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")
CPU_BUILD = "2.13.0+cpu"
# CPython 3.11, Linux x86_64
CPU_HASHES = ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)


def compiled() -> list[str]:
    """Return the resolved requirements, one block (name, markers, hashes) an item."""
    command = [
        "uv",
        "pip",
        "compile",
        "pyproject.toml",
        "--all-extras",
        "--universal",
        "--python-version",
        "3.11",
    ]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\S.*(?:\n .*)*", text, flags=re.MULTILINE)


def main() -> None:
    """Write the lock files."""
    blocks = compiled()
    if any("://" in block for block in blocks):
        sys.exit("a requirement came with an address; lock files hold versions and hashes only")
    plain = [block for block in blocks if not CUDA.match(block)]
    cuda = [block for block in blocks if CUDA.match(block)]
    note = "# Written by `make lock`; do not edit.\n"
    (ROOT / "requirements.lock").write_text(note + "\n".join(plain) + "\n")
    (ROOT / "requirements-cuda.lock").write_text(note + "\n".join(cuda) + "\n")
    cpu = " \\\n".join(
        [f"torch=={CPU_BUILD}", *(f"    --hash=sha256:{digest}" for digest in CPU_HASHES)]
    )
    (ROOT / "requirements-cpu.lock").write_text(note + cpu + "\n")


if __name__ == "__main__":
    main()
