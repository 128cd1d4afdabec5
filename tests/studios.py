"""A small store that the tests of the studio share, and a browser that has opened it."""

from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from worlds import blobs

from mien import api
from mien.faces import Faces
from mien.runs.store import Store
from mien.studio.app import make_app

TOKEN = "a-token-of-the-tests"

HERE = "http://127.0.0.1:8712"


def make_store(folder: Path) -> Store:
    """Return a store with free faces in two folds, copies of one fold with their audit, a set
    without a free licence, and clips of three moments.
    """
    # Faces, copies of their training side, and what an audit says about the copies
    store = Store(folder / "store")
    faces = api.keep_faces(blobs(96, 32), "faces", store=store)
    train, test = api.split_faces(faces, folds=2, alias="fold", store=store)
    copies = api.train_generator(train, "copycat", alias="copycat", store=store)
    made = api.generate_faces(copies, "balanced:40", alias="synthetic", store=store)
    api.audit_faces(made, train, test, spaces=["pixels"], alias="audit", store=store, workers=0)

    # Faces of an unknown licence, and clips
    bound = blobs(24, 32, seed=3)
    bound = Faces(bound.images, bound.index.assign(licence="unknown"))
    api.keep_faces(bound, "bound", store=store)
    moments = np.concatenate([faces.images[:12], faces.images[12:24], faces.images[24:36]], axis=1)
    clips = Faces(moments, faces.index[:12].reset_index(drop=True), None, ("t0", "t1", "t2"))
    api.keep_faces(clips, "clips", store=store)
    return store


def open_client(store: Store, **options: bool) -> TestClient:
    """Return a browser that has opened the printed address."""
    client = TestClient(make_app(store, token=TOKEN, **options), base_url=HERE)
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    assert "httponly" in answer.headers["set-cookie"].lower()
    assert "samesite=strict" in answer.headers["set-cookie"].lower()
    return client
