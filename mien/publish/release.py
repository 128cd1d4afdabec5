"""Building a release: a folder that others can load in one line, trust, and trace."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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

PER_CLASS = 12  # images a class on the contact sheet
AT_ONCE = 500  # images that are encoded at once
PICTURES = re.compile(
    r"<img|<image|<object|<embed|<iframe|<video|<canvas|data:image|url\(", re.IGNORECASE
)
"""What a page must be free of to be taken over: it may show real faces."""


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
    """Write the release of the synthetic database that `name` stands for to `out`, and return that
    folder.

    `answers` is a dataset.toml: if it is not there, it is written to be answered. The folder
    appears whole or not at all, and equal input gives equal bytes, but for signatures. Raises
    UsageError with the questions that are open, and GateRefused if licences, the audit, or a real
    image stand against it.
    """
    forms = formats.parse(form)
    out = free(out)
    origin = trace(name, store)
    asked = _answers(origin, answers, store, private)
    origin = origin.renamed(asked.sources)
    found = audits(origin.run, store)
    decisions = gates.judged(origin, asked, found, private)
    copied = [name for name, run in origin.generators.items() if run.spec["kind"] == "copycat"]
    if copied:
        raise GateRefused(
            f"no real image may be in a release, and {copied[0]} is a copycat, which hands out "
            "the images that it saw"
        )
    _unnamed(origin, asked, study_names)
    _uncopied(origin, store)
    with whole(out) as folder:
        splits = deal(origin.faces, asked.dataset.test_share)
        layout, classes = Layout(folder), origin.faces.classes
        told_of = _images(layout, origin, asked, splits, signer)
        registry.write(folder, told_of)
        for split in splits:
            if "imagefolder" in forms:
                formats.write_imagefolder(layout, split, classes)
            if "webdataset" in forms:
                formats.write_webdataset(layout, split, classes)
        audit = _audit(folder, found)
        titles = [study.write(folder, one, origin.run.name, store) for one in study_names]
        _sheet(folder, origin, asked, signer)
        rows = {
            split: told_of.loc[told_of["split"] == split, "label"].value_counts()
            for split in splits
        }
        counts = {
            split: {name: int(each.get(name, 0)) for name in classes}
            for split, each in rows.items()
        }
        told = card.told(
            origin, asked, decisions, counts, private, audit, titles, forms, signer is not None, _steps(origin)
        )  # fmt: skip
        _provenance(folder, origin, asked, told)
        card.write(folder, told, _sizes(layout, splits))
        _json(folder / croissant.FILE, croissant.described(told, layout))
        _nobody(folder, origin, told_of)
        seal(folder)
    return out


def _answers(origin: Origin, path: Path, store: Store, private: bool) -> Answers:
    """Return the answers of a dataset.toml, which is written if it is not there; a private build
    does without.
    """
    alias = next(
        (alias for alias, target in store.aliases().items() if target == origin.run.name), ""
    )
    if private:
        data = read_toml(path) if path.exists() else {}
        given = read_spec(Answers, data, str(path))
        left = questions.still_open(given, origin)
        if left:
            say(
                f"{many(len(left), 'question')} of {path} unanswered, and marked so: "
                f"{', '.join(left)}"
            )
        return questions.unanswered(given, origin, alias)
    if not path.exists():
        raise questions.asked(path, questions.begin(path, origin, alias))
    return questions.read(path, origin)


def deal(faces: Faces, test_share: float) -> dict[str, list[int]]:
    """Return the places of the images of each split, in their order; which is which hangs on class
    and number alone.
    """
    index = faces.index
    test: set[int] = set()
    for name in faces.classes:
        places = np.flatnonzero((index["emotion"] == name).to_numpy())
        order = rng("release", name, len(places)).permutation(len(places))
        test |= set(places[order[: round(test_share * len(places))]].tolist())
    train = [place for place in range(len(index)) if place not in test]
    return {"train": train, **({"test": sorted(test)} if test else {})}


def _images(
    layout: Layout,
    origin: Origin,
    answers: Answers,
    splits: Mapping[str, list[int]],
    signer: signing.Signer | None,
) -> pd.DataFrame:
    """Write the Parquet files, and return the registry's rows."""
    named, classes = ids(origin.faces), list(origin.faces.classes)
    index = {
        column: origin.faces.index[column].tolist() for column in ("emotion", "source", "seed")
    }
    kept: list[tuple[str, ...]] = []

    def rows(split: str, places: list[int]) -> Iterator[dict[str, Any]]:
        with track(f"writing {split}", len(places)) as tracker:
            for first in range(0, len(places), AT_ONCE):
                part = places[first : first + AT_ONCE]
                images = np.asarray(origin.faces.images[part])
                for place, image, bits in zip(part, images, perceptual_hash(images), strict=True):
                    emotion, source, seed = (index[column][place] for column in index)
                    row = _row(
                        origin, answers, image, (named[place], source, seed, emotion), signer
                    )
                    row |= {
                        "label": classes.index(emotion),
                        "phash": f"{bits:016x}",
                        "split": split,
                    }
                    kept.append(
                        (
                            named[place],
                            split,
                            emotion,
                            *(row[name] for name in registry.COLUMNS[3:]),
                        )
                    )
                    yield row
                tracker.update(first + len(part))

    for split, places in splits.items():
        formats.write_parquet(layout.parquet(split), rows(split, places), classes)
    return pd.DataFrame(kept, columns=list(registry.COLUMNS), dtype="str")


