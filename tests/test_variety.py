"""Variety: measures of pictures beside the truth of drawn faces, and the people behind a set."""

import runpy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from drawn import FOUR, people
from scipy.stats import rankdata

from mien.audit.part import PartInput, make_empty_side
from mien.audit.parts import measure_part
from mien.audit.variety import skin
from mien.audit.variety.association import associate, divide_into_bins
from mien.audit.variety.measures import MEASURES, measure_pictures
from mien.faces import Faces

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@cache
def posed() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Drawn people in known poses and lights, in colour, and what is known of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        program = runpy.run_path(str(BENCHMARKS / "audit_variety.py"))
    return program["draw_known"](60, 3, True)


@pytest.mark.parametrize(
    ("measure", "truth", "least"),
    [
        ("yaw", "yaw", 0.85),
        ("roll", "roll", 0.75),
        ("pitch", "pitch", 0.5),
        ("light_across", "light across", 0.6),
        ("skin_tone", "tone", 0.8),
    ],
)
def test_a_measure_ranks_drawn_faces_as_the_truth_does(measure: str, truth: str, least: float):
    images, known = posed()
    ranks = (rankdata(values) for values in (measure_pictures(images)[measure], known[truth]))
    assert np.corrcoef(*ranks)[0, 1] > least


def test_light_and_border_of_plain_pictures_are_known():
    across = np.tile(np.linspace(60, 180, 32), (32, 1))
    ramp, down, black = across, across.T, np.zeros((32, 32))
    black[8:24, 8:24] = 255
    images = np.stack([ramp, down, black]).astype(np.uint8)[:, None]
    measured = measure_pictures(images)
    assert measured["light_angle"][:2] == pytest.approx([0, 90], abs=0.5)
    assert measured["light_slope"][:2] == pytest.approx(1.0, abs=0.05)
    assert measured["clipped"].tolist() == [0, 0, 1]
    assert measured["border_constant"][2] == 1 and measured["border_constant"][0] < 0.2
    assert set(measured) == set(MEASURES) - {"skin_tone", "skin_hue"}


def test_the_tone_of_skin_moves_with_the_light_and_its_error_says_so():
    images, _ = posed()
    tone = skin.measure_skin(images)["skin_tone"]
    darker = skin.measure_skin(skin.relight(images, skin.RELIGHTS["darker"]))["skin_tone"]
    error = skin.measure_light_error(images)["skin_tone"]
    assert (darker < tone).mean() > 0.95
    assert error.mean() > 5


def test_association_is_one_for_a_number_that_tells_the_class_and_nothing_for_noise():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    numbers = {"tells": labels + rng.uniform(0, 0.1, 200), "noise": rng.uniform(0, 1, 200)}
    numbers["constant"] = np.zeros(200)
    bins = {name: divide_into_bins(values) for name, values in numbers.items()}
    found = associate(bins, labels, "")
    assert found["tells"][0] > 0.6
    assert abs(found["noise"][0]) < 0.04 and found["constant"] == (0, 0)


@cache
def drawn(first: int, last: int) -> Faces:
    return people(range(first, last), clips=1, frames=1, size=32, emotions=FOUR)


def variety_of(synthetic: Faces, test: Faces | None = None) -> dict[str, float]:
    """The numbers of variety of a set, beside those of twelve people."""
    train = drawn(0, 12)
    held_out = make_empty_side(train) if test is None else test
    given = PartInput(train, held_out, synthetic, {}, lambda: pytest.fail("no matches"))
    measured = measure_part("variety", given)
    assert measured.notes == []
    return {f"{one.metric} {one.part}".strip(): one.value for one in measured.records}


def test_a_set_of_one_person_is_told_from_a_set_of_many():
    numbers = variety_of(drawn(12, 24), drawn(24, 36))
    first = drawn(0, 12)
    places = np.arange(4).repeat(12)
    keys = [f"again/{place}" for place in range(len(places))]
    index = first.index.iloc[places].reset_index(drop=True).assign(key=keys, clip="", subject="")
    again = Faces(first.images[places], index)
    one = variety_of(again, drawn(24, 36))
    assert one["people.largest"] > 0.9 and one["people.effective"] < 1.5
    assert numbers["people.largest"] < 0.5 and numbers["people.effective"] > 4
    assert one["people.used"] < 0.5 * one["people.used_floor"] < numbers["people.used"]
    assert one["people.coverage"] < 0.5 * numbers["people.coverage"]


def test_a_set_whose_happy_faces_are_bright_is_found_and_one_like_real_faces_is_not():
    fresh = drawn(12, 24)
    bright = np.asarray(fresh.images).astype(np.float64)
    bright[(fresh.index["emotion"] == "happiness").to_numpy()] *= 1.8
    lit = replace(fresh, images=bright.clip(0, 255).astype(np.uint8))
    plain, shortcut = variety_of(fresh), variety_of(lit)
    assert shortcut["pictures.association.brightness"] > 0.2
    assert shortcut["pictures.shortcut"] > shortcut["pictures.shortcut_floor"] + 0.05
    assert plain["pictures.shortcut"] < plain["pictures.shortcut_floor"] + 0.05
    assert (
        shortcut["pictures.mean.brightness happiness"]
        > 1.3 * (plain["pictures.mean.brightness happiness"])
    )
    assert shortcut["pictures.distance.brightness"] > plain["pictures.distance_floor.brightness"]


def test_flow_is_no_picture_and_the_people_are_counted_all_the_same():
    train = drawn(0, 12)
    flow = [
        replace(
            side, images=np.repeat(side.images, 2, axis=1), channels=("flow-right", "flow-down")
        )
        for side in (train, drawn(12, 24))
    ]
    given = PartInput(flow[0], make_empty_side(flow[0]), flow[1], {}, lambda: pytest.fail("none"))
    measured = measure_part("variety", given)
    assert "flow-right, flow-down" in measured.notes[0]
    assert {one.metric.partition(".")[0] for one in measured.records} == {"people"}
