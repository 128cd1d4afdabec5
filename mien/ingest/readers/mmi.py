"""MMI (Pantic et al. 2005): videos of posed expressions with action units.

    Sessions/1767/S001-001.avi               subject 001, clip 001
    Sessions/1767/S001-001.xml               <Metatag Name="Emotion" Value="1"/>
    Sessions/1767/S001-001-oao_aucs.xml      <ActionUnit Number="4"><Marker Frame="12" Type="1"/>...
    Sessions/1767/session.xml                <subject id="1"/>, <track view="0"/>

Markers say from which frame, counted from 1, a unit is neutral (0), rising (1), at its apex (2) or
falling (3). The meaning of the codes is that of other public readers of the set.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mien.errors import DataError
from mien.ingest.folders import FolderGlance, walk
from mien.ingest.reader import Listing, Reader
from mien.ingest.readers.rows import ImageRow, Losses, make_listing, read_annotation, report_faults
from mien.ingest.specs import IngestSpec
from mien.licences import make_request_terms
from mien.pictures import MAX_PIXELS, Picture

READER = Reader(
    dataset="mmi",
    title="MMI",
    needs=(
        "FOLDER with Sessions/NNNN/S001-001.avi and next to it S001-001.xml, session.xml and "
        "S001-001-oao_aucs.xml"
    ),
    subjects="session.xml, or the names of the files",
    clips="the names of the files",
    licence="MMI agreement: research only, no redistribution",
    terms=make_request_terms("MMI", "registration with its owners"),
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
        "all": "also clips filmed from the side, or from both",
    },
)

FRONTAL_VIEW = "0"  # of the views 0 to 2: 1 is the profile, 2 both next to each other

MMI_FAULT_MESSAGES = {
    "misplaced video": "videos not named S001-001.avi, left out: {}",
    "no emotion": "clips whose metadata has none of the six emotions, left out: {}",
    "other view": (
        "clips filmed from the side or from two sides, left out: {}; --part all reads them"
    ),
    "unknown view": ("clips whose session does not say the view, read as frontal: {}"),
    "unreadable video": "videos that cannot be opened, or are too large, left out: {}",
    "two subjects": (
        "clips whose name and session.xml disagree about the subject; session.xml was used: {}"
    ),
    "outside onset-offset": (
        "clips with frames before their onset or after their offset, left out: {}"
    ),
    "row without file": "metadata of clips without a video: {}",
    "no timing": (
        "clips without usable onset, apex and offset; all frames are read, with no phase: {}"
    ),
}

_CLIP_PATTERN = re.compile(r"(?:.*/)?S([0-9]{3})-([0-9]{3})\.avi", re.IGNORECASE)

_METADATA_PATTERN = re.compile(r"(?:.*/)?S([0-9]{3})-([0-9]{3})\.xml", re.IGNORECASE)

_MMI_SUBJECT_PATTERN = re.compile(r"(?:S|subject)?[-_ ]?0*([0-9]{1,4})", re.IGNORECASE)

_SIDED_PATTERN = re.compile("([0-9]+)([LR])")

# not part of the expression, so their timing is used only without other units
_BLINK_UNITS = frozenset({"45", "46"})


@dataclass(frozen=True)
class Timing:
    """When the units of a clip move, in frames counted from 1."""

    onset: int
    apex: int | None  # where all units are at their apex; None if there is no such frame
    offset: int


def scan(root: Path, spec: IngestSpec) -> Listing:
    """Return the frames of each clip that shows one of the six emotions from the front.

    With part "all", clips with another view are read too. Where the units are coded, frames
    outside the movement are left out: they show a neutral face. Raises DataError as `make_listing`
    does.
    """
    part = spec.part or "frontal"
    paths, findings = walk(root, frozenset({".avi", ".xml"}))
    path_by_name = {path.lower(): path for path in paths}
    videos = [path for path in paths if path.lower().endswith(".avi")]
    faults = _ClipFaults()
    rows: list[ImageRow] = []
    used: list[Path] = []
    clip_of_metadata: dict[str, str] = {
        path: "" for path in paths if _METADATA_PATTERN.fullmatch(path)
    }
    positions: dict[str, Sequence[int]] = {}

    # The frames of each video whose clip is read
    for video in videos:
        match = _CLIP_PATTERN.fullmatch(video)
        if match is None:
            faults.add("misplaced video", video, [video])
            continue
        clip = _read_clip(root, video, match, path_by_name)
        reason = _find_reason_to_leave_out(clip, part, spec)
        if reason:
            faults.add(reason, clip.name, [video], clip.metadata)
            continue
        frames = _count_frames(root / video)
        if not frames:
            faults.add("unreadable video", video, [video], clip.metadata)
            continue
        clip_rows = _make_clip_rows(clip, frames, match, faults)
        positions[video] = range(frames)
        if clip.metadata:
            clip_of_metadata[clip.metadata] = clip_rows[0].clip
        rows += clip_rows
        used += [root / name for name in clip.annotations]

    # Metadata without a video
    stems = {video.lower().removesuffix(".avi") for video in videos}
    for path in clip_of_metadata:
        if path.lower().removesuffix(".xml") not in stems:
            faults.add("row without file", path, row=path)
    findings += report_faults(
        faults.names,
        MMI_FAULT_MESSAGES,
        ["no emotion", "other view", "no timing", "outside onset-offset"],
        faults.losses,
    )
    return make_listing(
        root, rows, findings, spec, READER, used, unpack, part, clip_of_metadata, positions
    )


class _ClipFaults:
    """The faults of clips, by kind, and the pictures and rows that are left out for them."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.losses = Losses()

    def add(
        self, kind: str, name: str, pictures: Iterable[str] = (), row: str | None = None
    ) -> None:
        """Record a fault of a clip or file, and what is left out for it."""
        self.names.setdefault(kind, []).append(name)
        self.losses.add(kind, pictures, [row] if row else [])


