"""Settings, arms and controls: the sets for training and tests, and names."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from mien.classifiers.baselines import BASELINES
from mien.generators.specs import KIND_FACTS
from mien.study.uses.table import MIXED, UseSpec

SYNTHETIC = "synthetic"
"""The source of the images that the study's own generator makes."""

TRAINING_SETS: dict[str, tuple[str, ...]] = {
    "real": ("real",),
    SYNTHETIC: (SYNTHETIC,),
    "both": ("real", SYNTHETIC),
}
"""The training sets of settings, and the sources that make up each of them."""

# one in five synthetic images is used for tests, the others for training
SYNTHETIC_TEST_DIVISOR = 5


@dataclass(frozen=True)
class Arm:
    """What a trial is trained on, and how.

    `train` names the training set, and `use` the way in which its synthetic images are used.
    `ratio` is their number per real training image; None is all that the database has. `people` is
    the share of the training people, from 0 to 1; None is all of them.
    """

    train: str
    use: str = MIXED
    ratio: float | None = None
    people: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it mixes all synthetic images with those of all people."""
        return self == Arm(self.train)


@dataclass(frozen=True)
class Setting:
    """A training set and a test set, with their printed name, and how the training set is used."""

    label: str
    train: str
    test: str
    use: str = MIXED
    ratio: float | None = None
    people: float | None = None

    @property
    def arm(self) -> Arm:
        """What its trials are trained on."""
        return Arm(self.train, self.use, self.ratio, self.people)

    @property
    def needs_synthetic(self) -> bool:
        """Whether it is trained or tested on synthetic faces."""
        return SYNTHETIC in (*TRAINING_SETS[self.train], self.test)


SETTINGS = {
    "real_to_real": Setting("real → real", "real", "real"),
    "synthetic_to_synthetic": Setting("synthetic → synthetic", "synthetic", "synthetic"),
    "real_to_synthetic": Setting("real → synthetic", "real", "synthetic"),
    "synthetic_to_real": Setting("synthetic → real", "synthetic", "real"),
    "both_to_real": Setting("real + synthetic → real", "both", "real"),
}
"""The settings of studies; one more setting is one more entry."""

RATIO_PREFIX, PEOPLE_PREFIX = "x", "people"


def expand_settings(
    names: Iterable[str],
    uses: Mapping[str, UseSpec],
    ratios: Iterable[float],
    people: Iterable[float],
) -> list[str]:
    """Return the names of settings with their ways of use, ratios and shares of the people.

    Ways of use apply to tests on real faces after training on synthetic ones: those that need real
    images beside them only to real + synthetic. A share of 1 is all people. Where there are no
    ways, ratios or shares, the names stay as they are.
    """
    expanded = []
    for name in names:
        setting = SETTINGS[name]
        on_real = setting.test == "real"
        with_synthetic = on_real and SYNTHETIC in TRAINING_SETS[setting.train]
        ways = [
            way
            for way, spec in uses.items()
            if with_synthetic and (setting.train == "both" or not spec.needs_real)
        ]
        expanded += [
            name_setting(name, use, ratio, share)
            for share in (tuple(people) if on_real else ()) or (1.0,)
            for use in ways or (MIXED,)
            for ratio in (tuple(ratios) if with_synthetic else ()) or (None,)
        ]
    return expanded


def name_setting(
    name: str, use: str = MIXED, ratio: float | None = None, people: float | None = None
) -> str:
    """Return the name of a setting: `both_to_real:filtered:x4:people0.25`."""
    return ":".join(
        [
            name,
            *([use] if use != MIXED else []),
            *([f"{RATIO_PREFIX}{ratio:g}"] if ratio is not None else []),
            *([f"{PEOPLE_PREFIX}{people:g}"] if people not in (None, 1) else []),
        ]
    )


def find_setting(name: str) -> Setting:
    """Return the setting of a name that `name_setting` gave, with its label."""
    first, *terms = name.split(":")
    setting = SETTINGS[first]
    use, ratio, people = MIXED, None, None
    for term in terms:
        if term.startswith(PEOPLE_PREFIX):
            people = float(term.removeprefix(PEOPLE_PREFIX))
        elif term[:1] == RATIO_PREFIX and term[1:2].isdigit():
            ratio = float(term.removeprefix(RATIO_PREFIX))
        else:
            use = term
    expanded = replace(setting, use=use, ratio=ratio, people=people)
    return replace(expanded, label=setting.label + describe_arm(expanded.arm))


def list_mixed_settings(names: Iterable[str], base: str) -> list[str]:
    """Return those of the names that are `base` with mixed images of all people, by their ratio.

    The ratio that is nearest to one synthetic image per real one is first; no ratio is before all
    others.
    """
    ranked = []
    for name in names:
        arm = find_setting(name).arm
        if name.partition(":")[0] == base and (arm.use, arm.people) == (MIXED, None):
            ranked.append((rank_ratio(arm.ratio), name))
    return [name for _, name in sorted(ranked)]


def is_of_all_people(name: str) -> bool:
    """Whether the setting of a name trains on all training people, not on a share of them."""
    return find_setting(name).people is None


def rank_ratio(ratio: float | None) -> float:
    """Return how far a ratio is from one synthetic image per real one, 0 or more; None is 0."""
    return 0.0 if ratio is None else abs(math.log(ratio))


def describe_arm(arm: Arm) -> str:
    """Return how an arm differs from mixing all images, as a text in brackets, or ""."""
    notes = [
        *([arm.use] if arm.use != MIXED else []),
        *([f"{arm.ratio:g} per real image"] if arm.ratio is not None else []),
        *([f"{100 * arm.people:g} % of the people"] if arm.people is not None else []),
    ]
    return f" ({', '.join(notes)})" if notes else ""


@dataclass(frozen=True)
class FaceSource:
    """Images that a study makes from each fold's training images, as many as synthetic ones.

    `images` says what they are, as in "adding copies of the real images". `generator` has the
    fields of the generator that makes them, other than the faces that it is trained on.
    """

    images: str
    generator: Mapping[str, Any]


@dataclass(frozen=True)
class Control:
    """A control: what a setting scores without learning, or without the study's generator.

    - `label` is its printed name, and `shows` says what it does and what follows from it.
    - `baseline` is the name of the baseline that takes the place of the classifier; with "" the
      classifiers of the cells are trained.
    - `source` has the images that take the place of synthetic ones. Such a control is one of the
      settings that use synthetic faces, and its source has the name of the control.
    - `permutes_labels` says whether the labels of the real faces are permuted.
    - `motion` names what is done with the movement that the real faces show, as a member of
      motion_controls.MOTION_CHANGES; "" is nothing. Such a control has no baselines.
    - `constant` says whether it gives one answer to all images.
    - `ceiling` says that it reads the coding in place of the images, so that no cell has to exceed
      it: it is shown beside the cells, and no verdict comes from it.
    - `only` is the one setting that it is a control of; "" is every one.
    """

    label: str
    shows: str
    baseline: str = ""
    source: FaceSource | None = None
    permutes_labels: bool = False
    motion: str = ""
    constant: bool = False
    ceiling: bool = False
    only: str = ""

    @property
    def needs_movement(self) -> bool:
        """Whether only faces that show movement can have it."""
        draws = self.source is not None and KIND_FACTS[str(self.source.generator["kind"])].moves
        return bool(self.motion) or draws

    @property
    def needs(self) -> str:
        """The setting that a study must have for it, in words."""
        return f"the setting {self.only}" if self.only else "a setting that uses synthetic faces"

    def applies_to(self, name: str) -> bool:
        """Whether it is a control of a setting.

        The images of a source can be used in each way that synthetic ones are. All other controls
        are those of settings in which all images of all people are mixed.
        """
        setting = find_setting(name)
        if self.source is not None:
            return setting.needs_synthetic and self.only in ("", name)
        return setting.arm.is_plain and self.only in ("", name)

    def needs_training(self, train: str) -> bool:
        """Whether it has trainings of its own in place of those on `train`.

        If not, the trainings of the cells are tested on a further test set.
        """
        return self.source is None or SYNTHETIC in TRAINING_SETS[train]


def replace_generator(label: str, images: str, **generator: Any) -> Control:
    """Return the control whose images, made by this generator, take the place of synthetic ones."""
    shows = (
        f"{images} take the place of synthetic images, as many; a generator that has learnt more "
        "than its training images exceeds this"
    )
    return Control(label, shows, source=FaceSource(images, generator))


CONTROLS: dict[str, Control] = {
    **{
        name: Control(
            baseline.label,
            baseline.shows,
            name,
            constant=baseline.constant,
            ceiling=baseline.reads_units,
            only="real_to_real" if baseline.reads_units else "",
        )
        for name, baseline in BASELINES.items()
        if baseline.shows
    },
    "permuted": Control(
        "labels permuted",
        "the real images are trained on with labels that are permuted over clips; an answer that "
        "is right was guessed or remembered",
        permutes_labels=True,
        only="real_to_real",
    ),
    "shuffled_motion": Control(
        "motion shuffled",
        "each clip has the movement of another clip, whatever its class; what is right then was "
        "not seen in the movement",
        motion="shuffled",
        only="real_to_real",
    ),
    "no_motion": Control(
        "no motion",
        "all moments of a clip show its first frame, and nothing moves; what is right then was "
        "seen in the resting face",
        motion="removed",
        only="real_to_real",
    ),
    **{
        kind: replace_generator(kind, facts.resamples, kind=kind)
        for kind, facts in KIND_FACTS.items()
        if facts.resamples
    },
    "shuffled": replace_generator(
        "pasted, of other classes",
        "real movements of other classes, pasted on the faces of other training people",
        kind="pasted",
        of="other",
    ),
}
"""The controls of studies, in the order of the tables; one more control is one more entry.

