"""AffectNet of 2017: photographs with the place of the face, two lists, categories that are no
expression.
"""

from pathlib import Path

from trees import Tree, Truth
from trees.portraits import save

EMOTIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
HEAD = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height"
    ",facial_landmarks,expression,valence,arousal"
)
BOX = (8, 6, 40, 44)


def row(name: str, code: int, box: tuple[int, int, int, int] = BOX) -> str:
    """A row of a list."""
    return f"{name},{','.join(map(str, box))},{';'.join(['1.5'] * 136)},{code},-0.5,0.25"


def write(root: Path) -> Tree:
    """Write twelve photographs, ten of them with an expression."""
    lists: dict[str, list[str]] = {"training": [], "validation": []}
    images = {}
    for place, code in enumerate([*range(8), 8, 9, 10, 1, 2]):
        suffix = {2: "JPG", 3: "png"}.get(place, "jpg")
        name = f"{place % 3 + 1}/{place:056x}.{suffix}"
        emotion = EMOTIONS[code] if code < 8 else ""
        lists["validation" if place > 10 else "training"].append(
            row(name, code, (-1, -1, -1, -1) if code > 8 or place == 12 else BOX)
        )
        path = f"Manually_Annotated/Manually_Annotated_Images/{name}"
        save(root / path, place, emotion or "neutral", (64, 64))
        if emotion:
            images[path] = Truth("", "", emotion)
    lists["training"].append(row("9/gone.jpg", 1))
    (root / "Manually_Annotated_file_lists").mkdir()
    for name, lines in lists.items():
        (root / f"Manually_Annotated_file_lists/{name}.csv").write_text(
            "\n".join([HEAD, *lines]) + "\n"
        )
    kinds = {
        "no single emotion",
        "no face box",
        "row without file",
        "official partition",
        "no subjects",
    }
    return Tree(root, images, frozenset(kinds))
