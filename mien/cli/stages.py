"""The commands of the stages, from the folder of a dataset to a database."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.base import (
    DEFAULT_STORE,
    AliasOption,
    DeviceOption,
    StoreOption,
    app,
    open_store,
    read_pairs,
    read_same_subject,
    read_set_options,
    show_accounts,
    show_run,
)
from mien.cli.following import (
    show_next_after_filter,
    show_next_after_generate,
    show_next_after_ingest,
    show_next_after_preprocess,
    show_next_after_split,
    show_next_after_train,
)
from mien.errors import TrialsFailed, UsageError
from mien.generators.sampler_table import SAMPLERS
from mien.outside import expand_home
from mien.runs.progress import quantify

if TYPE_CHECKING:
    from mien.generators.specs import GeneratorSpec
    from mien.runs.store import Run, Store


CropOption = Annotated[
    str | None,
    typer.Option(
        help="Crop to the face first: haar (part of OpenCV) or yunet (needs --crop-model)."
    ),
]

CropModelOption = Annotated[
    Path | None, typer.Option(help="The ONNX file of the YuNet detector.", metavar="FILE")
]

MarginOption = Annotated[
    float | None,
    typer.Option(help="Margin around the face, as a fraction of its width; 0.1 by default."),
]

AlignOption = Annotated[
    bool, typer.Option("--align", help="Rotate each face until its eyes are level.")
]

MissesOption = Annotated[
    str | None,
    typer.Option(
        help="If no face is found: fail (the default), skip the image, or centre, to crop to its "
        "middle."
    ),
]


def _check_side_aliases(alias: str | None) -> str | None:
    """Check before any other work that NAME-train and NAME-test can be aliases."""
    if alias is not None:
        from mien.runs.store import require_alias

        require_alias(f"{alias}-train")
    return alias


SidesOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="A readable name: the sides become NAME-train and NAME-test.",
        metavar="NAME",
        callback=_check_side_aliases,
    ),
]


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="The folder for its dataset, store and report.")
    ] = Path("mien-demo"),
    size: Annotated[
        int, typer.Option(help="Height and width of the faces, in pixels: 48, 64, 96 or 128.")
    ] = 48,
    colour: Annotated[str, typer.Option(help="Colour of the faces: grey or rgb.")] = "grey",
    device: DeviceOption = "auto",
) -> None:
    """Run all stages on drawn faces, in about four minutes.

    It draws people, trains a diffusion model on half of them, generates faces, and tests
    classifiers: under a random split of frames, and on the other half of the people. It writes five
    pictures and a report, and ends with its findings in eight lines. If it is stopped, the same
    command resumes.
    """
    from mien.cli.demo.run import run

    run(folder, device)


@app.command()
def toy(
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet or is empty.")],
    subjects: Annotated[int, typer.Option(help="Number of people.")] = 26,
    clips: Annotated[int, typer.Option(help="Number of clips of all people together.")] = 255,
    seed: Annotated[int, typer.Option(help="Random seed; another seed draws other people.")] = 0,
    balance: Annotated[
        str, typer.Option(help="casme2: the class proportions of CASME II; even: equal classes.")
    ] = "casme2",
    window: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Draw only the apex of each clip and so many frames on either side; by default "
            "whole clips.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes; by default one per core.")
    ] = None,
) -> None:
    """Draw a dataset of faces in the folder layout of CASME II.

    The faces are of no real person, and free to use (CC0).
    """
    from mien.ingest.toy.dataset import CLASS_COUNTS, draw, plan_clips
    from mien.runs.folders import require_fillable
    from mien.runs.progress import say, track

    require_fillable(folder, "the folder")
    folder = expand_home(folder)

    # Say what each class gets before anything is drawn
    planned = Counter(clip.emotion for clip in plan_clips(subjects, clips, seed, balance))
    if len(planned) < len(CLASS_COUNTS):
        raise UsageError(
            f"--clips must be {len(CLASS_COUNTS)} or more, so that each class has a clip; "
            f"given: {clips}"
        )
    say("clips per class: " + ", ".join(f"{name} {planned[name]:,}" for name in CLASS_COUNTS))

    with track("drawing clips", clips) as bar:
        counts = draw(
            folder,
            subjects,
            clips,
            seed,
            workers,
            balance,
            lambda done, total: bar.update(done),
            window,
        )
    print(
        f"{folder}: {quantify(counts.subjects, 'person', 'people')}, "
        f"{quantify(counts.clips, 'clip')}, {quantify(counts.images, 'image')}"
    )
    print(f"next: mien ingest casme2 {folder} --name drawn --as drawn")


@app.command()
def ingest(
    reader: Annotated[
        str,
        typer.Argument(
            help="A reader (`mien readers` lists them), or auto to recognise the layout."
        ),
    ],
    folder: Annotated[
        Path, typer.Argument(help="The folder of the dataset; nothing in it is changed.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the dataset, used in keys and subjects.")
    ] = None,
    size: Annotated[int, typer.Option(help="Height and width to resize to, in pixels.")] = 48,
    colour: Annotated[str, typer.Option(help="Colour of the stored images: grey or rgb.")] = "grey",
    filter: Annotated[
        str,
        typer.Option(
            help="The filter for resizing: box, bilinear, bicubic or lanczos, all antialiased."
        ),
    ] = "bilinear",
    subject_pattern: Annotated[
        str | None,
        typer.Option(
            help="folder reader: a regular expression; its first group, matched in the path, is "
            "the subject."
        ),
    ] = None,
    clip_pattern: Annotated[
        str | None, typer.Option(help="folder reader: the same as --subject-pattern, for the clip.")
    ] = None,
    map: Annotated[
        list[str] | None,
        typer.Option(
            help="Map a class name to a class of mien, such as joy=happiness. Repeatable."
        ),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="folder reader: the column of metadata.csv with the class.")
    ] = None,
    subject_column: Annotated[
        str | None, typer.Option(help="folder reader: the column with the subject.")
    ] = None,
    clip_column: Annotated[
        str | None, typer.Option(help="folder reader: the column with the clip.")
    ] = None,
    frame_column: Annotated[
        str | None, typer.Option(help="folder reader: the column with the number of the frame.")
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            help="huggingface reader: the column of images to read, if there are several."
        ),
    ] = None,
    same_subject: Annotated[
        list[str] | None,
        typer.Option(help="Two names of one person, such as AnnaK=anna_k. Repeatable."),
    ] = None,
    subjects_as_written: Annotated[
        bool,
        typer.Option(
            "--subjects-as-written", help="1, 01 and S1 are different people, not one person."
        ),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(help="The part of the dataset to read, if the reader knows several."),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            help="The spreadsheet with the labels, FILE or FILE#PAGE; by default the newest."
        ),
    ] = None,
    numbers: Annotated[
        str | None,
        typer.Option(
            help="sheet: the files are numbered like the spreadsheet, even if they start at 0 or 1."
        ),
    ] = None,
    white: Annotated[
        float | None,
        typer.Option(
            help="The value of white in images of more than 8 bits, such as 4095, if neither the "
            "file nor the dataset says it."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The licence of the images, if mien does not know it.")
    ] = None,
    crop: CropOption = None,
    crop_model: CropModelOption = None,
    margin: MarginOption = None,
    align: AlignOption = False,
    misses: MissesOption = None,
    skip_unreadable: Annotated[
        bool, typer.Option(help="Skip unreadable images, and report them.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(help="Number of threads; by default one per core.")
    ] = None,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read the folder of a dataset into the store."""
    from mien.ingest.run import run_ingest
    from mien.prepare.crops import read_options

    folds = read_pairs(map or [], "--map")
    run = run_ingest(
        reader,
        folder,
        open_store(store),
        name=name,
        size=size,
        colour=colour,
        filter=filter,
        crop=read_options(crop, crop_model, margin, align, misses),
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
        same_subject=read_same_subject(same_subject or []),
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
    show_next_after_ingest(run, open_store(store), store)


@app.command(short_help="Choose frames, crop faces, resize, and map classes.")
def preprocess(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    frames: Annotated[
        str,
        typer.Option(
            help="The frames to keep: apex (a window around the apex), apex±3 (a window of 3 on "
            "either side), onset+apex, or all."
        ),
    ] = "apex",
    window: Annotated[
        int | None, typer.Option(help="Number of frames on either side of the apex; 5 by default.")
    ] = None,
    every: Annotated[int, typer.Option(help="Keep only every n-th frame of a clip.")] = 1,
    size: Annotated[
        int | None,
        typer.Option(help="Height and width to resize to, in pixels; by default unchanged."),
    ] = None,
    filter: Annotated[
        str,
        typer.Option(
            help="The filter for resizing: box, bilinear, bicubic or lanczos, all antialiased."
        ),
    ] = "bilinear",
    classes: Annotated[
        str,
        typer.Option(help="Map to a class set: preprint-7, casme2-5, megc2019-3 or megc2019-wide."),
    ] = "",
    input: Annotated[
        str,
        typer.Option(
            help="Channels, comma-separated: gray, laplacian, hog, lbp, clahe, "
            "onset-difference, flow-right, flow-down, strain. flow is the last three together."
        ),
    ] = "",
    clips: Annotated[
        str | None,
        typer.Option(
            help="Make each row a clip: so many moments from onset over apex to offset, such as 8, "
            "or the pair onset,apex."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Where clips end: offset (the default) or apex.")
    ] = None,
    flow_method: Annotated[
        str | None,
        typer.Option(help="How optical flow is computed: dis (the default) or farneback."),
    ] = None,
    flow_reach: Annotated[
        float | None,
        typer.Option(
            help="The largest movement that flow shows, as a share of the image; 0.04 by default."
        ),
    ] = None,
    flow_strain: Annotated[
        float | None, typer.Option(help="The largest strain that is shown; 0.8 by default.")
    ] = None,
    crop: CropOption = None,
    crop_model: CropModelOption = None,
    margin: MarginOption = None,
    align: AlignOption = False,
    misses: MissesOption = None,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Choose frames of each clip, crop faces, resize, map classes, and choose input channels."""
    from mien.prepare.crops import read_options
    from mien.prepare.preprocess import read_clips, read_frames, read_input, run_preprocess
    from mien.prepare.specs import PreprocessSpec
    from mien.runs.spec import read_spec

    # Gather the spec from the options.
    home = open_store(store)
    fields = {
        "faces": home.run(dataset).name,
        "every": every,
        "size": size,
        "filter": filter,
        "classes": classes,
    }
    fields |= {
        "crop": read_options(crop, crop_model, margin, align, misses),
        "input": read_input(input),
        **read_clips(clips, until, flow_method, flow_reach, flow_strain),
    }
    spec = read_spec(PreprocessSpec, {**fields, **read_frames(frames, window)}, "preprocess")

    run = run_preprocess(spec, home, alias=alias, crop_model=crop_model)
    show_run(run, alias)
    show_next_after_preprocess(run, home, store)


@app.command()
def split(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds faces.")],
    by: Annotated[
        str, typer.Option(help="The unit that is never divided: subject, clip, frame or dataset.")
    ] = "subject",
    folds: Annotated[
        int | None,
        typer.Option(
            help="Number of folds, of which one is the test side; by default 5, or one per dataset."
        ),
    ] = None,
    number: Annotated[
        int, typer.Option(help="The number of the fold that is the test side, from 0.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Random seed; another seed makes other folds.")] = 0,
    alias: SidesOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Split a dataset into a training side and a test side.

    The sides share no subject (or, with --by, no clip, no frame or no dataset).
    """
    from mien.faces import Faces
    from mien.prepare import splits
    from mien.prepare.specs import SplitSpec
    from mien.runs.spec import read_spec

    home = open_store(store)
    run = home.run(dataset)
    count = splits.choose_fold_count(Faces.load(run.path), by) if folds is None else folds
    fields = {"faces": run.name, "by": by, "folds": count, "number": number, "seed": seed}
    sides = []
    for side in ("train", "test"):
        side_alias = f"{alias}-{side}" if alias else None
        spec = read_spec(SplitSpec, {**fields, "side": side}, "split")
        sides.append(splits.run_split(spec, home, alias=side_alias))
        show_run(sides[-1], side_alias)
    show_next_after_split(sides[0], home, store)


@app.command(short_help="Train a generator: diffusion, another family, or a baseline.")
def train(
    dataset: Annotated[str, typer.Argument(help="A run or alias that holds the training faces.")],
    preset: Annotated[
        str,
        typer.Option(
            help="nano (minutes on a CPU), tiny (a night on a CPU), base (a GPU with 6 GB; also "
            "called default), large (a GPU of a data centre), paper (the equations of the "
            "preprint), rectified (nano as a rectified flow), smoke (for tests), motion (clips of "
            "movement), vae, gan or imle (make an image in one pass), or gaussian, copycat and "
            "pasted (for comparison)."
        ),
    ] = "default",
    condition: Annotated[
        str,
        typer.Option(
            help="What a diffusion model is conditioned on: emotion, or "
            "emotion,action_units (needs a dataset whose action units are coded)."
        ),
    ] = "emotion",
    minutes: Annotated[
        float | None, typer.Option(help="Train for about so many minutes on this machine.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the preset, such as batch=32. Repeatable."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed; another seed trains another network.")
    ] = 0,
    memory: Annotated[
        str | None,
        typer.Option(
            help="A limit on memory, such as 6GB; a batch is then processed in smaller pieces."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            help="Write logs for TensorBoard to this folder; needs pip install "
            "'mien[tensorboard]'.",
            metavar="DIR",
        ),
    ] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train a generator that makes faces of the class that is asked for.

    It is a diffusion model, a network that makes an image in one pass, or a baseline for
    comparison.

    If it is stopped, the same command resumes from the last checkpoint and ends with the same
    weights. Several processes can share the work under the launcher of torch:
    torchrun --nproc-per-node 2 -m mien train ...
    """
    from mien.faces import Faces
    from mien.generators import presets

    # Check the options before any work begins, and before torch is loaded.
    set_fields = read_set_options(settings or [])
    home = open_store(store, dataset)
    for name in ("faces", "seed"):
        if name in set_fields:
            raise UsageError(
                f"{name} must not be given by --set; use mien train DATASET --seed N instead"
            )
    set_fields |= presets.read_condition(condition)
    run = home.run(dataset)
    size = Faces.load(run.path).size
    spec = presets.read_preset(preset, run.name, {**set_fields, "seed": seed}, size)

    from mien.generators.diffusion import precision, processes, resources
    from mien.generators.diffusion.tensorboard import require_tensorboard
    from mien.generators.train import calibrate, train_generator

    limit = resources.parse_bytes(memory) if memory is not None else None
    if tensorboard is not None:
        require_tensorboard(tensorboard)

    # The precision is the best that this device has.
    if "precision" not in set_fields:
        spec = precision.suit_device(spec, device)

    # Train, alone or as one of several processes, of which the first reports.
    with processes.join_process_group(device) as group:
        if minutes is not None and group.size > 1:
            raise UsageError(
                "--minutes needs a single process; with several, use --set images_seen=N instead"
            )
        if minutes is not None:
            spec = calibrate(spec, minutes, home, device=device)
        elif group.is_first and not home.is_done(spec.name):
            _print_training_time(spec, home, device)
        run = train_generator(
            spec,
            home,
            alias=alias,
            device=device,
            resources=resources.Resources(limit, group, tensorboard),
        )
        if group.is_first:
            show_run(run, alias)
            show_next_after_train(run, home, store)


def _print_training_time(spec: "GeneratorSpec", home: "Store", device: str) -> None:
    """Print about how long a training takes on a CPU, if a speed of its network is known."""
    from mien.faces import Faces
    from mien.generators.diffusion.fit import count_parallel_pieces
    from mien.generators.presets import estimate_cpu_seconds
    from mien.generators.specs import SteppedSpec
    from mien.runs.devices import find_device
    from mien.runs.progress import format_roughly, say

    torch_device = find_device(device)
    if torch_device.type != "cpu" or not isinstance(spec, SteppedSpec):
        return
    cores = count_parallel_pieces(spec, torch_device)
    seconds = estimate_cpu_seconds(spec, Faces.load(home.run(spec.faces).path).size, cores)
    if seconds is not None:
        hint = "; on a CPU, --preset nano takes minutes" if seconds > 86_400 else ""
        say(
            f"this training takes about {format_roughly(seconds)} on this CPU, estimated from "
            f"speeds on another{hint}"
        )


@app.command(short_help="Distill a generator into a student that draws in few steps.")
def distill(
    generator: Annotated[str, typer.Argument(help="A run or alias of a trained generator.")],
    steps: Annotated[
        int,
        typer.Option(
            help="The number of steps, 1 to 4, in which the student draws unless `mien generate "
            "--steps` names another."
        ),
    ] = 2,
    guidance: Annotated[
        float,
        typer.Option(
            help="Guidance scale of the teacher, which the student learns; 1 means no guidance."
        ),
    ] = 2.0,
    guide: Annotated[
        str, typer.Option(help="The weaker model that guidance leads away from: label or early.")
    ] = "label",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a field of the distillation, such as images=4096. Repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed; another seed makes another student.")] = 0,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Distill a generator, the teacher, into a student that draws in 1 to 4 steps.

    The student has the network of the teacher and begins with its weights. It learns to draw in few
    steps what the teacher draws in many from the same noise, with the guidance of the teacher, and
    sees no real image. If the command is stopped, the same command resumes.
    """
    from mien.generators.distill import distill_generator, order_student

    fields = read_set_options(settings or [])
    home = open_store(store, generator)
    for name in ("faces", "teacher", "kind", "steps", "guidance", "guide", "seed"):
        if name in fields:
            raise UsageError(f"{name} must not be given by --set; use the argument or its option")
    spec = order_student(
        home.run(generator), steps=steps, guidance=guidance, guide=guide, seed=seed, settings=fields
    )
    run = distill_generator(spec, home, alias=alias, device=device)
    show_run(run, alias)
    show_next_after_train(run, home, store)


@app.command()
def generate(
    generator: Annotated[str, typer.Argument(help="A run or alias of a trained generator.")],
    counts: Annotated[
        str,
        typer.Option(
            help="The number of images per class: like (as many as the generator was trained "
            "on) or like:DATASET; like*N (N times as many, such as like*2 or like*0.5); preprint; "
            "each:N (N images of each class); balanced:N (N images in total, in equal shares); or "
            "happiness=100,fear=50. Single classes may follow, as in like,happiness=40. Every "
            "class that the generator knows must have images, unless it is given 0, or only comes "
            "first: only,happiness=100."
        ),
    ] = "like",
    steps: Annotated[
        str | None,
        typer.Option(
            help="Number of sampling steps, by default the number of the model; auto or auto:N "
            "(6 or N steps) at noise levels that are chosen for this generator."
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            help="The sampler, by default the model's: "
            + "; ".join(f"{name} ({facts.text})" for name, facts in SAMPLERS.items())
            + "."
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            help="Guidance scale; 1 means no guidance, which is best for training classifiers."
        ),
    ] = 1.0,
    guidance_mix: Annotated[
        float | None,
        typer.Option(
            help="Draw every second image of each class with this guidance scale instead.",
            metavar="SCALE",
        ),
    ] = None,
    guide: Annotated[
        str,
        typer.Option(
            help="The weaker model that guidance leads away from: label (the same network "
            "without a label) or early (a less trained copy)."
        ),
    ] = "label",
    units: Annotated[
        str | None,
        typer.Option(
            help="Action units that all images show, with strengths from 0 to 1, such as "
            "12:0.8,6:0.5; by default those of training images of the same class. Needs a "
            "generator that was trained with --condition emotion,action_units.",
            metavar="UNITS",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed; another seed generates other images.")
    ] = 0,
    intensity: Annotated[
        str | None,
        typer.Option(
            help="For clips: multiply each movement by a number between two limits, such as "
            "0.5..1.5, or by one number.",
            metavar="LIMITS",
        ),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="For clips: frames a second; 200 by default.")
    ] = None,
    per_person: Annotated[
        int | None,
        typer.Option(help="For clips: how many of each class show one person; 2 by default."),
    ] = None,
    reject: Annotated[
        str | None,
        typer.Option(
            help="Replace images that the audit would count as memorised, as unlike real faces, "
            "or both: memorised, unlike, or memorised,unlike."
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="With --reject: real faces of held-out subjects, for comparison.",
            metavar="DATASET",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of CPU cores, by default all; with --engine, number of parallel jobs."
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Generate in several processes (local) or on a cluster (ray)."),
    ] = None,
    device: DeviceOption = "auto",
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Generate a synthetic database with exact counts per class.

    Each image has its own seed, so that any one can be generated again. A generator of movement
    draws whole clips, and the counts are theirs. If the command is stopped, run it again to resume.
    """
    from mien.generators.specs import read_intensity, read_steps

    # Check names and numbers before torch is loaded; the counts are any.
    home = open_store(store, generator, *([] if test is None else [test]))
    count = int(steps) if steps is not None and steps.lstrip("-").isdecimal() else steps
    sampling = {"steps": count, "sampler": sampler, "guidance": guidance, "guide": guide}
    given = {name: value for name, value in sampling.items() if value is not None}
    given |= {"generator": generator, "counts": {"happiness": 1}, "seed": seed}
    limits = read_intensity(intensity)
    moving = {"fps": fps, "intensity": limits, "per_person": per_person}
    asked = any(value is not None for value in moving.values())
    checked = {**moving, "fps": 200 if asked and fps is None else fps}
    read_steps({**given, **checked, "steps": count, "guidance_mix": guidance_mix}, "generate")

    from mien.audit.levels import prepare_levels
    from mien.audit.rejection import (
        generate_filtered,
        list_rejection_lines,
        make_reject_spec,
        require_reasons,
    )
    from mien.generators.generate import generate_database, list_generation_jobs
    from mien.generators.orders import order_database
    from mien.runs.engine import make_engine, run_jobs

    # Make the spec; the counts and the sampler are checked here.
    if (reject is None) != (test is None):
        raise UsageError(
            "--reject and --test must be given together: held-out subjects show what is usual"
        )
    run = home.run(generator)
    chosen_engine = None if engine is None else make_engine(engine, workers, device=device)
    reasons = [name.strip() for name in reject.split(",")] if reject is not None else []
    heldout = None if test is None else home.run(test).name
    require_reasons(reasons)
    spec = order_database(
        run, counts, home, seed=seed, guidance_mix=guidance_mix, units=units, **sampling, **moving
    )
    prepare_levels(spec, home, device)

    # With --reject, images are checked and replaced as they are drawn.
    if heldout is not None:
        picky = make_reject_spec(spec, reasons, heldout)
        run = generate_filtered(picky, home, alias=alias, device=device, workers=workers)
        show_run(run, alias)
        for line in list_rejection_lines(run):
            print(line)
        show_next_after_generate(run, home, store)
        return

    # With --engine, the shards are made first, each as a job; then they are joined.
    if chosen_engine is not None and not home.is_done(spec.name):
        failed = run_jobs(
            list_generation_jobs(spec, home, device, chosen_engine.slots), home, chosen_engine
        )
        if failed:
            raise TrialsFailed(f"the database could not be made: {next(iter(failed.values()))}")
        workers = None
    run = generate_database(spec, home, alias=alias, device=device, workers=workers)
    show_run(run, alias)
    show_next_after_generate(run, home, store)


@app.command("filter", short_help="Keep synthetic faces that show their label and differ.")
def filter_command(
    database: Annotated[str, typer.Argument(help="A run or alias of synthetic faces.")],
    train: Annotated[
        str,
        typer.Option(
            help="The real faces that the judges learn from: those that the generator was trained "
            "on.",
            metavar="DATASET",
        ),
    ],
    agreement: Annotated[
        float,
        typer.Option(
            help="An image passes only if the judges give its label this mean probability or more; "
            "with 0 all pass."
        ),
    ] = 0.5,
    band: Annotated[
        str,
        typer.Option(
            help="An image passes only if it is between these two quantiles, within its class, of "
            "the entropy of the judges' prediction; with 0,1 all pass.",
            metavar="LOW,HIGH",
        ),
    ] = "0.2,0.8",
    share: Annotated[
        float,
        typer.Option(
            help="Keep this share of the mean number of images per class, equally many of each; if "
            "too few pass, the next most probable labels are kept too."
        ),
    ] = 0.5,
    spread: Annotated[
        bool,
        typer.Option(
            "--spread/--no-spread",
            help="If more images pass than are needed, choose those that differ most, or choose "
            "at random.",
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Random seed of the choice.")] = 0,
    alias: AliasOption = None,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Keep the synthetic faces that show their label and differ from each other.

    Judges that learn from the training people alone decide what a face shows. dropped.csv in the
    run counts for each class why images were dropped.
    """
    from mien.runs.spec import read_spec
    from mien.study.uses.specs import FilterSpec, read_band

    # Make the spec before slow libraries are loaded, and filter
    home = open_store(store, database, train)
    fields = {
        "database": home.run(database).name,
        "training": home.run(train).name,
        "agreement": agreement,
        "band": read_band(band),
        "share": share,
        "spread": spread,
        "seed": seed,
    }
    spec = read_spec(FilterSpec, fields, "filter")

    from mien.study.uses.filter_run import filter_database, list_filter_lines

    run = filter_database(spec, home, alias=alias)

    # Say what was kept
    show_run(run, alias)
    for line in list_filter_lines(run):
        print(line)
    show_next_after_filter(run, home, store)


@app.command(short_help="Export a generator that runs without mien, or faces as PNG.")
def export(
    name: Annotated[
        str,
        typer.Argument(
            help="A run or alias of a trained generator, or of faces.", metavar="GENERATOR|FACES"
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="A folder that does not exist yet or is empty.", metavar="DIR")
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="For a generator: program (needs only torch and numpy; the default), or diffusers "
            "(the same, with a scheduler of diffusers). For clips: a published layout (casme2, "
            "casme, casme_cubed, samm, smic, mmew, fourdme).",
            metavar="FORMAT",
        ),
    ] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="Also export original faces, recorded or drawn, and synthetic images that copy "
            "them.",
        ),
    ] = False,
    allow_face: Annotated[
        bool,
        typer.Option(
            "--allow-face",
            help="Also export a generator that, in effect, learnt the face of a single person.",
        ),
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Export a generator that runs without mien, or faces as PNG files in one folder per class.

    The denoiser of a diffusion model becomes a program of torch.export, and so does the network of
    a generator that makes an image in one pass. No class of diffusers can hold a denoiser, but one
    of its schedulers holds the noise schedule: --format diffusers adds it.
    The licence is included, and so is the mean face of the training images; the command prints
    whose faces these are, and refuses the mean face of a single person.

    Faces come with metadata.csv, with one row per file. Each moment of a clip is a file, and
    motion/ shows each clip in motion. Synthetic faces are marked as synthetic in their files.
    Original faces, recorded or drawn, and synthetic images that copy them, are exported only with
    --real.

    With --format casme2, clips are written in the folders of CASME II and with its coding sheet, so
    that its readers read them; other published layouts are available too. The readme says on its
    first line that the clips are synthetic.
    """
    import json

    from mien.runs.folders import require_free

    # Check the names before torch is loaded.
    out = require_free(out)
    home = open_store(store, name)
    run = home.run(name)

    from mien.export.run import FORMATS, export, list_files

    # Faces become PNG files.
    if "index.parquet" in run.manifest["files"]:
        if form in FORMATS:
            raise UsageError(
                f"--format {form} needs a generator, and {run.name} holds faces; omit --format"
            )
        if allow_face:
            raise UsageError(
                f"--allow-face needs a generator, and {run.name} holds faces; see --real"
            )
        if form is None:
            _export_faces(run, home, out, real)
        else:
            _export_clips(run, home, out, form, real)
        return
    if real:
        raise UsageError(f"--real needs a run of faces, and {run.name} holds none; omit --real")

    # A generator becomes a program.

    folder = export(run, out, form or FORMATS[0], allow_face)
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    print(f"{folder}: {about['kind']}, {', '.join(about['classes'])}")
    for title, text in list_files(about).items():
        print(f"  {title}: {text}")
    print(f"licence of the training images, which applies to it: {about['licence']}")


def _export_faces(run: "Run", home: "Store", out: Path, real: bool) -> None:
    """Write faces as PNG files; print the counts, and how many copies of real faces were kept."""
    from mien.export.album import write_album
    from mien.runs.progress import quantify

    album = write_album(run, home, out, real)
    print(
        f"{album.folder}: {quantify(sum(album.counts.values()), 'image')} as PNG, and metadata.csv"
    )
    for name, count in album.counts.items():
        print(f"  {name}: {count:,}")
    if album.kept_back:
        print(
            f"  {quantify(album.kept_back, 'copy')} of training faces stayed in the store; --real "
            "exports them too"
        )


def _export_clips(run: "Run", home: "Store", out: Path, form: str, real: bool) -> None:
    """Write clips in a published layout; print the counts, and what was left out."""
    from mien.export.clips import write_clips
    from mien.runs.progress import quantify

    written = write_clips(run, home, out, form, real)
    print(
        f"{written.folder}: {quantify(sum(written.counts.values()), 'clip')} of "
        f"{quantify(written.subjects, 'subject')}, {quantify(written.frames, 'frame')}"
    )
    for name, count in written.counts.items():
        print(f"  {name}: {count:,}")
    if written.outside:
        print(
            f"  {quantify(written.outside, 'frame')} before the onset or after the offset left out"
        )
    if written.kept_back:
        print(
            f"  {quantify(written.kept_back, 'clip')} with copies of training faces stayed in the "
            "store; --real exports them too"
        )
    print(f"next: mien ingest {form} {written.folder}   (reads it back)")
