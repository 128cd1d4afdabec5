"""The stages for programs and notebooks: what `import mien` offers.

Each function is one command and has its defaults, but takes and returns faces. Results are kept in
a store, so that a call with the same arguments returns at once. Wherever faces are wanted, `Faces`
of any origin, the name of a run, an alias, or a folder of class folders will do.
"""

import html
import os
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mien.audit import plain_folders, verdict
from mien.audit.leakage.run import list_leakage_lines, run_leakage
from mien.audit.leakage.sides import find_compared_sides
from mien.audit.levels import prepare_levels
from mien.audit.memorisation.recogniser import import_recogniser
from mien.audit.memorisation.recogniser_file import read_recogniser
from mien.audit.run import choose_worker_count, run_audit
from mien.audit.specs import OFFLINE_SPACES, AuditSpec, SpaceName
from mien.errors import UsageError
from mien.export.album import write_album
from mien.export.clips import write_clips
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.generators import distill as distilling
from mien.generators import generate, orders, presets, train
from mien.ingest.run import find_fitting_readers, run_ingest
from mien.ingest.toy import dataset
from mien.pages.escape import unescape_cell
from mien.pictures import Filter
from mien.prepare import preprocess as prepared
from mien.prepare import splits
from mien.prepare.specs import PreprocessSpec, SplitSpec, Unit
from mien.report import maps, programs, write
from mien.report.advise import run as advised
from mien.report.advise.request import Request
from mien.report.advise.words import describe_advice, list_rows, make_facts, render_page
from mien.runs.engine import make_engine
from mien.runs.files import write_file
from mien.runs.spec import read_spec, read_toml
from mien.runs.store import Run, Store
from mien.study import fields as study_fields
from mien.study import file, run
from mien.study.results import StudyResults
from mien.study.uses.filter_run import filter_database
from mien.study.uses.specs import FilterSpec

STORE_FOLDER = "mien-store"

PRINTED_COLUMNS = 100  # of a table of texts, in a terminal that is wider

StoreLike = Store | Path | str


class StoredFaces(Faces):
    """Faces that a stage returned, which know the run that holds them.

    A selection of them is in memory, and its run is None. `mien.faces.Faces` explains the fields.
    """

    @property
    def run(self) -> Run | None:
        """The run that holds these faces, or None for a selection of them."""
        return self.__dict__.get("_run")

    @classmethod
    def of_run(cls, run: Run) -> "StoredFaces":
        """Return the faces of a run; raises DataError if it holds none."""
        loaded = cls.load(run.path)
        loaded.__dict__["_run"] = run
        return loaded


FacesLike = Faces | Run | Path | str


class TextTable(pd.DataFrame):
    """A table with long texts, which are printed in full: a paragraph for each row."""

    @property
    def _constructor(self) -> "type[TextTable]":
        return TextTable

    def __repr__(self) -> str:
        """Return a line for each value, wrapped to the width of the terminal."""
        columns = min(shutil.get_terminal_size().columns, PRINTED_COLUMNS)
        paragraphs = [
            "\n".join(
                textwrap.fill(f"{name}: {value}", columns, subsequent_indent="    ")
                for name, value in row.items()
                if str(value)
            )
            for row in self.to_dict("records")
        ]
        return "\n\n".join(paragraphs) or super().__repr__()

    def _repr_html_(self) -> str | None:
        """Return the table for notebooks, without cutting its texts."""
        with pd.option_context("display.max_colwidth", None):
            return pd.DataFrame(self)._repr_html_()  # pyright: ignore[reportCallIssue]


