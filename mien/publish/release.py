"""Building a release: a folder that others can load in one line, trust, and trace."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mien import __version__, figures
from mien.errors import GateRefused
from mien.faces import Faces
from mien.folders import free, whole
from mien.hashes import perceptual_hash
from mien.progress import say, track
from mien.publish import (
    card,
    croissant,
    formats,
    gates,
    lineage,
    marks,
    names,
    questions,
    registry,
    signing,
    study,
)
from mien.publish.checking import ANSWERS, GATES, KEPT, LINEAGE, RELEASE, SHEET, SUMS
from mien.publish.formats import Layout
from mien.publish.marks import Mark
from mien.publish.origin import Origin, audits, trace
from mien.publish.questions import Answers
from mien.seeds import rng
from mien.spec import read_spec, read_toml
from mien.store import Run, Store, about, sha256
from mien.words import many

PER_CLASS = 12  # images of each class on the contact sheet
AT_ONCE = 500  # images that are encoded in one batch
PICTURES = re.compile(
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
    forms = formats.parse(form)
    out = free(out)
    origin = trace(name, store)
    answered = _answers(origin, answers, store, private)
    origin = origin.renamed(answered.sources)

    # Gates that can be judged before anything is written
    found_audits = audits(origin.run, store)
    decisions = gates.judged(origin, answered, found_audits, private)
    copycats = [name for name, run in origin.generators.items() if run.spec["kind"] == "copycat"]
    if copycats:
        raise GateRefused(
            f"no real image may be in a release, and {copycats[0]} is a copycat, which returns the "
            "images that it was trained on"
        )
    _unnamed(origin, answered, study_names)
    _uncopied(origin, store)

    with whole(out) as folder:
        # The images, in every form
        splits = deal(origin.faces, answered.dataset.test_share)
        layout, classes = Layout(folder), origin.faces.classes
        rows = _images(layout, origin, answered, splits, signer)
        registry.write(folder, rows)
        for split in splits:
            if "imagefolder" in forms:
                formats.write_imagefolder(layout, split, classes)
            if "webdataset" in forms:
                formats.write_webdataset(layout, split, classes)

        # The evidence: audit, studies and contact sheet
        audit = _audit(folder, found_audits)
        titles = [study.write(folder, one, origin.run.name, store) for one in study_names]
        _sheet(folder, origin, answered, signer)

        # The provenance, and the documents that follow from it
        facts = card.told(
            origin,
            answered,
            decisions,
            _counts(rows, splits, classes),
            private,
            audit,
            titles,
            forms,
            signer is not None,
            _steps(origin),
        )
        _provenance(folder, origin, answered, facts)
        card.write(folder, facts, _sizes(layout, splits))
        _json(folder / croissant.FILE, croissant.described(facts, layout))

        # No real image or name, in any file; then the checksums
        _nobody(folder, origin, rows)
        seal(folder)
    return out


def _counts(
    rows: pd.DataFrame, splits: Iterable[str], classes: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the number of images by split and class."""
    counts = {}
    for split in splits:
        labels = rows.loc[rows["split"] == split, "label"].value_counts()
        counts[split] = {name: int(labels.get(name, 0)) for name in classes}
    return counts


def _answers(origin: Origin, path: Path, store: Store, private: bool) -> Answers:
    """Return the answers of a dataset.toml, or write one if there is none.

    A private build needs no answers.
    """
    alias = next(
        (alias for alias, target in store.aliases().items() if target == origin.run.name), ""
    )
    if private:
        data = read_toml(path) if path.exists() else {}
        given = read_spec(Answers, data, str(path))
        open_questions = questions.still_open(given, origin)
        if open_questions:
            say(
                f"{many(len(open_questions), 'question')} of {path} unanswered, and marked as "
                f"such: {', '.join(open_questions)}"
            )
        return questions.unanswered(given, origin, alias)
    if not path.exists():
        raise questions.asked(path, questions.begin(path, origin, alias))
    return questions.read(path, origin)


def deal(faces: Faces, test_share: float) -> dict[str, list[int]]:
    """Return the positions of the images of each split, in order.

    The split depends only on the classes and their numbers of images.
    """
    index = faces.index
    test: set[int] = set()
    for name in faces.classes:
        positions = np.flatnonzero((index["emotion"] == name).to_numpy())
        order = rng("release", name, len(positions)).permutation(len(positions))
        test |= set(positions[order[: round(test_share * len(positions))]].tolist())
    train = [position for position in range(len(index)) if position not in test]
    return {"train": train, **({"test": sorted(test)} if test else {})}


