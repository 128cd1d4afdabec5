"""Building a release: a folder that others can load, trust and trace."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien import __version__
from mien.errors import GateRefused
from mien.faces import Faces
from mien.generators.sampler_table import SAMPLERS
from mien.generators.specs import KIND_FACTS, find_guidance
from mien.hashes import compute_perceptual_hash
from mien.pages.sheets import draw_class_sheet
from mien.publish import (
    card,
    croissant,
    formats,
    gates,
    lineage,
    marks,
    name_search,
    questions,
    registry,
    signing,
)
from mien.publish.checking import (
    ANSWERS,
    CARD_JSON,
    CONTACT_SHEET,
    GATE_DECISIONS,
    LINEAGE,
    RELEASE,
    SUMS,
)
from mien.publish.formats import ReleaseLayout
from mien.publish.marks import Mark
from mien.publish.origin import Origin, find_audits, trace_origin
from mien.publish.questions import Answers
from mien.publish.results import write_study
from mien.runs.files import hash_file
from mien.runs.folders import require_free, write_whole_folder
from mien.runs.progress import quantify, say, track
from mien.runs.spec import read_spec, read_toml
from mien.runs.store import Run, Store, describe_making
from mien.seeds import make_rng
from mien.strips import show_as_pictures

SHEET_IMAGES_PER_CLASS = 12  # images of each class on the contact sheet

ENCODED_IMAGES = 500  # images that are encoded in one batch

PICTURE_HTML = re.compile(
    r"<img|<image|<object|<embed|<iframe|<video|<canvas|data:image|url\(", re.IGNORECASE
)
"""HTML that keeps the page of an audit out of a release, because it may show real faces."""


def build(
    name: str,
    out: Path,
    store: Store,
    answers: Path,
    *,
    form: str = "parquet",
    private: bool = False,
    study_names: Sequence[str] = (),
    signer: signing.Signer | None = None,
) -> Path:
    """Write the release of the synthetic database `name` to `out`, and return that folder.

    `answers` is a dataset.toml; if it does not exist, it is written with the open questions. The
    folder appears complete or not at all, and equal input gives equal bytes, except for signatures.
    Raises UsageError with the questions that are open, and GateRefused if a licence, the audit or a
    real image forbids the release.
    """
    # What is published, and what people say about it
    forms = formats.parse_formats(form)
    out = require_free(out)
    origin = trace_origin(name, store)
    if not origin.faces.channels:
        origin.faces.require_pictures(f"the images of a release, and so those of {name},")
    answered = _read_answers(origin, answers, store, private)
    origin = origin.rename_sources(answered.sources)

    # Gates that can be judged before anything is written
    found_audits = find_audits(origin.run, store)
    decisions = gates.judge(origin, answered, found_audits, private)
    for name, run in origin.generators.items():
        if images := KIND_FACTS[run.spec["kind"]].resamples:
            raise GateRefused(
                f"no real image may be in a release, and {name} is a {run.spec['kind']}, which "
                f"learns nothing and makes {images}"
            )
    _refuse_names(origin, answered, study_names)
    _refuse_copies(origin, store)

    with write_whole_folder(out) as folder:
        # The images, in every form
        splits = split_positions(origin.faces, answered.dataset.test_share)
        layout, classes = ReleaseLayout(folder), origin.faces.classes
        rows = _write_images(layout, origin, answered, splits, signer)
        registry.write_registry(folder, rows)
        for split in splits:
            if "imagefolder" in forms:
                formats.write_imagefolder(layout, split, classes)
            if "webdataset" in forms:
                formats.write_webdataset(layout, split, classes)

        # The evidence: audit, studies and contact sheet
        audit = _write_audit(folder, origin, found_audits)
        titles = [
            write_study(folder, study_name, origin.run.name, store) for study_name in study_names
        ]
        _write_sheet(folder, origin, answered, signer)

        # The provenance, and the documents that follow from it
        facts = card.gather_facts(
            origin,
            answered,
            decisions,
            _count_images(rows, splits, classes),
            private,
            audit,
            titles,
            forms,
            signer is not None,
            _list_steps(origin),
        )
        _write_provenance(folder, origin, answered, facts)
        card.write(folder, facts, _measure_sizes(layout, splits))
        _write_json(folder / croissant.CROISSANT_FILE, croissant.make_croissant(facts, layout))

        # No real image or name, in any file; then the checksums
        _refuse_real_people(folder, origin)
        write_checksums(folder)
    return out


def _count_images(
    rows: pd.DataFrame, splits: Iterable[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the number of images by split and class."""
    counts = {}
    for split in splits:
        labels = rows.loc[rows["split"] == split, "label"].value_counts()
        counts[split] = {name: int(labels.get(name, 0)) for name in classes}
    return counts


