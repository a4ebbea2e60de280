"""Plain values against the types that a field or an argument asks for."""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

from bnrepro.core.setting import ConfigError

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping, e.g. {a: 1}"}


def check_type(name: str, value: Any, hint: Any) -> Any:
    """The value, a whole number made a float where one is asked for. Raises ConfigError for another type.

    Types that no plain value has, and none at all, are left to whoever takes the value.
    """
    options = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    if value is None and type(None) in options:
        return None
    wanted = next(option for option in options if option is not type(None))
    origin = typing.get_origin(wanted) or wanted
    if origin in (list, tuple):
        return _listed(name, value, typing.get_args(wanted))
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if origin is typing.Literal or wanted is inspect.Parameter.empty or origin not in WORDS:
        return value
    if type(value) is not origin:
        raise ConfigError(name, value, f"must be {WORDS[origin]}" + (" or null" if type(None) in options else ""))
    return value


def _listed(name: str, value: Any, of: tuple[Any, ...]) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(name, value, "must be a list, e.g. [1,2,3]")
    return [check_type(name, item, of[0]) for item in value] if of else value
