"""The preprint's numbers: Tables 1 to 15 of Preprints 197486 (CC BY 4.0).

Emotions, settings and models have the names that mien uses. None of the numbers was measured by
mien.
"""

from dataclasses import dataclass

SOURCE = "Preprints 197486, 4 February 2026 (CC BY 4.0)"

DATASET = "CASME II"

PREPRINT_CLASSES = ("happiness", "sadness", "surprise", "disgust", "fear", "repression", "others")

TABLE_1 = {
    "happiness": 2360,
    "sadness": 150,
    "surprise": 1729,
    "disgust": 4204,
    "fear": 127,
    "repression": 2187,
    "others": 6367,
}
"""Images of CASME II per class."""

TABLE_2 = {
    "happiness": 2780,
    "sadness": 1632,
    "surprise": 1845,
    "disgust": 3120,
    "fear": 1760,
    "repression": 2187,
    "others": 2140,
}
"""Images of the generated database per class."""

TOTALS = {"TABLE_1": 17124, "TABLE_2": 15464}
"""The totals as printed under Tables 1 and 2."""

CLIPS_PER_CLASS = {
    "others": 99,
    "disgust": 63,
    "happiness": 32,
    "repression": 27,
    "surprise": 25,
    "sadness": 7,
    "fear": 2,
}
"""Clips per class in the 255 rows of CASME II's own sheet, which the preprint does not print."""

MODELS = {"vgg16": "VGG-16", "resnet50": "ResNet 50", "inception_v3": "Inception V3"}
"""The models, as the preprint writes them."""

ABLATION_CAPTIONS = {
    "none": "plain",
    "augmentation": "data augmentation",
    "freezing": "30 % of the layers frozen",
}


@dataclass(frozen=True)
class PublishedCell:
    """Five trials of one model and their average, in per cent, as printed."""

    trials: tuple[float, float, float, float, float]
    average: float


def _make_table(
    vgg16: PublishedCell, resnet50: PublishedCell, inception_v3: PublishedCell
) -> dict[str, PublishedCell]:
    return {"vgg16": vgg16, "resnet50": resnet50, "inception_v3": inception_v3}


ACCURACY: dict[tuple[str, str], dict[str, PublishedCell]] = {
    ("real_to_real", "none"): _make_table(
        PublishedCell((99.13, 99.35, 99.30, 99.42, 99.46), 99.33),
        PublishedCell((85.62, 86.49, 90.17, 89.42, 89.98), 88.34),
        PublishedCell((98.16, 99.32, 99.45, 99.23, 99.39), 99.11),
    ),
    ("synthetic_to_synthetic", "none"): _make_table(
        PublishedCell((98.91, 99.11, 99.28, 97.34, 98.66), 98.66),
        PublishedCell((98.17, 98.58, 99.15, 98.25, 99.34), 98.70),
        PublishedCell((98.73, 99.32, 99.42, 98.64, 99.36), 99.09),
    ),
    ("real_to_synthetic", "none"): _make_table(
        PublishedCell((98.93, 99.33, 97.74, 99.25, 99.40), 98.93),
        PublishedCell((98.31, 99.35, 99.55, 99.40, 99.60), 99.24),
        PublishedCell((99.36, 99.56, 99.54, 99.43, 99.46), 99.47),
    ),
    ("synthetic_to_real", "none"): _make_table(
        PublishedCell((94.79, 97.55, 98.37, 94.44, 98.74), 96.78),
        PublishedCell((99.42, 99.46, 99.51, 98.66, 99.33), 99.28),
        PublishedCell((99.48, 99.50, 99.55, 99.38, 99.47), 99.48),
    ),
    ("real_to_real", "augmentation"): _make_table(
        PublishedCell((92.47, 98.04, 98.42, 98.56, 98.66), 97.23),
        PublishedCell((99.07, 99.18, 99.39, 99.50, 98.87), 99.20),
        PublishedCell((94.69, 99.19, 99.60, 99.55, 99.52), 98.51),
    ),
    ("synthetic_to_synthetic", "augmentation"): _make_table(
        PublishedCell((92.51, 95.46, 96.29, 97.52, 96.88), 95.73),
        PublishedCell((98.77, 98.90, 99.13, 99.22, 99.15), 99.03),
        PublishedCell((95.61, 99.00, 99.27, 99.33, 99.47), 98.54),
    ),
    ("real_to_synthetic", "augmentation"): _make_table(
        PublishedCell((98.32, 97.82, 98.86, 98.16, 98.94), 98.42),
        PublishedCell((99.63, 99.51, 99.40, 99.59, 99.58), 99.54),
        PublishedCell((99.35, 99.42, 99.44, 99.55, 99.67), 99.49),
    ),
    ("synthetic_to_real", "augmentation"): _make_table(
        PublishedCell((97.37, 98.39, 98.53, 98.48, 99.12), 98.38),
        PublishedCell((98.12, 99.22, 99.30, 99.35, 99.35), 99.07),
        PublishedCell((99.36, 97.79, 99.44, 99.44, 99.50), 99.11),
    ),
    ("real_to_real", "freezing"): _make_table(
        PublishedCell((98.65, 95.78, 92.04, 97.57, 98.54), 96.52),
        PublishedCell((86.76, 90.65, 93.92, 96.65, 98.05), 93.21),
        PublishedCell((98.38, 99.40, 98.20, 99.40, 99.56), 98.99),
    ),
    ("synthetic_to_synthetic", "freezing"): _make_table(
        PublishedCell((92.65, 95.69, 99.02, 99.36, 99.34), 97.21),
        PublishedCell((96.44, 97.56, 97.72, 97.88, 97.90), 97.50),
        PublishedCell((98.87, 99.46, 99.50, 99.57, 98.31), 99.14),
    ),
    ("real_to_synthetic", "freezing"): _make_table(
        PublishedCell((99.15, 99.29, 99.07, 99.52, 99.59), 99.32),
        PublishedCell((98.06, 99.39, 99.47, 99.52, 99.55), 99.20),
        PublishedCell((99.30, 99.41, 99.47, 99.50, 99.53), 99.44),
    ),
    ("synthetic_to_real", "freezing"): _make_table(
        PublishedCell((98.57, 93.67, 98.24, 93.85, 98.26), 96.52),
        PublishedCell((97.90, 99.29, 97.71, 99.20, 99.27), 98.67),
        PublishedCell((99.51, 99.52, 99.50, 99.55, 99.57), 99.53),
    ),
}
"""Tables 3 to 14: (setting, ablation) -> model -> five trials and their printed average, in per
cent.
"""

