"""The structure of a JSON file is checked against types, and the place of the wrong value is in the line."""

from typing import TypedDict

import pytest

from tfsono.errors import UserError
from tfsono.structure import check_structure


class Place(TypedDict, total=False):
    note: str


class Case(Place):
    name: str
    sizes: tuple[int, int, int] | None
    share: float
    flags: dict[str, bool]


GOOD = {"name": "a", "sizes": [1, 2, 3], "share": 1, "flags": {"x": True}, "more": [None]}


@pytest.mark.parametrize("value", [GOOD, GOOD | {"sizes": None, "share": 0.5, "flags": {}, "note": "b"}])
def test_what_fits(value):
    check_structure([value], list[Case], "a.json")
    check_structure(value, object, "a.json")


@pytest.mark.parametrize(("changes", "line"), [
    ({"name": None}, r"a\.json: cases\[1\]\.name must be text; found null"),
    ({"sizes": [1, 2]}, r"cases\[1\]\.sizes must be a list of 3 integers or null; found \[1, 2\]"),
    ({"sizes": [1, 2, 2.5]}, r"cases\[1\]\.sizes\[2\] must be an integer; found 2.5"),
    ({"share": True}, r"share must be a number; found true"),
    ({"share": "1"}, r'share must be a number; found "1"'),
    ({"flags": []}, r"flags must be an object; found \[\]"),
    ({"flags": {"x": 1}}, r"cases\[1\]\.flags\.x must be true or false; found 1"),
    ({"flags": {"\x1b[2J": 1}}, r"flags\['\\x1b\[2J'\] must be"),
    ({"note": 7}, r"note must be text; found 7"),
])
def test_the_line_has_the_place(changes, line):
    with pytest.raises(UserError, match=line) as caught:
        check_structure([GOOD, GOOD | changes], list[Case], "a.json", "cases")
    assert str(caught.value).isprintable()


def test_a_missing_key_and_another_type():
    with pytest.raises(UserError, match=r"a\.json: \[0\] must have 'share'; found 'name', 'sizes', 'flags'"):
        check_structure([{key: GOOD[key] for key in ("name", "sizes", "flags")}], list[Case], "a.json")
    with pytest.raises(UserError, match="its content must be a list of values; found null"):
        check_structure(None, list[Case], "a.json")
    with pytest.raises(UserError, match="found a list of 10000") as caught:
        check_structure([0] * 10000, Case, "a.json")
    assert len(str(caught.value)) < 100
