"""Membership: a generator trained for too long gives its training images away, and no others."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from drawn import THREE, people
from worlds import fitted, spec_of

from mien.audit.memorisation.membership import (
    MembershipScores,
    measure_auc,
    measure_auc_of_people,
    measure_found,
)
from mien.audit.memorisation.membership_part import measure_part
from mien.audit.memorisation.membership_table import draw_membership
from mien.audit.page import format_number
from mien.audit.part import PartInput, PartResult
from mien.faces import UNKNOWN_SOURCE, Faces
from mien.generators.diffusion.model import Diffusion


@cache
def drawn(first: int, last: int) -> Faces:
    return people(range(first, last), clips=1, frames=1, size=12, emotions=THREE)


@pytest.fixture(scope="module")
def overtrained(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    net = {"width": 16, "multipliers": [1], "attention": [], "dropout": 0.0}
    plain = {"moves": 0.0, "label_drop": 0.0, "seed": 1}
    spec = spec_of("edm", images_seen=900, batch=12, learning_rate=6e-3, net=net, **plain)
    return fitted(drawn(0, 4), spec, tmp_path_factory.mktemp("overtrained"))


def measure(train: Faces, generator: Diffusion | None, synthetic: Faces) -> PartResult:
    """What the part measures, beside people whom nobody trained on."""
    given = PartInput(
        train,
        drawn(20, 30),
        synthetic,
        {},
        lambda: pytest.fail("membership needs no matches"),
        lambda: generator,
    )
    return measure_part(given)


def told(train: Faces, generator: Diffusion | None, synthetic: Faces) -> dict[str, float]:
    """The numbers of membership."""
    return {record.metric: record.value for record in measure(train, generator, synthetic).records}


def test_a_generator_trained_for_too_long_is_told_from_one_that_never_saw_the_people(
    overtrained: Diffusion,
):
    others = drawn(50, 54)
    seen = others.index[["key", "subject", "clip", "dataset"]]
    guilty = told(drawn(0, 4), overtrained, drawn(60, 68))
    innocent = told(others, replace(overtrained, seen=seen), drawn(60, 68))
    assert guilty["membership.auc.generator"] > 0.75 > 0.65 > innocent["membership.auc.generator"]
    assert guilty["membership.auc.level_40"] > 0.65
    assert guilty["membership.found_5.generator"] > innocent["membership.found_5.generator"]


def test_copies_among_published_images_are_found_without_the_generator():
    train, fresh = drawn(0, 8), drawn(60, 68)
    copied = replace(fresh, images=np.roll(np.asarray(train.images), 1, axis=3))
    found, clean = told(train, None, copied), told(train, None, fresh)
    assert found["membership.auc.density"] > 0.8 > 0.65 > clean["membership.auc.density"]
    assert "membership.auc.generator" not in found


def test_the_reason_is_named_if_the_generator_cannot_be_asked(overtrained: Diffusion):
    def reason(generator: Diffusion | None, source: str) -> str:
        fresh = drawn(60, 68)
        synthetic = replace(fresh, index=fresh.index.assign(source=source))
        (note,) = measure(drawn(0, 4), generator, synthetic).notes
        return note

    assert "several generators" in reason(None, "generate-000000000000")
    assert "is not known" in reason(None, UNKNOWN_SOURCE)
    assert "some of the images are real" in reason(None, "real")
    larger = replace(overtrained, size=(1, 24, 24))
    assert "1 x 24 x 24 and 1 x 12 x 12" in reason(larger, "generate-000000000000")


def test_what_too_few_people_or_images_cannot_resolve_is_said_and_not_guessed():
    rng = np.random.default_rng(0)

    def scores(members: int, outsiders: int) -> MembershipScores:
        names = [np.arange(count) // 2 for count in (members, outsiders)]
        return MembershipScores(rng.normal(1, 1, members), rng.normal(0, 1, outsiders), *names)

    assert measure_found(scores(50, 99), 0.01) is None
    assert measure_found(scores(50, 19), 0.05) is None
    assert measure_auc_of_people(scores(50, 38)) is None
    many = scores(400, 400)
    assert measure_auc(many).value == pytest.approx(0.76, abs=0.04)
    assert measure_auc(many).low > 0.68 and measure_auc(many).high < 0.84
    assert measure_found(many, 0.05) == pytest.approx(0.26, abs=0.1)
    by_person = measure_auc_of_people(many)
    assert by_person is not None and by_person.value > measure_auc(many).value


def test_the_table_of_membership_names_what_is_needed():
    records = measure_part(
        PartInput(drawn(0, 8), drawn(20, 26), drawn(60, 68), {}, lambda: pytest.fail("no matches"))
    ).records
    drawn_table = draw_membership(records, format_number)
    (line,) = drawn_table.lines
    assert [cell.hole for cell in line.entries] == [False, False, True, True, True]
    assert "By person, 20 people are needed" in drawn_table.note
    assert "for 1 % false, 100 held-out images" in drawn_table.note