TABLE_NUMBERS = {key: 3 + column for column, key in enumerate(ACCURACY)}
"""The number of the preprint's table for each (setting, ablation)."""

FIGURE_NUMBERS = {key: 12 + column for column, key in enumerate(ACCURACY)}
"""The number of the preprint's bar chart for each (setting, ablation): Figures 12 to 23."""


@dataclass(frozen=True)
class CompetingWork:
    """A row of Table 15: one method, the data it was tested on, and its accuracy in per cent."""

    model: str
    dataset: str
    accuracy: float
    proposed: bool = False


TABLE_15 = (
    CompetingWork("3D-CNN [26]", "CASME II", 97.60),
    CompetingWork("TLCNN [27]", "CASME II", 69.10),
    CompetingWork("SVM with Knowledge Distillation [38]", "CASME II", 72.60),
    CompetingWork("Pre-trained ResNet 50 [17]", "CASME II", 98.41),
    CompetingWork(
        "Modified VGG-Net with CGAN [39]",
        "Trained on AI-generated Oulu and test on AI-generated CK+",
        90.37,
    ),
    CompetingWork("VGG-16 with LAUN improved StarGAN [3]", "AI-generated MMI", 98.30),
    CompetingWork("Proposed Pre-trained VGG-16", "CASME II", 99.33, True),
    CompetingWork(
        "Proposed Pre-trained ResNet 50 (with Data Augmentation)",
        "Training on CASME II and Tested on Proposed AI-generated Dataset",
        99.54,
        True,
    ),
    CompetingWork(
        "Proposed Pre-trained Inception V3 (with 30% Freezing Layers)",
        "Training on Proposed AI-generated Dataset and Tested on CASME II",
        99.53,
        True,
    ),
)
"""Table 15, row by row."""


@dataclass(frozen=True)
class Contradiction:
    """A number in the preprint's text that its own tables contradict.

    `claimed` is in the text at `where`; the table's cell (`setting`, `ablation`, `model`) has
    `printed`.
    """

    where: str
    setting: str
    ablation: str
    model: str
    claimed: float
    printed: float
    note: str


CONTRADICTIONS = (
    Contradiction(
        "abstract and conclusion",
        "real_to_synthetic",
        "augmentation",
        "vgg16",
        99.54,
        98.42,
        "Tables 9 and 15 give the 99.54 % to ResNet 50.",
    ),
    Contradiction(
        "section 3.2.4",
        "synthetic_to_real",
        "none",
        "vgg16",
        96.87,
        96.78,
        "The same section's difference to Inception V3, 2.70, fits 96.78 only.",
    ),
)

FROZEN_SHARE = {
    "section 3.3, Configuration 2, heading": 30,
    "section 3.3, Configuration 2, text": 50,
}
"""The share of frozen layers in per cent, by the place in the preprint that states it."""


def find_average(setting: str, model: str, ablation: str = "none") -> float | None:
    """Return the printed average accuracy in per cent, or None if the preprint has no such cell."""
    cell = ACCURACY.get((setting, ablation), {}).get(model)
    return None if cell is None else cell.average