@dataclass(frozen=True)
class _Clip:
    """What a video and the files next to it say.

    `annotations` are the files that were read, of which `metadata` gives the emotion. `person` is
    the subject that the session names, and `subject` the one of the folder.
    """

    video: str
    name: str
    subject: str
    person: str
    annotations: tuple[str, ...]
    metadata: str | None
    emotion: str | None
    view: str
    timing: Timing | None
    action_units: str


def _read_clip(
    root: Path, video: str, match: re.Match[str], path_by_name: Mapping[str, str]
) -> _Clip:
    """Return what a video, its session, its metadata and its coded units say."""
    names = [path_by_name.get(name.lower()) for name in _name_annotations(video)]
    session, tags, units = (_parse_xml(root / name) if name else None for name in names)
    subject = f"S{match[1]}"
    return _Clip(
        video=video,
        name=f"{subject}/{match[2]}",
        subject=subject,
        person=_read_subject(session),
        annotations=tuple(name for name in names if name),
        metadata=names[1],
        emotion=_read_emotion(tags),
        view=_read_view(session, Path(video).name),
        timing=_read_timing(units),
        action_units=_read_action_units(units),
    )


def _find_reason_to_leave_out(clip: _Clip, part: str, spec: IngestSpec) -> str:
    """Return the kind of fault for which a clip is left out; empty if there is none."""
    if clip.emotion is None or _normalise_code(clip.emotion) not in {**READER.labels, **spec.map}:
        return "no emotion"
    if part == "frontal" and clip.view not in (FRONTAL_VIEW, ""):
        return "other view"
    return ""


