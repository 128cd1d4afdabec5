"""A small world to publish from: faces nobody has, a generator, a database, an audit, and
answers.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mien.audit.specs import AuditSpec
from mien.errors import UsageError
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.specs import CopycatSpec, GaussianSpec
from mien.generators.train import train_generator
from mien.ingest.run import run_ingest
from mien.publish.release import build, write_checksums
from mien.runs.store import Run, Store

CLASSES = ("disgust", "fear", "happiness")
CHECK = {
    "name": "memorisation.copied.pixels",
    "family": "memorisation",
    "verdict": "pass",
    "value": 0.012,
    "low": 0.0,
    "high": 0.03,
    "n": 24,
    "threshold": 0.05,
    "reason": "what held-out people reach",
    "part": "",
}
PAGE = "<html><body><h1>Audit</h1><p>pass</p></body></html>\n"
GIVEN = {
    "name": '"drawn-faces"',
    "authors": '["Doe, Jane", "A Laboratory"]',
    "contact": '"data@example.org"',
    "url": '"https://example.org/drawn"',
    "date": '"2026-11-25"',
    "licence": '"cc-by-4.0"',
}
OPTIONAL = ("licence_name", "licence_text", "excluded", "paper")


@dataclass(frozen=True)
class World:
    """A store, the runs in it, and an answered dataset.toml."""

    root: Path
    store: Store
    real: Run
    made: Run

    @property
    def answers(self) -> Path:
        """The answered dataset.toml."""
        return self.root / "dataset.toml"


def world(root: Path, folder: str = "photos", **options: Any) -> World:
    """Return a world whose faces were ingested with `options` of the reader, and whose
    database was audited.
    """
    store = Store(root / "store")
    real = faces(root / folder, store, **options)
    generator = train_generator(GaussianSpec(faces=real.name), store)
    made = generate_database(
        order_database(generator, "disgust=7,fear=5,happiness=12", store), store
    )
    store.set_alias("made", made.name)
    audit(store, real, made)
    answer(root / "dataset.toml", store, made.name)
    return World(root, store, real, made)


def faces(folder: Path, store: Store, **options: Any) -> Run:
    """Return the run of a small set of pictures: four people, three expressions, ten pictures of
    each.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:16, 0:16] / 16
    for place, name in enumerate(CLASSES):
        for number in range(40):
            person = number % 4 + 1
            face = (
                120
                + 60 * np.sin(6 * x + person) * np.cos(5 * y + place)
                + rng.normal(0, 12, (16, 16))
            )
            path = folder / name / f"subj0{person}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(face.clip(0, 255).astype(np.uint8)).save(path)
    settings = {
        "size": 16,
        "subject_pattern": "(subj[0-9]+)_",
        "licence": "CC0 1.0",
        "name": "photos",
        **options,
    }
    return run_ingest(settings.pop("reader", "folder"), folder, store, workers=1, **settings)


def audit(
    store: Store, real: Run, made: Run, verdict: str = "pass", page: str = PAGE, test: str = "",
    train: Run | None = None, thresholds: dict[str, dict[str, Any]] | None = None, **told: Any,
) -> Run:  # fmt: skip
    """Return an audit of a database, as `mien audit` keeps it: audit.json, index.html and a picture
    of real faces.

    It is against the real faces, or against `train`.
    """

    def build(out: Path, scratch: Path) -> None:
        checks = [{**CHECK, "verdict": "fail" if verdict == "fail" else "pass"}]
        said = {
            "verdict": verdict,
            "synthetic": made.name,
            "content": made.content,
            "checks": checks,
            **told,
        }
        (out / "audit.json").write_text(json.dumps(said), encoding="utf-8")
        (out / "index.html").write_text(page, encoding="utf-8")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(out / "worst.png")

    against = real if train is None else train
    spec = AuditSpec(
        synthetic=made.name, train=against.name, test=real.name, thresholds=thresholds or {}
    )
    return store.make(spec, build)


def answer(path: Path, store: Store, name: str, **given: str) -> None:
    """Write dataset.toml, and answer every question as a person would; `given` are values in
    TOML.
    """
    path.unlink(missing_ok=True)
    with pytest.raises(UsageError, match="must be answered"):
        build(name, path.parent / "never", store, path)
    known = {**GIVEN, **given}
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        asked = re.match(r"^([\w-]+) = (.*)$", line)
        if asked and asked[1] in known:
            line = f"{asked[1]} = {known[asked[1]]}"
        elif asked and asked[2] == '""' and asked[1] not in OPTIONAL and "-" not in asked[1]:
            line = f'{asked[1]} = "What a person says about {asked[1]}."'
        lines.append(line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def overridden(world: World, gate: str, out: Path) -> Path:
    """Return a copy of the answers with a reason why a gate was opened."""
    more = (
        f'\n[[override]]\ngate = "{gate}"\nreason = "The owners agreed to this in a letter to '
        'us."\nby = "Jane Doe"\n'
        'date = "2026-11-20"\nreference = "letter 17/2026"\n'
    )
    out.write_text(world.answers.read_text(encoding="utf-8") + more, encoding="utf-8")
    return out


def copycat(world: World) -> Run:
    """Return a database of copies."""
    generator = train_generator(CopycatSpec(faces=world.real.name), world.store)
    made = generate_database(order_database(generator, "only,fear=3", world.store), world.store)
    audit(world.store, world.real, made)
    return made


def damaged(release: Path, out: Path) -> Path:
    """Return a copy of a release, to be damaged."""
    shutil.copytree(release, out)
    return out


__all__ = [
    "World",
    "answer",
    "audit",
    "copycat",
    "damaged",
    "faces",
    "overridden",
    "world",
    "write_checksums",
]
