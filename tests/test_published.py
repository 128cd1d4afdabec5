"""The preprint's tables: they add up, and where its text disagrees with them is known."""

import pytest

from mien import published
from mien.faces import EMOTIONS


def test_tables_1_and_2_add_up_to_their_printed_totals():
    assert sum(published.TABLE_1.values()) == published.TOTALS["TABLE_1"] == 17_124
    assert sum(published.TABLE_2.values()) == published.TOTALS["TABLE_2"] == 15_464
    assert sum(published.CLIPS_PER_CLASS.values()) == 255


def test_every_emotion_is_one_that_faces_may_show():
    for table in (published.TABLE_1, published.TABLE_2, published.CLIPS_PER_CLASS):
        assert set(table) == set(published.PREPRINT_CLASSES) <= set(EMOTIONS)


def test_there_are_36_cells_of_five_trials():
    cells = [cell for models in published.ACCURACY.values() for cell in models.values()]
    assert len(cells) == 36
    assert all(len(cell.trials) == 5 for cell in cells)
    assert all(0 < value < 100 for cell in cells for value in cell.trials)
    assert set(published.TABLE_NUMBERS.values()) == set(range(3, 15))
    assert all(list(models) == list(published.MODELS) for models in published.ACCURACY.values())


CELLS = [(key, model) for key, models in published.ACCURACY.items() for model in models]


@pytest.mark.parametrize(("key", "model"), CELLS)
def test_the_printed_average_follows_from_the_trials(key: tuple[str, str], model: str):
    cell = published.ACCURACY[key][model]
    assert sum(cell.trials) / 5 == pytest.approx(cell.average, abs=0.0051)


def test_golden_cells_read_by_hand():
    assert published.ACCURACY["real_to_real", "none"]["resnet50"].trials == (
        85.62,
        86.49,
        90.17,
        89.42,
        89.98,
    )
    assert published.find_average("synthetic_to_real", "inception_v3", "freezing") == 99.53
    assert published.TABLE_NUMBERS["real_to_synthetic", "augmentation"] == 9
    assert published.TABLE_NUMBERS["synthetic_to_real", "freezing"] == 14
    assert sum(
        sum(cell.trials) for models in published.ACCURACY.values() for cell in models.values()
    ) == pytest.approx(GRAND_TOTAL)


def test_each_table_has_its_bar_chart():
    assert list(published.FIGURE_NUMBERS) == list(published.TABLE_NUMBERS)
    assert list(published.FIGURE_NUMBERS.values()) == list(range(12, 24))
    assert published.FIGURE_NUMBERS["real_to_real", "none"] == 12
    assert published.FIGURE_NUMBERS["synthetic_to_real", "freezing"] == 23


# of the 180 printed accuracies, added up from the text of the preprint by another script
GRAND_TOTAL = 17669.48


def test_cells_that_the_preprint_lacks_are_absent():
    assert published.find_average("both_to_real", "vgg16") is None
    assert published.find_average("real_to_real", "tiny") is None


@pytest.mark.parametrize("case", published.CONTRADICTIONS, ids=lambda case: case.where)
def test_contradictions_are_contradictions(case: published.Contradiction):
    printed = published.find_average(case.setting, case.model, case.ablation)
    assert printed == case.printed
    assert printed != case.claimed


def test_the_99_54_per_cent_belong_to_resnet_in_both_tables_that_have_it():
    claimed = published.CONTRADICTIONS[0].claimed
    table_9 = published.ACCURACY["real_to_synthetic", "augmentation"]
    assert [model for model, cell in table_9.items() if cell.average == claimed] == ["resnet50"]
    assert [
        "ResNet 50" in work.model for work in published.TABLE_15 if work.accuracy == claimed
    ] == [True]


def test_the_difference_in_section_3_2_4_fits_the_table_and_not_the_text():
    case = published.CONTRADICTIONS[1]
    inception = published.find_average("synthetic_to_real", "inception_v3")
    assert inception is not None
    assert inception - case.printed == pytest.approx(2.70)
    assert inception - case.claimed != pytest.approx(2.70)


def test_table_15_repeats_the_averages_of_the_other_tables():
    assert len(published.TABLE_15) == 9
    best = [work.accuracy for work in published.TABLE_15 if work.proposed]
    assert best == [
        published.find_average("real_to_real", "vgg16"),
        published.find_average("real_to_synthetic", "resnet50", "augmentation"),
        published.find_average("synthetic_to_real", "inception_v3", "freezing"),
    ]


@pytest.mark.parametrize(("ablation", "improved"), [("augmentation", 5), ("freezing", 4)])
def test_most_ablations_lower_the_printed_average(ablation: str, improved: int):
    """The abstract says that both ablations "have significantly improved the performance"."""
    changes = [
        cell.average - published.ACCURACY[setting, "none"][model].average
        for (setting, kind), models in published.ACCURACY.items()
        if kind == ablation
        for model, cell in models.items()
    ]
    assert (sum(change > 0 for change in changes), len(changes)) == (improved, 12)


def test_the_frozen_share_is_said_twice_and_differently():
    assert set(published.FROZEN_SHARE.values()) == {30, 50}
