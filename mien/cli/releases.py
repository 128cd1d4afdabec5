"""The commands of releases: built, checked, sent, images regenerated."""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.base import DEFAULT_STORE, DeviceOption, StoreOption, app, open_store
from mien.errors import DataError, UsageError
from mien.outside import expand_home
from mien.runs.progress import quantify

publish_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

app.add_typer(
    publish_app, name="publish", help="Build, check and send a release of a synthetic database."
)


@publish_app.command("build", short_help="Write a release: images, card, datasheet and tables.")
def publish_build(
    synthetic: Annotated[str, typer.Argument(help="A run or alias of a synthetic database.")],
    out: Annotated[
        Path, typer.Option(help="A folder that does not exist yet or is empty.", metavar="DIR")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="The formats: parquet, imagefolder, webdataset; comma-separated. Parquet is "
            "always "
            "included.",
            metavar="LIST",
        ),
    ] = "parquet",
    answers: Annotated[
        Path,
        typer.Option(
            help="The file with your answers; if it does not exist, it is written with the "
            "questions.",
            metavar="FILE",
        ),
    ] = Path("dataset.toml"),
    study: Annotated[
        list[str] | None,
        typer.Option(
            help="A study whose table of results is included. Repeatable.", metavar="NAME"
        ),
    ] = None,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Build a private release, not to be passed on; it needs neither known terms nor a "
            "passed audit.",
        ),
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Sign every image with C2PA, using this chain of certificates (PEM).",
            metavar="FILE",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The private key of the certificate (PEM, ES256).", metavar="FILE"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write a release: images, card, datasheet, croissant.json, registry, audit and provenance.

    The first call writes dataset.toml with the questions that the store cannot answer. A public
    release needs a passed audit of exactly this database, sources whose licences allow derived data
    to be passed on, and a licence at least as strict as theirs; otherwise the exit code is 3.
    """
    from mien.publish.release import build
    from mien.publish.signing import Signer

    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key must be given together; give both or neither")
    signer = Signer(certificate, key) if certificate and key else None
    folder = build(
        synthetic,
        out,
        open_store(store),
        answers,
        form=form,
        private=private,
        study_names=study or [],
        signer=signer,
    )
    _show_release(folder)
    print(f"next: mien publish check {folder}")


@publish_app.command("check", short_help="Check a release before it is published.")
def publish_check(
    folder: Annotated[Path, typer.Argument(help="The folder of a release.", metavar="DIR")],
) -> None:
    """Load every format of a release and compare counts, labels, hashes and marks.

    It is also loaded with datasets, webdataset and mlcroissant, if these are installed.
    """
    from mien.publish import checking

    checked = checking.check(folder)
    counts = ", ".join(
        f"{split} {quantify(count, 'image')}" for split, count in checked.counts.items()
    )
    print(f"{folder}: {counts}")
    if checked.foreign:
        print(f"ignored, not part of it: {', '.join(checked.foreign)}")
    print(f"unchanged since it was built: {', '.join(checked.compared)}")
    if checked.skipped:
        print(f"skipped, not installed: {', '.join(checked.skipped)}")


@publish_app.command(
    "push", short_help="Send a release to a hub, private unless you say otherwise."
)
def publish_push(
    folder: Annotated[Path, typer.Argument(help="The folder of a release.", metavar="DIR")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    access: Annotated[
        str,
        typer.Option(
            help="Who may download it. private: its owner; gated: those whom the owner admits; "
            "public: everyone.",
            metavar="ACCESS",
        ),
    ] = "private",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and send nothing.")
    ] = False,
) -> None:
    """Send a release to a dataset repository on a hub, private unless --access says otherwise.

    The release is checked first, and the uploaded files are compared before access is opened. Needs
    pip install 'mien[hub]'.
    """
    from mien.publish import hub

    for step in hub.push(folder, repository, access, dry_run=dry_run):
        print(f"{'would ' if dry_run else ''}{step}")


@app.command(short_help="Generate an image of a release again, and compare it.")
def regenerate(
    folder: Annotated[Path, typer.Argument(help="The folder of a release.", metavar="DIR")],
    image: Annotated[
        str, typer.Option(help="The id of an image, such as happiness-00012.", metavar="ID")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; ID.png by default.", metavar="FILE")
    ] = None,
    device: DeviceOption = "auto",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Generate an image of a release again, from its provenance and the generator in the store.

    The file is equal byte by byte, or the command says why it cannot be.
    """
    from mien.publish.remake import regenerate as remake
    from mien.runs.folders import require_free_file

    path = expand_home(out or Path(f"{image}.png"))
    require_free_file(path)
    regenerated = remake(folder, image, open_store(store), device)
    path = require_free_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(regenerated.data)
    if not regenerated.pixels_equal:
        raise DataError(
            f"{path} was made again, and is not the image of the release: {regenerated.reason}"
        )
    outcome = (
        "equal to the release, byte by byte" if regenerated.bytes_equal else regenerated.reason
    )
    print(f"{path}: {outcome}")


def _show_release(folder: Path) -> None:
    """Print what a release holds, and the gates that did not pass."""
    import json

    release = json.loads((folder / "provenance" / "release.json").read_text(encoding="utf-8"))
    total = sum(sum(counts.values()) for counts in release["counts"].values())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    privacy_note = " (private: not to be passed on)" if release["private"] else ""
    print(
        f"{folder}: {release['name']} {release['version']}{privacy_note}, "
        f"{quantify(total, 'image')}, "
        f"{size / 1e6:.1f} MB"
    )
    for gate in json.loads((folder / "provenance" / "gates.json").read_text(encoding="utf-8")):
        if gate["outcome"] != "passed":
            print(f"  {gate['gate']} {gate['outcome']}: {gate['text']}")
