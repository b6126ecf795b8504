"""Errors about settings, in a few plain words."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

import cace_pyg.graph
from cace_pyg.config.settings import Config

_WORDS = {
    "NoneType": "null",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "str": "text",
    "ClosedUnitInterval": "a number from 0 to 1",
    "NonNegativeFloat": "a number of at least 0",
    "NonNegativeInt": "a whole number of at least 0",
    "PositiveFloat": "a number above 0",
    "PositiveInt": "a whole number above 0",
}
_CLASSES = ("graph", "conditional.convolution")
_LINES, _CHARACTERS = 5, 300  # of an error; more would be a user's value, not our words


def plain_error(message: str, said: Mapping[str, Any], parser: ArgumentParser) -> str:
    """An error of the parser in at most five lines: what was expected, what came, and near names.

    Args:
        message: jsonargparse's.
        said: values of the file and the options, by dotted key.
        parser: the parser.
    """
    keys = re.findall(r'Parser key "([\w.]+)"', message)
    chosen = re.search(r"class_path='[\w.]*?(\w+)'", message)
    refused = re.search(r"Option '(\w+)' is not accepted", message)
    if keys and keys[0] in _CLASSES and chosen and refused:
        known = (
            [setting.removeprefix("graph.") for setting in _settings_of_builder(chosen[1])]
            if keys[0] == "graph"
            else []
        )
        it_has = f"; it has {', '.join(known) or 'none'}" if keys[0] == "graph" else ""
        return f"{chosen[1]} has no setting {refused[1]} ({keys[0]}.{refused[1]}){it_has}"
    types, key = _field_types(), keys[0] if keys else ""
    if keys and keys[0] == "graph" and chosen and len(keys) > 1:
        types, key = _settings_of_builder(chosen[1]), f"graph.{keys[1]}"
    if key in types:
        return _expected(key, types[key], said.get(key, said.get(key.replace("graph.", "graph.init_args.", 1))))
    lines = [line if len(line) <= _CHARACTERS else f"{line[:_CHARACTERS]}…" for line in message.splitlines()]
    near = _near_names(message, parser)
    return "\n".join(lines[:_LINES]) + (f"; near names: {', '.join(near)}" if near else "")


def check_values(parsed: Namespace) -> None:
    """Refuse wrong nulls, empty strings and numbers that are not finite, which jsonargparse accepts.

    Raises:
        ValueError: a value is wrong; the message names the setting and the values that it takes.
    """
    for key, kind in _field_types().items():
        _check(key, kind, parsed.get(key))
    for key, kind in _settings_of_builder(parsed.graph.class_path.rsplit(".", 1)[-1]).items():
        _check(key, kind, parsed.get(key.replace("graph.", "graph.init_args.", 1)))


def _check(key: str, kind: Any, value: Any) -> None:
    missing = value == "" or (value is None and NoneType not in get_args(kind))
    if missing or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(_expected(key, kind, value))


def _expected(key: str, kind: Any, value: Any) -> str:
    got = "null" if value is None else "an empty string" if value == "" else repr(value)
    said = f"Expected {key} as {_in_words(kind)} (got {got if len(got) <= 60 else f'{got[:60]}…'})"
    return f"{said}; write '[{value}]'" if _is_lone_word(kind, value) and len(got) <= 60 else said


def _is_lone_word(kind: Any, value: Any) -> bool:
    """Whether a setting takes a list, and got one of its values without brackets."""
    takes_list = any(get_origin(member) is list for member in get_args(kind))
    return takes_list and isinstance(value, str) and value != "" and "[" not in value


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_in_words(member) for member in get_args(kind))
    name = getattr(get_origin(kind) or kind, "__name__", str(kind))
    return _WORDS.get(name, name)


def _field_types(kind: Any = Config, prefix: str = "") -> dict[str, Any]:
    """The type of each setting by its dotted name, except the two that are classes."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            found |= _field_types(hint, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in _CLASSES:
            found[f"{prefix}{name}"] = hint
    return found


def _settings_of_builder(name: str) -> dict[str, Any]:
    """The type of each setting of a graph builder, by its dotted name."""
    hints = get_type_hints(getattr(cace_pyg.graph, name).__init__)
    return {f"graph.{setting}": hint for setting, hint in hints.items() if setting not in ("channels", "return")}


def _near_names(message: str, parser: ArgumentParser) -> list[str]:
    """The options that look like the unknown one in an error."""
    options = [option for action in parser._actions for option in action.option_strings]
    if found := re.search(r"arguments: (--[\w.]+)", message):
        return difflib.get_close_matches(found[1], options, n=4, cutoff=0.5)
    if found := re.search(r"does not accept (?:option|nested key) '([\w.]+)'", message):
        last = [option.rsplit(".", 1)[-1].lstrip("-") for option in options]
        return list(dict.fromkeys(difflib.get_close_matches(found[1], last, n=4, cutoff=0.5)))
    return []
