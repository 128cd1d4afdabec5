"""MMI (Pantic et al. 2005): videos of posed expressions, with action units coded from onset to
offset.

    Sessions/1767/S001-001.avi               subject 001, its clip 001
    Sessions/1767/S001-001.xml               <Metatag Name="Emotion" Value="1"/>
    Sessions/1767/S001-001-oao_aucs.xml      <ActionUnit Number="4"><Marker Frame="12" Type="1"/>...
    Sessions/1767/session.xml                <subject id="1"/>, <track view="0"/>

Markers say from which frame, counted from 1, a unit is neutral (0), rising (1), at its apex (2),
falling (3). The meaning of codes is as public readers of the set have it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mien.errors import DataError
from mien.ingest import IngestSpec, Listing, Look, Reader, walk
from mien.ingest.rows import Losses, Row, listing, text, told
from mien.preprocess import MAX_PIXELS, Picture

READER = Reader(
    dataset="mmi",
    title="MMI",
    needs=(
        "FOLDER with Sessions/NNNN/S001-001.avi and beside it S001-001.xml, session.xml and "
        "S001-001-oao_aucs.xml"
    ),
    subjects="session.xml, or the names of the files",
    clips="the names of the files",
    licence="MMI agreement: research only, no redistribution",
    citation=(
        "Pantic M, Valstar M, Rademaker R, Maat L (2005) Web-based database for facial expression "
        "analysis. IEEE International Conference on Multimedia and Expo, 317-321"
    ),
    obtain="register with the owners at mmifacedb.eu",
    labels={
        "1": "anger",
        "2": "disgust",
        "3": "fear",
        "4": "happiness",
        "5": "sadness",
        "6": "surprise",
    },
    holders=frozenset({".avi"}),
    parts={
        "frontal": "clips filmed from the front",
        "all": "clips filmed from the side, or from both, too",
    },
)

FRONTAL = "0"  # of the views 0 to 2: 1 is the profile, 2 both side by side
SAID = {
    "misplaced video": "videos not named S001-001.avi, left out: {}",
    "no emotion": "clips whose metadata has none of the six emotions, left out: {}",
    "other view": (
        "clips filmed from the side or from two sides, left out: {}; --part all takes them"
    ),
    "unknown view": (
        "clips whose session does not say from where they are filmed; taken as frontal: {}"
    ),
    "unreadable video": "videos that cannot be opened, or are too large, left out: {}",
    "two subjects": (
        "clips named after one person where session.xml names another, whom mien takes: {}"
    ),
    "outside onset-offset": (
        "clips with frames before their onset or after their offset, left out: {}"
    ),
    "row without file": "metadata of clips whose video is not there: {}",
    "no timing": (
        "clips without usable onset, apex and offset; all frames are read, with no phase: {}"
    ),
}
_CLIP = re.compile(r"(?:.*/)?S([0-9]{3})-([0-9]{3})\.avi", re.IGNORECASE)
_METADATA = re.compile(r"(?:.*/)?S([0-9]{3})-([0-9]{3})\.xml", re.IGNORECASE)
_SUBJECT = re.compile(r"(?:S|subject)?[-_ ]?0*([0-9]{1,4})", re.IGNORECASE)
_SIDED = re.compile("([0-9]+)([LR])")
_BLINKS = frozenset({"45", "46"})  # come and go beside the expression


@dataclass(frozen=True)
class Timing:
    """The frames of a clip, from 1, between which its units move, and where all of them are at
    their apex.
    """

    onset: int
    apex: int | None
    offset: int


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of each clip that has one of the six emotions, and is filmed from the front
    unless part is all.

    Where the units are coded, frames outside the movement are left out: they show a neutral face.
    Raises DataError as `listing` does.
    """
    part = spec.part or "frontal"
    paths, findings = walk(root, frozenset({".avi", ".xml"}))
    there = {path.lower(): path for path in paths}
    rows: list[Row] = []
    used: list[Path] = []
    faults: dict[str, list[str]] = {}
    losses = Losses()
    read: dict[str, str] = {path: "" for path in paths if _METADATA.fullmatch(path)}
    held: dict[str, Sequence[int]] = {}

    def fault(kind: str, where: str, pictures: Iterable[str] = (), row: str | None = None) -> None:
        faults.setdefault(kind, []).append(where)
        losses.add(kind, pictures, [row] if row else [])

    for video in (path for path in paths if path.lower().endswith(".avi")):
        match = _CLIP.fullmatch(video)
        if match is None:
            fault("misplaced video", video, [video])
            continue
        stem = video[: -len(".avi")]
        beside = [
            f"{video.rpartition('/')[0]}/session.xml".lstrip("/"),
            f"{stem}.xml",
            f"{stem}-oao_aucs.xml",
        ]
        names = [there.get(name.lower()) for name in beside]
        session, tags, units = (_xml(root / name) if name else None for name in names)
        subject = f"S{match[1]}"
        clip = f"{subject}/{match[2]}"
        emotion = _emotion(tags)
        view = _view(session, Path(video).name)
        if emotion is None or _plain_number(emotion) not in {**READER.labels, **spec.map}:
            fault("no emotion", clip, [video], names[1])
        elif part == "frontal" and view not in (FRONTAL, ""):
            fault("other view", clip, [video], names[1])
        elif not (frames := _count(root / video)):
            fault("unreadable video", video, [video], names[1])
        else:
            if not view:
                fault("unknown view", clip)
            person = _subject(session)
            if person and person != subject:
                fault("two subjects", f"{clip} ({person})")
            timing = _timing(units)
            if timing is None or timing.offset > frames:
                timing = None
                fault("no timing", clip)
            made = _rows(
                video,
                person or subject,
                match,
                _plain_number(emotion),
                frames,
                timing,
                _numbers(units),
            )
            held[video] = range(frames)
            if len(made) < frames:
                outside = set(range(frames)) - {row.place for row in made}
                fault(
                    "outside onset-offset", clip, [f"{video}#{place}" for place in sorted(outside)]
                )
            if names[1]:
                read[names[1]] = made[0].clip
            rows += made
            used += [root / name for name in names if name]
    videos = {path.lower().removesuffix(".avi") for path in paths if path.lower().endswith(".avi")}
    for path in read:
        if path.lower().removesuffix(".xml") not in videos:
            fault("row without file", path, row=path)
    findings += told(
        faults, SAID, ["no emotion", "other view", "no timing", "outside onset-offset"], losses
    )
    return listing(root, rows, findings, spec, READER, used, unpack, part, read, held)


