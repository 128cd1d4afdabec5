"""The rule of advice: the report's answer on the same study, and what follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from mien import stats
from mien.report.advise.arms import WAYS
from mien.report.answers import Answer
from mien.report.arms import ReportArm
from mien.report.worth import Contest, decide_contest
from mien.study.cells import ResultCell
from mien.study.results import StudyResults

METRIC = "uar"

AdviceAnswer = Literal["add", "do not add", "cannot tell"]

ADVICE_BY_ANSWER: dict[Answer, AdviceAnswer] = {
    "yes": "add",
    "no": "do not add",
    "cannot tell": "cannot tell",
}
"""What follows from the report's answer to whether a way exceeds the best alternative."""


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
    """What follows from a study.

    - `chosen` is the way that is advised: `best` if the answer is "add", else `rival`.
    - `best` is the best way with synthetic faces, and `rival` the best one without.
    - `gain` is the difference in UAR between these two with its 95 % interval, and `p` is that of
      sign flips over people; both are corrected for the choice of the best.
    - `at_chance` says that no way was certainly better than guessing.
    """

    answer: AdviceAnswer
    chosen: str
    best: str
    rival: str
    gain: stats.Interval
    p: float
    at_chance: bool


def read_scores(study: StudyResults, largest: float) -> list[WayScore]:
    """Return the scores of the ways whose trials are done; `largest` as in `list_amounts`.

    They are by clip where clips are scored, else by image.
    """
    scores = []
    for name in WAYS:
        cells = _find_cells(study, name, largest)
        if not cells or any(cell is None or not cell.whole for cell in cells):
            continue
        whole = [cell for cell in cells if cell is not None]
        draws = [drawn for cell in whole if (drawn := cell.bootstrap(METRIC)) is not None]
        if len(draws) < len(whole):
            continue
        per_trial = np.mean([[score.get(METRIC) for score in cell.done] for cell in whole], axis=0)
        scores.append(
            WayScore(
                name,
                float(np.mean([cell.average_trials(METRIC) for cell in whole])),
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


def decide(contest: Contest, scores: Sequence[WayScore], largest: float) -> Recommendation:
    """Return the advice that follows from the contest of a study.

    The answer is that of the report on the study (`decide_contest`). `scores` are those of its ways
    of training, and `largest` is as in `list_amounts`.
    """
    report_answer, _ = decide_contest(contest)
    answer = ADVICE_BY_ANSWER[report_answer]
    best, rival = (_find_way(arm, largest) for arm in (contest.way, contest.alternative))
    chance = 1 / contest.cell.counts.shape[-1]
    top = max(scores, key=lambda score: score.value)
    return Recommendation(
        answer,
        best if answer == "add" else rival,
        best,
        rival,
        contest.comparison.gap,
        contest.comparison.p,
        not top.interval.low > chance,
    )


def _find_way(arm: ReportArm, largest: float) -> str:
    """Return the name in WAYS of an arm of a study that `make_fields` described."""
    setting = next(iter(arm.cells.values())).setting
    return next(
        name
        for name, way in WAYS.items()
        if (way.name_setting(largest), way.ablation, way.copies)
        == (setting, arm.ablation, arm.kind == "copies")
    )


def count_people_needed(decision: Recommendation, people: int) -> int:
    """Return about how many people would make the measured gain certain.

    The distance between gain and lower bound falls with the root of the number of people. It is 0
    where more people would not help to confirm a gain.
    """
    gain = decision.gain
    if not gain.value > 0 or math.isnan(gain.low):
        return 0
    return max(people + 1, math.ceil(people * ((gain.value - gain.low) / gain.value) ** 2))