def ids(faces: Faces) -> list[str]:
    """Return a name for each image within its release, such as happiness-00012; no dots, which end
    a name in shards.
    """
    counts = dict.fromkeys(faces.classes, 0)
    found = []
    for emotion in faces.index["emotion"]:
        found.append(f"{emotion}-{counts[emotion]:05d}")
        counts[emotion] += 1
    return found


def _row(
    origin: Origin,
    answers: Answers,
    image: np.ndarray,
    who: tuple[str, str, int, str],
    signer: signing.Signer | None,
) -> dict[str, Any]:
    """Return what hangs on the image alone; `who` is its name, the run that made it, its seed and
    its emotion.
    """
    name, source, seed, _ = who
    maker = origin.makers[source]
    generator = origin.generators[maker.spec["generator"]]
    data, pixels = marked(image, *who, answers, generator, __version__)
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
    """Return the steps that each generation took, by its run."""
    return {
        name: taken(run.spec, origin.generators[run.spec["generator"]].spec)
        for name, run in origin.makers.items()
    }


def taken(maker: Mapping[str, Any], generator: Mapping[str, Any]) -> int | None:
    """Return how many steps a sampler took for an image: its own number unless one was asked
    for.
    """
    if maker["steps"] is not None or maker["sampler"] == "direct":
        return maker["steps"]
    from mien.generators.edm import STEPS  # here, since it loads torch

    all_of_them = maker["sampler"] == "ancestral" and generator["kind"] == "ddpm"
    return generator["steps"] if all_of_them else STEPS[maker["sampler"]]


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
    """Return an image as a PNG file, marked by mien `version`, and the sha256 of its pixels."""
    pixels = marks.pixels_of(image)
    mark = Mark(name, run, seed, label, answers.dataset.licence, pixels[: marks.DIGITS])
    return marks.png(image, mark, f"mien {generator.spec['kind']}", version), pixels


def _audit(folder: Path, found: Sequence[tuple[Run, dict[str, Any]]]) -> dict[str, Any] | None:
    """Write the newest audit's numbers, and its page if that has no picture; return what the card
    shows of it.
    """
    if not found:
        return None
    run, said = found[-1]
    (folder / "audit").mkdir()
    _json(folder / "audit" / "audit.json", said)
    page = run.path / "index.html"
    if page.exists() and not PICTURES.search(text := page.read_text(encoding="utf-8")):
        (folder / "audit" / "index.html").write_text(text, encoding="utf-8")
    elif page.exists():
        say(
            f"the page of {run.name} has pictures, which may show real faces: its numbers are "
            "taken over without it"
        )
    return {
        "run": run.name,
        "verdict": said["verdict"],
        "answers": [_answer(one) for one in said.get("questions", [])],
        "changed": [str(one.get("text", "")) for one in said.get("thresholds_changed", [])],
        "rows": [_check(one) for one in said.get("checks", [])],
    }


def _answer(one: Mapping[str, Any]) -> str:
    """Return what the audit answers to one of its questions, why, and what would be enough to
    tell.
    """
    enough = f" Enough would be: {one['enough']}." if one.get("enough") else ""
    return f"{one.get('title', '')} {one.get('verdict', '')}: {one.get('why', '')}.{enough}"


def _check(one: Mapping[str, Any]) -> list[str]:
    """Return a check of the audit as a row of the card's table."""

    def number(name: str) -> str:
        value = one.get(name)
        return f"{value:.4g}" if isinstance(value, int | float) else str(value or "")

    low, high = number("low"), number("high")
    named = f"{one.get('family', '')}: {one.get('name', '')}"
    interval = f"{low} to {high}" if low and high else ""
    parts = [
        named,
        str(one.get("part", "")),
        number("value"),
        interval,
        number("threshold"),
        number("n"),
    ]
    return [part.replace("|", "/") for part in [*parts, str(one.get("verdict", ""))]]


