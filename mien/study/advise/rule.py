"""The rule of advice: synthetic faces need a gain that is certain enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from mien import stats
from mien.study.advise.arms import WAYS
from mien.study.cells import MIN_PEOPLE, ResultCell
from mien.study.results import StudyResults

METRIC = "uar"

CERTAINTY_PERCENT = 80  # how certain a gain must be, over people

WORTHWHILE_GAIN = 0.01  # a smaller gain in UAR is not worth a generator

AdviceAnswer = Literal["add", "do not add", "cannot tell"]


@dataclass(frozen=True)
class WayScore:
    """The UAR of one way of training, from 0 to 1.

    `value` is the mean over trials and classifiers, `sd` the standard deviation over trials (nan
    for one), and `draws` has the UAR in each bootstrap draw of the people, the same draws in all
    ways.
    """

    way: str
    value: float
    sd: float
    draws: Float[np.ndarray, " draws"]

    @property
    def interval(self) -> stats.Interval:
        """The UAR with its 95 % interval over people."""
        return stats.make_interval(self.value, self.draws)


@dataclass(frozen=True)
class Recommendation:
    """What the scores say.

    - `chosen` is the way that is advised: with synthetic faces if the answer is "add", else the
      best of the others.
    - `best` is the best way with synthetic faces, and `rival` the best one without.
    - `gain` is the difference in UAR between these two, less `optimism`, with its 95 % interval;
      `least` is the gain that is exceeded with a certainty of CERTAINTY_PERCENT.
    - `optimism` is by how much the best of several ways looks too good because it was chosen.
    """

    answer: AdviceAnswer
    chosen: str
    best: str
    rival: str
    gain: stats.Interval
    least: float
    optimism: float

    @property
    def is_at_chance(self) -> bool:
        """Whether no way was certainly better than guessing, so that nothing was compared."""
        return math.isnan(self.gain.value)


def read_scores(study: StudyResults, largest: float) -> list[WayScore]:
    """Return the scores of the ways whose trials are done; `largest` as in `list_amounts`.

    They are by clip where clips are scored, else by image.
    """
    scores = []
    for name in WAYS:
        cells = _find_cells(study, name, largest)
        if not cells or any(cell is None or not cell.whole for cell in cells):
            continue
        found = [cell for cell in cells if cell is not None]
        draws = [drawn for cell in found if (drawn := cell.bootstrap(METRIC)) is not None]
        if len(draws) < len(found):
            continue
        per_trial = np.mean([[one.get(METRIC) for one in cell.done] for cell in found], axis=0)
        scores.append(
            WayScore(
                name,
                float(np.mean([cell.average_trials(METRIC) for cell in found])),
                stats.summarise(list(per_trial)).sd,
                np.mean(draws, axis=0),
            )
        )
    return scores


def _find_cells(study: StudyResults, name: str, largest: float) -> list[ResultCell | None]:
    """Return the cells of a way, one for each classifier."""
    way, level = WAYS[name], study.levels[-1]
    setting = way.name_setting(largest)
    if way.copies:
        controls = {cell.classifier: cell for cell in study.find_controls(setting, level)}
        if not controls:
            controls = {cell.classifier: cell for cell in study.find_controls(setting, "images")}
        return [controls.get(classifier) for classifier in study.classifiers]
    return [
        study.find_scored_cell(setting, classifier, way.ablation)
        for classifier in study.classifiers
    ]


def decide(scores: Sequence[WayScore], people: int, chance: float) -> Recommendation:
    """Return the advice that follows from the scores of ways of training.

    The way with the highest mean UAR is advised, but one with synthetic faces only if its gain
    over the best way without them is certain enough. The gain is the difference of the two, less
    what choosing the best of several ways adds (the optimism of Efron 1983, JASA 78:316, over
    bootstrap draws of the people, 0 or more). Synthetic faces are added if the gain is above 0 in
    CERTAINTY_PERCENT of the draws. If it is not, and WORTHWHILE_GAIN or more is expected, nothing
    can be told, and neither can it with fewer than MIN_PEOPLE `people`, or if no way is above
    `chance` in so many draws. There must be a score of each kind of way.
    """
    # The best way with and without synthetic faces
    cheap = [score for score in scores if WAYS[score.way].is_cheap]
    with_synthetic = [score for score in scores if not WAYS[score.way].is_cheap]
    rival, best = (max(group, key=lambda one: one.value) for group in (cheap, with_synthetic))

    # The gain in each draw, and by how much the choice makes it look too large
    differences = best.draws - rival.draws
    optimism = max(0.0, _estimate_optimism(with_synthetic, cheap))
    gain = stats.make_interval(best.value - rival.value - optimism, differences - optimism)
    least = float(np.nanpercentile(differences - optimism, 100 - CERTAINTY_PERCENT))

    # The answer
    top = max(scores, key=lambda one: one.value)
    learns = float(np.nanpercentile(top.draws, 100 - CERTAINTY_PERCENT)) > chance
    answer: AdviceAnswer = "do not add"
    if people < MIN_PEOPLE or not learns:
        answer = "cannot tell"
    elif least > 0:
        answer = "add"
    elif gain.value >= WORTHWHILE_GAIN:
        answer = "cannot tell"
    chosen = best.way if answer == "add" else rival.way
    if not learns:
        gain, least = stats.Interval(math.nan, math.nan, math.nan), math.nan
    return Recommendation(answer, chosen, best.way, rival.way, gain, least, optimism)


def _estimate_optimism(ours: Sequence[WayScore], theirs: Sequence[WayScore]) -> float:
    """Return by how much the best of ours less the best of theirs is too large on average.

    In each draw the best ones are chosen again; the same two ways differ by less on everybody.
    """
    shift = 0.0
    for scores, sign in ((ours, 1), (theirs, -1)):
        draws = np.stack([score.draws for score in scores])
        values = np.array([score.value for score in scores])
        chosen = np.argmax(draws, axis=0)
        excess = draws[chosen, np.arange(draws.shape[1])] - values[chosen]
        shift += sign * float(np.nanmean(excess))
    return shift


def count_people_needed(decision: Recommendation, people: int) -> int:
    """Return about how many people would make the expected gain certain enough.

    The distance between gain and lower bound falls with the root of the number of people. It is 0
    where more people would not help to confirm a gain.
    """
    gain, least = decision.gain.value, decision.least
    if not gain > 0 or math.isnan(least):
        return 0
    return max(people + 1, math.ceil(people * ((gain - least) / gain) ** 2))