def _make_clip_rows(
    clip: _Clip, frames: int, match: re.Match[str], faults: _ClipFaults
) -> list[ImageRow]:
    """Return the rows of a clip's movement, and record what is uncertain about the clip."""
    # What is uncertain about a clip that is read
    if not clip.view:
        faults.add("unknown view", clip.name)
    if clip.person and clip.person != clip.subject:
        faults.add("two subjects", f"{clip.name} ({clip.person})")
    timing = clip.timing
    if timing is None or timing.offset > frames:
        timing = None
        faults.add("no timing", clip.name)

    # The frames of the movement; the others are left out
    rows = _make_rows(
        clip.video,
        clip.person or clip.subject,
        match,
        _normalise_code(clip.emotion or ""),
        frames,
        timing,
        clip.action_units,
    )
    if len(rows) < frames:
        outside = sorted(set(range(frames)) - {row.place for row in rows})
        pictures = [f"{clip.video}#{position}" for position in outside]
        faults.add("outside onset-offset", clip.name, pictures)
    return rows


def recognise(look: FolderGlance) -> str | None:
    """Return what shows that the folder is MMI: a coded clip, or a clip in a session's folder."""
    clip = look.find_first(r"(.*/)?S[0-9]{3}-[0-9]{3}-oao_aucs\.xml") or look.find_first(
        r"(.*/)?Sessions/[0-9]+/S[0-9]{3}-[0-9]{3}\.avi"
    )
    return f"{clip} has the name of one of its clips" if clip else None


def unpack(path: Path, positions: Sequence[int]) -> Iterator[Picture | DataError]:
    """Yield the frames of a video at `positions` (from 0, ascending), RGB, decoded in their
    order.
    """
    import cv2  # here because it is slow to import, and few readers need it

    video = cv2.VideoCapture(str(path))
    next_frame = 0
    try:
        for position in positions:
            # A video is read from its start: skip the frames that nobody needs.
            while next_frame < position and video.grab():
                next_frame += 1
            read, frame = video.read() if next_frame == position else (False, None)
            next_frame += 1
            yield (
                frame[:, :, ::-1].copy()
                if read and frame is not None
                else _describe_missing_frame(path, position)
            )
    finally:
        video.release()


def _describe_missing_frame(path: Path, position: int) -> DataError:
    return DataError(f"{path} must have a frame {position + 1} that can be decoded, and does not")