class Audit:
    """The result of an audit: its verdict, the answers to four questions, all checks, the page."""

    def __init__(self, run: Run) -> None:
        self.run, self.content = run, run.read_json("audit.json")

    @property
    def verdict(self) -> str:
        """The worst answer: pass, warn, cannot tell or fail."""
        return self.content["verdict"]

    @property
    def questions(self) -> pd.DataFrame:
        """One row per question: its title, the verdict, why, and what would be enough data."""
        return TextTable(self.content["questions"])

    @property
    def checks(self) -> pd.DataFrame:
        """One row per check: its name, class, verdict, value, interval, reference and note."""
        return pd.DataFrame(self.content["checks"])

    @property
    def rows(self) -> pd.DataFrame:
        """One row per synthetic image, with everything that was measured on it."""
        return pd.read_parquet(self.run.find_file("rows.parquet"))

    @property
    def page(self) -> Path:
        """The page, which opens without a network."""
        return self.run.find_file("index.html")

    def __repr__(self) -> str:
        """Return the verdict, and a line for each question."""
        lines = [
            f"{question['verdict']:<12} {question['title']}"
            for question in self.content["questions"]
        ]
        return "\n".join([f"<Audit: {self.verdict}; {self.page}>", *lines])

    def _repr_html_(self) -> str:
        """Return the answers as a table for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(question['title'])}</th>"
            f"<td>{html.escape(question['verdict'])}</td>"
            f"<td style='text-align:left'>{html.escape(question['why'])}</td></tr>"
            for question in self.content["questions"]
        )
        return f"<p>Audit: <b>{html.escape(self.verdict)}</b></p><table>{rows}</table>"


class Leakage:
    """What a test set shares with its training set."""

    def __init__(self, run: Run) -> None:
        self.run, self.content = run, run.read_json("leakage.json")

    @property
    def affected(self) -> int:
        """How many test images were seen in training, by the unit that should not be shared."""
        return self.content["affected"]

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of a test image and the training image that it equals."""
        return _read_table(self.run.find_file("pairs.csv"))

    @property
    def images(self) -> pd.DataFrame:
        """One row for each test image, and what it shares."""
        return _read_table(self.run.find_file("images.csv"))

    @property
    def page(self) -> Path:
        """The page with pictures of the pairs, which opens without a network."""
        return self.run.find_file("index.html")

    def __repr__(self) -> str:
        """Return the report as lines."""
        return "\n".join([f"<Leakage: {self.page}>", *list_leakage_lines(self.run)])


class Study:
    """The results of a study."""

    def __init__(self, run: Run, store: Store) -> None:
        self.run, self.store = run, store

    @property
    def results(self) -> pd.DataFrame:
        """The means over trials: one row for each setting, classifier, control and metric.

        `value`, and the interval from `low` to `high`, are shares from 0 to 1; `sd` is the standard
        deviation over trials, and `n` the number of test images.
        """
        rows = pd.DataFrame(list(programs.list_csv_rows(StudyResults(self.run.name, self.store))))
        averages = rows[(rows["source"] == "mean") & (rows["level"] == "images")]
        columns = ["setting", "classifier", "ablation", "control", "metric"]
        return averages[[*columns, "value", "sd", "low", "high", "n"]].reset_index(drop=True)

    def report(
        self, out: Path | str | None = None, real_faces: bool | None = None, face_map: bool = True
    ) -> Path:
        """Write the report as HTML, Markdown, LaTeX and CSV; return the path of the page.

        `out` is a folder, by default report-NAME. See `mien report`.
        """
        return write_report(
            self, out=out, real_faces=real_faces, face_map=face_map, store=self.store
        )

    def __repr__(self) -> str:
        """Return a line with the name of the study's run."""
        return f"<Study: {self.run.name}, {self.run.summary.get('holds', '')}>"

    def _repr_html_(self) -> str:
        """Return the results as a table for notebooks."""
        table = self.results.pivot_table(
            index=["setting", "classifier", "ablation", "control"],
            columns="metric",
            values="value",
            sort=False,
        )
        return table.to_html(float_format="{:.3f}".format)


