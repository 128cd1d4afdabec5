"""Write requirements.lock and its three companions from pyproject.toml: versions and hashes, no
addresses.

requirements.lock holds what running mien needs, and requirements-dev.lock what tests, documentation
and the extras need besides. Both come from one resolution, so that they fit together.

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


def compile_blocks(*options: str) -> list[str]:
    """Return the resolved requirements, one block (name, markers, hashes) an item."""
    command = ["uv", "pip", "compile", "pyproject.toml", *options, "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header"]
    done = subprocess.run(
        [*command, "--quiet"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return re.findall(r"^\S.*(?:\n .*)*", done.stdout, flags=re.MULTILINE)


def name_of(block: str) -> str:
    """Return the name of the package that a block pins."""
    return block.partition("==")[0]


def main() -> None:
    """Write the lock files."""
    blocks = compile_blocks("--all-extras")
    if any("://" in block for block in blocks):
        sys.exit("a requirement came with an address; lock files hold versions and hashes only")
    needed = {name_of(block) for block in compile_blocks()}
    parts = {
        "requirements.lock": [block for block in blocks if name_of(block) in needed],
        "requirements-dev.lock": [block for block in blocks if name_of(block) not in needed],
    }
    cuda = [block for block in blocks if CUDA.match(block)]
    note = "# Written by `make lock`; do not edit.\n"
    for name, part in parts.items():
        plain = [block for block in part if block not in cuda]
        (ROOT / name).write_text(note + "\n".join(plain) + "\n")
    (ROOT / "requirements-cuda.lock").write_text(note + "\n".join(cuda) + "\n")
    cpu = " \\\n".join(
        [f"torch=={CPU_BUILD}", *(f"    --hash=sha256:{digest}" for digest in CPU_HASHES)]
    )
    (ROOT / "requirements-cpu.lock").write_text(note + cpu + "\n")


if __name__ == "__main__":
    main()
