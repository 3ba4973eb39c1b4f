"""Whether the content of a JSON file has the structure that its reader takes. Standard library only.

    class Atlas(TypedDict):
        case: str
        points_mm: list[tuple[float, float, float] | None]

    check_structure(read_json(path), list[Atlas], path)

refuses `null` for a case with "FILE: [3].case must be text; found null".
"""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterator

from tfsono.errors import UserError

_WORDS = {str: "text", int: "an integer", float: "a number", bool: "true or false", type(None): "null", list: "a list"}
_MANY = {str: "texts", int: "integers", float: "numbers", bool: "true or false"}


def check_structure(value, hint, path, place: str = "") -> None:
    """Checks the value at `place` in the file `path`, and all that is in it.

    Args:
      value: of `files.read_json`.
      hint: `str`, `int`, `float` (takes integers too), `bool`, `object` (takes everything), `list[T]`, `dict[str, T]`,
        `tuple[T, ...]`, `tuple[T, T, T]` (a list of three), a `TypedDict`, whose further keys are not checked, or
        `T | None`.
      path: of the file, for the message.
      place: of the value in it, such as `cases[3].sizes`.

    Raises:
      UserError: names the first value that is of another type.
    """
    if hint is object:
        return
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    options = typing.get_args(hint) if union else (hint,)
    fitting = next((option for option in options if _fits(value, option)), None)
    if fitting is None:
        raise UserError(f"{path}: {place or 'its content'} must be {' or '.join(map(_words, options))}; "
                        f"found {shown(value)}")
    for name, inner, inner_hint in _inside(value, fitting, f"{path}: {place or 'its content'}"):
        separator = "." if place and not name.startswith("[") else ""
        check_structure(inner, inner_hint, path, f"{place}{separator}{name}")


def shown(value) -> str:
    """A value of a JSON file for a message: at most 80 letters, all of them printable."""
    if isinstance(value, (dict, list)) and len(value) > 20:
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fits(value, hint) -> bool:
    """Whether the value itself is of the type; what is in it is checked by `_inside`."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (tuple, list):
        return isinstance(value, list) and (kind is list or Ellipsis in arguments or len(value) == len(arguments))
    if typing.is_typeddict(kind):
        return isinstance(value, dict)
    if isinstance(value, bool):
        return kind in (bool, object)
    return isinstance(value, (int, float) if kind is float else kind)


def _inside(value, hint, where: str) -> Iterator[tuple[str, object, object]]:
    """The place, value and hint of everything directly in a value."""
    arguments = typing.get_args(hint)
    if typing.is_typeddict(hint):
        for name, inner_hint in type_hints(hint).items():
            if name in value:
                yield name, value[name], inner_hint
            elif name in hint.__required_keys__:
                raise UserError(f"{where} must have {name!r}; found {_names(value)}")
    elif isinstance(value, list) and arguments:
        hints = arguments if len(arguments) == len(value) and Ellipsis not in arguments else arguments[:1] * len(value)
        yield from ((f"[{number}]", *pair) for number, pair in enumerate(zip(value, hints, strict=True)))
    elif isinstance(value, dict) and arguments:
        yield from ((_key(name), inner, arguments[1]) for name, inner in value.items())


type_hints = functools.cache(typing.get_type_hints)  # takes longer than all the rest


def _key(name: str) -> str:
    return name if name.isidentifier() and len(name) <= 40 else f"[{name[:40]!a}]"


def _names(value: dict) -> str:
    return f"{', '.join(repr(name[:40]) for name in list(value)[:5])}{', ...' * (len(value) > 5)}" or "none"


def _words(hint) -> str:
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (list, tuple) and arguments:
        count = "" if kind is list or Ellipsis in arguments else f"{len(arguments)} "
        return f"a list of {count}{_MANY.get(arguments[0], 'values')}"
    return _WORDS.get(kind, "an object")
