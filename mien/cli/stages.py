"""The stages of the pipeline, in its order: from a dataset's folder to a synthetic database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import (
    STORE,
    AliasOption,
    DeviceOption,
    StoreOption,
    app,
    fields,
    open_store,
    pairs,
    same_people,
    show_accounts,
    show_run,
)
from mien.cli.following import after_chosen, after_drawing, after_faces, after_split, after_training
from mien.errors import TrialsFailed, UsageError
from mien.outside import expanded
from mien.progress import many

if TYPE_CHECKING:
    from mien.store import Run, Store

CropOption = Annotated[
    str | None,
    typer.Option(
        help="Cut the face out first: haar, which OpenCV brings, or yunet, with --crop-model."
    ),
]
CropModelOption = Annotated[
    Path | None, typer.Option(help="The ONNX file of YuNet.", metavar="FILE")
]
MarginOption = Annotated[
    float | None,
    typer.Option(help="What is left around a face, as a share of its width: 0.1 by default."),
]
AlignOption = Annotated[
    bool, typer.Option("--align", help="Turn each face until its eyes lie level.")
]
MissesOption = Annotated[
    str | None,
    typer.Option(
        help="Where no face is found: fail (the default), skip, or centre, to take the middle."
    ),
]


def _both_named(alias: str | None) -> str | None:
    """Refuse what cannot be the beginning of two aliases, before anything else is done."""
    if alias is not None:
        from mien.store import require_alias

        require_alias(f"{alias}-train")
    return alias


SidesOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="NAME-train and NAME-test are what the sides are called.",
        metavar="NAME",
        callback=_both_named,
    ),
]


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where its dataset, store and report go.")] = Path(
        "mien-demo"
    ),
    device: DeviceOption = "auto",
) -> None:
    """Do all of it on drawn faces, in some minutes.

    Faces are drawn and become a dataset, a diffusion model is trained on it and makes a synthetic
    database, classifiers are trained on both, and a report tells what came out. Stopped, the same
    command continues.
    """
    from mien import demo as module

    module.run(folder, device)


@app.command()
def toy(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet, or is empty.")],
    subjects: Annotated[int, typer.Option(help="How many people are drawn.")] = 26,
    clips: Annotated[int, typer.Option(help="How many clips they show in all.")] = 255,
    seed: Annotated[int, typer.Option(help="Another seed draws other people.")] = 0,
    balance: Annotated[
        str, typer.Option(help="casme2: the sheet's class proportions; even: equal classes.")
    ] = "casme2",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
) -> None:
    """Draw a dataset in CASME II's own layout.

    The faces are nobody's, and free to use (CC0).
    """
    from mien import folders
    from mien.ingest import toy as module
    from mien.progress import track

    folders.fillable(folder, "the folder")
    folder = expanded(folder)
    with track("drawing clips", clips) as bar:
        drawn = module.draw(
            folder, subjects, clips, seed, workers, balance, lambda done, total: bar.update(done)
        )
    print(
        f"{folder}: {many(drawn.subjects, 'person', 'people')}, {many(drawn.clips, 'clip')}, "
        f"{many(drawn.images, 'image')}"
    )
    print(f"next: mien ingest casme2 {folder} --name drawn --as drawn")


@app.command()
def ingest(
    reader: Annotated[
        str, typer.Argument(help="One of `mien readers`, or auto, which recognises the layout.")
    ],
    folder: Annotated[Path, typer.Argument(help="The dataset's folder; it is only read.")],
    name: Annotated[
        str | None, typer.Option(help="The dataset's name, in keys and subjects.")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width to resize to, in pixels.")] = 48,
    colour: Annotated[str, typer.Option(help="grey or rgb.")] = "grey",
    filter: Annotated[
        str, typer.Option(help="box, bilinear, bicubic or lanczos; all antialiased.")
    ] = "bilinear",
    subject_pattern: Annotated[
        str | None,
        typer.Option(
            help="folder: a regular expression; its first group in the path is the subject."
        ),
    ] = None,
    clip_pattern: Annotated[
        str | None,
        typer.Option(help="folder: a regular expression; its first group in the path is the clip."),
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(help="A class name to fold, such as joy=happiness; may be repeated."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="folder: the column of metadata.csv with the class.")
    ] = None,
    subject_column: Annotated[
        str | None, typer.Option(help="folder: the column with the subject.")
    ] = None,
    clip_column: Annotated[
        str | None, typer.Option(help="folder: the column with the clip.")
    ] = None,
    frame_column: Annotated[
        str | None, typer.Option(help="folder: the column with the frame's number.")
    ] = None,
    image_column: Annotated[
        str | None, typer.Option(help="huggingface: which of several columns of pictures.")
    ] = None,
    same_subject: Annotated[
        list[str] | None,
        typer.Option(help="Two names of one person, such as AnnaK=anna_k; may be repeated."),
    ] = None,
    subjects_as_written: Annotated[
        bool,
        typer.Option("--subjects-as-written", help="1, 01 and S1 are different people, not one."),
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="Which part of the set, where the reader has several.")
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            help="The file of the sheet with the labels, or FILE#PAGE; the newest by default."
        ),
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            help="sheet: files have the sheet's frame numbers, even where they begin with 0 or 1."
        ),
    ] = None,
    white: Annotated[
        float | None,
        typer.Option(
            help=(
                "What is white in pictures of more than 8 bits, where neither file nor set "
                "tells: 4095."
            )
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="What the images may be used for, where mien cannot know.")
    ] = None,
    crop: CropOption = None,
    crop_model: CropModelOption = None,
    margin: MarginOption = None,
    align: AlignOption = False,
    misses: MissesOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option(help="Leave unreadable images out, and report them.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Threads; by default one a core.")] = None,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Read a licensed dataset folder into the store."""
    from mien import ingest as module
    from mien.crops import read

    folds = pairs(map or [], "--map")
    run = module.run(
        reader,
        folder,
        open_store(store),
        name=name,
        size=size,
        colour=colour,
        filter=filter,
        crop=read(crop, crop_model, margin, align, misses),
        crop_model=crop_model,
        subject_pattern=subject_pattern,
        clip_pattern=clip_pattern,
        label_column=label_column,
        subject_column=subject_column,
        clip_column=clip_column,
        frame_column=frame_column,
        part=part,
        sheet=sheet,
        numbers=numbers,
        same_subject=same_people(same_subject or []),
        subjects_as_written=subjects_as_written,
        image_column=image_column,
        white=white,
        licence=licence,
        map=folds,
        skip_unreadable=skip_unreadable,
        workers=workers,
        alias=alias,
    )
    show_run(run, alias)
    show_accounts(run)
    after_faces(run, open_store(store), store)


