"""Advice meets the store: a study of the ways, and what follows from it."""

from dataclasses import dataclass
from functools import cached_property

from mien.errors import DataError, TrialsFailed
from mien.report.advise.arms import WAYS
from mien.report.advise.request import Request, plan_advice
from mien.report.advise.rule import Recommendation, WayScore, decide, read_scores
from mien.report.worth import Contest, hold_contest
from mien.runs.jobs import Engine
from mien.runs.local import Local
from mien.runs.progress import say
from mien.runs.store import Store
from mien.study.results import StudyResults
from mien.study.run import run_study


@dataclass(frozen=True)
class FoundAdvice:
    """The advice for one training set, with everything that it is based on.

    `largest` is the largest number of synthetic images per real one, `people` the number of people
    that were tested, and `contest` the comparison that the report on the study shows too.
    """

    study: StudyResults
    largest: float
    scores: tuple[WayScore, ...]
    decision: Recommendation
    people: int
    contest: Contest

    @property
    def trials(self) -> int:
        """The number of trials of each way of training."""
        return int(self.study.spec["trials"])

    @property
    def is_whole(self) -> bool:
        """Whether the people of all folds were tested."""
        return len(self.study.spec["tested_folds"]) == self.study.spec["folds"]

    @cached_property
    def missing(self) -> list[str]:
        """The ways of training that have no result, because trials failed."""
        planned = [name for name, way in WAYS.items() if way.ablation in self.study.ablations]
        return [name for name in planned if name not in {score.way for score in self.scores}]

    def describe_way(self, name: str) -> str:
        """Return what to do in a way of training, in words."""
        return WAYS[name].describe(self.largest)


def ask_advice(
    request: Request, store: Store, *, device: str = "auto", engine: Engine | None = None
) -> FoundAdvice:
    """Return whether synthetic faces should be added to a training set, after a study of it.

    The study has the alias advise-NAME. What is done is not done again. `engine` says where the
    work is done; None is this process.

    Raises DataError for faces of too few people or classes, of unknown people, or synthetic ones,
    UsageError for too few minutes, and TrialsFailed if too much failed for an answer.
    """
    engine = engine or Local(0)
    planned = plan_advice(request, store, device, engine.slots)
    say(planned.text)
    try:
        run_study(planned.study, store, device=device, engine=engine)
    except TrialsFailed as error:
        # The ways that did not fail are compared
        if hold_contest(StudyResults(planned.study.name, store)) is None:
            raise
        say(f"some ways of training failed and are left out: {error}")
    return read_advice(planned.study.name, store)


def read_advice(name: str, store: Store) -> FoundAdvice:
    """Return the advice that follows from a study that `ask_advice` made, by its run or alias.

    Raises DataError if too few trials are done for an answer.
    """
    study = StudyResults(name, store)
    scores, contest = _read_scores(study), hold_contest(study)
    if contest is None:
        raise DataError(
            f"{study.title} must have results of a way of training with synthetic faces and of one "
            f"without; it has {', '.join(score.way for score in scores) or 'none'}"
        )
    largest = _find_largest(study)
    decision = decide(contest, scores, largest)
    return FoundAdvice(study, largest, tuple(scores), decision, len(contest.cell.units), contest)


def _read_scores(study: StudyResults) -> list[WayScore]:
    return read_scores(study, _find_largest(study))


def _find_largest(study: StudyResults) -> float:
    """Return the largest number of synthetic images per real one of a study."""
    return max(study.spec["ratios"])