class Advice:
    """The advice for a training set: whether to add synthetic faces, how, and how certain it is."""

    def __init__(self, advice: advised.FoundAdvice) -> None:
        self.advice, self.content = advice, make_facts(advice)

    @property
    def answer(self) -> str:
        """The answer: add, do not add, or cannot tell."""
        return self.content["answer"]

    @property
    def text(self) -> str:
        """The answer in sentences, with the difference in UAR, its interval and its p."""
        return self.content["text"]

    @property
    def ways(self) -> pd.DataFrame:
        """One row per way of training: its UAR with interval, from 0 to 1, and SD over trials."""
        return pd.DataFrame(self.content["ways"])

    @property
    def study(self) -> Study:
        """The study that the advice is based on."""
        return Study(self.advice.study.run, self.advice.study.store)

    def write_page(self, path: Path | str) -> Path:
        """Write the advice as an HTML page; return its path."""
        write_file(Path(path), render_page(self.advice))
        return Path(path)

    def __repr__(self) -> str:
        """Return the answer, a line for each way of training, and the basis."""
        return describe_advice(self.advice)

    def _repr_html_(self) -> str:
        """Return the answer and the table of the ways for notebooks."""
        rows = pd.DataFrame(list_rows(self.advice))[["label", "uar", "sd", "what"]]
        return f"<p>{html.escape(self.text)}</p>{rows.to_html(index=False)}"


def open_store(store: StoreLike | None = None) -> Store:
    """Return a store: the given one or its folder, else MIEN_STORE, else mien-store."""
    if isinstance(store, Store):
        return store
    return Store(store or os.environ.get("MIEN_STORE") or STORE_FOLDER)


def ingest_folder(
    folder: Path | str,
    *,
    reader: str | None = None,
    subject_pattern: str | None = None,
    clip_pattern: str | None = None,
    synthetic: bool = False,
    alias: str | None = None,
    store: StoreLike | None = None,
    **options: Any,
) -> StoredFaces:
    """Return the faces in a folder, read into the store, as `mien ingest` does.

    `reader` is one of `mien readers`; by default the layout of the folder decides, or, if a
    pattern is given, it is a folder with one folder for each class. Patterns are regular
    expressions whose first group, searched in the path of each file, is the subject or the
    clip. `synthetic` images count as made by an unknown generator. `options` are further fields
    of `mien.ingest.specs.IngestSpec`, such as size=64, colour="rgb" or map={"joy":
    "happiness"}, and `name`, the dataset's name.

    Raises DataError for a folder that cannot be read.
    """
    home = open_store(store)
    patterns = {"subject_pattern": subject_pattern, "clip_pattern": clip_pattern}
    given = {name: text for name, text in patterns.items() if text is not None}
    if reader is None:
        fitting = [] if given else list(find_fitting_readers(Path(folder)))
        reader = fitting[0] if len(fitting) == 1 else "auto" if fitting else "folder"
    expected = {"no subjects"} if synthetic else set()
    run = run_ingest(reader, Path(folder), home, alias=alias, expected=expected, **given, **options)
    return StoredFaces.of_run(plain_folders.mark_synthetic(run, home) if synthetic else run)


def keep_faces(
    faces: FacesLike, alias: str | None = None, *, store: StoreLike | None = None
) -> StoredFaces:
    """Return faces as a run of the store, under an alias if one is given.

    Faces whose run is in another store become a run of this one, with the same images and table.
    """
    home = _find_store(store, faces)
    if isinstance(faces, StoredFaces) and faces.run is not None and not _is_inside(faces.run, home):
        faces = faces[:]
    run = _keep(faces, home)
    if alias is not None:
        home.set_alias(alias, run.name)
    return StoredFaces.of_run(run)


def load_faces(name: FacesLike, *, store: StoreLike | None = None) -> StoredFaces:
    """Return the faces of a run, an alias or a folder."""
    home = _find_store(store, name)
    return StoredFaces.of_run(_keep(name, home))


# The stages, in the order of the pipeline


