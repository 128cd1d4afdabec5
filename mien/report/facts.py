"""How a study was done: facts that a reader needs to judge it or to repeat it."""

from typing import Any

from mien.faces import Faces
from mien.prepare.action_units import describe_clashes, has_units
from mien.report.words import get_faces_name
from mien.runs.progress import quantify
from mien.study.results import StudyResults
from mien.study.settings import CONTROLS

# What was run


def list_facts(study: StudyResults) -> list[tuple[str, str]]:
    """Return the facts of what was run, as pairs of a name and a text."""
    spec, about = study.spec, study.run.about

    # The study, its faces, classes, protocol, generator and database
    _, height, width = study.faces.size
    alias = get_faces_name(study)
    faces_name = spec["faces"] if alias == spec["faces"] else f"{spec['faces']} ({alias})"
    facts = [
        ("study", study.run.name),
        (
            "faces",
            f"{faces_name}: {quantify(len(study.faces), 'image')}, {height} x {width}, "
            f"{_name_channels(study.faces)}, licence {study.licence}",
        ),
        (
            "classes",
            ", ".join(study.classes)
            + (f" (class set {spec['class_set']})" if spec["class_set"] else ""),
        ),
        ("protocol", _describe_protocol(study)),
        ("trials", f"{spec['trials']}, with seeds that follow from seed {spec['seed']}"),
    ]
    if study.plan.databases:
        facts += [
            ("generator", _describe_generators(study)),
            ("database", _describe_databases(study)),
        ]

    # Each classifier, what it sees, and what is frozen
    facts += _list_classifiers(study)
    facts += [
        (f"{name} shows", f"{view.text}, of the same images ({view.faces})")
        for name, view in study.inputs.items()
    ]
    facts += _list_classifier_inputs(study)
    facts += [
        (f"{layers.classifier}, {layers.ablation}, frozen", layers.text)
        for layers in study.plan.frozen
    ]

    # Action units, controls, and the versions of the software
    if has_units(study.faces):
        facts.append(("emotions and action units", describe_clashes(study.faces)))
    if study.plan.controls:
        facts += [
            (f"control {CONTROLS[name].label}", CONTROLS[name].shows)
            for name in study.plan.controls
        ]
    recorded = about.get("versions")
    versions = (
        ", ".join(f"{name} {version}" for name, version in recorded.items())
        if isinstance(recorded, dict)
        else ""
    )
    facts.append(
        ("made with", f"{versions}{'; commit ' + about['commit'] if about.get('commit') else ''}")
    )
    return facts


def _list_classifiers(study: StudyResults) -> list[tuple[str, str]]:
    """Return the fields of each classifier, and what each ablation changes in it."""
    facts = []
    for name in study.classifiers:
        kinds = study.spec["classifiers"][name]
        base = kinds[study.ablations[0]]
        if isinstance(base, str):
            facts.append((f"classifier {name}", "no network, and without fields"))
            continue
        facts.append((f"classifier {name}", _format_fields(_name_weights_files(study, base))))
        for ablation in study.ablations[1:]:
            changed = {
                key: value for key, value in kinds[ablation].items() if value != base.get(key)
            }
            if changed or ablation not in study.inputs:
                facts.append(
                    (f"{name}, {ablation}", _format_fields(_name_weights_files(study, changed)))
                )
    return facts


def _list_classifier_inputs(study: StudyResults) -> list[tuple[str, str]]:
    """Return what each classifier sees that has an input, once if ablations do not change it."""
    facts = []
    for name, by_ablation in study.classifier_inputs.items():
        first = by_ablation[study.ablations[0]]
        facts.append((f"{name} sees", f"{first.text}, of the same images ({first.faces})"))
        facts += [
            (f"{name}, {ablation}, sees", f"{view.text}, of the same images ({view.faces})")
            for ablation, view in by_ablation.items()
            if view != first
        ]
    return facts


