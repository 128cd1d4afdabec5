"""The findings of the demo: numbers of its two studies, in eight lines."""

import math
from dataclasses import dataclass

from mien.cli.demo.plan import FRAMES_STUDY, PEOPLE_STUDY
from mien.report.answers import Conclusion
from mien.report.conclusions import draw_conclusions
from mien.report.sentences import MINUS
from mien.runs.store import Store
from mien.stats import Interval
from mien.study.cells import ResultCell
from mien.study.results import StudyResults

LINE_WIDTH = 80  # columns of a terminal, in which each of the eight lines fits

# What an answer to the questions of mien.report.conclusions means in a line
VERDICTS = {
    ("synthetic", "yes"): "they help",
    ("synthetic", "no"): "they do harm",
    ("copies", "yes"): "better than copies",
    ("copies", "no"): "worse than copies",
}


@dataclass(frozen=True)
class Score:
    """An accuracy by image in per cent, with its 95 % interval over tested people (nan: none)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """A change of accuracy in points with its interval, and its `answer`: yes, no, cannot tell."""

    value: float
    low: float
    high: float
    answer: str


@dataclass(frozen=True)
class DemoFindings:
    """What a run of the demo found.

    - `people` were drawn, and `held_out` of them are in no training.
    - `frames_images` and `held_images` are the tested images of one trial, by the same splits as
      `frames` and `held` below; `frames_trials` and `held_trials` are the numbers of trials.
    - `synthetic` faces were generated.
    - `frames` and `held` are accuracies by the names in ROWS: under a random split of frames, and
      on held-out people. `constant` is the accuracy of the constant answer there.
    - `changes` are by the questions of mien.report.conclusions, `synthetic` and `copies`.
    - `sentences` are the answers to all questions in words, with what they are based on.
    """

    people: int
    held_out: int
    frames_images: int
    held_images: int
    frames_trials: int
    held_trials: int
    synthetic: int
    constant: float
    frames: dict[str, Score]
    held: dict[str, Score]
    changes: dict[str, Change]
    sentences: tuple[str, ...]


ROWS = {
    "labels permuted, nearest neighbour": ("permuted", "nearest"),
    "labels permuted, small network": ("permuted", "tiny"),
    "only copies of faces, small network": ("copies", "tiny"),
    "real faces, small network": ("", "tiny"),
}
"""The rows of the comparison of both splits: a name to what is trained on, and the classifier."""


def read_findings(store: Store) -> DemoFindings:
    """Return the findings of the two studies of the demo, which must be complete.

    Raises StoreError if one of them was never run.
    """
    # Both studies, and in each the result of a network that learns from real faces
    held_out, by_frame = (StudyResults(name, store) for name in (PEOPLE_STUDY, FRAMES_STUDY))
    conclusions = draw_conclusions([held_out, by_frame])
    real, by_frame_real = (_find_cell(study, "", "tiny") for study in (held_out, by_frame))

    # Their numbers
    return DemoFindings(
        people=held_out.faces.index["subject"].nunique(),
        held_out=real.subjects,
        frames_images=by_frame_real.n,
        held_images=real.n,
        frames_trials=len(by_frame_real.trials),
        held_trials=len(real.trials),
        synthetic=sum(map(len, held_out.databases)),
        constant=100 * real.commonest.average_trials("accuracy"),
        frames={name: _measure_score(_find_cell(by_frame, *row)) for name, row in ROWS.items()},
        held={name: _measure_score(_find_cell(held_out, *row)) for name, row in ROWS.items()},
        changes={
            each.question: _measure_change(each)
            for each in conclusions
            if each.question in ("synthetic", "copies")
        },
        sentences=tuple(each.sentence for each in conclusions),
    )


def _find_cell(study: StudyResults, trained: str, classifier: str) -> ResultCell:
    """Return the cell or control of a row, by image.

    In the study by frame the generator itself is the copycat; in the other one it is a control.
    """
    if not trained or (trained == "copies" and "copycat" not in study.plan.controls):
        setting = "synthetic_to_real" if trained else "real_to_real"
        cell = study.find_cell(setting, classifier)
        assert cell is not None
        return cell
    setting, control = {
        "permuted": ("real_to_real", "permuted"),
        "copies": ("synthetic_to_real", "copycat"),
    }[trained]
    return next(
        cell
        for cell in study.find_controls(setting, "images")
        if (cell.control, cell.classifier) == (control, classifier)
    )


def _measure_score(cell: ResultCell) -> Score:
    interval = cell.estimate_interval("accuracy")
    if interval is None:
        return Score(math.nan, math.nan, math.nan)
    return Score(*(100 * number for number in (interval.value, interval.low, interval.high)))


def _measure_change(conclusion: Conclusion) -> Change:
    gap = conclusion.estimate or Interval(math.nan, math.nan, math.nan)
    return Change(100 * gap.value, 100 * gap.low, 100 * gap.high, conclusion.answer)


# Eight lines


def list_lines(findings: DemoFindings, report: str) -> list[str]:
    """Return the eight lines at the end of the demo: six findings, the report, the next command.

    Each has at most 80 columns, but for a longer path of the report, which stays whole.
    """
    permuted, network, copies, real = ROWS
    by_frame, held = findings.frames, findings.held
    split = f"Random split of frames (n = {findings.frames_images:,})"
    return [
        f"{findings.people} drawn people; accuracy in per cent with 95 % intervals over people",
        f"{split}: labels permuted {_format(by_frame[network])}, "
        f"1-NN {_format(by_frame[permuted])}",
        f"{split}: only copies {_format(by_frame[copies])}, real faces {_format(by_frame[real])}",
        f"{findings.held_out} held-out people: real {_format_interval(held[real])}, permuted "
        f"{_format(held[network])}, constant {findings.constant:.1f}",
        f"Synthetic faces add {_format_change(findings, 'synthetic')}",
        f"Compared with copies: {_format_change(findings, 'copies')}",
        f"report: {report}",
        "next: mien readers   (the datasets that mien reads, each with its command)",
    ]


def _format(score: Score) -> str:
    return "unknown" if math.isnan(score.value) else f"{score.value:.1f}"


def _format_interval(score: Score) -> str:
    bounds = "" if math.isnan(score.low) else f" [{score.low:.1f}, {score.high:.1f}]"
    return _format(score) + bounds


def _format_change(findings: DemoFindings, question: str) -> str:
    """Return a change of accuracy with its interval, and what it means."""
    change = findings.changes.get(question)
    if change is None or math.isnan(change.value):
        return "cannot tell, since trials are missing"
    text = f"{_format_points(change.value)} points"
    if math.isnan(change.low):
        return f"{text}: cannot tell, since there is no interval"
    text += f" [{_format_points(change.low)}, {_format_points(change.high)}]"
    if change.answer != "cannot tell":
        return f"{text}: {VERDICTS[question, change.answer]}"
    inside = change.low <= 0 <= change.high
    return f"{text}: " + ("cannot tell (zero inside)" if inside else "cannot tell (p > 0.05)")


def _format_points(points: float) -> str:
    """Return a number of points with its sign."""
    return f"{points:+.1f}".replace("-", MINUS)
