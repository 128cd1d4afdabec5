"""The arms of a study: real faces alone, with copies or synthetic ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from mien.study.cells import ResultCell
from mien.study.results import StudyResults
from mien.study.settings import SOURCES, SYNTHETIC, Arm, describe_arm, find_setting

ArmKind = Literal["real", "copies", "way", "synthetic alone", "copies alone"]

ARM_KINDS: tuple[ArmKind, ...] = ("real", "copies", "way", "synthetic alone", "copies alone")
"""The kinds of arms in the order of the tables."""

ALTERNATIVES: tuple[ArmKind, ...] = ("real", "copies")
"""The arms that need no generator."""


@dataclass(frozen=True)
class ReportArm:
    """What classifiers were trained on in one ablation, with a cell of tests on real faces each.

    `arm` says how the images were used; `source` names them, such as "synthetic" or "copycat", and
    is "" for real images alone. `cells` are by classifier.
    """

    kind: ArmKind
    arm: Arm
    source: str
    ablation: str
    cells: dict[str, ResultCell]

    def name(self, study: StudyResults) -> str:
        """Return its printed name, with its ablation if the study has more than one."""
        sources = [name for name in SOURCES if name in study.plan.controls]
        images = "copies" if sources == [self.source] else self.source
        first = {"real": "real alone"}.get(self.kind) or (
            f"{images} alone" if self.kind.endswith("alone") else f"real + {images}"
        )
        ablation = f", {self.ablation}" if len(study.ablations) > 1 else ""
        return f"{first}{describe_arm(self.arm)}{ablation}"

    def finished_for(self, classifiers: Iterable[str]) -> bool:
        """Whether it has all trials of these classifiers."""
        return all(name in self.cells and self.cells[name].whole for name in classifiers)

    def list_cells(self, classifiers: Iterable[str]) -> list[ResultCell]:
        """Return the cells of these classifiers."""
        return [self.cells[name] for name in classifiers]


def compares_uses(study: StudyResults) -> bool:
    """Whether a study compares ways of use, ratios or shares of the people."""
    return any(study.spec.get(name) for name in ("uses", "ratios", "people"))


def list_arms(study: StudyResults, people: float | None = None) -> list[ReportArm]:
    """Return the arms of a share of the people (None: all), in the order of ARM_KINDS.

    They are those of tests on real faces, by clip where clips are scored. Copies have an arm for
    each source.
    """
    cells = [*study.cells, *(control for control in study.controls if control.control in SOURCES)]
    tested = [
        (cell, setting)
        for cell in cells
        if (setting := find_setting(cell.setting)).test == "real"
        and setting.people == people
        and cell.classifier in study.classifiers
    ]
    level = "clips" if any(cell.level == "clips" for cell, _ in tested) else "images"

    arms: dict[tuple[ArmKind, Arm, str, str], dict[str, ResultCell]] = {}
    for cell, setting in tested:
        if cell.level == level:
            kind, source = _find_kind(setting.train, cell.control)
            key = (kind, setting.arm, source, cell.ablation)
            arms.setdefault(key, {})[cell.classifier] = cell
    report_arms = [ReportArm(*key, by_classifier) for key, by_classifier in arms.items()]
    return sorted(report_arms, key=lambda arm: ARM_KINDS.index(arm.kind))


def _find_kind(train: str, control: str) -> tuple[ArmKind, str]:
    """Return the kind of an arm, and the source of the images that it adds to real ones."""
    if train == "real":
        return "real", ""
    if train == "both":
        return ("copies", control) if control else ("way", SYNTHETIC)
    return ("copies alone", control) if control else ("synthetic alone", SYNTHETIC)


def choose_classifiers(study: StudyResults, arms: Sequence[ReportArm]) -> list[str]:
    """Return the classifiers that are pooled: those that can be trained in all ways of the study.

    Those without a finished way or alternative are left out; if none can be trained in all ways,
    all that have both are pooled.
    """
    kinds = {
        name: {report_arm.kind for report_arm in arms if report_arm.finished_for([name])}
        for name in study.classifiers
    }
    begun = [
        name
        for name, finished_kinds in kinds.items()
        if "way" in finished_kinds and finished_kinds & set(ALTERNATIVES)
    ]
    networks = [name for name in begun if study.find_network(name)]
    return networks or begun
