from __future__ import annotations

from typing import Any

import pytest

from queuepool import options


@pytest.mark.parametrize("value", [0, 0.0, 1, 2.5, 10**9])
def test_a_finite_number_passes_as_it_is(value: float) -> None:
    assert options.number("timeout", value) is value
    assert options.number_or_none("timeout", value) is value


@pytest.mark.parametrize("value", [0, 1, 10**9])
def test_a_whole_number_passes_as_it_is(value: int) -> None:
    assert options.count("capacity", value) is value
    assert options.count_or_none("capacity", value) is value


def test_none_passes_where_it_may() -> None:
    assert options.number_or_none("timeout", None) is None
    assert options.count_or_none("max_waiting", None) is None
    assert options.function_or_none("check", None) is None


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (options.number, "5", "x must be a number, not str"),
        (options.number, None, "x must be a number, not NoneType"),
        (options.number, True, "x must be a number, not True"),
        (options.number, 1j, "x must be a number, not complex"),
        (options.count, 1.0, "x must be a whole number, not 1.0"),
        (options.count, False, "x must be a whole number, not False"),
        (options.function, 3, "x must be callable, not 3"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_and_not_shown_for_it_may_be_a_secret(
    check: Any, value: object, message: str
) -> None:
    with pytest.raises(TypeError) as caught:
        check("x", value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("check", "value", "least", "message"),
    [
        (options.number, -0.5, 0.0, "x must be a finite number of at least 0, not -0.5"),
        (options.number, 0.5, 1.0, "x must be a finite number of at least 1, not 0.5"),
        (options.number, float("nan"), 0.0, "x must be a finite number of at least 0, not nan"),
        (options.number, float("inf"), 0.0, "x must be a finite number of at least 0, not inf"),
        (options.count, 0, 1, "x must be at least 1, not 0"),
    ],
)
def test_a_value_out_of_range_is_named_in_a_value_error(check: Any, value: float, least: float, message: str) -> None:
    with pytest.raises(ValueError, match="x must be") as caught:
        check("x", value, least=least)
    assert str(caught.value) == message


def test_a_choice_lists_what_is_allowed() -> None:
    assert options.choice("nested", "same", "new", "same") == "same"
    with pytest.raises(ValueError, match="nested must be one of 'new', 'same', not 'old'"):
        options.choice("nested", "old", "new", "same")


def test_anything_callable_is_a_function() -> None:
    assert options.function("open", dict) is dict
    assert options.function_or_none("open", len) is len
