"""Write requirements.lock and requirements-cuda.lock from pyproject.toml: versions and hashes, no addresses.

PyPI's torch for Linux wants some gigabytes of CUDA packages, which a machine without an NVIDIA card has no use for.
They stand in a file of their own, and `make setup` installs it only beside a torch that was built for CUDA. Where pip
finds torch's CPU build (its `find-links`, say), that one is taken: its hashes are admitted below.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
CUDA = re.compile(r"^(nvidia-|cuda-|triton==)")
CPU_BUILDS = (  # sha256 of torch's own CPU wheels
    "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # torch 2.13.0+cpu, CPython 3.11, Linux x86_64
)


def compiled() -> list[str]:
    """Return the resolved requirements, one block (name, markers, hashes) an item."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\S.*(?:\n .*)*", text, flags=re.MULTILINE)


def main() -> None:
    """Write both lock files."""
    blocks = compiled()
    if any("://" in block for block in blocks):
        sys.exit("a requirement came with an address; lock files hold versions and hashes only")
    extra = "".join(f" \\\n    --hash=sha256:{digest}" for digest in CPU_BUILDS)
    plain = [block + extra if block.startswith("torch==") else block for block in blocks if not CUDA.match(block)]
    cuda = [block for block in blocks if CUDA.match(block)]
    note = "# Written by `make lock`; do not edit.\n"
    (ROOT / "requirements.lock").write_text(note + "\n".join(plain) + "\n")
    (ROOT / "requirements-cuda.lock").write_text(note + "\n".join(cuda) + "\n")


if __name__ == "__main__":
    main()
