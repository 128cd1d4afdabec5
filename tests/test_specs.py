"""Specs: what is no number is not taken for one, and complaints are in plain words."""

import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import Field, field_validator

from mien.errors import SpecError
from mien.runs.spec import Spec, Strict, read_spec, read_toml


class Part(Strict):
    share: float = 0.0


class Meal(Spec):
    stage: ClassVar[str] = "meal"
    dish: Literal["soup", "salad"]
    guests: int = Field(default=1, ge=1, le=20)
    spoons: Annotated[int, Field(ge=2)] | Literal["many"] = 2
    heat: float = Field(default=1.0, gt=0)
    vegan: bool = False
    places: tuple[int, ...] = Field(default=(1,), min_length=1)
    parts: dict[str, Part] = Field(default_factory=dict)
    host: str = Field(default="me", min_length=1)
    table: str = ""

    @field_validator("table")
    @classmethod
    def _stands(cls, name: str) -> str:
        if name == "none":
            raise ValueError("table must have legs")
        return name


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("guests", "2", "meal.toml: guests: must be a whole number (given: '2')"),
        ("guests", True, "meal.toml: guests: must be a whole number (given: True)"),
        ("guests", 2.5, "meal.toml: guests: must be a whole number (given: 2.5)"),
        ("guests", 0, "meal.toml: guests: must be 1 or more (given: 0)"),
        ("guests", 21, "meal.toml: guests: must be 20 or less (given: 21)"),
        ("spoons", 1, "meal.toml: spoons: must be 2 or more or 'many' (given: 1)"),
        ("spoons", "3", "meal.toml: spoons: must be a whole number (given: '3')"),
        (
            "spoons",
            "mani",
            (
                "meal.toml: spoons: must be a whole number or 'many'. Did you mean 'many'? "
                "(given: 'mani')"
            ),
        ),
        ("heat", math.inf, "meal.toml: heat: must be a finite number (given: inf)"),
        ("heat", math.nan, "meal.toml: heat: must be a finite number (given: nan)"),
        ("heat", "1", "meal.toml: heat: must be a number (given: '1')"),
        ("heat", 0, "meal.toml: heat: must be more than 0.0 (given: 0)"),
        ("vegan", 1, "meal.toml: vegan: must be true or false (given: 1)"),
        ("vegan", "yes", "meal.toml: vegan: must be true or false (given: 'yes')"),
        (
            "dish",
            "soups",
            "meal.toml: dish: must be 'soup' or 'salad'. Did you mean 'soup'? (given: 'soups')",
        ),
        ("dish", "cake", "meal.toml: dish: must be 'soup' or 'salad' (given: 'cake')"),
        ("host", 3, "meal.toml: host: must be text in quotes (given: 3)"),
        ("host", "", "meal.toml: host: must not be empty (given: '')"),
        ("places", 3, "meal.toml: places: must be a list in brackets (given: 3)"),
        ("places", [], "meal.toml: places: must have 1 or more (given: [])"),
        ("places", ["x"], "meal.toml: places.0: must be a whole number (given: 'x')"),
        (
            "places",
            ["3"],
            (
                "meal.toml: places: must not have texts, true or false in place of numbers "
                "(given: ['3'])"
            ),
        ),
        (
            "parts",
            {"salt": {"share": math.inf}},
            "meal.toml: parts.salt.share: must be a finite number (given: inf)",
        ),
        ("parts", 3, "meal.toml: parts: must be a table (given: 3)"),
        ("table", "none", "meal.toml: table must have legs (given: 'none')"),
    ],
)
def test_a_complaint_says_where_what_must_hold_and_what_was_given(
    field: str, value: object, complaint: str
):
    with pytest.raises(SpecError) as caught:
        read_spec(Meal, {"dish": "soup", field: value}, "meal.toml")
    assert str(caught.value) == complaint


def test_what_is_missing_is_named():
    with pytest.raises(SpecError) as caught:
        read_spec(Meal, {}, "meal.toml")
    assert str(caught.value) == "meal.toml: dish: must be given"


def test_whole_numbers_are_numbers_and_lists_are_tuples():
    meal = read_spec(
        Meal, {"dish": "soup", "heat": 2, "places": [1, 2], "spoons": "many"}, "meal.toml"
    )
    assert (meal.heat, meal.places, meal.spoons) == (2.0, (1, 2), "many")


def test_a_file_may_begin_with_the_mark_that_some_editors_write(tmp_path: Path):
    path = tmp_path / "a.toml"
    path.write_bytes(b"\xef\xbb\xbfname = 'x'\n")
    assert read_toml(path) == {"name": "x"}