def _count_frames(path: Path) -> int:
    """Return a video's number of frames; 0 if it cannot be opened or its frames are too large."""
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        count, width, height = (
            int(video.get(field))
            for field in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
    finally:
        video.release()
    return count if 0 < width * height <= MAX_PIXELS and 0 < count < 1_000_000 else 0


# The files next to a clip


def _name_annotations(video: str) -> list[str]:
    """Return the names that the session, the metadata and the coded units of a video have."""
    stem = video[: -len(".avi")]
    session = f"{video.rpartition('/')[0]}/session.xml".lstrip("/")
    return [session, f"{stem}.xml", f"{stem}-oao_aucs.xml"]


def _parse_xml(path: Path) -> ElementTree.Element | None:
    """Return the root of an XML file; None if it is damaged."""
    try:
        return ElementTree.fromstring(read_annotation(path))
    except (ElementTree.ParseError, ValueError):
        return None


def _find_elements(tree: ElementTree.Element | None, tag: str) -> list[ElementTree.Element]:
    """Return the elements with the name `tag`, in any case and namespace."""
    elements = [] if tree is None else tree.iter()
    return [
        element
        for element in elements
        if isinstance(element.tag, str) and element.tag.rpartition("}")[2].lower() == tag
    ]


def _read_attribute(element: ElementTree.Element, name: str) -> str:
    return next((value.strip() for key, value in element.attrib.items() if key.lower() == name), "")


def _read_emotion(tags: ElementTree.Element | None) -> str | None:
    """Return the value of the first tag called Emotion; None without one."""
    emotions = (
        tag
        for tag in _find_elements(tags, "metatag")
        if _read_attribute(tag, "name").lower() == "emotion"
    )
    return next((_read_attribute(tag, "value") for tag in emotions), None)


def _normalise_code(code: str) -> str:
    """Return a code without leading zeros if it is a number, otherwise in lower case."""
    return str(int(code)) if code.isascii() and code.isdigit() else code.lower()


def _read_view(session: ElementTree.Element | None, video: str) -> str:
    """Return the view of the track with that file, or of the first; empty if it is unknown."""
    tracks = _find_elements(session, "track")
    named = [
        track
        for track in tracks
        if Path(_read_attribute(track, "filename")).name.lower() == video.lower()
    ]
    return next((_read_attribute(track, "view") for track in named or tracks[:1]), "")


def _read_subject(session: ElementTree.Element | None) -> str:
    """Return the subject of a session, such as S001; empty unless it names exactly one."""
    ids = [
        match
        for element in _find_elements(session, "subject")
        if (match := _MMI_SUBJECT_PATTERN.fullmatch(_read_attribute(element, "id")))
    ]
    return f"S{int(ids[0][1]):03d}" if len(ids) == 1 else ""


def _read_action_units(units: ElementTree.Element | None) -> str:
    """Return the coded units as `4+L12`; files write the side before or after the number."""
    numbers = [
        _read_attribute(unit, "number").upper() for unit in _find_elements(units, "actionunit")
    ]
    return "+".join(
        dict.fromkeys(_SIDED_PATTERN.sub(r"\2\1", number) for number in numbers if number)
    )


def _read_timing(units: ElementTree.Element | None) -> Timing | None:
    """Return when the clip's units move; None if no unit is coded from rise to fall."""
    # Read when each unit rises, peaks, falls and ends.
    phases = []
    for unit in _find_elements(units, "actionunit"):
        marks = [
            (_read_attribute(marker, "frame"), _read_attribute(marker, "type"))
            for marker in _find_elements(unit, "marker")
        ]
        if not all(frame.isdigit() and len(frame) < 8 and kind in "0123" for frame, kind in marks):
            return None
        first = {
            kind: min((int(frame) for frame, mark in marks if mark == kind), default=0)
            for kind in "123"
        }
        end = max((int(frame) for frame, _ in marks), default=0)
        if 0 < first["1"] <= first["2"] <= end:
            blink = _read_attribute(unit, "number") in _BLINK_UNITS
            phases.append((blink, first["1"], first["2"], first["3"] or end, end))

    # The clip moves as long as any unit, and is at its apex where all are. Blinks do not count.
    chosen = [phase for phase in phases if not phase[0]] or phases
    if not chosen:
        return None
    apex, fall = max(phase[2] for phase in chosen), min(phase[3] for phase in chosen)
    return Timing(
        min(phase[1] for phase in chosen),
        apex if apex <= fall else None,
        max(phase[4] for phase in chosen),
    )


def _make_rows(
    video: str,
    subject: str,
    match: re.Match[str],
    emotion: str,
    frames: int,
    timing: Timing | None,
    units: str,
) -> list[ImageRow]:
    """Return a row for each frame from onset to offset, or for each frame without a timing."""
    numbers = range(1, frames + 1) if timing is None else range(timing.onset, timing.offset + 1)
    clip = (
        f"{subject}/{match[2]}"
        if subject == f"S{match[1]}"
        else f"{subject}/S{match[1]}-{match[2]}"
    )
    return [
        ImageRow(
            path=video,
            key=f"{clip}/{number}",
            raw_label=emotion,
            subject=subject,
            clip=clip,
            frame=number,
            phase=_find_phase(number, timing),
            action_units=units,
            place=number - 1,
        )
        for number in numbers
    ]


def _find_phase(number: int, timing: Timing | None) -> str:
    """Return the phase of a frame; empty if it cannot be known."""
    if timing is None:
        return ""
    for name in ("apex", "onset", "offset"):
        if number == getattr(timing, name):
            return name
    if timing.apex is None:
        return ""
    return "rise" if number < timing.apex else "fall"
