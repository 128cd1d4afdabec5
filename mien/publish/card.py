"""What people read of a release: card, datasheet, licence and citation, all from one set of
answers.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mien import __version__, escape, licences
from mien.progress import many
from mien.publish.formats import features
from mien.publish.gates import Decision
from mien.publish.origin import Origin, Source
from mien.publish.questions import OTHER, Answers

CARD, DATASHEET, CITATION, LICENCE = "README.md", "DATASHEET.md", "CITATION.cff", "LICENSE"
THIN = 5  # images made for each one seen, above which a class is thin
FEW = 10  # people seen in a class, below which it is thin
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

EXCLUDED = (
    "inferring what a person feels, means or intends from a face, in any setting",
    (
        "emotion recognition at work or in education, which Article 5(1)(f) of the EU's AI Act "
        "bans "
        "since 2 February 2025"
    ),
    "recruiting, policing, border control, lie detection, insurance, credit, or medical decisions",
    "identifying or verifying people, or trying to find out who was in the sources",
    "passing an image off as a photograph, or taking its marks off",
)
LABELS = (
    "Labels name facial expressions: each is the class that the generator was asked for, and no "
    "person checked it. "
    "They never say what a person feels; nobody in these pictures exists."
)
FREE_OF_MARKS = (
    "Marks are gone once an image is saved anew by a program that drops them; registry.parquet "
    "then knows it by its "
    "pixels, or as a likeness. There is no watermark in the pixels, since it would change what is "
    "learnt from them."
)


def told(
    origin: Origin,
    answers: Answers,
    decisions: Sequence[Decision],
    rows: Mapping[str, Mapping[str, int]],
    private: bool,
    audit: Mapping[str, Any] | None,
    studies: Sequence[str],
    forms: Sequence[str],
    signed: bool,
    steps: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return what all documents of a release share: `rows` counts by split and class, `steps` by
    run.
    """
    how = [_drawn(run.spec, steps[name]) for name, run in origin.makers.items()]
    release = {
        "classes": list(origin.faces.classes),
        "counts": {split: dict(counts) for split, counts in rows.items()},
        "size": list(origin.faces.size),
        "run": origin.run.name,
        "content": origin.run.content,
        "mien": __version__,
        "private": private,
        "signed": signed,
        "studies": list(studies),
        "formats": list(forms),
    }
    kept = {
        "made_by": f"Images were drawn by {'; '.join(dict.fromkeys(how))}.",
        "generators": [_generator(name, run.spec) for name, run in origin.generators.items()],
        "sources": [_source(one) for one in origin.sources],
        "table": origin.classes.to_dict("records"),
        "warnings": warnings(origin),
        "preprocessing": _prepared(origin),
        "audit": audit,
    }
    gates = [
        {"gate": one.gate, "outcome": one.outcome, "text": one.text}
        | ({"override": one.override.model_dump(mode="json")} if one.override else {})
        for one in decisions
    ]
    return again(release, answers, gates, kept)


KEPT = ("made_by", "generators", "sources", "table", "warnings", "preprocessing", "audit")
"""What documents say and nothing else in a release does: provenance/card.json holds it, to write
them again.
"""


