"""The plan of the demo: who is drawn, what is trained, what is compared."""

import hashlib
import json
from dataclasses import asdict, dataclass

FRAMES_STUDY, PEOPLE_STUDY = "demo-frames", "demo"


@dataclass(frozen=True)
class DemoPlan:
    """What one run of the demo does; all its results follow from these numbers.

    `people` are drawn with `clips` clips in all, equally many per expression. Of each clip the apex
    is drawn, with `window` frames on either side. Faces are cropped with `margin` (see CropSpec).
    About half of the people are held out. The generator, a network of `width` channels with noise
    levels around `p_mean` (see TrainSpec), sees `images_seen` images and generates `synthetic`
    ones. Classifiers are trained for `epochs` in batches of `batch`, in `trials` repetitions.
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

    @property
    def digest(self) -> str:
        """The first twelve digits of a sha256 of the plan and of both study files."""
        content = [asdict(self), self.frames_study, self.people_study]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def people_study(self) -> str:
        """The file of the study with held-out people."""
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
p_mean = {self.p_mean}
learning_rate = {self.learning_rate}
net = {{ width = {self.width} }}
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