@app.command()
def preprocess(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    frames: Annotated[
        str,
        typer.Option(
            help="apex: a window around each clip's apex; apex±3: one of 3; onset+apex; all."
        ),
    ] = "apex",
    window: Annotated[
        int | None, typer.Option(help="Frames on either side of the apex: 5 by default.")
    ] = None,
    every: Annotated[int, typer.Option(help="Keep every n-th frame of a clip.")] = 1,
    size: Annotated[
        int | None, typer.Option(help="Height and width to resize to; as they are by default.")
    ] = None,
    filter: Annotated[
        str, typer.Option(help="box, bilinear, bicubic or lanczos; all antialiased.")
    ] = "bilinear",
    classes: Annotated[
        str,
        typer.Option(
            help="Fold to a class set: preprint-7, casme2-5, megc2019-3 or megc2019-wide."
        ),
    ] = "",
    input: Annotated[
        str,
        typer.Option(
            help=(
                "What is shown, a channel each: gray, laplacian, hog, lbp, clahe, "
                "onset-difference; with commas."
            )
        ),
    ] = "",
    crop: CropOption = None,
    crop_model: CropModelOption = None,
    margin: MarginOption = None,
    align: AlignOption = False,
    misses: MissesOption = None,
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Choose frames of each clip, cut faces out, resize, fold classes, and choose what is shown of
    them.
    """
    from mien import preprocess as module
    from mien.crops import read
    from mien.spec import read_spec

    home = open_store(store)
    data = {
        "faces": home.run(dataset).name,
        "every": every,
        "size": size,
        "filter": filter,
        "classes": classes,
    }
    data |= {
        "crop": read(crop, crop_model, margin, align, misses),
        "input": module.read_input(input),
    }
    spec = read_spec(
        module.PreprocessSpec, {**data, **module.read_frames(frames, window)}, "preprocess"
    )
    made = module.run(spec, home, alias=alias, crop_model=crop_model)
    show_run(made, alias)
    after_chosen(made, home, store)


@app.command()
def split(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    by: Annotated[
        str, typer.Option(help="What stays together: subject, clip, frame or dataset.")
    ] = "subject",
    folds: Annotated[
        int | None,
        typer.Option(
            help="How many folds, of which one is the test side: 5, or one a dataset, by default."
        ),
    ] = None,
    number: Annotated[int, typer.Option(help="Which fold is the test side, from 0.")] = 0,
    seed: Annotated[int, typer.Option(help="Another seed makes other folds.")] = 0,
    alias: SidesOption = None,
    store: StoreOption = STORE,
) -> None:
    """Split a dataset into a training and a test side.

    The sides share no subject; with --by clip, frame or dataset, no clip, frame or dataset.
    """
    from mien import splits as module
    from mien.faces import Faces
    from mien.spec import read_spec

    home = open_store(store)
    run = home.run(dataset)
    count = module.usual_folds(Faces.load(run.path), by) if folds is None else folds
    data = {"faces": run.name, "by": by, "folds": count, "number": number, "seed": seed}
    sides = []
    for side in ("train", "test"):
        named = f"{alias}-{side}" if alias else None
        spec = read_spec(module.SplitSpec, {**data, "side": side}, "split")
        sides.append(module.run(spec, home, alias=named))
        show_run(sides[-1], named)
    after_split(sides[0], home, store)


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds the training faces.")],
    preset: Annotated[
        str,
        typer.Option(
            help="nano (processor minutes), tiny (a night), base (a card of 6 GB; also called "
            "default), large (a data "
            "centre's card); paper, the preprint's equations; smoke, for tests; gaussian or "
            "copycat, for comparison."
        ),
    ] = "default",
    minutes: Annotated[
        float | None, typer.Option(help="Train for about so long on this machine.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any field of the preset, such as batch=32; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed trains another network.")] = 0,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Stay within so much memory, such as 6GB, by working on less of a batch at a time."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            help="Show the training in TensorBoard: pip install 'mien[tensorboard]'.", metavar="DIR"
        ),
    ] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Train a generator: a class-conditional diffusion model, unless the preset is one that others
    are compared with.

    Stopped, the same command continues from the last checkpoint, and ends with the same weights.
    Several processes share the work under torch's launcher: torchrun --nproc-per-node 2 -m mien
    train ...
    """
    from mien import generators as module

    home, given = open_store(store), fields(settings or [])
    for name in ("faces", "seed"):
        if name in given:
            raise UsageError(
                f"{name} must not be given by --set: mien train DATASET --seed N says it"
            )
    limit = module.bytes_of(memory) if memory is not None else None
    if tensorboard is not None:
        module.require_board(tensorboard)
    spec = module.preset(preset, home.run(dataset).name, {**given, "seed": seed})
    if "precision" not in given:
        spec = module.suited(spec, device)
    with module.joined(device) as crew:
        if minutes is not None and crew.size > 1:
            raise UsageError(
                "--minutes must stand with one process; give several --set images_seen=N"
            )
        if minutes is not None:
            spec = module.calibrated(spec, minutes, home, device=device)
        run = module.train(
            spec, home, alias=alias, device=device, means=module.Means(limit, crew, tensorboard)
        )
        if crew.leads:
            show_run(run, alias)
            after_training(run, home, store)


@app.command()
def generate(
    generator: Annotated[str, typer.Argument(help="A run or alias of a trained generator.")],
    counts: Annotated[
        str,
        typer.Option(
            help="preprint; like (as many a class as the generator saw) or like:DATASET; "
            "balanced:N, N images in all, "
            "shared equally; or happiness=100,fear=50. Single classes may follow: "
            "like,happiness=40 (0 leaves one out)."
        ),
    ] = "preprint",
    steps: Annotated[
        int | None, typer.Option(help="Sampling steps; the model's own number by default.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="dpmpp2m, unipc, heun, euler or ancestral.")
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="1 = none, which is best for training classifiers.")
    ] = 1.0,
    guide: Annotated[
        str,
        typer.Option(
            help=(
                "What guidance leads away from: label (what has none), or early (a less trained "
                "copy)."
            )
        ),
    ] = "label",
    seed: Annotated[int, typer.Option(help="Another seed makes other images.")] = 0,
    reject: Annotated[
        str | None,
        typer.Option(
            help=(
                "Draw anew what the audit would hold against it: memorised, unlike, or "
                "memorised,unlike."
            )
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="With --reject: real faces of people never seen, its yardstick.", metavar="DATASET"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processor cores to work on, all by default; with --engine, jobs at a time."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Draw parts in processes of their own (local), or on a cluster (ray)."),
    ] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = STORE,
) -> None:
    """Make a synthetic database with exact counts a class.

    Each image has a seed of its own and can be made again alone. Stopped, the same command
    continues.
    """
    from mien import generators as module

    if (reject is None) != (test is None):
        raise UsageError(
            "--reject and --test must be given together: people never seen say what is usual"
        )
    home = open_store(store)
    run = home.run(generator)
    how = {"steps": steps, "sampler": sampler, "guidance": guidance, "guide": guide}
    spec = module.order(run, counts, home, seed=seed, **how)
    if reject is not None and test is not None:
        from mien.audit import rejection

        picky = rejection.order(
            spec, [name.strip() for name in reject.split(",")], home.run(test).name
        )
        made = rejection.generate(picky, home, alias=alias, device=device, workers=workers)
        show_run(made, alias)
        for line in rejection.told(made):
            print(line)
        after_drawing(made, home, store)
        return
    if engine is not None and not home.done(spec.name):
        from mien import engine as engines

        where = engines.engine(engine, workers, device=device)
        failed = engines.work(module.parts(spec, home, device, where.slots), home, where)
        if failed:
            raise TrialsFailed(f"the database could not be made: {next(iter(failed.values()))}")
        workers = None
    made = module.generate(spec, home, alias=alias, device=device, workers=workers)
    show_run(made, alias)
    after_drawing(made, home, store)


@app.command()
def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A run or alias of a trained generator, or of faces.", metavar="GENERATOR|FACES"
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="A folder that does not exist yet, or is empty.", metavar="DIR")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help=(
                "Of a generator: program, for torch and numpy alone; diffusers, its scheduler, too."
            ),
            metavar="FORMAT",
        ),
    ] = "program",
    real: Annotated[
        bool,
        typer.Option(
            "--real", help="Let faces of real people, and copies of them, leave the store."
        ),
    ] = False,
    allow_face: Annotated[
        bool,
        typer.Option(
            "--allow-face",
            help="Let a generator leave that learnt, in effect, the face of one person.",
        ),
    ] = False,
    store: StoreOption = STORE,
) -> None:
    """Write a generator to a folder that draws without mien, or faces as PNG files in a folder a
    class.

    A generator's denoiser becomes a program of torch.export. Classes of diffusers cannot hold the
    network, but one of its schedulers holds the noise schedule: --format diffusers adds it. The
    licence goes with the folder. So does the mean face of the training images: whose it is is said,
    and one of a single person is refused.

    Of faces there is metadata.csv with a row for each file. Synthetic ones are marked as such in
    their files; copies of real faces among them stay back, as real faces do, unless --real is said.
    """
    import json

    from mien import folders

    out = folders.free(out)
    home = open_store(store)
    run = home.run(name)
    if "index.parquet" in run.manifest["files"]:
        if form != "program":
            raise UsageError(
                f"--format needs a generator, and {run.name} holds faces; leave it out"
            )
        if allow_face:
            raise UsageError(
                f"--allow-face needs a generator, and {run.name} holds faces; see --real"
            )
        _export_faces(run, home, out, real)
        return
    if real:
        raise UsageError(f"--real needs a run of faces, and {run.name} holds none; leave it out")

    from mien import export as module

    folder = module.export(run, out, form, allow_face)
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    print(f"{folder}: {about['kind']}, {', '.join(about['classes'])}")
    for part, text in module.parts(about).items():
        print(f"  {part}: {text}")
    print(f"licence of what it learnt from, which goes with it: {about['licence']}")


def _export_faces(run: "Run", home: "Store", out: Path, real: bool) -> None:
    """Write faces as pictures, and say what was written and what stayed back."""
    from mien import album
    from mien.progress import many

    made = album.write(run, home, out, real)
    print(f"{made.folder}: {many(sum(made.counts.values()), 'image')} as PNG, and metadata.csv")
    for name, count in made.counts.items():
        print(f"  {name}: {count:,}")
    if made.kept_back:
        print(
            f"  {many(made.kept_back, 'copy')} of real faces stayed in the store; --real lets "
            "them leave it"
        )
