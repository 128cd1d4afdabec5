"""Ingest meets the store: a folder is recognised, read and accounted for."""

from collections import Counter
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256 as digest
from pathlib import Path
from typing import Any

import pandas as pd

from mien.errors import DataError, SpecError
from mien.faces import EMOTIONS, Faces
from mien.findings import Finding, list_some
from mien.ingest import accounting, depths, subject_names, synthetic_marks
from mien.ingest.accounting import Ledger
from mien.ingest.decoding import choose_thread_count, find_faces, read_listing
from mien.ingest.emotions import ALIASES
from mien.ingest.folders import look_at, make_dataset_name, require_folder
from mien.ingest.reader import Listing
from mien.ingest.readers import READERS
from mien.ingest.specs import IngestSpec
from mien.ingest.terms import make_terms_json
from mien.outside import expand_home
from mien.pages.escape import write_csv
from mien.prepare import facs
from mien.prepare.preprocess import summarise_faces, write_with_sheet
from mien.runs.files import hash_file
from mien.runs.progress import say, track
from mien.runs.spec import read_spec, suggest
from mien.runs.store import Run, RunSummary, Store

AUTO_READER = "auto"  # instead of a reader's name


@dataclass(frozen=True)
class ReadFolder:
    """What became of a listing: its faces, and what there is to say about all pictures and rows.

    `findings` are all findings, and `unread` those that were made while images were read.
    """

    faces: Faces
    findings: list[Finding]
    unread: list[Finding]
    ledgers: tuple[Ledger, ...]
    about_crop: dict[str, Any]


def read_faces(
    listing: Listing,
    spec: IngestSpec,
    *,
    workers: int | None = None,
    skip_unreadable: bool = False,
    crop_model: Path | None = None,
    out: Path | None = None,
) -> ReadFolder:
    """Return the faces of a listing (`list_folder`), decoded by `workers` threads (None: one per
    core), and the accounts of all its pictures and rows.

    Images in which no face is found are left out if the spec's crop says so. Reports on crops and
    left_out.csv are written into `out`. Raises DataError if an image cannot be read. With
    `skip_unreadable` such images are left out, unless no image would remain.
    """
    # Decode the images, without those in which no face was found.
    with_faces, places, about_crop = find_faces(listing, spec, workers, crop_model, out)
    faces, unread = read_listing(with_faces, spec, workers, skip_unreadable, places)

    # Report every irregularity, and account for every picture and row.
    findings = [*listing.findings, *accounting.report_faceless(listing, with_faces), *unread]
    ledgers = accounting.close(listing, READERS[spec.reader].READER, faces, findings, out)
    return ReadFolder(faces, findings, unread, ledgers, about_crop)


def list_folder(spec: IngestSpec, root: Path) -> Listing:
    """Return the images that `scan_folder` lists below `root`, each with its white value.

    Of a release of clips, the names of the channels that its pictures show are added. Raises
    DataError if such pictures are to be cropped or read in colour.
    """
    listing = depths.add_white_values(scan_folder(spec, root), spec.white)
    listing = synthetic_marks.find_release_channels(listing)
    if listing.channels and (spec.crop is not None or spec.colour != "grey"):
        raise DataError(
            f"the pictures of {root} are strips of {len(listing.channels)} channels in grey, which "
            "cannot be cropped or read in colour; omit --crop and --colour"
        )
    return listing


def scan_folder(spec: IngestSpec, root: Path) -> Listing:
    """Return the images that the spec's reader lists below `root`.

    All pictures and rows are accounted for: one that the reader neither lists nor names becomes a
    finding. Raises DataError if `root` is not a dataset of the reader's kind.
    """
    require_reader_options(spec)
    about = READERS[spec.reader].READER
    listing = subject_names.merge_spellings(
        READERS[spec.reader].scan(require_folder(root), spec), spec
    )
    listing = accounting.check_listing(listing, require_folder(root), about)
    other_parts = [part for part in about.parts if part != listing.part]
    if not other_parts or any(finding.kind == "part" for finding in listing.findings):
        return listing
    message = f"this part was read; --part selects another: {', '.join(other_parts)}"
    note = Finding("note", "part", str(listing.part), message)
    return replace(listing, findings=(note, *listing.findings))


def find_fitting_readers(root: Path) -> dict[str, str]:
    """Return the readers whose layout the folder has, each with the reason.

    Readers of any folder are included only if no other reader fits. Only the names of files and
    folders are read; no image is opened. Raises DataError if `root` is not a folder.
    """
    look = look_at(require_folder(root))
    reasons = {name: module.recognise(look) for name, module in READERS.items()}
    fitting = {name: reason for name, reason in reasons.items() if reason}
    return {
        name: reason for name, reason in fitting.items() if not READERS[name].READER.generic
    } or fitting