def _images(
    layout: Layout,
    origin: Origin,
    answers: Answers,
    splits: Mapping[str, list[int]],
    signer: signing.Signer | None,
) -> pd.DataFrame:
    """Write the Parquet files, and return the rows of the registry."""
    image_ids, classes = ids(origin.faces), list(origin.faces.classes)
    index = {
        column: origin.faces.index[column].tolist() for column in ("emotion", "source", "seed")
    }
    registry_rows: list[tuple[str, ...]] = []

    def rows(split: str, positions: list[int]) -> Iterator[dict[str, Any]]:
        with track(f"writing {split}", len(positions)) as tracker:
            for first in range(0, len(positions), AT_ONCE):
                # A batch of images, so that memory does not hold them all
                batch = positions[first : first + AT_ONCE]
                images = np.asarray(origin.faces.images[batch])
                hashes = perceptual_hash(images)

                for position, image, bits in zip(batch, images, hashes, strict=True):
                    image_id = image_ids[position]
                    emotion, source, seed = (index[column][position] for column in index)
                    identity = (image_id, source, seed, emotion)
                    row = _row(origin, answers, image, identity, signer)
                    row |= {
                        "label": classes.index(emotion),
                        "phash": f"{bits:016x}",
                        "split": split,
                    }
                    digests = (row[name] for name in registry.COLUMNS[3:])
                    registry_rows.append((image_id, split, emotion, *digests))
                    yield row
                tracker.update(first + len(batch))

    for split, positions in splits.items():
        formats.write_parquet(layout.parquet(split), rows(split, positions), classes)
    return pd.DataFrame(registry_rows, columns=list(registry.COLUMNS), dtype="str")


def ids(faces: Faces) -> list[str]:
    """Return a name for each image in its release, such as happiness-00012.

    Names have no dots, which end the key of a sample in shards.
    """
    counts = dict.fromkeys(faces.classes, 0)
    image_ids = []
    for emotion in faces.index["emotion"]:
        image_ids.append(f"{emotion}-{counts[emotion]:05d}")
        counts[emotion] += 1
    return image_ids


def _row(
    origin: Origin,
    answers: Answers,
    image: np.ndarray,
    identity: tuple[str, str, int, str],
    signer: signing.Signer | None,
) -> dict[str, Any]:
    """Return the columns that depend only on the image.

    `identity` is its name, the run that generated it, its seed and its emotion.
    """
    name, source, seed, _ = identity
    maker = origin.makers[source]
    generator = origin.generators[maker.spec["generator"]]
    data, pixels = marked(image, *identity, answers, generator, __version__)
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
        "steps": taken(maker.spec, generator.spec),
        "guidance": maker.spec["guidance"],
        "seed": seed,
    }


def _steps(origin: Origin) -> dict[str, int | None]:
    """Return the sampling steps of each run that generated images."""
    return {
        name: taken(run.spec, origin.generators[run.spec["generator"]].spec)
        for name, run in origin.makers.items()
    }


def taken(maker: Mapping[str, Any], generator: Mapping[str, Any]) -> int | None:
    """Return a sampler's steps per image: those of the spec, or its default."""
    if maker["steps"] is not None or maker["sampler"] == "direct":
        return maker["steps"]
    from mien.generators.edm import STEPS  # here, because it loads torch

    uses_all_steps = maker["sampler"] == "ancestral" and generator["kind"] == "ddpm"
    return generator["steps"] if uses_all_steps else STEPS[maker["sampler"]]


def marked(
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
    pixels = marks.pixels_of(image)
    mark = Mark(name, run, seed, label, answers.dataset.licence, pixels[: marks.DIGITS])
    return marks.png(image, mark, f"mien {generator.spec['kind']}", version), pixels


def _audit(folder: Path, audits: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any] | None:
    """Write the numbers of the audit that decides, and return what the card shows of it.

    Its page is written too, if it has no picture.
    """
    if not audits:
        return None
    run, audit = audits[-1]
    (folder / "audit").mkdir()
    _json(folder / "audit" / "audit.json", audit)

    page = run.path / "index.html"
    if page.exists() and not PICTURES.search(text := page.read_text(encoding="utf-8")):
        (folder / "audit" / "index.html").write_text(text, encoding="utf-8")
    elif page.exists():
        say(
            f"the page of {run.name} has pictures, which may show real faces: the release has its "
            "numbers only"
        )

    return {
        "run": run.name,
        "verdict": audit["verdict"],
        "answers": [_answer(question) for question in audit.get("questions", [])],
        "changed": [str(change.get("text", "")) for change in audit.get("thresholds_changed", [])],
        "rows": [_check(check) for check in audit.get("checks", [])],
    }


def _answer(question: Mapping[str, Any]) -> str:
    """Return the audit's answer to one question, the reason, and what would be enough."""
    enough = f" Enough would be: {question['enough']}." if question.get("enough") else ""
    title, verdict = question.get("title", ""), question.get("verdict", "")
    return f"{title} {verdict}: {question.get('why', '')}.{enough}"


def _check(check: Mapping[str, Any]) -> list[str]:
    """Return a check of the audit as a row of the card's table."""

    def number(name: str) -> str:
        value = check.get(name)
        return f"{value:.4g}" if isinstance(value, int | float) else str(value or "")

    low, high = number("low"), number("high")
    title = f"{check.get('family', '')}: {check.get('name', '')}"
    interval = f"{low} to {high}" if low and high else ""
    cells = [
        title,
        str(check.get("part", "")),
        number("value"),
        interval,
        number("threshold"),
        number("n"),
    ]
    return [cell.replace("|", "/") for cell in [*cells, str(check.get("verdict", ""))]]


def _sheet(folder: Path, origin: Origin, answers: Answers, signer: signing.Signer | None) -> None:
    """Write the contact sheet, with the mark of a synthetic image."""
    picture = np.asarray(figures.class_sheet(origin.faces, per_class=PER_CLASS))
    image = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    generator = next(iter(origin.generators.values()))
    data, _ = marked(
        image, "contact-sheet", origin.run.name, -1, "", answers, generator, __version__
    )
    (folder / SHEET).parent.mkdir()
    (folder / SHEET).write_bytes(data if signer is None else signer.sign(data, SHEET))


def _provenance(folder: Path, origin: Origin, answers: Answers, facts: Mapping[str, Any]) -> None:
    """Write the provenance: the release, its runs, the answers, the gates, and the card's facts."""
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
        "counts": facts["counts"],
        "formats": facts["formats"],
        "audit": facts["audit"]["run"] if facts["audit"] else None,
        "studies": facts["studies"],
        "mien": __version__,
    }
    _json(folder / RELEASE, release)
    _json(folder / LINEAGE, [lineage.told(run, origin.called) for run in origin.lineage])
    _json(folder / GATES, facts["decisions"])
    _json(folder / ANSWERS, answers.model_dump(mode="json"))
    _json(folder / KEPT, {name: facts[name] for name in card.KEPT})