def _read_answers(origin: Origin, path: Path, store: Store, private: bool) -> Answers:
    """Return the answers of a dataset.toml, or write one if there is none.

    A private build needs no answers.
    """
    alias = next(
        (alias for alias, target in store.read_aliases().items() if target == origin.run.name), ""
    )
    if private:
        data = read_toml(path) if path.exists() else {}
        answers = read_spec(Answers, data, str(path))
        open_questions = questions.list_open(answers, origin)
        if open_questions:
            say(
                f"{quantify(len(open_questions), 'question')} of {path} unanswered, and marked as "
                f"such: {', '.join(open_questions)}"
            )
        return questions.fill_with_marks(answers, origin, alias)
    if not path.exists():
        raise questions.make_unanswered_error(path, questions.write_template(path, origin, alias))
    return questions.read_answers(path, origin)


def split_positions(faces: Faces, test_share: float) -> dict[str, list[int]]:
    """Return the positions of the images of each split, in order.

    The split depends only on the classes and their numbers of images.
    """
    index = faces.index
    test: set[int] = set()
    for name in faces.classes:
        positions = np.flatnonzero((index["emotion"] == name).to_numpy())
        order = make_rng("release", name, len(positions)).permutation(len(positions))
        test |= set(positions[order[: round(test_share * len(positions))]].tolist())
    train = [position for position in range(len(index)) if position not in test]
    return {"train": train, **({"test": sorted(test)} if test else {})}


def _write_images(
    layout: ReleaseLayout,
    origin: Origin,
    answers: Answers,
    splits: Mapping[str, list[int]],
    signer: signing.Signer | None,
) -> pd.DataFrame:
    """Write the Parquet files, and return the rows of the registry."""
    image_ids, classes = list_image_ids(origin.faces), list(origin.faces.classes)
    index = {
        column: origin.faces.index[column].tolist()
        for column in ("emotion", "source", "seed", "key")
    }
    registry_rows: list[tuple[str, ...]] = []

    def make_rows(split: str, positions: list[int]) -> Iterator[dict[str, Any]]:
        with track(f"writing {split}", len(positions)) as tracker:
            for first in range(0, len(positions), ENCODED_IMAGES):
                # A batch of images, so that memory does not hold them all
                batch = positions[first : first + ENCODED_IMAGES]
                images = show_as_pictures(
                    np.asarray(origin.faces.images[batch]), origin.faces.channels
                )
                hashes = compute_perceptual_hash(images)

                for position, image, bits in zip(batch, images, hashes, strict=True):
                    image_id = image_ids[position]
                    emotion, source, seed, key = (index[column][position] for column in index)
                    identity = (image_id, source, seed, emotion)
                    row = _make_parquet_row(origin, answers, image, identity, key, signer)
                    row |= {
                        "label": classes.index(emotion),
                        "phash": f"{bits:016x}",
                        "split": split,
                    }
                    digests = (row[name] for name in registry.REGISTRY_COLUMNS[3:])
                    registry_rows.append((image_id, split, emotion, *digests))
                    yield row
                tracker.update(first + len(batch))

    for split, positions in splits.items():
        formats.write_parquet(layout.name_parquet(split), make_rows(split, positions), classes)
    return pd.DataFrame(registry_rows, columns=list(registry.REGISTRY_COLUMNS), dtype="str")


def list_image_ids(faces: Faces) -> list[str]:
    """Return a name for each image in its release, such as happiness-00012.

    Names have no dots, which end the key of a sample in shards.
    """
    counts = dict.fromkeys(faces.classes, 0)
    image_ids = []
    for emotion in faces.index["emotion"]:
        image_ids.append(f"{emotion}-{counts[emotion]:05d}")
        counts[emotion] += 1
    return image_ids


def _make_parquet_row(
    origin: Origin,
    answers: Answers,
    image: np.ndarray,
    identity: tuple[str, str, int, str],
    key: str,
    signer: signing.Signer | None,
) -> dict[str, Any]:
    """Return the columns that depend only on the image.

    `identity` is its name, the run that generated it, its seed and its emotion; `key` is its key in
    that run.
    """
    name, source, seed, _ = identity
    maker = origin.makers[source]
    generator = origin.generators[maker.spec["generator"]]
    data, pixels = encode_marked(image, *identity, answers, generator, __version__)
    if signer is not None:
        data = signer.sign(data, name)
    return {
        "image": {"bytes": data, "path": f"{name}.png"},
        "image_id": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": pixels,
        "generator_id": generator.name,
        "checkpoint_sha256": generator.content,
        "sampler": maker.spec["sampler"],
        "steps": find_steps(maker.spec, generator.spec),
        "guidance": find_guidance(maker.spec, key),
        "seed": seed,
    }


