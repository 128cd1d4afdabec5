"""The sets of faces that the studio shows, kept open between requests."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from mien.errors import StoreError
from mien.faces import EMOTIONS, Faces
from mien.generators.specs import KIND_FACTS
from mien.runs.progress import quantify
from mien.runs.store import Run, Store
from mien.strips import split_channel
from mien.study.sources import INDEX_FILE, find_withheld_sources

OPEN_SETS = 12  # sets that stay open; their images stay on the disk until they are used


@dataclass
class ImageTables:
    """What is known of each image of a set, in the order of the set.

    `numbers` are NaN where nothing is known. `texts` has keys such as `nearest` and `copy_of`, and
    `moves` how each image is mirrored and moved to fit its nearest training image.
    `splits` says which images are on a side, by the name of the side. `train` and `test` are the
    runs that the newest audit compared the set with, "" without one, and `origins` the runs whose
    tables were read.
    """

    numbers: dict[str, Float[np.ndarray, " n"]] = field(default_factory=dict)
    flags: dict[str, Bool[np.ndarray, " n"]] = field(default_factory=dict)
    texts: dict[str, np.ndarray] = field(default_factory=dict)
    splits: dict[str, Bool[np.ndarray, " n"]] = field(default_factory=dict)
    moves: dict[str, Int[np.ndarray, " n"]] = field(default_factory=dict)
    train: str = ""
    test: str = ""
    origins: tuple[str, ...] = ()


class FaceSet:
    """A run of faces, with what the studio knows about it.

    `withheld` are the sources whose pictures not everybody may show. `hides_real` says whether the
    studio therefore hides those of its faces that are real, or made of single real ones.
    """

    def __init__(self, run: Run, store: Store, real_faces: bool | None) -> None:
        self.run, self.store = run, store
        self.faces = Faces.load(run.path)
        self.withheld = find_withheld_sources(run, store)
        self.hides_real = real_faces is False or (real_faces is None and bool(self.withheld))
        self.tables: ImageTables | None = None  # mien.studio.numbers fills them

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def is_free(self) -> bool:
        """Whether everybody may show these faces, so that a browser may keep them."""
        return not self.withheld

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """The columns of the table as arrays, which are read faster than the table."""
        index = self.faces.index
        return {name: index[name].to_numpy(dtype=object) for name in index.columns}

    @cached_property
    def choices(self) -> dict[str, list[tuple[str, int]]]:
        """The values of the columns that people filter by, with the number of images of each."""
        known = {emotion: place for place, emotion in enumerate(EMOTIONS)}
        choices: dict[str, list[tuple[str, int]]] = {}
        for name in ("emotion", "subject", "clip", "phase"):
            counts = self.faces.index[name].value_counts()
            pairs = [(str(value), int(count)) for value, count in counts.items() if value]
            choices[name] = sorted(pairs, key=lambda pair: (known.get(pair[0], 0), pair[0]))
        return choices

    @cached_property
    def is_real(self) -> Bool[np.ndarray, " n"]:
        """Which images are real faces."""
        return (self.faces.index["source"] == "real").to_numpy()

    @cached_property
    def is_hidden(self) -> Bool[np.ndarray, " n"]:
        """Which images are not shown: real ones, and resampled ones, unless they may be shown."""
        if not self.hides_real:
            return np.zeros(len(self), dtype=bool)
        sources = self.columns["source"]
        resampled = [name for name in set(sources) if self._is_resampled(str(name))]
        return self.is_real | np.isin(sources, resampled)

    def _is_resampled(self, source: str) -> bool:
        """Whether the images of a database were made of single images, as by the copycat."""
        try:
            database = self.store.run(source)
            generator = self.store.run(str(database.spec["generator"]))
        except (StoreError, KeyError):
            return False
        facts = KIND_FACTS.get(str(generator.spec.get("kind")))
        return facts is not None and bool(facts.resamples)

    @property
    def hidden_reason(self) -> str:
        """Why some faces are not shown; empty if all are."""
        if not self.is_hidden.any():
            return ""
        count = quantify(int(self.is_hidden.sum()), "real face")
        if not self.withheld:
            return f"{count}: not shown, as requested with --no-real-faces."
        return (
            f"{count}: not shown, because no free licence is known for "
            f"{', '.join(self.withheld)}. `mien studio --real-faces` shows them to you alone."
        )

    @cached_property
    def shown_channels(self) -> list[int] | None:
        """The channels of a thumbnail; None if it shows them all: a picture, or a strip.

        A clip is shown by its apex, or else by the moment in its middle.
        """
        if not self.faces.moments:
            return None
        moments = self.faces.moments
        moment = "apex" if "apex" in moments else moments[len(moments) // 2]
        first_input = split_channel(self.faces.channels[0])[0]
        pairs = [split_channel(name) for name in self.faces.channels]
        return [pairs.index((first_input, moment))]

    @cached_property
    def clip_members(self) -> dict[str, Int[np.ndarray, " k"]]:
        """The positions of the frames of each clip, in the order of their numbers."""
        index = self.faces.index
        order = np.lexsort((index["frame"].to_numpy(), index["clip"].to_numpy(dtype=object)))
        names = index["clip"].to_numpy(dtype=object)[order]
        starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]]) if len(names) else []
        groups = np.split(order, starts[1:]) if len(names) else []
        return {str(names[start]): group for start, group in zip(starts, groups, strict=True)}

    def count_moments(self, position: int) -> int:
        """Return the number of pictures of a clip: the moments of a row, or frames of its clip."""
        if self.faces.moments:
            return len(self.faces.moments)
        clip = str(self.columns["clip"][position])
        return len(self.clip_members.get(clip, ())) if clip else 1

    def show_thumbnails(self, positions: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k c h w"]:
        """Return the pictures of some images; those that are hidden are grey."""
        pictures = (
            self.faces.show_pictures(positions)
            if self.shown_channels is None
            else np.asarray(self.faces.images[positions])[:, self.shown_channels]
        )
        hidden = self.is_hidden[positions]
        if hidden.any():
            pictures = np.array(pictures)
            pictures[hidden] = 128
        return pictures

    def show_moments(self, position: int, most: int) -> UInt8[np.ndarray, "k c h w"]:
        """Return the pictures of a clip in their order, at most so many."""
        if not self.faces.moments:
            clip = str(self.faces.index["clip"].iloc[position])
            members = self.clip_members[clip] if clip else np.array([position])
            chosen = np.linspace(0, len(members) - 1, min(len(members), most)).round().astype(int)
            return self.show_thumbnails(members[chosen])
        pairs = [split_channel(name) for name in self.faces.channels]
        channels = [pairs.index((pairs[0][0], moment)) for moment in self.faces.moments[:most]]
        picture = np.asarray(self.faces.images[position])[channels][:, None]
        return np.full_like(picture, 128) if self.is_hidden[position] else picture


class Library:
    """The sets of a store that were opened last."""

    def __init__(self, store: Store, real_faces: bool | None) -> None:
        self.store, self.real_faces = store, real_faces
        self._sets: OrderedDict[str, FaceSet] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, name: str) -> FaceSet:
        """Return the set of a run or alias.

        Raises StoreError if there is no such run, DataError if it holds no faces.
        """
        run_name = self.store.resolve(name)
        with self._lock:
            opened = self._sets.get(run_name)
            if opened is None or not self.store.is_done(run_name):
                self._sets.pop(run_name, None)
                opened = FaceSet(self.store.run(run_name), self.store, self.real_faces)
            self._sets[run_name] = opened
            self._sets.move_to_end(run_name)
            while len(self._sets) > OPEN_SETS:
                self._sets.popitem(last=False)
        return opened

    def list_sets(self) -> list[str]:
        """Return the names of all runs that hold faces, oldest first."""
        folder = self.store.root / "runs"
        return [name for name in self.store.list_names() if (folder / name / INDEX_FILE).exists()]
