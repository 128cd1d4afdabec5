"""A small store with all that the pages of the studio show, and a browser that opened it."""

import re
from pathlib import Path

from drawn import keep, people
from starlette.testclient import TestClient
from worlds import blobs, failing, tiny, written_study
from worlds import keep as keep_blobs

from mien.audit.labels.review import make_queue
from mien.audit.mapping import make_map
from mien.audit.run import AuditMeasurements, write_audit
from mien.audit.specs import AuditSpec, JudgeSpec, MapSpec
from mien.audit.verdict import HeldOut, judge, read_thresholds
from mien.classifiers.predict import save_network, start_network
from mien.faces import Faces
from mien.generators import presets
from mien.generators.generate import generate_database
from mien.generators.orders import order_database
from mien.generators.train import train_generator
from mien.prepare.specs import SplitSpec
from mien.prepare.splits import run_split
from mien.runs.jobs import note_failure
from mien.runs.store import Store
from mien.stats import Record
from mien.studio.app import make_app
from mien.study.file import resolve
from mien.study.plan import plan_study, write_study

TOKEN = "a-token-of-the-tests"
HERE = "http://127.0.0.1:8712"


def fill_store(folder: Path) -> Store:
    """Return a store with drawn people, a generator, its database, a judge, a map, a queue, an
    audit, and two studies, of which one has a failed trial.
    """
    store = Store(folder / "store")
    faces = keep(people(range(8), clips=1, frames=2, size=24), store, "faces")
    fields = {"faces": faces.name, "by": "subject", "folds": 2, "number": 0}
    train, test = (
        run_split(SplitSpec.model_validate({**fields, "side": side}), store, alias=side)
        for side in ("train", "test")
    )
    generator = train_generator(presets.read_preset("gaussian", train.name), store, alias="drawer")
    made = generate_database(order_database(generator, "each:4", store), store, alias="made")

    # What was learnt from them and measured on them
    real = Faces.load(train.path)
    untrained = start_network(tiny(size=24), real.classes, 0, None, real.shown)
    store.make(JudgeSpec(faces=train.name), lambda out, _: save_network(untrained, out))
    sides = {"synthetic": made.name, "train": train.name, "test": test.name}
    make_map(MapSpec.model_validate(sides), store, alias="map")
    make_queue(made, store, test, 12, alias="queue")
    keep_audit(AuditSpec.model_validate({**sides, "thresholds": read_thresholds()}), store)
    add_studies(store)
    return store


def keep_audit(spec: AuditSpec, store: Store) -> None:
    """Keep an audit whose numbers were made up, and are judged as measured ones are."""
    records = [
        Record("memorisation.exact", 0.25, 28, "images", 0.2, 0.3),
        Record("labels.kept", 0.9, 28, "images", 0.8, 1.0),
        Record("leakage.near", 0.01, 24, "images", 0.0, 0.02),
    ]
    faces = {
        side: Faces.load(store.run(name).path)
        for side, name in (("made", spec.synthetic), ("train", spec.train), ("test", spec.test))
    }
    rows = faces["made"].index[["key", "emotion"]].assign(suspect=False, rank=0)
    checks = judge(records, spec.thresholds, HeldOut(4))
    found = AuditMeasurements(records, checks, ["A note."], rows, {})
    content = store.run(spec.synthetic).content
    store.make(
        spec,
        lambda out, _: write_audit(found, spec, faces, content, {"pixels": "grey values"}, out),
        alias="audit",
    )


def add_studies(store: Store) -> None:
    """Add a study whose trials are done, and one with a failed trial and others to come."""
    keep_blobs(blobs(), store, "blobs")
    written_study(store, name="done")
    spec = resolve(failing(name="broken", faces="blobs"), store)
    plan = plan_study(spec, store)
    store.make(spec, lambda out, _: write_study(plan, out), alias="broken")
    failed = next(row for row in plan.rows if row.classifier == "wild")
    note_failure(store, failed.spec.name, ValueError("the loss is <b>not</b> a number"))


def open_studio(store: Store, **options: bool) -> TestClient:
    """Return a browser that has opened the printed address of a studio."""
    client = TestClient(make_app(store, token=TOKEN, **options), base_url=HERE)
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def read_secret(client: TestClient) -> str:
    """Return the secret that a page gives to its forms."""
    found = re.search(r'name="csrf" content="([0-9a-f]+)"', client.get("/").text)
    assert found
    return found[1]


def name_run(store: Store, alias: str) -> str:
    """Return the name of the run of an alias."""
    return store.resolve(alias)