def _list_steps(origin: Origin) -> dict[str, int | None]:
    """Return the sampling steps of each run that generated images."""
    return {
        name: find_steps(run.spec, origin.generators[run.spec["generator"]].spec)
        for name, run in origin.makers.items()
    }


def find_steps(maker: Mapping[str, Any], generator: Mapping[str, Any]) -> int | None:
    """Return a sampler's steps per image: those of the spec, or its default."""
    if maker["steps"] is not None or maker["sampler"] == "direct":
        return maker["steps"]
    uses_all_steps = maker["sampler"] == KIND_FACTS[generator["kind"]].chain
    return generator["steps"] if uses_all_steps else SAMPLERS[maker["sampler"]].steps


def encode_marked(
    image: np.ndarray,
    name: str,
    run: str,
    seed: int,
    label: str,
    answers: Answers,
    generator: Run,
    version: str,
) -> tuple[bytes, str]:
    """Return an image as a PNG file marked by mien `version`, and the sha256 of its pixels."""
    pixels = marks.hash_pixels(image)
    mark = Mark(name, run, seed, label, answers.dataset.licence, pixels[: marks.MARK_DIGITS])
    return marks.encode_png(image, mark, f"mien {generator.spec['kind']}", version), pixels


def _write_audit(
    folder: Path, origin: Origin, audits: Sequence[tuple[Run, dict[str, Any]]]
) -> dict[str, Any] | None:
    """Write the numbers of the audit that decides, and return what the card shows of it.

    Notes that name people, such as equal names in two sets, are left out. Its page is written too,
    if it has no picture.
    """
    if not audits:
        return None
    run, audit = audits[-1]
    notes = audit.get("notes", [])
    unnamed = [note for note in notes if not origin.names.find(str(note), free=True)]
    if len(unnamed) < len(notes):
        omitted = quantify(len(notes) - len(unnamed), "note")
        say(f"left out of the release, because of names of people: {omitted} of {run.name}")
        unnamed.append(f"left out because of names of people: {omitted}")
        audit = {**audit, "notes": unnamed}
    (folder / "audit").mkdir()
    _write_json(folder / "audit" / "audit.json", audit)

    page = run.path / "index.html"
    if page.exists() and not PICTURE_HTML.search(text := page.read_text(encoding="utf-8")):
        (folder / "audit" / "index.html").write_text(text, encoding="utf-8")
    elif page.exists():
        say(
            f"the page of {run.name} has pictures, which may show real faces: the release has its "
            "numbers only"
        )

    return {
        "run": run.name,
        "verdict": audit["verdict"],
        "answers": [_describe_answer(question) for question in audit.get("questions", [])],
        "changed": [str(change.get("text", "")) for change in audit.get("thresholds_changed", [])],
        "rows": [_check_cells(check) for check in audit.get("checks", [])],
    }


def _describe_answer(question: Mapping[str, Any]) -> str:
    """Return the audit's answer to one question, the reason, and what would be enough."""
    enough = f" Enough would be: {question['enough']}." if question.get("enough") else ""
    title, verdict = question.get("title", ""), question.get("verdict", "")
    return f"{title} {verdict}: {question.get('why', '')}.{enough}"


def _check_cells(check: Mapping[str, Any]) -> list[str]:
    """Return a check of the audit as a row of the card's table."""

    def format_number(name: str) -> str:
        value = check.get(name)
        return f"{value:.4g}" if isinstance(value, int | float) else str(value or "")

    low, high = format_number("low"), format_number("high")
    title = f"{check.get('family', '')}: {check.get('name', '')}"
    interval = f"{low} to {high}" if low and high else ""
    cells = [
        title,
        str(check.get("part", "")),
        format_number("value"),
        interval,
        format_number("threshold"),
        format_number("n"),
    ]
    return [cell.replace("|", "/") for cell in [*cells, str(check.get("verdict", ""))]]


def _write_sheet(
    folder: Path, origin: Origin, answers: Answers, signer: signing.Signer | None
) -> None:
    """Write the contact sheet, with the mark of a synthetic image."""
    picture = np.asarray(draw_class_sheet(origin.faces, per_class=SHEET_IMAGES_PER_CLASS))
    image = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    generator = next(iter(origin.generators.values()))
    data, _ = encode_marked(
        image, "contact-sheet", origin.run.name, -1, "", answers, generator, __version__
    )
    (folder / CONTACT_SHEET).parent.mkdir()
    (folder / CONTACT_SHEET).write_bytes(
        data if signer is None else signer.sign(data, CONTACT_SHEET)
    )


