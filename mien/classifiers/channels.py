"""What the channels of faces show: a picture, optical flow, or a clip."""

from collections.abc import Sequence
from dataclasses import dataclass

from mien.classifiers.specs import OWN_NETWORKS, ClassifierSpec
from mien.errors import DataError
from mien.findings import list_some
from mien.prepare.flow import FLOW_CHANNELS, MID_GREY
from mien.prepare.inputs import find_directions
from mien.strips import split_channel

PICTURE = ("red", "green", "blue")
"""The channels of a plain colour picture, as which a network also sees a single channel."""

NO_MOTION = MID_GREY / 255  # of the displacements of optical flow, in images in [0, 1]


@dataclass(frozen=True)
class ClipChannels:
    """The channels of a clip: `inputs` at each of `moments`, in the order of time."""

    moments: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Taken:
    """What a network takes, for messages: what its images must show, and how to make them."""

    text: str
    command: str


TAKEN = {
    "flow": Taken(
        f"optical flow (the channels {', '.join(FLOW_CHANNELS)})",
        "mien preprocess SET --input flow",
    ),
    "clips": Taken(
        "clips (the same channels at two or more moments, such as t0 to t7)",
        "mien preprocess SET --clips 8",
    ),
}
"""What networks of motion take; all other networks take images with any channels."""


def read_clip_channels(shown: Sequence[str]) -> ClipChannels | None:
    """Return the moments and the inputs of channels, or None unless they are a clip.

    A clip has two or more moments, and the same inputs in the same order at each of them.
    """
    parts = [split_channel(name) for name in shown]
    moments = tuple(dict.fromkeys(moment for _, moment in parts))
    if "" in moments or len(moments) < 2:
        return None
    inputs = tuple(name for name, moment in parts if moment == moments[0])
    if parts != [(name, moment) for moment in moments for name in inputs]:
        return None
    return ClipChannels(moments, inputs)


def are_pictures(shown: Sequence[str]) -> bool:
    """Return whether channels are those of plain pictures, in grey or in colour."""
    return tuple(shown) in (("gray",), PICTURE)


def name_network_channels(shown: Sequence[str]) -> tuple[str, ...]:
    """Return the channels that a network sees: a single one is repeated as red, green and blue."""
    return PICTURE if len(shown) == 1 else tuple(shown)


def require_input(label: str, spec: ClassifierSpec, shown: Sequence[str]) -> None:
    """Raise DataError unless the network takes images that show the channels `shown`.

    The message calls the network `label`, and says what it takes and which command makes that.
    """
    takes = OWN_NETWORKS[spec.name].takes if spec.name in OWN_NETWORKS else "images"
    if takes not in TAKEN:
        return
    is_flow = tuple(shown) == FLOW_CHANNELS
    fits = is_flow if takes == "flow" else read_clip_channels(shown) is not None
    if not fits:
        raise DataError(
            f"classifier {label} takes {TAKEN[takes].text}, and these faces show "
            f"{list_some(list(shown), 4)}; name faces that show it, which `{TAKEN[takes].command}` "
            "makes"
        )


def find_flow_pairs(shown: Sequence[str]) -> list[tuple[int, int]]:
    """Return the positions of the two channels of each displacement: to the right, and down."""
    moments = [split_channel(name)[1] for name in shown]
    parts = list(zip(find_directions(shown), moments, strict=True))
    return [
        (number, parts.index(("down", moment)))
        for number, (direction, moment) in enumerate(parts)
        if direction == "right" and ("down", moment) in parts
    ]


def find_centre_and_scale(shown: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the deviation by which each channel is normalised, for values in [0, 1].

    Displacements are normalised to [-1, 1] with 0 for no motion, the strain to [0, 1], and all
    other channels to [-1, 1].
    """
    known = {
        **dict.fromkeys(FLOW_CHANNELS[:2], (NO_MOTION, 1 - NO_MOTION)),
        FLOW_CHANNELS[2]: (0.0, 1.0),
    }
    pairs = [known.get(split_channel(name)[0], (0.5, 0.5)) for name in shown]
    return tuple(mean for mean, _ in pairs), tuple(deviation for _, deviation in pairs)