def choose_reader(root: Path) -> tuple[str, str]:
    """Return the one reader whose layout the folder has, and the reason.

    Raises DataError if no reader fits, or if several do.
    """
    fitting = find_fitting_readers(root)
    if not fitting:
        contents = list_some(sorted(path.name for path in require_folder(root).iterdir()), 8)
        raise DataError(
            f"{root} must have the layout of a dataset that mien reads, and no reader recognises "
            f"it; found: {contents or 'nothing'}. `mien readers` lists what each needs"
        )
    if len(fitting) > 1:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in fitting.items())
        raise DataError(
            f"{root} must have the layout of one reader, and {len(fitting)} readers recognise it. "
            f"{reasons}. Name the reader to use"
        )
    return next(iter(fitting.items()))


def compute_fingerprint(
    listing: Listing, workers: int | None = None, skip_unreadable: bool = False
) -> str:
    """Return the sha256 over relative name and content of every image listed and every annotation
    file.

    All bytes are read in one pass over the files, which then stay in the system's cache for
    decoding. The folder's location, dates, and files that no result depends on do not count.
    Raises DataError if a file cannot be read, unless it is an image and `skip_unreadable` is set:
    then it counts as unreadable.
    """
    paths = list(dict.fromkeys([*listing.list_paths(), *listing.annotations]))
    inside = [path.is_relative_to(listing.root) for path in paths]
    names = [
        path.relative_to(listing.root).as_posix() if below else path.name
        for path, below in zip(paths, inside, strict=True)
    ]
    with (
        ThreadPoolExecutor(choose_thread_count(workers)) as pool,
        track("checking files", len(paths)) as bar,
    ):
        lines = []
        images = set(listing.list_paths()) if skip_unreadable else set[Path]()
        for name, content in zip(
            names, pool.map(lambda path: _hash_content(path, path in images), paths), strict=True
        ):
            lines.append(f"{name}\0{content}\n")
            if len(lines) % 100 == 0:
                bar.update(len(lines))
    return digest("".join(sorted(lines)).encode()).hexdigest()


def run_ingest(
    reader: str,
    root: Path,
    store: Store,
    *,
    name: str | None = None,
    alias: str | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    crop_model: Path | None = None,
    expected: Set[str] = frozenset(),
    **options: Any,
) -> Run:
    """Return the run of the dataset at `root`, made in `store` if it is not there yet.

    It has the faces, sheet.png, findings.csv, labels.csv, left_out.csv and summary.json.
    left_out.csv names each picture and each row that did not become an image, with its reason;
    summary.json has the totals. labels.csv says which emotion each label of the source became.
    action_units.parquet has the units of each clip, one row per unit (`facs.tabulate_units`), if
    the source has any. With a crop, crops.csv, misses.csv and crops.png say where faces were found;
    `crop_model` is YuNet's file.

    The reader "auto" is the one whose layout the folder has. `name` is the dataset's name (by
    default the reader's, or the folder's); `options` are other fields of IngestSpec.
    Findings are printed on stderr, except those of the kinds in `expected`. Neither `workers`
    nor `skip_unreadable` is part of the run's name: they do not change what the images become.

    Raises SpecError for an unknown option, and DataError for a folder that cannot be ingested.
    """
    root = expand_home(Path(root))
    if reader == AUTO_READER:
        reader, reason = choose_reader(root)
        say(f"{root} is read by {reader}: {reason}")

    # The fingerprint is part of the run's name, and needs the listing, which needs a spec.
    usual = reader in READERS and READERS[reader].READER.dataset
    dataset = name if name is not None else usual or make_dataset_name(root.resolve().name)
    fields = {"reader": reader, "dataset": dataset, "fingerprint": "", **options}
    draft = read_spec(IngestSpec, fields, f"ingest {reader}")
    listing = list_folder(draft, root)
    files = compute_fingerprint(listing, workers, skip_unreadable)
    spec = draft.model_copy(update={"fingerprint": files, "part": listing.part})
    _print_findings([finding for finding in listing.findings if finding.kind not in expected])

    def build(out: Path, scratch: Path) -> RunSummary:
        read = read_faces(
            listing, spec, workers=workers, skip_unreadable=skip_unreadable, crop_model=crop_model,
            out=out,
        )  # fmt: skip
        _print_findings(read.unread)
        _write_findings(read.findings, out)
        faces = read.faces
        write_with_sheet(faces, out)
        _write_labels(faces, out)

        # The reader's citation holds only for the release whose licence it knows.
        about = READERS[reader].READER
        cited = spec.licence is None and listing.licence == about.licence
        return {
            **summarise_faces(faces),
            "dataset": spec.dataset,
            "named": _name_source(name, reader),
            "licence": faces.index["licence"].iloc[0],
            "citation": about.citation if cited else "",
            "findings": dict(Counter(finding.kind for finding in read.findings)),
            "accounts": accounting.summarise_ledgers(read.ledgers),
            **read.about_crop,
            "terms": make_terms_json(
                reader, spec.dataset, spec.licence, spec.licence or listing.licence
            ),
        }

    # An earlier call with skip_unreadable may have made the run with images missing.
    run = store.make(spec, build)
    if not skip_unreadable:
        _require_all_read(run)
    if alias is not None:
        store.set_alias(alias, run.name)
    return run