def draw_toy(
    folder: Path | str,
    *,
    subjects: int = 26,
    clips: int = 255,
    seed: int = 0,
    balance: str = "casme2",
    workers: int | None = None,
) -> Path:
    """Draw a dataset of faces of no real person in CASME II's layout, as `mien toy` does.

    Returns the folder. A script that calls this with more than one worker needs the usual
    `if __name__ == "__main__"`.
    """
    dataset.draw(Path(folder), subjects, clips, seed, workers, balance)
    return Path(folder)


def preprocess_faces(
    faces: FacesLike,
    *,
    frames: str = "all",
    window: int | None = None,
    every: int = 1,
    size: int | None = None,
    filter: Filter = "bilinear",
    classes: str = "",
    input: str = "",
    crop: Mapping[str, Any] | None = None,
    alias: str | None = None,
    store: StoreLike | None = None,
) -> StoredFaces:
    """Return chosen frames of each clip, resized, with classes mapped: `mien preprocess`.

    `crop` has fields of `mien.prepare.specs.CropSpec`, such as {"margin": 0.2}; {} crops as usual.
    """
    home = _find_store(store, faces)
    fields = {
        "faces": _keep(faces, home).name,
        "every": every,
        "size": size,
        "filter": filter,
        "classes": classes,
        "crop": crop,
        "input": prepared.read_input(input),
        **prepared.read_frames(frames, window),
    }
    spec = read_spec(PreprocessSpec, fields, "preprocess")
    return StoredFaces.of_run(prepared.run_preprocess(spec, home, alias=alias))


def split_faces(
    faces: FacesLike,
    *,
    by: Unit = "subject",
    folds: int | None = None,
    number: int = 0,
    seed: int = 0,
    alias: str | None = None,
    store: StoreLike | None = None,
) -> tuple[StoredFaces, StoredFaces]:
    """Return a training side and a test side that share no subject (clip, frame): `mien split`."""
    home = _find_store(store, faces)
    source = _keep(faces, home)
    count = splits.choose_fold_count(Faces.load(source.path), by) if folds is None else folds
    fields = {"faces": source.name, "by": by, "folds": count, "number": number, "seed": seed}
    train_side, test_side = (
        StoredFaces.of_run(
            splits.run_split(
                read_spec(SplitSpec, {**fields, "side": side}, "split"),
                home,
                alias=f"{alias}-{side}" if alias else None,
            )
        )
        for side in ("train", "test")
    )
    return train_side, test_side


def train_generator(
    faces: FacesLike,
    preset: str = "default",
    *,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    alias: str | None = None,
    store: StoreLike | None = None,
    **settings: Any,
) -> Run:
    """Train a generator on faces and return its run: `mien train`.

    `preset` is a name in PRESETS, such as nano, default, vae or gaussian; `settings` change its
    fields, such as batch=32 or net={"width": 64}. With `minutes` it trains about so long.
    """
    home = _find_store(store, faces)
    run = _keep(faces, home)
    size = Faces.load(home.run(run.name).path).size
    spec = presets.read_preset(preset, run.name, {**settings, "seed": seed}, size)
    if minutes is not None:
        spec = train.calibrate(spec, minutes, home, device=device)
    return train.train_generator(spec, home, alias=alias, device=device)


def distill(
    generator: Run | str,
    *,
    steps: int = 2,
    guidance: float = 2.0,
    guide: str = "label",
    seed: int = 0,
    device: str = "auto",
    alias: str | None = None,
    store: StoreLike | None = None,
    **settings: Any,
) -> Run:
    """Return the run of a student of a trained generator, which draws in 1 to 4 steps.

    `steps` is the number in which it draws unless `generate_faces` is given another. It learns the
    images of the generator with this `guidance`. `settings` replace fields of the distillation:
    `images=4096`, `images_seen=100_000`. `mien distill` is the same.
    """
    home = _find_store(store, generator)
    teacher = home.run(generator.name if isinstance(generator, Run) else generator)
    spec = distilling.order_student(
        teacher, steps=steps, guidance=guidance, guide=guide, seed=seed, settings=settings
    )
    return distilling.distill_generator(spec, home, alias=alias, device=device)