def recognise(look: Look) -> str | None:
    """Say by what the folder is MMI: a clip with its coding beside it, or in its session's
    folder.
    """
    clip = look.first(r"(.*/)?S[0-9]{3}-[0-9]{3}-oao_aucs\.xml") or look.first(
        r"(.*/)?Sessions/[0-9]+/S[0-9]{3}-[0-9]{3}\.avi"
    )
    return f"{clip} is named as its clips are" if clip else None


def unpack(path: Path, places: Sequence[int]) -> Iterator[Picture | DataError]:
    """Yield the frames at `places` (from 0, rising) of a video, RGB, decoded one after another."""
    import cv2  # as late as this: few read videos, and it is slow to come

    video = cv2.VideoCapture(str(path))
    at = 0
    try:
        for place in places:
            while at < place and video.grab():
                at += 1
            read, frame = video.read() if at == place else (False, None)
            at += 1
            yield frame[:, :, ::-1].copy() if read and frame is not None else _short(path, place)
    finally:
        video.release()


def _short(path: Path, place: int) -> DataError:
    return DataError(f"{path} must have a frame {place + 1} that can be decoded, and has none")


def _count(path: Path) -> int:
    """Return how many frames a video says it has; 0 if it cannot be opened or its frames are too
    large.
    """
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        count, width, height = (
            int(video.get(what))
            for what in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
    finally:
        video.release()
    return count if 0 < width * height <= MAX_PIXELS and 0 < count < 1_000_000 else 0


# The files beside a clip


def _xml(path: Path) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text(path))
    except (ElementTree.ParseError, ValueError):
        return None


