"""Releases: a synthetic database as a folder for others, checked, sent, and made again image by
image.
"""

from pathlib import Path
from typing import Annotated

import typer

from mien.cli.base import STORE, DeviceOption, StoreOption, app, open_store
from mien.errors import DataError, UsageError
from mien.outside import expanded
from mien.progress import many

publish_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(
    publish_app, name="publish", help="Build, check and send a release of a synthetic database."
)


@publish_app.command("build")
def publish_build(
    synthetic: Annotated[str, typer.Argument(help="A run or alias of a synthetic database.")],
    out: Annotated[
        Path, typer.Option(help="A folder that does not exist yet, or is empty.", metavar="DIR")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="parquet, imagefolder and webdataset, with commas; Parquet is always there.",
            metavar="LIST",
        ),
    ] = "parquet",
    answers: Annotated[
        Path,
        typer.Option(
            help="What only people can say; written to be answered if it is not there.",
            metavar="FILE",
        ),
    ] = Path("dataset.toml"),
    study: Annotated[
        list[str] | None,
        typer.Option(help="A study whose table goes with it; may be repeated.", metavar="NAME"),
    ] = None,
    private: Annotated[
        bool,
        typer.Option(
            "--private",
            help="Build what stays with you, where terms are not known or no audit passed.",
        ),
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="Sign every picture with C2PA: a chain of certificates (PEM).", metavar="FILE"
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The certificate's private key (PEM, ES256).", metavar="FILE"),
    ] = None,
    store: StoreOption = STORE,
) -> None:
    """Write a release: images, card, datasheet, croissant.json, registry, audit, provenance.

    The first call writes dataset.toml with the questions that the store cannot answer. A build for
    the public needs a passed audit of exactly this database, sources whose derived data may be
    passed on, and a licence no looser than theirs; else the exit code is 3.
    """
    from mien import publish
    from mien.publish.signing import Signer

    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key must be given together")
    signer = Signer(certificate, key) if certificate and key else None
    folder = publish.build(
        synthetic,
        out,
        open_store(store),
        answers,
        form=form,
        private=private,
        study_names=study or [],
        signer=signer,
    )
    _show(folder)
    print(f"next: mien publish check {folder}")


@publish_app.command("check")
def publish_check(
    folder: Annotated[Path, typer.Argument(help="A release.", metavar="DIR")],
) -> None:
    """Load every form of a release back and compare counts, labels, hashes and marks.

    With datasets, webdataset and mlcroissant, too, where these are installed.
    """
    from mien import publish

    found = publish.check(folder)
    counts = ", ".join(f"{split} {many(count, 'image')}" for split, count in found.counts.items())
    print(f"{folder}: {counts}")
    if found.foreign:
        print(f"passed over, no part of it: {', '.join(found.foreign)}")
    print(f"as it was built: {', '.join(found.compared)}")
    if found.skipped:
        print(f"skipped, not installed: {', '.join(found.skipped)}")


@publish_app.command("push")
def publish_push(
    folder: Annotated[Path, typer.Argument(help="A release.", metavar="DIR")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub.")],
    access: Annotated[
        str,
        typer.Option(
            help="private; gated: whom its owner lets in; public: everyone.", metavar="ACCESS"
        ),
    ] = "private",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and send nothing.")
    ] = False,
) -> None:
    """Send a release to a dataset repository of a hub: private first, opened only when asked for.

    It is checked first, and what arrived is compared before it is opened. Needs pip install
    'mien[hub]'.
    """
    from mien import publish

    for step in publish.push(folder, repository, access, dry_run=dry_run):
        print(f"{'would ' if dry_run else ''}{step}")


@app.command()
def regenerate(
    folder: Annotated[Path, typer.Argument(help="A release.", metavar="DIR")],
    image: Annotated[
        str, typer.Option(help="An image's id, such as happiness-00012.", metavar="ID")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; ID.png by default.", metavar="FILE")
    ] = None,
    device: DeviceOption = "auto",
    store: StoreOption = STORE,
) -> None:
    """Make an image of a release again, from its provenance and the generator in the store.

    It comes out equal byte by byte, or the command says why it cannot.
    """
    from mien import folders
    from mien.publish.remake import regenerate as remake

    path = expanded(out or Path(f"{image}.png"))
    folders.free_file(path)
    made = remake(folder, image, open_store(store), device)
    path = folders.free_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.data)
    if not made.pixels_equal:
        raise DataError(f"{path} was made again, and is not the image of the release: {made.why}")
    print(
        f"{path}: equal to the release, byte by byte" if made.bytes_equal else f"{path}: {made.why}"
    )


def _show(folder: Path) -> None:
    """Print what a release holds, and the gates that did not simply pass."""
    import json

    told = json.loads((folder / "provenance" / "release.json").read_text(encoding="utf-8"))
    total = sum(sum(counts.values()) for counts in told["counts"].values())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    kind = " (private: not to be passed on)" if told["private"] else ""
    print(
        f"{folder}: {told['name']} {told['version']}{kind}, {many(total, 'image')}, "
        f"{size / 1e6:.1f} MB"
    )
    for gate in json.loads((folder / "provenance" / "gates.json").read_text(encoding="utf-8")):
        if gate["outcome"] != "passed":
            print(f"  {gate['gate']} {gate['outcome']}: {gate['text']}")