def generate_faces(
    generator: Run | str,
    counts: str = "like",
    *,
    steps: int | str | None = None,
    sampler: str | None = None,
    guidance: float = 1.0,
    guidance_mix: float | None = None,
    guide: str = "label",
    units: str | None = None,
    seed: int = 0,
    fps: float | None = None,
    intensity: tuple[float, float] | None = None,
    per_person: int | None = None,
    device: str = "auto",
    alias: str | None = None,
    store: StoreLike | None = None,
) -> StoredFaces:
    """Return a synthetic database with exact counts per class: `mien generate`.

    `counts` is like (as many as the training set has), like*N (N times as many), preprint, each:N
    (N per class), balanced:N (N in all), or happiness=100,fear=50. Every class that the generator
    knows must have images, unless it is given 0, or `only` comes first: only,happiness=100. With
    `guidance_mix`, every second image of each class has this guidance in place of `guidance`.
    `steps` "auto" or "auto:N" draws in 6 or N steps, at noise levels that are chosen for this
    generator. `fps`, `intensity` (two limits) and `per_person` are for generators of movement,
    which draw clips. `units` are action units that all images show, such as
    12:0.8,6:0.5; the generator must have been trained with condition=["emotion", "action_units"].
    """
    home = _find_store(store, generator)
    trained = home.run(generator.name if isinstance(generator, Run) else generator)
    spec = orders.order_database(
        trained,
        counts,
        home,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        guidance_mix=guidance_mix,
        guide=guide,
        units=units,
        seed=seed,
        fps=fps,
        intensity=intensity,
        per_person=per_person,
    )
    prepare_levels(spec, home, device)
    return StoredFaces.of_run(generate.generate_database(spec, home, alias=alias, device=device))


def filter_faces(
    database: FacesLike,
    train: FacesLike,
    *,
    agreement: float = 0.5,
    band: tuple[float, float] = (0.2, 0.8),
    share: float = 0.5,
    spread: bool = True,
    seed: int = 0,
    alias: str | None = None,
    store: StoreLike | None = None,
) -> StoredFaces:
    """Return the synthetic faces that show their label and differ: `mien filter`.

    Judges learn from the real faces `train`, which should be those that the generator was trained
    on. An image passes if they give its label a mean probability of `agreement` or more, and if
    the entropy of their prediction is between the quantiles `band` of its class. Equally many of
    each class are kept, `share` of the mean number per class: with `spread` those of the images
    that pass which differ most, and the next most probable ones where too few pass.
    """
    home = _find_store(store, database, train)
    fields = {
        "database": _keep(database, home).name,
        "training": _keep(train, home).name,
        "agreement": agreement,
        "band": band,
        "share": share,
        "spread": spread,
        "seed": seed,
    }
    spec = read_spec(FilterSpec, fields, "filter_faces")
    return StoredFaces.of_run(filter_database(spec, home, alias=alias))