def _found(tree: ElementTree.Element | None, tag: str) -> list[ElementTree.Element]:
    """Return the elements of that name, whatever its case and namespace."""
    every = [] if tree is None else tree.iter()
    return [
        each
        for each in every
        if isinstance(each.tag, str) and each.tag.rpartition("}")[2].lower() == tag
    ]


def _attribute(element: ElementTree.Element, name: str) -> str:
    return next((value.strip() for key, value in element.attrib.items() if key.lower() == name), "")


def _emotion(tags: ElementTree.Element | None) -> str | None:
    named = (
        each for each in _found(tags, "metatag") if _attribute(each, "name").lower() == "emotion"
    )
    return next((_attribute(each, "value") for each in named), None)


def _plain_number(code: str) -> str:
    return str(int(code)) if code.isascii() and code.isdigit() else code.lower()


def _view(session: ElementTree.Element | None, video: str) -> str:
    """Return the view of the track with that file; empty if it is not said."""
    tracks = _found(session, "track")
    own = [
        each for each in tracks if Path(_attribute(each, "filename")).name.lower() == video.lower()
    ]
    return next((_attribute(each, "view") for each in own or tracks[:1]), "")


def _subject(session: ElementTree.Element | None) -> str:
    ids = [
        match
        for each in _found(session, "subject")
        if (match := _SUBJECT.fullmatch(_attribute(each, "id")))
    ]
    return f"S{int(ids[0][1]):03d}" if len(ids) == 1 else ""


def _numbers(units: ElementTree.Element | None) -> str:
    """Return the coded units as `4+L12`, the side before the number wherever the file has it."""
    numbers = [_attribute(each, "number").upper() for each in _found(units, "actionunit")]
    return "+".join(dict.fromkeys(_SIDED.sub(r"\2\1", number) for number in numbers if number))


def _timing(units: ElementTree.Element | None) -> Timing | None:
    """Return when the clip's units move; None if no unit is coded from rise to fall."""
    phases = []
    for unit in _found(units, "actionunit"):
        marks = [
            (_attribute(each, "frame"), _attribute(each, "type")) for each in _found(unit, "marker")
        ]
        if not all(frame.isdigit() and len(frame) < 8 and kind in "0123" for frame, kind in marks):
            return None
        first = {
            kind: min((int(frame) for frame, each in marks if each == kind), default=0)
            for kind in "123"
        }
        end = max((int(frame) for frame, _ in marks), default=0)
        if 0 < first["1"] <= first["2"] <= end:
            blink = _attribute(unit, "number") in _BLINKS
            phases.append((blink, first["1"], first["2"], first["3"] or end, end))
    chosen = [phase for phase in phases if not phase[0]] or phases
    if not chosen:
        return None
    apex, fall = max(phase[2] for phase in chosen), min(phase[3] for phase in chosen)
    return Timing(
        min(phase[1] for phase in chosen),
        apex if apex <= fall else None,
        max(phase[4] for phase in chosen),
    )


def _rows(
    video: str,
    subject: str,
    match: re.Match[str],
    emotion: str,
    frames: int,
    timing: Timing | None,
    units: str,
) -> list[Row]:
    span = range(1, frames + 1) if timing is None else range(timing.onset, timing.offset + 1)
    clip = (
        f"{subject}/{match[2]}"
        if subject == f"S{match[1]}"
        else f"{subject}/S{match[1]}-{match[2]}"
    )
    return [
        Row(
            video,
            f"{clip}/{number}",
            emotion,
            subject,
            clip,
            number,
            _phase(number, timing),
            units,
            number - 1,
        )
        for number in span
    ]


def _phase(number: int, timing: Timing | None) -> str:
    if timing is None:
        return ""
    for name in ("apex", "onset", "offset"):
        if number == getattr(timing, name):
            return name
    if timing.apex is None:
        return ""
    return "rise" if number < timing.apex else "fall"