Each baseline with `shows` is a control, and each kind of generator that makes its images of
training images.
"""

SOURCES: dict[str, FaceSource] = {
    name: control.source for name, control in CONTROLS.items() if control.source is not None
}
"""The sources of images other than real and synthetic ones, by the names of their controls."""


def permutes_labels(control: str) -> bool:
    """Whether the labels of real faces are permuted in the trials of a control ("": a cell)."""
    return bool(control) and CONTROLS[control].permutes_labels


def draws_at_random(control: str) -> bool:
    """Whether a control ("": a cell) changes the real faces at random, by the seed of a trial."""
    return permutes_labels(control) or find_motion_change(control) == "shuffled"


def find_motion_change(control: str) -> str:
    """Return what a control does with the movement of real faces ("": nothing, or a cell)."""
    return CONTROLS[control].motion if control else ""


def name_under_control(control: str, faces: str) -> str:
    """Return the training or test set that a control has in place of that of a setting.

    It is another one only where images of a source take the place of synthetic ones.
    """
    if control not in SOURCES or SYNTHETIC not in TRAINING_SETS[faces]:
        return faces
    return control if faces == SYNTHETIC else f"{faces}_{control}"


SOURCES_OF: dict[str, tuple[str, ...]] = {
    **TRAINING_SETS,
    **{
        name_under_control(control, faces): tuple(
            control if source == SYNTHETIC else source for source in sources
        )
        for control in SOURCES
        for faces, sources in TRAINING_SETS.items()
        if SYNTHETIC in sources
    },
}
"""The sources that make up each training set, those of controls included."""

if TYPE_CHECKING:
    Source = str
    TrainedOn = str
    SettingName = str
    ControlName = str
else:  # pydantic checks the names
    Source = Literal["real", SYNTHETIC, *SOURCES]
    TrainedOn = Literal[tuple(SOURCES_OF)]
    SettingName = Literal[tuple(SETTINGS)]
    ControlName = Literal[tuple(CONTROLS)]
