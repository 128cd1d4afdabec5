"""How far a database is drawn can be read while it is drawn, from its shards."""

import numpy as np

from mien.generators.shard_files import get_shard_path, load_drawn, read_drawing, write_shard
from mien.generators.specs import GenerateSpec
from mien.runs.store import Store


def test_progress_and_preview_come_from_the_shards_on_the_disk(store: Store):
    counts = {"fear": 6, "happiness": 10}
    spec = GenerateSpec(generator="generator-0123456789ab", counts=counts)
    drawing = read_drawing(spec, store)
    assert (drawing.done, drawing.total, drawing.finished) == (0, 16, False)
    assert load_drawn(spec, store, 8) == []

    # Two shards, the second written twice, in other sizes
    scratch = store.make_scratch(spec.name)
    for rows in (slice(0, 4), slice(4, 8), slice(4, 12)):
        images = np.arange(rows.start, rows.stop, dtype=np.uint8)
        shard = np.broadcast_to(images[:, None, None, None], (len(images), 1, 8, 8)).copy()
        write_shard(get_shard_path(scratch, rows), shard)
    (scratch / "images.npy").write_bytes(b"the database itself")
    assert read_drawing(spec, store).done == 12
    drawn = load_drawn(spec, store, 100)
    assert [position for position, _, _ in drawn] == list(range(12))
    assert [emotion for _, emotion, _ in drawn] == ["fear"] * 6 + ["happiness"] * 6
    assert all(image.max() == image.min() == position for position, _, image in drawn)
    assert [position for position, _, _ in load_drawn(spec, store, 3)] == [0, 6, 11]

    # A damaged shard is passed over, and who draws is read from the claim
    path = get_shard_path(scratch, slice(0, 4))
    path.write_bytes(path.read_bytes()[:-1])
    assert [position for position, _, _ in load_drawn(spec, store, 100)] == list(range(4, 12))
    with store.claim(spec.name):
        assert read_drawing(spec, store).under_way
    assert not read_drawing(spec, store).under_way
