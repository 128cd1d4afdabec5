"""mien builds synthetic facial-expression databases and measures their worth.

From Python, `import mien` offers the nouns and the stages below. They are loaded when they are
first used, so that `import mien` is quick and loads neither torch nor pandas. The packages of mien
have names of their own (`mien.audit`, `mien.study`), so a function is called by a verb and what it
works on (`mien.audit_faces`, `mien.run_study`).
"""

import importlib
import os
from typing import Any

# Threads that wait for each other sleep; by default OpenMP lets them spin. On cores that other work
# uses too, spinning made a training take three times as long. The variable is read when torch is
# loaded, so it is set before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

_PLACES = {
    "EMOTIONS": "mien.faces",
    "Faces": "mien.faces",
    "MienError": "mien.errors",
    "Run": "mien.runs.store",
    "Store": "mien.runs.store",
    **dict.fromkeys(
        (
            "Advice",
            "Audit",
            "Leakage",
            "StoredFaces",
            "Study",
            "ask_advice",
            "audit_faces",
            "distill",
            "draw_toy",
            "export_faces",
            "filter_faces",
            "find_leakage",
            "generate_faces",
            "ingest_folder",
            "keep_faces",
            "load_faces",
            "open_store",
            "preprocess_faces",
            "run_study",
            "split_faces",
            "train_generator",
            "write_report",
        ),
        "mien.api",
    ),
}

__all__ = sorted([*_PLACES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Return a public name, loaded from its module when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'mien' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, and those of the packages that are loaded."""
    return sorted({*globals(), *_PLACES})
