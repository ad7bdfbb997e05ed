"""Checks of option values: each error comes at construction and names the option, and the value where that is no secret."""

from __future__ import annotations

import math
from typing import Any


def wrong_type(name: str, wanted: str, value: Any) -> TypeError:
    """The error for a `value` that is not what is `wanted`: a number is shown, but anything else may be a resource or a DSN,
    and its repr a secret."""
    shown = repr(value) if isinstance(value, (int, float)) else type(value).__name__
    return TypeError(f"{name} must be {wanted}, not {shown}")


def number(name: str, value: Any, *, least: float = 0.0) -> float:
    """`value` as a finite number of at least `least`."""
    # A bool is a number to Python and a mistake to a person.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise wrong_type(name, "a number", value)
    if not math.isfinite(value) or value < least:
        raise ValueError(f"{name} must be a finite number of at least {least:g}, not {value!r}")
    return value


def number_or_none(name: str, value: Any, *, least: float = 0.0) -> float | None:
    return None if value is None else number(name, value, least=least)


def count(name: str, value: Any, *, least: int = 0) -> int:
    """`value` as a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, "a whole number", value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")
    return value


def count_or_none(name: str, value: Any, *, least: int = 0) -> int | None:
    return None if value is None else count(name, value, least=least)


def choice(name: str, value: Any, *allowed: str) -> str:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
    return str(value)


def function(name: str, value: Any) -> Any:
    if not callable(value):
        raise wrong_type(name, "callable", value)
    return value


def function_or_none(name: str, value: Any) -> Any:
    return None if value is None else function(name, value)


def exception_rule(name: str, value: Any) -> Any:
    """`value` as a bool, as one or several exception classes, or as a function of an exception."""
    classes = value if isinstance(value, tuple) else (value,)
    if all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        return value
    if isinstance(value, int):
        return bool(value)
    if callable(value) and not isinstance(value, type):
        return value
    raise wrong_type(name, "a bool, exception classes or a function", value)