def again(
    release: Mapping[str, Any],
    answers: Answers,
    gates: Sequence[Mapping[str, Any]],
    kept: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what all documents of a release share, from what stands in its provenance alone."""
    data = answers.model_dump(mode="json")
    named = (
        "classes",
        "counts",
        "size",
        "run",
        "content",
        "mien",
        "private",
        "signed",
        "studies",
        "formats",
    )
    return {
        **{name: release[name] for name in named},
        **{name: kept[name] for name in KEPT},
        "answers": data,
        "asks": list(answers.dataset.asks),
        "conditions": [licences.CONDITIONS[one] for one in answers.dataset.asks],
        "licence_link": licences.link(answers.dataset.licence),
        "licence_title": answers.dataset.licence_name
        if answers.dataset.licence == OTHER
        else answers.dataset.licence,
        "splits": list(release["counts"]),
        "total": sum(sum(counts.values()) for counts in release["counts"].values()),
        "decisions": list(gates),
        "excluded": [*EXCLUDED, *([data["uses"]["excluded"]] if data["uses"]["excluded"] else [])],
        "labels_are": LABELS,
        "marks_are": FREE_OF_MARKS,
        "filtering": "Every image that was drawn is here; none was left out or changed afterwards.",
        "keywords": [
            *dict.fromkeys(
                ["facial expressions", "synthetic", "images", *data["dataset"]["keywords"]]
            )
        ],
        "bibtex": bibtex(answers),
    }


def _source(one: Source) -> dict[str, Any]:
    """Return what is told of a source."""
    return {
        "name": one.terms.name,
        "dataset": one.dataset,
        "licence": one.licence,
        "told": one.told,
        "citation": one.citation,
        "originals": one.terms.originals,
        "derived": one.terms.derived,
        "terms": one.terms.source,
        "asks": [licences.CONDITIONS[each] for each in one.terms.conditions],
    }


def warnings(origin: Origin) -> list[str]:
    """Return what is thin about a database, class by class, in sentences."""
    found = []
    for row in origin.classes.to_dict("records"):
        name, made, seen, ratio = row["class"], row["images"], row["seen_images"], row["ratio"]
        if ratio > THIN:
            found.append(
                f"{name}: {many(made, 'image')} {'was' if made == 1 else 'were'} made from "
                f"{seen:,} that "
                f"{'was' if seen == 1 else 'were'} seen, {ratio:.1f} for each."
            )
        if 0 < row["seen_subjects"] < FEW:
            found.append(f"{name}: its generators saw {_people(row['seen_subjects'])}.")
        if seen and made == seen:
            found.append(f"{name}: as many images were made as were seen ({made:,}).")
    if any("casme" in one.dataset or "CASME" in one.terms.name for one in origin.sources):
        found.append(
            "CASME II shows young adults recorded in China: the images show no other people."
        )
    return found


def bibtex(answers: Answers) -> str:
    """Return a BibTeX entry."""
    data = answers.dataset
    authors = " and ".join(
        name if "," in name else f"{{{name}}}" for name in map(_field, data.authors)
    )
    fields = {
        "title": _field(data.title),
        "author": authors,
        "year": data.date[:4],
        "version": data.version,
        "url": _field(data.url),
    }
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{data.name},\n{lines}\n}}"


def _field(text: str) -> str:
    """Return a text as a field of BibTeX in one line: a brace would end it."""
    return " ".join(escape.printable(text).split()).translate(
        {ord("{"): "(", ord("}"): ")", ord("\\"): "/"}
    )


def header(found: Mapping[str, Any], files: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the YAML of the card; `files` has num_bytes, num_examples and download_size of each
    split.
    """
    data, other = found["answers"]["dataset"], found["answers"]["dataset"]["licence"] == OTHER
    numbered: dict[str, Any] = {
        "class_label": {"names": {str(n): name for n, name in enumerate(found["classes"])}}
    }
    kinds, kinds_of = [], sorted({one["kind"] for one in found["generators"]})
    for name, kind in features(found["classes"]).items():
        kinds.append(
            {"name": name, "dtype": kind.get("dtype", "image" if name == "image" else numbered)}
        )
    return {
        "license": OTHER if other else data["licence"],
        **({"license_name": data["licence_name"], "license_link": LICENCE} if other else {}),
        "pretty_name": data["title"],
        "language": ["en"],
        "task_categories": ["image-classification"],
        "task_ids": ["multi-class-image-classification"],
        "size_categories": [
            next((name for limit, name in SIZES if found["total"] < limit), "n>1M")
        ],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["extended"],
        "tags": ["image", "synthetic", "facial-expression", "croissant", *kinds_of],
        "configs": [
            {
                "config_name": "synthetic",
                "default": True,
                "data_files": [
                    {"split": split, "path": f"data/{split}-*"} for split in found["splits"]
                ],
            }
        ],
        "dataset_info": {
            "config_name": "synthetic",
            "features": kinds,
            "splits": [
                {"name": split, "num_bytes": one["num_bytes"], "num_examples": one["num_examples"]}
                for split, one in files.items()
            ],
            "download_size": sum(one["download_size"] for one in files.values()),
            "dataset_size": sum(one["num_bytes"] for one in files.values()),
        },
        "extra_gated_prompt": "Images of faces that a machine drew, after pictures of real people.",
        "extra_gated_fields": {
            "I do not try to find out who was in the sources": "checkbox",
            "I do not infer what people feel, at work, in education or elsewhere": "checkbox",
            (
                "I do not pass the images on without this card, their licence and their marks"
            ): "checkbox",
            "I cite this dataset and its sources": "checkbox",
        },
    }


def write(folder: Path, found: Mapping[str, Any], files: Mapping[str, Mapping[str, int]]) -> None:
    """Write README.md, DATASHEET.md, CITATION.cff and LICENSE."""
    for name, text in documents(found, files).items():
        (folder / name).write_text(text, encoding="utf-8")


def documents(found: Mapping[str, Any], files: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Return the text of README.md, DATASHEET.md, CITATION.cff and LICENSE by name."""
    markdown, plain = _environment(escape.markdown), _environment(_line)
    top = _yaml(header(found, files))
    return {
        CARD: f"---\n{top}---\n\n{markdown.get_template('card.md').render(found)}",
        DATASHEET: markdown.get_template("datasheet.md").render(found),
        LICENCE: plain.get_template("licence.txt").render(found),
        CITATION: _yaml(citation(found)),
    }


class _Made(str):
    """A text that was made for the document that it goes into; all others are escaped on their way
    there.
    """


def _environment(escaped: Callable[[str], str]) -> Environment:
    """Return templates in which every text that is put in is `escaped`, but for those that a filter
    has made.
    """

    def put(value: Any) -> Any:
        return escaped(value) if isinstance(value, str) and not isinstance(value, _Made) else value

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=put,
    )
    environment.filters["para"] = lambda text: _Made(escape.paragraph(text))
    environment.filters["cells"] = lambda texts: _Made(
        " | ".join(escape.markdown(text) for text in texts)
    )
    environment.filters["code"] = lambda text: _Made(escape.markup(text))
    environment.filters["licence_text"] = lambda text: _Made(escape.licence_text(text))
    return environment


def _line(text: str) -> str:
    """Return a text in one line of a plain file that a browser may be shown."""
    return escape.markup(" ".join(escape.printable(text).split()))


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(_marked_up(content), sort_keys=False, allow_unicode=True, width=110)


def _marked_up(content: Any) -> Any:
    """Return what goes into YAML, with no tag of HTML in any text: hubs put some of it into their
    pages.
    """
    if isinstance(content, Mapping):
        return {name: _marked_up(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_marked_up(value) for value in content]
    return _line(content) if isinstance(content, str) else content


def citation(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return CITATION.cff (citation-file-format 1.2.0)."""
    data = found["answers"]["dataset"]
    authors = []
    for name in data["authors"]:
        family, comma, given = (part.strip() for part in name.partition(","))
        authors.append({"family-names": family, "given-names": given} if comma else {"name": name})
    cited = [
        {
            "type": "dataset",
            "title": one["name"],
            "authors": [{"name": "its authors"}],
            "notes": one["citation"],
        }
        for one in found["sources"]
        if one["citation"]
    ]
    spdx = {"cc0-1.0": "CC0-1.0", "mit": "MIT", "apache-2.0": "Apache-2.0"}
    licence = spdx.get(data["licence"], data["licence"].upper())
    return {
        "cff-version": "1.2.0",
        "message": "If you use this dataset, please cite it and its sources.",
        "type": "dataset",
        "title": data["title"],
        "authors": authors,
        "version": data["version"],
        "date-released": data["date"],
        "url": data["url"],
        **({} if data["licence"] == OTHER else {"license": licence}),
        "keywords": found["keywords"],
        **({"references": cited} if cited else {}),
    }


def _drawn(spec: Mapping[str, Any], number: int | None) -> str:
    steps = f" in {many(number, 'step')}" if number else ""
    guidance = f" with guidance {spec['guidance']:g}" if spec.get("guidance", 1) > 1 else ""
    return f"{spec['generator']} (sampler {spec['sampler']}{steps}{guidance}, seed {spec['seed']})"


def _generator(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    learnt = (
        f"{many(spec['images_seen'], 'image')} shown in training"
        if "images_seen" in spec
        else "fitted in one go"
    )
    return {"run": name, "kind": spec["kind"], "learnt": learnt, "faces": spec["faces"]}


def _prepared(origin: Origin) -> str:
    steps = []
    for run in origin.lineage:
        spec = run.spec
        if run.stage == "ingest":
            steps.append(
                f"{origin.called[run.name]}: read, turned {spec['colour']}, resized to "
                f"{spec['size']}x{spec['size']}"
            )
        elif run.stage == "faces":
            kept = (
                "all frames"
                if spec["frames"] == "all"
                else f"frames within {spec['window']} of each clip's apex"
            )
            steps.append(
                f"{kept} kept{', folded to ' + spec['classes'] if spec['classes'] else ''}"
            )
        elif run.stage == "split":
            steps.append(f"the {spec['side']} side of a split by {spec['by']} taken")
    return "; ".join(steps) + "." if steps else "None that is known."


def _people(number: int) -> str:
    return "one person" if number == 1 else f"{number} people"