def audit_faces(
    synthetic: FacesLike,
    train: FacesLike,
    test: FacesLike | None = None,
    *,
    spaces: Sequence[SpaceName] = OFFLINE_SPACES,
    space: Mapping[str, Path | str] | None = None,
    thresholds: Path | str | None = None,
    subject_pattern: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
    alias: str | None = None,
    store: StoreLike | None = None,
) -> Audit:
    """Audit a synthetic database: is it realistic, new and correctly labelled? `mien audit`.

    `train` are the real faces that its generator was trained on, and `test` real faces of people
    whom it never saw; without them some questions cannot be answered. `space` maps the name of a
    space to the TOML file of a network that recognises people. `subject_pattern` is for folders. A
    failed audit is a result: look at its `verdict`.
    """
    # Each side becomes a run; folders get the form of the others
    recogniser = read_recogniser({name: Path(file) for name, file in (space or {}).items()})
    home = _find_store(store, synthetic, train, test)
    if recogniser is not None:
        recogniser = import_recogniser(recogniser, home)
    given = {"synthetic": synthetic, "train": train, **({} if test is None else {"test": test})}
    names = {side: _name(faces, home, side == "synthetic") for side, faces in given.items()}
    how = plain_folders.make_reading([*names][1:], subject_pattern)
    sides = plain_folders.find_sides(names, how, home)
    runs = plain_folders.mark_sides(sides, plain_folders.read_sides(sides, how, home), home)

    # Measure and judge, in this process if starting workers would take longer
    request = {
        "spaces": list(spaces),
        "thresholds": verdict.read_thresholds(None if thresholds is None else Path(thresholds)),
        **{side: side_run.name for side, side_run in runs.items()},
        **({} if recogniser is None else {"recogniser": recogniser.model_dump()}),
    }
    spec = read_spec(AuditSpec, request, "audit")
    count = choose_worker_count(runs.values(), workers)
    engine = make_engine("local", count, device=device)
    return Audit(run_audit(spec, home, alias=alias, device=device, engine=engine))


def find_leakage(
    train: FacesLike,
    test: FacesLike,
    *,
    by: Unit = "subject",
    synthetic: bool = False,
    subject_pattern: Sequence[str] = (),
    alias: str | None = None,
    store: StoreLike | None = None,
) -> Leakage:
    """Find what a test set shares with its training set: `mien leakage`.

    `synthetic` says that a folder `test` holds synthetic faces, of no real person.
    """
    home = _find_store(store, train, test)
    comparison = find_compared_sides(
        _name(train, home),
        _name(test, home, synthetic),
        home,
        synthetic=synthetic and isinstance(test, Path | str),
        subject_pattern=subject_pattern,
    )
    return Leakage(run_leakage(comparison, home, by, alias=alias))


def run_study(
    study: Path | str | Mapping[str, Any],
    faces: FacesLike | None = None,
    *,
    device: str = "auto",
    workers: int | None = 0,
    store: StoreLike | None = None,
) -> Study:
    """Run the missing trials of a study and return its results: `mien study run`.

    `study` is a study file, the name of a study that comes with mien, or the fields of such a file.
    `faces` replaces the faces that it names. With `workers` 0, all is done in this process.

    Raises TrialsFailed if trials failed; the others are done then.
    """
    home = _find_store(store, faces)
    path = Path("study") if isinstance(study, Mapping) else study_fields.find_study(str(study))
    fields = dict(study) if isinstance(study, Mapping) else read_toml(path)
    if faces is not None:
        fields["faces"] = _keep(faces, home).name
    spec = file.read_study_fields(fields, home, path)
    engine = make_engine("local", workers, device=device)
    return Study(run.run_study(spec, home, device=device, engine=engine), home)


def ask_advice(
    faces: FacesLike,
    minutes: float = 20.0,
    *,
    classifiers: Sequence[str] = ("tiny",),
    weights: str = "",
    folds: int = 3,
    seed: int = 0,
    device: str = "auto",
    workers: int | None = 0,
    store: StoreLike | None = None,
) -> Advice:
    """Return whether to train on synthetic faces too, and how: `mien advise`.

    `faces` are the real faces of a training set, of known subjects; six or more are needed.
    Subjects are held out in turn, in `folds`, and ways of training with and without synthetic faces
    are compared on them with `classifiers` that begin from `weights` ("" is their default). The
    study that fits into about so many `minutes` is run. With `workers` 0, all is done in this
    process.

    Raises UsageError for too few minutes or folds, DataError for faces about which nothing can be
    said, and TrialsFailed if too many trials failed for an answer.
    """
    home = _find_store(store, faces)
    is_name = isinstance(faces, str) and (faces in home.read_aliases() or home.is_done(faces))
    name = str(faces) if is_name else _keep(faces, home).name
    request = Request(name, minutes, tuple(classifiers), weights, folds, seed)
    engine = make_engine("local", workers, device=device)
    return Advice(advised.ask_advice(request, home, device=device, engine=engine))