def _sheet(folder: Path, origin: Origin, answers: Answers, signer: signing.Signer | None) -> None:
    """Write the contact sheet, marked as what it is made of."""
    picture = np.asarray(figures.class_sheet(origin.faces, per_class=PER_CLASS))
    image = np.ascontiguousarray(np.moveaxis(picture, 2, 0))
    generator = next(iter(origin.generators.values()))
    data, _ = marked(
        image, "contact-sheet", origin.run.name, -1, "", answers, generator, __version__
    )
    (folder / SHEET).parent.mkdir()
    (folder / SHEET).write_bytes(data if signer is None else signer.sign(data, SHEET))


def _provenance(folder: Path, origin: Origin, answers: Answers, told: Mapping[str, Any]) -> None:
    """Write where it comes from: specs, digests and versions of all runs, the answers, and how the
    gates came out.
    """
    (folder / "provenance").mkdir()
    _json(
        folder / RELEASE,
        {
            "name": answers.dataset.name,
            "version": answers.dataset.version,
            "licence": answers.dataset.licence,
            "private": told["private"],
            "signed": told["signed"],
            "run": origin.run.name,
            "content": origin.run.content,
            "classes": told["classes"],
            "size": told["size"],
            "counts": told["counts"],
            "formats": told["formats"],
            "audit": told["audit"]["run"] if told["audit"] else None,
            "studies": told["studies"],
            "mien": __version__,
        },
    )
    _json(folder / LINEAGE, [lineage.told(run, origin.called) for run in origin.lineage])
    _json(folder / GATES, told["decisions"])
    _json(folder / ANSWERS, answers.model_dump(mode="json"))
    _json(folder / KEPT, {name: told[name] for name in card.KEPT})


def _sizes(layout: Layout, splits: Mapping[str, list[int]]) -> dict[str, dict[str, int]]:
    found = {}
    for split, places in splits.items():
        path = layout.parquet(split)
        size = sum(len(row["image"]["bytes"]) for row in formats.read_parquet(path))
        found[split] = {
            "num_bytes": size,
            "num_examples": len(places),
            "download_size": path.stat().st_size,
        }
    return found


def _nobody(folder: Path, origin: Origin, rows: pd.DataFrame) -> None:
    """Raise GateRefused if a real image, or the name of a subject, clip or image of a source, is in
    a release.

    No override opens this gate.
    """
    real = set(rows["pixels_sha256"]) & origin.real
    if real:
        equal = rows.loc[rows["pixels_sha256"].isin(real), "image_id"].tolist()
        raise GateRefused(
            f"no real image may be in a release, and {many(len(equal), 'image')} of it "
            f"{'is' if len(equal) == 1 else 'are'} equal to one, pixel by "
            f"pixel: "
            f"{', '.join(equal[:5])}. Make the database with a generator that does not copy"
        )
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (
            ".png",
            ".tar",
            ".parquet",
        ):  # whose columns are made here
            said = names.told_in(path, origin.names, free=path.parent != folder)
            if said:
                _named(path.relative_to(folder).as_posix(), said)


def _uncopied(origin: Origin, store: Store) -> None:
    """Raise GateRefused if an image is a copy of a real one, also resized, turned, flipped or
    moved; no override.
    """
    say("comparing with every real image behind it")
    found = origin.copied(store)
    if found:
        named = dict(zip(origin.faces.index["key"], ids(origin.faces), strict=True))
        number = (
            "1 image of it is a copy"
            if len(found) == 1
            else f"{len(found):,} images of it are copies"
        )
        raise GateRefused(
            f"no real image may be in a release, and {number} of one, also if resized, mirrored "
            "or moved: "
            f"{', '.join(named[key] for key in found[:5])}. `mien audit` shows them beside their "
            "originals; make the "
            "database with a generator that does not copy"
        )


def _unnamed(origin: Origin, answers: Answers, titles: Sequence[str]) -> None:
    """Raise GateRefused if what people or strangers wrote for a release names a subject, clip or
    image of a source.
    """
    written: dict[str, Any] = {
        "dataset.toml": answers.model_dump(mode="json"),
        "the studies": list(titles),
    }
    for one in origin.sources:
        written[f"what is known of {one.dataset}"] = [one.dataset, one.licence, one.citation]
    for where, content in written.items():
        for key, text in names.texts(content):
            said = [*origin.names.find(text), *origin.names.told_by(key, text)]
            if said:
                _named(f"{where} ({key})" if key else where, said)


def _named(where: str, said: Sequence[str]) -> None:
    raise GateRefused(
        f"no subject may be named in a release, and {where} names {said[0]}; say it without, or "
        "give the "
        "subjects of the source other names before they are ingested"
    )


def seal(folder: Path) -> None:
    """Write checksums.sha256, which `sha256sum -c` reads: one line a file, in the order of
    names.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def recorded(folder: Path) -> Answers:
    """Return the answers that a release was built from."""
    return questions.Answers.model_validate_json((folder / ANSWERS).read_text(encoding="utf-8"))


def about_now() -> dict[str, str]:
    """Return the versions of the libraries that are at work here."""
    return about(0.0)["versions"]


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