def _write_provenance(
    folder: Path, origin: Origin, answers: Answers, facts: Mapping[str, Any]
) -> None:
    """Write the provenance: the release, its runs, the answers, the gates, and the card's facts."""
    # The release itself
    (folder / "provenance").mkdir()
    release = {
        "name": answers.dataset.name,
        "version": answers.dataset.version,
        "licence": answers.dataset.licence,
        "private": facts["private"],
        "signed": facts["signed"],
        "run": origin.run.name,
        "content": origin.run.content,
        "classes": facts["classes"],
        "size": facts["size"],
        **({"channels": facts["channels"]} if facts["channels"] else {}),
        "counts": facts["counts"],
        "formats": facts["formats"],
        "audit": facts["audit"]["run"] if facts["audit"] else None,
        "studies": facts["studies"],
        "mien": __version__,
    }
    _write_json(folder / RELEASE, release)

    # The runs, answers and gates behind it
    _write_json(
        folder / LINEAGE,
        [lineage.make_lineage_entry(run, origin.source_names) for run in origin.lineage],
    )
    _write_json(folder / GATE_DECISIONS, facts["decisions"])
    _write_json(folder / ANSWERS, answers.model_dump(mode="json"))
    _write_json(folder / CARD_JSON, {name: facts[name] for name in card.CARD_ONLY_FACTS})


def _measure_sizes(
    layout: ReleaseLayout, splits: Mapping[str, list[int]]
) -> dict[str, dict[str, int]]:
    sizes = {}
    for split, positions in splits.items():
        path = layout.name_parquet(split)
        num_bytes = sum(len(row["image"]["bytes"]) for row in formats.read_parquet(path))
        sizes[split] = {
            "num_bytes": num_bytes,
            "num_examples": len(positions),
            "download_size": path.stat().st_size,
        }
    return sizes


def _refuse_real_people(folder: Path, origin: Origin) -> None:
    """Raise GateRefused if a release holds a real image, or a name from a source.

    No override opens this gate.
    """
    # Images with the pixels of a real one
    equal = [
        image_id
        for image_id, image in zip(list_image_ids(origin.faces), origin.faces.images, strict=True)
        if marks.hash_pixels(image) in origin.real
    ]
    if equal:
        verb = "is" if len(equal) == 1 else "are"
        raise GateRefused(
            f"no real image may be in a release, and {quantify(len(equal), 'image')} of it {verb} "
            f"equal to one, pixel by pixel: {', '.join(equal[:5])}. Generate the database with a "
            "generator that does not copy"
        )

    # Names in text files; the columns of the other files have no text from the sources
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".png", ".tar", ".parquet"):
            found_names = name_search.find_in_file(path, origin.names, free=path.parent != folder)
            if found_names:
                _refuse_name(path.relative_to(folder).as_posix(), found_names)


def _refuse_copies(origin: Origin, store: Store) -> None:
    """Raise GateRefused if an image copies a real one, also resized, turned, mirrored or moved.

    No override opens this gate.
    """
    say("comparing with every real image behind it")
    copies = origin.find_copies(store)
    if copies:
        image_ids = dict(zip(origin.faces.index["key"], list_image_ids(origin.faces), strict=True))
        number = (
            "1 image of it is a copy"
            if len(copies) == 1
            else f"{len(copies):,} images of it are copies"
        )
        raise GateRefused(
            f"no real image may be in a release, and {number} of one, also if resized, mirrored or "
            f"moved: {', '.join(image_ids[key] for key in copies[:5])}. `mien audit` shows them "
            "next to their originals; generate the database with a generator that does not copy"
        )


def _refuse_names(origin: Origin, answers: Answers, titles: Sequence[str]) -> None:
    """Raise GateRefused if a text that people wrote for a release has a name from a source."""
    written: dict[str, Any] = {
        questions.QUESTIONS_FILE: answers.model_dump(mode="json"),
        "the studies": list(titles),
    }
    for source in origin.sources:
        written[f"what is known of {source.dataset}"] = [
            source.dataset,
            source.licence,
            source.citation,
        ]
    for where, content in written.items():
        for key, text in name_search.walk_texts(content):
            found_names = [*origin.names.find(text), *origin.names.find_in_field(key, text)]
            if found_names:
                _refuse_name(f"{where} ({key})" if key else where, found_names)


def _refuse_name(where: str, found_names: Sequence[str]) -> None:
    """Raise GateRefused because `where` has the first of these names."""
    raise GateRefused(
        f"no subject may be named in a release, and {where} names {found_names[0]}; remove the "
        "name, or rename the subjects of the source before you ingest it"
    )


def write_checksums(folder: Path) -> None:
    """Write checksums.sha256, which `sha256sum -c` reads: one line per file, sorted by name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{hash_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_recorded_answers(folder: Path) -> Answers:
    """Return the answers that a release was built from."""
    return questions.Answers.model_validate_json((folder / ANSWERS).read_text(encoding="utf-8"))


def read_library_versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed here."""
    return describe_making(0.0)["versions"]


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