def write_report(
    *studies: Study | str,
    out: Path | str | None = None,
    real_faces: bool | None = None,
    face_map: bool = True,
    store: StoreLike | None = None,
) -> Path:
    """Write the report of one or more studies and return the path of its page: `mien report`.

    For the map of faces (`face_map`) a small classifier learns from the training faces first.
    """
    first = next((study.store for study in studies if isinstance(study, Study)), None)
    home = open_store(store if store is not None else first)
    names = [study.run.name if isinstance(study, Study) else study for study in studies]
    folder = None if out is None else Path(out)
    return write.write_report(names, home, folder, real_faces, maps.map_faces if face_map else None)


def export_faces(
    faces: FacesLike,
    out: Path | str,
    *,
    layout: str | None = None,
    real: bool = False,
    store: StoreLike | None = None,
) -> Path:
    """Write faces as PNG files, one folder for each class, with metadata.csv: `mien export`.

    With a `layout`, such as casme2, clips are written in the folders of that published set, with
    its coding sheet. Real faces, and synthetic images that copy them, are written only if `real` is
    true.
    """
    home = _find_store(store, faces)
    if layout is not None:
        return write_clips(_keep(faces, home), home, Path(out), layout, real).folder
    return write_album(_keep(faces, home), home, Path(out), real).folder


def _read_table(path: Path) -> pd.DataFrame:
    """Return a CSV file of a run; texts are those that were written, without escapes."""
    table = pd.read_csv(path, keep_default_na=False)
    return table.map(lambda value: unescape_cell(value) if isinstance(value, str) else value)


# What the stages are given


def _find_store(store: StoreLike | None, *given: FacesLike | None) -> Store:
    """Return the given store, else that of the first given run, else the usual one."""
    runs = [faces.run if isinstance(faces, StoredFaces) else faces for faces in given]
    first = next((run for run in runs if isinstance(run, Run)), None)
    if store is None and first is not None:
        return Store(first.path.parent.parent)
    return open_store(store)


def _keep(faces: FacesLike, store: Store) -> Run:
    """Return the run of faces, which are put into the store if they are not there yet."""
    if isinstance(faces, StoredFaces) and faces.run is not None:
        faces = faces.run
    if isinstance(faces, Run):
        return _require_inside(faces, store)
    if isinstance(faces, Faces):
        return prepared.keep_arrays(faces, store)
    (named_side,) = plain_folders.find_sides({"train": str(faces)}, plain_folders.Reading(), store)
    return plain_folders.read_sides([named_side], plain_folders.Reading(), store)["train"]


def _name(faces: FacesLike, store: Store, synthetic: bool = False) -> str:
    """Return the name of a set for an audit: of a run, which may be made here, or of a folder.

    Faces in memory on the `synthetic` side count as made by an unknown generator.
    """
    if isinstance(faces, Path | str):
        return str(faces)
    if isinstance(faces, Faces) and synthetic and (faces.index["source"] == "real").all():
        index = faces.index.assign(source=UNKNOWN_SOURCE, subject="", clip="")
        faces = replace(faces, index=index)
    return _keep(faces, store).name


def _is_inside(run: Run, store: Store) -> bool:
    """Whether a run belongs to this store."""
    return run.path.parent.parent.resolve() == store.root.resolve()


def _require_inside(run: Run, store: Store) -> Run:
    """Return a run of this store; raises UsageError if it belongs to another."""
    if not _is_inside(run, store):
        raise UsageError(
            f"{run.name} must be in the store {store.root}, and is in {run.path.parent.parent}; "
            "give all sets from one store, or copy the faces with mien.keep_faces(faces, store=...)"
        )
    return store.run(run.name)
