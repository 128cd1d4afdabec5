"""Action units: every form that sheets of the field have was seen in one of them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mien.faces import Faces, make_index
from mien.prepare import facs
from mien.prepare.facs import ActionUnit


def unit(
    number: int, side: str = "", intensity: str = "", static: bool = False, unsure: bool = False
) -> ActionUnit:
    return ActionUnit(number, side, intensity, static, unsure)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("4+L10", [unit(4), unit(10, "L")]),
        ("R12 + R15", [unit(12, "R"), unit(15, "R")]),
        ("R14A or 17A", [unit(14, "R", "A", unsure=True), unit(17, "", "A", unsure=True)]),
        ("4 + R14 or R15", [unit(4), unit(14, "R", unsure=True), unit(15, "R", unsure=True)]),
        ("A1B+A2C", [unit(1, "A", "B"), unit(2, "A", "C")]),
        ("AU4(k)+L7", [unit(4, static=True), unit(7, "L")]),
        ("AUR2+12(k)+45", [unit(2, "R"), unit(12, static=True), unit(45)]),
        ("AU 6 + AU12B", [unit(6), unit(12, "", "B")]),
        ("4\uff0c7", [unit(4), unit(7)]),  # a full-width comma, as in CAS(ME)^3
        ("l10", [unit(10, "L")]),
        ("4", [unit(4)]),
    ],
)
def test_a_text_has_known_units(text: str, expected: list[ActionUnit]):
    assert facs.parse_units(text) == (tuple(expected), ())


@pytest.mark.parametrize("text", ["", " ", "/", "none", "-", "0"])
def test_no_units_are_no_units(text: str):
    assert facs.parse_units(text) == ((), ())


@pytest.mark.parametrize(
    "text, unread",
    [("4+smile", "smile"), ("12?", "12?"), ("4+123", "123"), ("6+12F", "12F"), ("0+4", "0")],
)
def test_what_is_no_action_unit_is_given_back_and_not_guessed(text: str, unread: str):
    assert facs.parse_units(text).unread == (unread,)


def test_units_of_faces_are_a_row_each_by_clip():
    images = np.zeros((4, 1, 8, 8), np.uint8)
    clips, phases = ["s:1/a", "s:1/a", "s:1/b", ""], ["onset", "apex", "apex", "still"]
    index = make_index(
        images,
        key=list("wxyz"),
        dataset="s",
        subject="s:1",
        clip=clips,
        frame=[1, 2, 3, -1],
        phase=phases,
        emotion="others",
        raw_label="others",
        action_units=["4+L10B", "4+L10B", "", "12(k)"],
    )
    table = facs.tabulate_units(Faces(images, index))
    assert table["clip"].tolist() == ["s:1/a", "s:1/a", "z"]
    assert table["place"].tolist() == [0, 1, 0] and table["number"].tolist() == [4, 10, 12]
    assert table["side"].tolist() == ["", "L", ""] and table["intensity"].tolist() == ["", "B", ""]
    assert table["static"].tolist() == [False, False, True]
    assert len(facs.tabulate_units(Faces(images, index.assign(action_units="")))) == 0


@st.composite
def sheet_texts(draw: st.DrawFn) -> tuple[str, list[ActionUnit]]:
    """Return a text as a coder may write it, and the units that it means."""
    items, units = [], []
    for _ in range(draw(st.integers(1, 5))):
        choices = draw(st.integers(1, 3))
        words = []
        for _ in range(choices):
            single = unit(
                draw(st.integers(1, 99)),
                draw(st.sampled_from(["", *facs.SIDES])),
                draw(st.sampled_from(["", *"ABCDE"])),
                draw(st.booleans()),
                unsure=choices > 1,
            )
            word = f"{single.side}{single.number}{single.intensity}{'(k)' * single.static}"
            word = draw(st.sampled_from(["", "AU", "AU "])) + word
            words.append(draw(st.sampled_from([word, word.lower(), f" {word} "])))
            units.append(single)
        items.append(" or ".join(words))
    return draw(st.sampled_from(["+", ",", " ; ", "\uff0c"])).join(items), units


@given(sheet_texts())
def test_every_text_that_a_coder_may_write_is_read_as_meant(drawn: tuple[str, list[ActionUnit]]):
    text, units = drawn
    assert facs.parse_units(text) == (tuple(units), ())


@example("oR")
@given(st.text("AU0179LRTABEFk()+,;-/ or", max_size=20) | st.text(max_size=30))
def test_of_any_text_each_word_is_a_unit_or_given_back(text: str):
    parsed = facs.parse_units(text)
    assert all(1 <= single.number <= 99 for single in parsed.units)
    assert all(word in text and word.strip() == word != "" for word in parsed.unread)
    if not parsed.units and not parsed.unread:
        assert text.strip().lower() in facs.NO_UNITS or not any(map(str.isalnum, text))
