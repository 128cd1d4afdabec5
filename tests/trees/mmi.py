"""MMI: sessions of one video each, with metadata, some coded; one from the side, one without an
emotion.
"""

from pathlib import Path

import cv2

from trees import Tree, Truth
from trees.portraits import portrait

# Session, clip, subject of session.xml, emotion's code, what it is, view, frames, coded units with
# their markers.
SESSIONS = [
    (
        "1",
        "S001-001",
        1,
        1,
        "anger",
        0,
        12,
        {"4": (3, 6, 8, 10), "7": (4, 5, 8, 11), "45": (1, 2, 3, 4)},
    ),
    ("1767", "S001-002", 1, 4, "happiness", 0, 5, None),
    ("2000", "S053-009", 53, 6, "surprise", 0, 8, {"1": (2, 4, 5, 6), "2L": (2, 3, 5, 7)}),
    ("2001", "S053-010", 53, 6, "surprise", 1, 3, None),  # a profile
    ("2002", "S053-011", 53, 8, "", 0, 3, None),  # another expression than the six
    ("2003", "S053-012", 53, None, "", 0, 3, {"12": (1, 2, 2, 3)}),  # a single action unit
]
SPANS = {"S001-001": range(3, 12), "S001-002": range(1, 6), "S053-009": range(2, 8)}


def video(path: Path, person: int, emotion: str, frames: int) -> None:
    """Write a video that rises from a neutral face."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for number in range(frames):
        shown = "neutral" if number == 0 else emotion
        out.write(portrait(person, shown, f"{path.name}{number}", (48, 64))[:, :, ::-1])
    out.release()


def coding(units: dict[str, tuple[int, int, int, int]]) -> str:
    """Action units with the frames at which each begins to rise, is at its apex, begins to fall,
    and is gone.
    """
    lines = []
    for unit, times in units.items():
        marks = zip((*times, times[-1]), "1230 "[:4], strict=False)
        lines.append(f'<ActionUnit Number="{unit}">')
        lines += [f'<Marker Frame="{frame}" Type="{kind}"/>' for frame, kind in marks]
        lines.append("</ActionUnit>")
    return f"<?xml version='1.0'?>\n<ActionUnitCoding>{''.join(lines)}</ActionUnitCoding>\n"


def write(root: Path) -> Tree:
    """Write six sessions of two people, three of them of the six emotions from the front."""
    images = {}
    for session, clip, subject, code, emotion, view, frames, units in SESSIONS:
        folder = root / "Sessions" / session
        video(folder / f"{clip}.avi", subject, emotion or "neutral", frames)
        (folder / "session.xml").write_text(
            f'<?xml version="1.0" encoding="UTF-8"?>\n<session sessionId="{session}"><subject '
            f'id="{subject}"/><track type="Video" filename="{clip}.avi" view="{view}"/></session>'
        )
        tag = "" if code is None else f'<Metatag Name="Emotion" Value="{code}"/>'
        (folder / f"{clip}.xml").write_text(
            f'<Metadata><Metatag Name="Posed" Value="1"/>{tag}</Metadata>'
        )
        if units is not None:
            (folder / f"{clip}-oao_aucs.xml").write_text(coding(units))
        for frame in SPANS.get(clip, ()):
            name = f"Sessions/{session}/{clip}.avi#{frame - 1}"
            images[name] = Truth(f"S{subject:03d}", f"S{subject:03d}/{clip[5:]}", emotion)
    return Tree(root, images, frozenset({"no emotion", "other view", "no timing"}))
