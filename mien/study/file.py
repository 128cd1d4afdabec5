"""The study file: read from TOML, and resolved to a spec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mien.classifiers import pretrained, weight_files
from mien.classifiers.baselines import BASELINES
from mien.classifiers.late_units import add_units
from mien.classifiers.networks import build_outline
from mien.classifiers.specs import (
    OWN_NETWORKS,
    AnyClassifier,
    ClassifierSpec,
    WeightsSpec,
    require_classes_to_weight,
    select_networks,
)
from mien.classifiers.strong import require_labels
from mien.errors import DataError, SpecError, StoreError, UsageError, WeightsError
from mien.faces import Faces
from mien.generators import presets
from mien.prepare import splits, views
from mien.prepare.action_units import require_units
from mien.prepare.inputs import expand_groups
from mien.prepare.preprocess import run_preprocess
from mien.prepare.specs import PreprocessSpec
from mien.runs.progress import say
from mien.runs.spec import read_spec, read_toml, suggest
from mien.runs.store import Run, Store, require_alias
from mien.study.databases import plan_databases
from mien.study.fields import (
    ABLATIONS,
    StudyFile,
    draws_clips,
    find_stored_study,
    find_study,
    list_classifier_tables,
    select_view,
)
from mien.study.motion_controls import require_motion
from mien.study.plan import plan_rows, plan_study, read_channels
from mien.study.select import parse_only, select_rows
from mien.study.settings import CONTROLS, SETTINGS, SOURCES
from mien.study.specs import OwnInput, StudySpec
from mien.study.unit_scores import choose_units
from mien.study.uses.table import UseSpec, resolve_use

# Reading


def read_named_study(name: str, store: Store) -> StudySpec:
    """Return the study of a file, of a study that comes with mien, or of the store.

    In the store, `name` is the run of a study or its alias; its spec is taken as it is, so that
    what is missing of it is made even if its file is lost. Raises what `find_study` and
    `read_study` raise.
    """
    if run := find_stored_study(name, store):
        fields = {key: value for key, value in store.run(run).spec.items() if key != "stage"}
        return read_spec(StudySpec, fields, run)
    return read_study(find_study(name), store)


def read_study(path: Path, store: Store, check: bool = True) -> StudySpec:
    """Return the study of a TOML file with all its names resolved.

    With `check`, everything that is still to be trained is checked first (networks, image sizes,
    weights), and then the weights files are copied into the store.

    Raises SpecError with the nearest known name for an unknown one, StoreError if the faces are
    missing, WeightsError if weights are missing or do not fit, and DataError if the faces cannot
    be split as asked; all of them name the file.
    """
    return read_study_fields(read_toml(path), store, path, check)


def read_study_fields(
    fields: Mapping[str, Any], store: Store, path: Path, check: bool = True
) -> StudySpec:
    """Return the study of the fields of a study file, as `read_study` does.

    Messages begin with `path`, and paths of weights are relative to its folder.
    """
    files: dict[str, Path] = {}
    try:
        spec = resolve(
            read_spec(StudyFile, dict(fields), str(path)), store, path.parent, str(path), files
        )
        if check:
            require_classifiers(spec, files, store)
            for file in files.values():
                pretrained.import_weights(file, store)
        return spec
    except UsageError as error:
        if str(error).startswith((str(path), "there must be a TOML file")):
            raise
        makers = _describe_makers(str(fields.get("faces", "")), store, path)
        raise type(error)(f"{path}: {error}{makers}") from None


def list_makers(path: Path, faces: str) -> list[str]:
    """Return the commands that make the faces of a study, from the first lines of its file.

    They are the lines of comments that begin with mien, up to the one that ends in `--as FACES`;
    empty if no such line names the faces.
    """
    if not path.is_file():
        return []
    commands = []
    for line in path.read_text(encoding="utf-8").splitlines():
        command = line.removeprefix("#").partition("  #")[0].strip()
        if line.startswith("#") and command.startswith("mien "):
            commands.append(command)
            if command.endswith(f"--as {faces}"):
                return commands
    return []


def _describe_makers(faces: str, store: Store, path: Path) -> str:
    """Return the commands that make the faces of a study, if the store does not have them."""
    try:
        store.resolve(faces)
    except StoreError:
        makers = list_makers(path, faces)
        if makers:
            return f". These commands make '{faces}':\n  " + "\n  ".join(makers)
    return ""


def find_recorded_run(path: Path, store: Store) -> str:
    """Return the run of a study file or, if the file as it is was never run, the run of its name.

    Where the two differ, the differences are printed to stderr. Raises StoreError if neither was
    ever run.
    """
    spec = read_study(path, store, check=False)
    named_run = store.read_aliases().get(spec.title)
    if store.is_done(spec.name):
        if named_run not in (None, spec.name):
            say(
                f"{path} is {spec.name}, but the name {spec.title} refers to {named_run}: "
                f"{describe_differences(named_run, spec, store)}"
            )
        return spec.name
    if named_run is None:
        raise StoreError(
            f"the study {spec.title} has not been run in {store.root}; run it: mien study run "
            f"{path}"
        )
    say(
        f"{path} is not the study that was run as {spec.title}: "
        f"{describe_differences(named_run, spec, store)}. The output below is of that run, "
        f"{named_run}; `mien study run {path}` runs the file as it is"
    )
    return named_run


def describe_differences(run: str, study: StudySpec, store: Store, most: int = 4) -> str:
    """Return the fields in which `study` differs from that of a run, as `trials was 2, is 3`.

    At most `most` fields are listed; the rest are counted.
    """
    try:
        old, new = (_flatten(spec) for spec in (store.run(run).spec, study.model_dump(mode="json")))
    except StoreError:
        return f"{run} cannot be read"
    names = [
        name
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name) and name != "stage"
    ]
    changes = [
        f"{name} was {_format_value(old.get(name))}, is {_format_value(new.get(name))}"
        for name in names
    ]
    rest = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*changes[:most], *rest])


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, whose names are paths: classifiers.tiny.plain.epochs."""
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= (
            _flatten(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": value}
        )
    return flat


def _format_value(value: Any) -> str:
    """Return a value for people: a list without brackets, and None as `not there`."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not there" if value is None else str(value)


def require_classifiers(study: StudySpec, files: dict[str, Path], store: Store) -> None:
    """Raise an error if a classifier that is still to be trained cannot be built.

    `files` maps the names that specs give to weights files to their paths.

    Raises SpecError, WeightsError, and DataError if a network does not take the faces of the study.
    """
    specs = {
        f"{name}, {ablation}": spec
        for name, by_ablation in study.classifiers.items()
        for ablation, spec in select_networks(by_ablation).items()
    }
    channels = read_channels(study, store)
    shown = {
        f"{name}, {ablation}": channels[study.find_faces(name, ablation)]
        for name in study.classifiers
        for ablation in study.ablations
    }

    # The names of networks and their inputs first: without them no plan can be made
    networks = {label: spec.model_copy(update={"weights": "none"}) for label, spec in specs.items()}
    pretrained.check_all(networks, shown=shown)

    # Weights matter only to the trials that are not done yet
    if any(spec.weights != "none" for spec in specs.values()):
        todo = plan_study(study, store)
        specs = select_networks(
            {
                f"{row.classifier}, {row.ablation}": row.spec.classifier
                for row in todo.rows
                if row.spec.name not in todo.done
            }
        )
    needed = {spec.weights for spec in specs.values()}
    wanted = {name: path for name, path in files.items() if name in needed}
    pretrained.check_all(specs, wanted, shown)


def resolve(
    study: StudyFile,
    store: Store,
    folder: Path = Path(),
    where: str = "study",
    files: dict[str, Path] | None = None,
) -> StudySpec:
    """Return the specification of `study` with all names resolved in `store`.

    Error messages begin with `where`. Paths of weights are relative to `folder`, or else to the
    current folder. The files are copied into the store or, if `files` is given, their paths
    are added to it under the names that specs give them.

    Raises SpecError, StoreError, WeightsError and DataError as `read` does.
    """
    # What the names in the file refer to, checked before the networks, which take longer
    _require_free_name(study.name, store, where)
    run, faces = _resolve_faces(study, store, where)
    _require_clips(study, faces, where)
    folds = _count_folds(study, faces, where)
    tested = (0,) if study.protocol == "frame" else study.only_folds or tuple(range(folds))
    units = ()
    if study.target == "action_units":
        require_units(faces, f"{where}: the target action_units")
        sides = [
            splits.split(faces, study.protocol, folds, fold, study.seed).train for fold in tested
        ]
        units = choose_units(faces, sides, f"{where}: the target action_units")

    # The whole, and the weights files that its classifiers start from
    weights_files: dict[str, Path] = {}
    spec = StudySpec(
        title=study.name,
        faces=run.name,
        protocol=study.protocol,
        folds=folds,
        tested_folds=tested,
        trials=study.trials,
        settings=study.settings,
        class_set=study.class_set,
        classes=faces.classes,
        ablations=study.ablations,
        inputs=_make_inputs(study, run, store, where),
        classifier_inputs=_make_classifier_inputs(study, run, store, where),
        controls=study.controls,
        classifiers={
            name: _resolve_classifier(study, name, store, folder, where, weights_files)
            for name in study.classifiers
        },
        generator=_resolve_generator(study, run.name, faces.size, where),
        generate=study.generate,
        counts=study.counts,
        seed=study.seed,
        inflation=study.inflation,
        units=units,
        uses=_resolve_uses(study, where),
        ratios=study.ratios,
        people=study.people,
        cells=study.cells,
    )

    # Controls of movement and of action units, and then [generator], [generate] and counts, are
    # checked before anything is copied
    _require_motion(spec, store, where)
    for control in (name for name in spec.controls if CONTROLS[name].ceiling):
        require_units(faces, f"{where}: the control {control}")
    _require_units_as_input(spec, faces, where)
    _require_equal_epochs(spec, where)
    for name, by_ablation in spec.classifiers.items():
        for ablation, network in select_networks(by_ablation).items():
            called = f"{where}: the classifier {name}, {ablation},"
            require_classes_to_weight(network, spec.units, called)
            require_labels(network, spec.units, called)
    _require_enough_images(spec, faces, where)
    _require_known_cells(spec, faces, where)
    if files is None:
        for path in weights_files.values():
            pretrained.import_weights(path, store)
    else:
        files |= weights_files
    return spec


def _resolve_uses(study: StudyFile, where: str) -> dict[str, UseSpec]:
    """Return the ways of use by name.

    Raises SpecError for an unknown way, and for one that no classifier or setting can use.
    """
    uses = {name: resolve_use(name, study.use, where) for name in study.uses}
    networks = [name for name in study.classifiers if name not in BASELINES]
    for name, use in uses.items():
        if use.needs_network and not networks:
            raise SpecError(
                f"{where}: the way of use '{name}' needs a network among the classifiers; they are "
                f"{', '.join(study.classifiers)}"
            )
        if use.needs_real and "both_to_real" not in study.settings:
            raise SpecError(
                f"{where}: the way of use '{name}' needs the setting both_to_real; the settings "
                f"are {', '.join(study.settings)}"
            )
    return uses


def _require_enough_images(spec: StudySpec, faces: Faces, where: str) -> None:
    """Raise SpecError if a database has fewer images than a ratio or a balance of classes needs.

    What a filter keeps is known only later, so a ratio of filtered images is the largest that there
    can be.
    """
    for database in plan_databases(spec, faces, where):
        train = splits.split(
            faces, spec.protocol, spec.folds, max(database.fold, 0), spec.seed
        ).train
        real = int(splits.keep_people(faces, train, database.people, spec.seed).sum())
        images = sum(database.generate.counts.values())
        for ratio in spec.ratios:
            if round(ratio * real) > images:
                raise SpecError(
                    f"{where}: the ratio {ratio:g} needs {round(ratio * real):,} synthetic images "
                    f"for {real:,} real ones in fold {database.fold}, and counts = "
                    f"'{spec.counts}' makes {images:,}; write counts = 'like*{max(spec.ratios):g}'"
                )


def _require_known_cells(spec: StudySpec, faces: Faces, where: str) -> None:
    """Raise SpecError if an entry of `cells` names what the study lacks, or selects no trial."""
    if not spec.cells:
        return
    everything = spec.model_copy(update={"cells": ()})
    rows = plan_rows(everything, plan_databases(spec, faces, where))
    for text in spec.cells:
        try:
            select_rows(rows, parse_only([text], spec, "cells"), "cells")
        except UsageError as error:
            raise SpecError(f"{where}: {error}") from None


def _require_motion(spec: StudySpec, store: Store, where: str) -> None:
    """Raise DataError if a control changes the movement of images that show none."""
    for control in spec.controls:
        for name in spec.classifiers if CONTROLS[control].motion else ():
            faces = Faces.load(store.run(spec.find_faces(name, spec.ablations[0])).path)
            require_motion(faces, f"{where}: the control {control}, with the classifier {name},")


def _require_equal_epochs(spec: StudySpec, where: str) -> None:
    """Raise SpecError if inflation is asked for and folds can differ in their number of epochs."""
    for name, by_ablation in spec.classifiers.items() if spec.inflation else ():
        for ablation, network in select_networks(by_ablation).items():
            if network.updates is not None:
                raise SpecError(
                    f"{where}: inflation needs classifiers with a number of epochs, because it "
                    f"compares the same epoch in all folds; {name}, {ablation}, has updates = "
                    f"{network.updates}. Set epochs, or remove inflation"
                )


def _require_units_as_input(spec: StudySpec, faces: Faces, where: str) -> None:
    """Raise an error if a network is to see action units, and cannot, or must not."""
    named = {
        f"{name}, {ablation}": network
        for name, by_ablation in spec.classifiers.items()
        for ablation, network in select_networks(by_ablation).items()
        if network.units
    }
    if not named:
        return

    # Synthetic faces have no coding, and a target that is given away needs no network
    called = f"{where}: the classifier {next(iter(named))}, which has units = true,"
    if spec.units:
        raise SpecError(
            f"{called} must not see the action units that it is to answer; remove units, or the "
            "target action_units"
        )
    synthetic = [name for name in spec.settings if SETTINGS[name].needs_synthetic]
    if synthetic:
        raise SpecError(
            f"{called} can be used only with the setting real_to_real; {synthetic[0]} needs "
            "synthetic faces, whose action units are not coded. Make another study"
        )
    require_units(faces, called)

    # The units go into a linear head, which some networks of timm do not have
    for network in named.values():
        if network.name not in OWN_NETWORKS:
            add_units(build_outline(network, len(spec.classes)), network.name, 1)


def _require_free_name(name: str, store: Store, where: str) -> None:
    """Raise SpecError if the name of a study is an alias of another stage's run."""
    require_alias(name)
    named_run = store.read_aliases().get(name, "study-")
    if not named_run.startswith("study-"):
        raise SpecError(
            f"{where}: name must not be an alias of another stage's run; '{name}' names "
            f"{named_run}. Choose another name"
        )


def _require_clips(study: StudyFile, faces: Faces, where: str) -> None:
    """Raise DataError if movements are to be generated or pasted, and the faces have no clips."""
    pasting = [
        name for name in study.controls if name in SOURCES and draws_clips(SOURCES[name].generator)
    ]
    asking = ["the generator", *pasting] if draws_clips(study.generator) else pasting
    if asking and not set(faces.index["clip"]) - {""}:
        raise DataError(
            f"{where}: {asking[0]} draws clips of movement, and needs faces of clips with onset "
            "and apex; these faces belong to no clip. Remove it, or name a set of clips"
        )


def _resolve_faces(study: StudyFile, store: Store, where: str) -> tuple[Run, Faces]:
    """Return the real faces with their run, whose emotions are mapped to the class set.

    Raises SpecError for a run without faces, and DataError for faces of a single class.
    """
    run = store.run(study.faces)
    if "index.parquet" not in run.manifest["files"]:
        raise SpecError(
            f"{where}: faces must name a run of faces; {run.name} is not one. `mien ls` lists the "
            "runs"
        )
    if study.class_set:
        folded = {"faces": run.name, "frames": "all", "classes": study.class_set}
        run = run_preprocess(read_spec(PreprocessSpec, folded, where), store)
    faces = Faces.load(run.path)
    faces.require_real(f"{where}: the faces of a study")
    if len(faces.classes) < 2:
        raise DataError(
            f"{where}: the faces of a study must show at least two classes; they show only "
            f"{' '.join(faces.classes)}"
        )
    return run, faces


def _count_folds(study: StudyFile, faces: Faces, where: str) -> int:
    """Return the number of folds, which a study by subject or dataset may leave to the faces.

    Raises SpecError for a fold in `only_folds` that does not exist, and DataError if the faces
    cannot be split.
    """
    folds = (
        study.folds
        if isinstance(study.folds, int)
        else len(set(faces.index[study.protocol]) - {""})
    )
    beyond = [fold for fold in study.only_folds if fold >= folds]
    if beyond:
        raise SpecError(f"{where}: only_folds must be from 0 to {folds - 1}; given: {beyond}")

    # Splitting once raises the error of a split that is not possible
    splits.split(faces, study.protocol, folds, 0, study.seed)
    return folds


def _make_inputs(study: StudyFile, run: Run, store: Store, where: str) -> dict[str, OwnInput]:
    """Return the input of each ablation that has one, and make its run of faces."""
    inputs = {}
    for name in study.ablations:
        shown = select_view(study.ablation.get(name, {}))
        if shown:
            inputs[name] = _make_input(shown, run, store, f"{where}: ablation.{name}")
    return inputs


def _make_classifier_inputs(
    study: StudyFile, run: Run, store: Store, where: str
) -> dict[str, dict[str, OwnInput]]:
    """Return the input of each classifier that has one, by ablation, and make its runs of faces.

    What [ablation.NAME] says of the input takes the place of what [classifier.NAME] says.
    """
    inputs: dict[str, dict[str, OwnInput]] = {}
    for name in study.classifiers:
        view = select_view(list_classifier_tables(study).get(name, {}))
        if not view:
            continue
        by_ablation = {
            ablation: select_view(study.ablation.get(ablation, {})) or view
            for ablation in study.ablations
        }
        inputs[name] = {
            ablation: _make_input(shown, run, store, f"{where}: classifier.{name}")
            for ablation, shown in by_ablation.items()
        }
    return inputs


def _make_input(shown: Mapping[str, Any], run: Run, store: Store, where: str) -> OwnInput:
    faces = views.make_view(run, shown, store, where)
    fields = {**shown, "input": expand_groups(shown.get("input", ())), "faces": faces.name}
    return read_spec(OwnInput, fields, where)


def _resolve_classifier(
    study: StudyFile, name: str, store: Store, folder: Path, where: str, files: dict[str, Path]
) -> dict[str, AnyClassifier]:
    """Return the specification of one classifier under each ablation.

    The fields of [ablation.NAME] override those of [classifier.NAME], which override [classifier].
    """
    by_name = list_classifier_tables(study)
    for table in by_name:
        if table not in study.classifiers:
            raise SpecError(
                f"{where}: [classifier.{table}] belongs to no "
                f"classifier.{suggest(table, list(study.classifiers))} The study has: "
                f"{', '.join(study.classifiers)}"
            )
    common = {key: value for key, value in study.classifier.items() if key not in by_name}
    own_fields = _omit_view(by_name.get(name, {}))
    fields = override_fields({"name": name, **common}, own_fields)

    # Each ablation changes these fields; the input is part of the study, not of the classifier
    tables = {**ABLATIONS, **study.ablation}
    changes = {ablation: _omit_view(tables[ablation]) for ablation in study.ablations}
    if name in BASELINES:
        _require_no_fields(name, own_fields, changes, where)
        return dict.fromkeys(changes, name)
    return {
        ablation: _read_classifier(
            _name_weights_by_digest(override_fields(fields, change), folder, files),
            store,
            f"{where}: classifier.{name}, {ablation}",
            files,
        )
        for ablation, change in changes.items()
    }


def override_fields(general: Mapping[str, Any], special: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a general table of a classifier, overridden by those of a special one.

    `updates` and `epochs` replace each other, because both say how long the training is.
    """
    length = {"updates", "epochs"}
    replaced = length if length & set(special) else set[str]()
    return {**{key: value for key, value in general.items() if key not in replaced}, **special}


def _omit_view(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in views.VIEW_FIELDS}


def _require_no_fields(
    name: str, table: dict[str, Any], changes: dict[str, dict[str, Any]], where: str
) -> None:
    """Raise SpecError if a table or an ablation sets fields of a baseline, which has none."""
    if table:
        raise SpecError(
            f"{where}: remove [classifier.{name}]: {name} is no network and has no fields; the "
            f"table has {', '.join(table)}"
        )
    changing = [ablation for ablation, change in changes.items() if change]
    if changing:
        raise SpecError(
            f"{where}: ablations of {name} can change only the input, because it is no network; "
            f"{changing[0]} changes {', '.join(changes[changing[0]])}. Move {name} to a study "
            "without this ablation"
        )


def _name_weights_by_digest(
    fields: dict[str, Any], folder: Path, files: dict[str, Path]
) -> dict[str, Any]:
    """Return the fields of a classifier, with a path of weights replaced by the file's digest.

    The path is added to `files` under that digest.
    """
    file_name = fields.get("weights", "")
    if (
        not isinstance(file_name, str)
        or file_name in ("", "imagenet", "none")
        or file_name.startswith("file:")
    ):
        return fields
    path = weight_files.find(Path(file_name), (folder, Path()))
    digest = pretrained.hash_file_name(path)
    files[digest] = path
    return {**fields, "weights": digest}


def _read_classifier(
    fields: dict[str, Any], store: Store, where: str, files: dict[str, Path]
) -> ClassifierSpec:
    """Return the specification of one classifier.

    Raises WeightsError if its weights file is neither in `files` nor in the store.
    """
    spec = read_spec(ClassifierSpec, fields, where)
    digest = spec.weights.removeprefix("file:")
    if spec.weights.startswith("file:") and spec.weights not in files:
        run_name = WeightsSpec(sha256=digest).name
        if not store.is_done(run_name):
            raise WeightsError(
                f"{where}: weights must be a file in the store, and none there has the sha256 "
                f"{digest}; give the path of the file, and it is copied there"
            )
        files[spec.weights] = store.run(run_name).find_file("weights")
    return spec


def _resolve_generator(
    study: StudyFile, faces: str, size: tuple[int, int, int], where: str
) -> dict[str, Any]:
    """Return the fields of the generator's training, without the faces that it is trained on.

    `size` is that of their images (c, h, w).
    """
    changes = {"seed": study.seed, **study.generator}
    preset = changes.pop("preset", "default")
    try:
        spec = presets.read_preset(preset, faces, changes, size)
    except SpecError as error:
        raise SpecError(f"{where}: generator: {error}") from None
    return {name: value for name, value in spec.model_dump(mode="json").items() if name != "faces"}