def _sizes(layout: Layout, splits: Mapping[str, list[int]]) -> dict[str, dict[str, int]]:
    sizes = {}
    for split, positions in splits.items():
        path = layout.parquet(split)
        num_bytes = sum(len(row["image"]["bytes"]) for row in formats.read_parquet(path))
        sizes[split] = {
            "num_bytes": num_bytes,
            "num_examples": len(positions),
            "download_size": path.stat().st_size,
        }
    return sizes


def _nobody(folder: Path, origin: Origin, rows: pd.DataFrame) -> None:
    """Raise GateRefused if a release holds a real image, or a name from a source.

    No override opens this gate.
    """
    # Images with the pixels of a real one
    real = set(rows["pixels_sha256"]) & origin.real
    if real:
        equal = rows.loc[rows["pixels_sha256"].isin(real), "image_id"].tolist()
        verb = "is" if len(equal) == 1 else "are"
        raise GateRefused(
            f"no real image may be in a release, and {many(len(equal), 'image')} of it {verb} "
            f"equal to one, pixel by pixel: {', '.join(equal[:5])}. Generate the database with a "
            "generator that does not copy"
        )

    # Names in text files; the columns of the other files have no text from the sources
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".png", ".tar", ".parquet"):
            found_names = names.told_in(path, origin.names, free=path.parent != folder)
            if found_names:
                _named(path.relative_to(folder).as_posix(), found_names)


def _uncopied(origin: Origin, store: Store) -> None:
    """Raise GateRefused if an image copies a real one, also resized, turned, mirrored or moved.

    No override opens this gate.
    """
    say("comparing with every real image behind it")
    copies = origin.copied(store)
    if copies:
        image_ids = dict(zip(origin.faces.index["key"], ids(origin.faces), strict=True))
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


def _unnamed(origin: Origin, answers: Answers, titles: Sequence[str]) -> None:
    """Raise GateRefused if a text that people wrote for a release has a name from a source."""
    written: dict[str, Any] = {
        "dataset.toml": answers.model_dump(mode="json"),
        "the studies": list(titles),
    }
    for source in origin.sources:
        written[f"what is known of {source.dataset}"] = [
            source.dataset,
            source.licence,
            source.citation,
        ]
    for where, content in written.items():
        for key, text in names.texts(content):
            found_names = [*origin.names.find(text), *origin.names.told_by(key, text)]
            if found_names:
                _named(f"{where} ({key})" if key else where, found_names)


def _named(where: str, found_names: Sequence[str]) -> None:
    """Raise GateRefused because `where` has the first of these names."""
    raise GateRefused(
        f"no subject may be named in a release, and {where} names {found_names[0]}; remove the "
        "name, or rename the subjects of the source before you ingest it"
    )


def seal(folder: Path) -> None:
    """Write checksums.sha256, which `sha256sum -c` reads: one line per file, sorted by name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def recorded(folder: Path) -> Answers:
    """Return the answers that a release was built from."""
    return questions.Answers.model_validate_json((folder / ANSWERS).read_text(encoding="utf-8"))


def about_now() -> dict[str, str]:
    """Return the versions of the libraries that are installed here."""
    return about(0.0)["versions"]


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
