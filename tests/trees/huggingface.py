"""A dataset of Hugging Face: two splits in Parquet, pictures as bytes, classes in the schema, a row
without a label.
"""

import json
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from trees import Tree, Truth
from trees.portraits import portrait

NAMES = ["sad", "happy", "neutral"]  # in no order
EMOTIONS = ("sadness", "happiness", "neutral")
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
    "subject": {"dtype": "string", "_type": "Value"},
}


def encoded(person: int, emotion: str, name: str, kind: str = "PNG") -> bytes:
    """A drawn face as the content of a file."""
    out = BytesIO()
    Image.fromarray(portrait(person, emotion, name)).save(out, kind)
    return out.getvalue()


def picture_table(split: str, labels: list[int]) -> pa.Table:
    """A table as the library makes it; -1 is no label."""
    pictures = [
        {"bytes": encoded(place, EMOTIONS[label], f"{split}{place}"), "path": f"{place}.png"}
        for place, label in enumerate(labels)
    ]
    table = pa.table(
        {
            "image": pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "label": pa.array(labels, pa.int64()),
            "subject": pa.array([f"{split[0]}{place // 2}" for place in range(len(labels))]),
        }
    )
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    )


def write(root: Path) -> Tree:
    """Write eight rows of two splits, one of them without a label."""
    (root / "data").mkdir(parents=True)
    images = {}
    for split, labels in (("train", [0, 1, 2, 1, -1]), ("test", [2, 0, 1])):
        path = f"data/{split}-00000-of-00001.parquet"
        pq.write_table(picture_table(split, labels), root / path, row_group_size=2)
        for place, label in enumerate(labels):
            if label >= 0:
                images[f"{path}#{place}"] = Truth(f"{split[0]}{place // 2}", "", EMOTIONS[label])
    (root / "README.md").write_text("---\nlicense: cc-by-4.0\ntags:\n- faces\n---\n# Drawn faces\n")
    (root / ".gitattributes").write_text("*.parquet filter=lfs\n")
    return Tree(root, images, frozenset({"splits", "row without label"}))
