"""Options from config files: known names, the annotated types, and what was meant instead."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

Options = TypeVar("Options")
_FEW = 12


def make_options(kind: type[Options], options: Mapping[str, Any], owner: str) -> Options:
    """An instance of a dataclass from the keys of a config.

    Args:
        kind: the dataclass; its annotations say which types are accepted (`checked`).
        owner: whose options they are, for errors, such as "DeNS".

    Raises:
        ValueError: a key that does not exist, one that is missing, or a value of the wrong type;
            and what ``kind`` itself refuses.
    """
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]  # type: ignore[arg-type]
    names = [field.name for field in fields]
    for key in options:
        if key not in names:
            raise ValueError(f"{owner} has no option {key!r}{did_you_mean(key, names)}")
    unset = dataclasses.MISSING
    needed = [f.name for f in fields if f.default is unset and f.default_factory is unset]
    if missing := [name for name in needed if options.get(name) is None]:
        raise ValueError(f"{owner} needs a value for {', '.join(missing)}")
    return kind(**{key: checked(key, value, hints[key]) for key, value in options.items()})


def among(name: str, value: Any, known: Iterable[Any]) -> Any:
    """The value of an option, which must be a known one.

    Raises:
        ValueError: it is not.
    """
    choices = list(known)
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return value


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest one, or all if they are few."""
    names = list(known)
    if close := difflib.get_close_matches(str(name), names, n=1):
        return f"; did you mean {close[0]!r}?"
    return f"; there are {', '.join(names)}" if len(names) <= _FEW else ""


def checked(key: str, value: Any, hint: Any) -> Any:
    """``value`` if it has the annotated type (an int serves as a float, a list as a tuple)."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{key} must be one of {list(get_args(hint))}, got {value!r}")
        return value
    union = get_origin(hint) in (types.UnionType, typing.Union)
    accepted = get_args(hint) if union else (hint,)
    if value is None and type(None) in accepted:
        return None
    for one in accepted:
        if one is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if one is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if one in (bool, str) and isinstance(value, one):
            return value
        if get_origin(one) is tuple and isinstance(value, (list, tuple)):
            return tuple(checked(key, item, get_args(one)[0]) for item in value)
        if get_origin(one) is Literal and value in get_args(one):
            return value
    raise ValueError(f"{key} must be {' or '.join(map(_shown, accepted))}, got {value!r}")


def _shown(kind: Any) -> str:
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return "a list of names" if inner is str else f"a list, each {_shown(inner)}"
    if get_origin(kind) is Literal:
        return f"one of {list(get_args(kind))}"
    return "null" if kind is type(None) else f"of type {kind.__name__}"