def _name_channels(faces: Faces) -> str:
    """Return the names of the channels of faces."""
    return " and ".join(faces.channels) or ("grey" if faces.size[0] == 1 else "RGB")


def _name_weights_files(study: StudyResults, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with a weights file by its name and the first digits of its sha256."""
    weights = str(fields.get("weights", ""))
    if not weights.startswith("file:"):
        return fields
    digest, store = weights.removeprefix("file:"), study.store
    runs = [store.run(name) for name in store.list_names() if name.startswith("weights-")]
    file = next((run.summary.get("file") for run in runs if run.spec.get("sha256") == digest), None)
    return {
        **fields,
        "weights": f"{file or 'a file that is no longer in the store'} (sha256 {digest[:12]})",
    }


def _format_fields(fields: dict[str, Any]) -> str:
    """Return fields of a specification in one line; nested ones in brackets."""
    texts = []
    for key, value in fields.items():
        if isinstance(value, dict):
            texts.append(f"{key} ({_format_fields(value)})")
        elif value is not None and not (key in ("freeze", "validation") and not value):
            texts.append(
                f"{key.replace('_', ' ')} "
                f"{' to '.join(map(str, value)) if isinstance(value, list) else value}"
            )
    return ", ".join(texts)


def _describe_protocol(study: StudyResults) -> str:
    """Return how the faces were split."""
    spec = study.spec
    if spec["protocol"] == "frame":
        return (
            f"by frame: each trial tests one in {spec['folds']} of the images, with its own random "
            "split"
        )
    tested = spec["tested_folds"]
    text = f"by {spec['protocol']}, {spec['folds']} folds"
    if spec["protocol"] == "dataset" and spec["folds"] == len(study.datasets):
        text += f", each of which leaves one dataset out ({', '.join(study.datasets)})"
    if len(tested) < spec["folds"]:
        text += (
            f", of which only {', '.join(str(fold) for fold in tested)} "
            f"{'is' if len(tested) == 1 else 'are'} tested"
        )
    return f"{text}; the split follows from seed {spec['seed']}"


def _describe_generators(study: StudyResults) -> str:
    """Return the kind, number, settings and runs of the study's generators."""
    fields = study.spec["generator"]
    databases = study.plan.databases
    folds = len({database.fold for database in databases})
    shares = len({database.people for database in databases})
    keys = ("images_seen", "batch", "learning_rate", "ema", "mirror", "seed")
    text = ", ".join(f"{key.replace('_', ' ')} {fields[key]}" for key in keys if key in fields)
    scope = (
        "one, trained on all images"
        if study.spec["protocol"] == "frame"
        else "one for its fold"
        if folds == 1
        else f"one for each of {folds} folds"
    )
    scope += f" and {shares} shares of the people" if shares > 1 else ""
    runs = ", ".join(database.generator for database in databases)
    return f"{fields['kind']}, {scope}: {text} ({runs})"


def _describe_databases(study: StudyResults) -> str:
    """Return the size, settings and runs of the study's synthetic databases."""
    databases = study.plan.databases
    total = sum(sum(database.counts.values()) for database in databases)
    settings = ", ".join(f"{key} {value}" for key, value in study.spec["generate"].items())
    return (
        f"{quantify(total, 'image')} in {quantify(len(databases), 'database')}, counts "
        f"{study.spec['counts']}{', ' + settings if settings else ''}; "
        f"{_describe_shares(study)} ({', '.join(database.database for database in databases)})"
    )


def _describe_shares(study: StudyResults) -> str:
    """Return which images of a database are for training, and which for tests."""
    plain = {trial.arm.is_plain for trial in study.trials if trial.synthetic}
    if False not in plain:
        return "four in five train, one in five tests"
    mixed = "mixed without a ratio, four in five train and one in five tests; " * (True in plain)
    return f"{mixed}in all other ways, as many train as the way and its ratio say"