def _write_findings(findings: Sequence[Finding], out: Path) -> None:
    columns = ["severity", "kind", "where", "what"]
    lines = [[getattr(finding, column) for column in columns] for finding in findings]
    write_csv(pd.DataFrame(lines, columns=columns), out / "findings.csv")


def _require_all_read(run: Run) -> None:
    """Raise DataError if images were left out of a run because they could not be read."""
    if not run.summary.get("findings", {}).get("unreadable image"):
        return
    table = pd.read_csv(run.find_file("findings.csv"), dtype=str, keep_default_na=False)
    unread = [str(name) for name in table["where"][table["kind"] == "unreadable image"]]
    raise DataError(
        f"every image must be readable, and {list_some(unread)} cannot be read: {run.name}, which "
        "was made from these files with --skip-unreadable, does not contain them. Replace or "
        "remove these files, or give --skip-unreadable again"
    )


def _name_source(name: str | None, reader: str) -> str:
    """Return the source of a dataset's name: by hand, its reader, or its folder, which may name
    people.
    """
    return "hand" if name else "reader" if READERS[reader].READER.dataset else "folder"


def describe_reader(name: str) -> list[tuple[str, str]]:
    """Return all facts about a reader as lines, each with a title.

    Raises SpecError if there is no reader of that name.
    """
    if name not in READERS:
        raise SpecError(
            f"there is no reader '{name}'.{suggest(name, list(READERS))} Readers: "
            f"{', '.join(READERS)}"
        )
    about = READERS[name].READER
    options = [f"--{option.replace('_', '-')}" for option in about.options]

    # Facts that not every reader has get a line only where they exist.
    lines = [
        ("reader", name),
        ("dataset", about.title),
        ("needs", about.needs),
        ("subjects", f"from {about.subjects}"),
        ("clips", f"from {about.clips}"),
        *(("part", f"{part}: {description}") for part, description in about.parts.items()),
        *((("options", ", ".join(options)),) if options else ()),
        ("licence", about.licence),
        ("obtain", about.obtain),
        *((("cite", about.citation),) if about.citation else ()),
        *(("label", f"{raw} -> {emotion or 'left out'}") for raw, emotion in about.labels.items()),
    ]
    if not about.labels:
        lines.append(("label", f"any of {', '.join(EMOTIONS)}"))

    # The labels that every reader understands come last.
    aliases = ", ".join(f"{raw} -> {emotion}" for raw, emotion in ALIASES.items())
    return [*lines, ("label", f"any set: {aliases}")]


def list_readers() -> str:
    """Return the readers with the layout that each needs, as a sentence of a message."""
    return "Readers: " + "; ".join(
        f"{name}: {module.READER.needs}" for name, module in READERS.items()
    )


def _write_labels(faces: Faces, out: Path) -> None:
    """Write labels.csv, which says what each label became, and action_units.parquet if there are
    any units.
    """
    index = faces.index.assign(clip=faces.name_units("clip"))
    folded = index.groupby(["raw_label", "emotion"], as_index=False).agg(
        images=("key", "size"), clips=("clip", "nunique")
    )
    write_csv(folded, out / "labels.csv")
    units = facs.tabulate_units(faces)
    if len(units):
        units.to_parquet(out / "action_units.parquet", index=False)


def _hash_content(path: Path, may_fail: bool = False) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        if may_fail:
            return "unreadable"
        raise DataError(f"{path} must be a file that can be read: {error.strerror}") from None


def _print_findings(findings: Sequence[Finding], limit: int = 12) -> None:
    for finding in findings[:limit]:
        say(f"{finding.severity}: {finding.where}: {finding.what}")
    if len(findings) > limit:
        say(f"and {len(findings) - limit} more; findings.csv in the run has them all")


def require_reader_options(spec: IngestSpec) -> None:
    """Raise SpecError unless there is the spec's reader, and it takes the options that are set."""
    if spec.reader not in READERS:
        raise SpecError(
            f"there is no reader '{spec.reader}'.{suggest(spec.reader, list(READERS))} "
            f"{list_readers()}"
        )

    # An option that only other readers take would be ignored silently.
    options = READERS[spec.reader].READER.options
    other_options = {name for module in READERS.values() for name in module.READER.options} - set(
        options
    )
    ignored = sorted(name for name in other_options if getattr(spec, name) is not None)
    if ignored:
        raise SpecError(
            f"the reader {spec.reader} takes {', '.join(options) or 'no options of its own'}, and "
            f"does not take {', '.join(ignored)}"
        )

    parts = READERS[spec.reader].READER.parts
    if spec.part is not None and spec.part not in parts:
        has = f"has the parts {', '.join(parts)}" if parts else "has no parts"
        raise SpecError(
            f"the reader {spec.reader} {has}, and does not have "
            f"'{spec.part}'.{suggest(spec.part, list(parts))}"
        )

    for column in ("subject", "clip"):
        if getattr(spec, f"{column}_pattern") and getattr(spec, f"{column}_column"):
            raise SpecError(
                f"the {column} comes from a pattern or from a column: give only one of the two"
            )
