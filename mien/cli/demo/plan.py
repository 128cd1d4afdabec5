"""The plan of the demo: who is drawn, what is trained, what is compared."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from mien.errors import UsageError
from mien.generators.presets import PRESETS, fit_to_size, read_preset
from mien.generators.specs import TrainSpec

FRAMES_STUDY, PEOPLE_STUDY = "demo-frames", "demo"


@dataclass(frozen=True)
class DemoPlan:
    """What one run of the demo does; all its results follow from these numbers.

    `people` are drawn with `clips` clips in all, equally many per expression. Of each clip the apex
    is drawn, with `window` frames on either side. Faces are cropped with `margin` (see CropSpec).
    About half of the people are held out. The generator, a network of `width` channels with noise
    levels around `p_mean` (see TrainSpec), sees `images_seen` images and generates `synthetic`
    ones. Classifiers are trained for `epochs` in batches of `batch`, in `trials` repetitions.
    Faces have `size` pixels per side, and are grey unless `colour` is rgb; `width` is that for 48
    pixels, and is fitted to other sizes as presets are.
    """

    people: int = 60
    clips: int = 336
    window: int = 2
    margin: float = 0.0
    width: int = 24
    p_mean: float = -0.6
    learning_rate: float = 3e-3
    images_seen: int = 23_000
    synthetic: int = 420
    trials: int = 4
    epochs: int = 15
    batch: int = 16
    size: int = 48
    colour: str = "grey"

    @property
    def digest(self) -> str:
        """The first twelve digits of a sha256 of the plan and of both study files."""
        usual = {"size": 48, "colour": "grey"}  # left out, so that the usual plan keeps its digest
        fields = {name: value for name, value in asdict(self).items() if usual.get(name) != value}
        content = [fields, self.frames_study, self.people_study]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def training(self) -> TrainSpec:
        """The training of the generator, fitted to the size of the faces."""
        net = {**PRESETS["smoke"]["net"], "width": self.width}
        plain = {**PRESETS["smoke"], "net": net, "p_mean": self.p_mean}
        fitted = fit_to_size(plain, (3 if self.colour == "rgb" else 1, self.size, self.size))
        spec = read_preset("smoke", "faces", {"net": net, "p_mean": self.p_mean, **fitted})
        assert isinstance(spec, TrainSpec)  # as smoke is a diffusion model
        return spec

    @property
    def people_study(self) -> str:
        """The file of the study with held-out people."""
        width, p_mean = self.training.net.width, self.training.p_mean
        return f"""\
# What `mien demo` finds on people whom neither the generator nor the classifiers have seen.
name = "{PEOPLE_STUDY}"
faces = "faces"
protocol = "subject"
folds = 2
only_folds = [0]
trials = {self.trials}
settings = ["real_to_real", "synthetic_to_real", "both_to_real"]
classifiers = ["tiny"]
controls = ["nearest", "permuted", "copycat"]
counts = "balanced:{self.synthetic}"

[classifier]
size = 32
epochs = {self.epochs}
batch = {self.batch}

[generator]
preset = "smoke"
images_seen = {self.images_seen}
p_mean = {p_mean}
learning_rate = {self.learning_rate}
net = {{ width = {width} }}
"""

    @property
    def frames_study(self) -> str:
        """The file of the study in which frames are split at random, and copies take the place of
        generated faces.
        """
        return f"""\
# What a random split of frames says about the same faces. Its "generator" only copies faces.
name = "{FRAMES_STUDY}"
faces = "faces"
protocol = "frame"
folds = 5
trials = 1
settings = ["real_to_real", "synthetic_to_real"]
classifiers = ["tiny"]
controls = ["nearest", "permuted"]
counts = "like"

[classifier]
size = 32
epochs = {self.epochs}
batch = {self.batch}

[generator]
preset = "copycat"
"""


PLAN = DemoPlan()

DEMO_SIZES, DEMO_COLOURS = (48, 64, 96, 128), ("grey", "rgb")


def make_plan(size: int, colour: str) -> DemoPlan:
    """Return the plan for faces of a size and colour; raises UsageError for any other."""
    if size not in DEMO_SIZES:
        sizes = f"{', '.join(map(str, DEMO_SIZES[:-1]))} or {DEMO_SIZES[-1]}"
        raise UsageError(f"--size must be {sizes}, pixels per side; given: {size}")
    if colour not in DEMO_COLOURS:
        raise UsageError(f"--colour must be {' or '.join(DEMO_COLOURS)}; given: '{colour[:40]}'")
    return replace(PLAN, size=size, colour=colour)
