"""Parses options and YAML files to the typed tree, and converts it back to text."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from cace_pyg.config.before_parsing import checked_arguments, flat
from cace_pyg.config.plain_errors import check_values, plain_error
from cace_pyg.config.settings import Config
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.user_path import user_path

T = TypeVar("T")


class _Parser(ArgumentParser):
    """Makes its defaults once, which is half the time of a parse."""

    _made: tuple[int, Namespace] | None = None

    def get_defaults(self, skip_validation: bool = False, **kwargs: Any) -> Namespace:
        if not skip_validation:
            return super().get_defaults(**kwargs)
        if self._made is None or self._made[0] != len(self._actions):
            self._made = len(self._actions), super().get_defaults(skip_validation=True, **kwargs)
        return self._made[1].clone()


_PATHS = ("run_dir", "start_from", "data.root", "backbone.weights", "evaluation.clues_on_disk")

_NO_MATTER = ("run_dir", "device", "threads", "data.workers")  # may differ between a run and its continuation


def config_parser(command: str, description: str) -> ArgumentParser:
    """The parser of every command that takes a configuration: ``--config FILE`` and one dotted option per field.

    The line under a field is its help. Reading all of them takes a third of a second, so without a description the
    options have no help.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=bool(description))
    parser = _Parser(
        prog=f"python -m cace_pyg.{command}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file, or the name of one that comes with cace_pyg (synthetic, market1501, …); options override it",
    )
    parser.add_class_arguments(Config)
    return parser


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse the arguments; errors in names suggest near ones. Options override the file, wherever ``--config`` is.

    Raises:
        ValueError: an option, key or class is unknown, a value has the wrong type, or a file is not YAML; in at most
            five lines.
    """
    ordered, said = checked_arguments(arguments)
    try:
        parsed = parser.parse_args(ordered)
    except ArgumentError as error:
        raise ValueError(f"{plain_error(str(error), said, parser)}; all settings: {parser.prog} --help") from error
    check_values(parsed)
    for key in _PATHS:
        if parsed[key] is not None:
            parsed[key] = str(user_path(parsed[key]))
    return parsed


def config_of(parsed: Namespace, parser: ArgumentParser) -> Config:
    """The typed tree of the parsed arguments."""
    made = parser.instantiate(parsed)
    config = Config(**{field.name: getattr(made, field.name) for field in fields(Config)})
    config.graph = _class_and_settings(config.graph)
    if config.conditional.convolution is not None:
        config.conditional.convolution = _class_and_settings(config.conditional.convolution)
    return config


def _class_and_settings(made: Callable[..., T]) -> functools.partial[T]:
    """A class and its settings, which jsonargparse wraps in its own instantiators, as ``functools.partial``."""
    if not isinstance(made, functools.partial):
        return functools.partial(made)
    return functools.partial(next(part for part in made.args if isinstance(part, type)), **made.keywords)


def from_yaml(text: str, *overrides: str) -> Config:
    """The typed tree of a text that :meth:`Config.to_yaml` made, with dotted options on top.

    Raises:
        ValueError: see :func:`parse`; or the text is a single line, which the parser could take for the name of a file.
    """
    if "\n" not in text.strip():
        raise ValueError(f"Expected the text of a configuration (got {text[:60]!r})")
    parser = _parser_of_texts()
    return config_of(parse(parser, ["--config", text, *overrides]), parser)


@functools.cache
def _parser_of_texts() -> ArgumentParser:
    """Kept, since to make a parser takes as long as to read a text with it."""
    return config_parser("train", "")


def differences(before: str, now: str) -> list[str]:
    """The differences of two YAML texts of :meth:`Config.to_yaml`, one per line, except for folder and machine.

    A setting that is missing in the run, because the run is older than the setting, counts as the default.
    """
    defaults = Config(DataSettings(root=".")).to_yaml()
    old, new, usual = (flat(yaml.safe_load(text)) for text in (before, now, defaults))
    old |= {key: usual[key] for key in (new.keys() & usual.keys()) - old.keys()}
    keys = [key for key in sorted(old.keys() | new.keys()) if key not in _NO_MATTER and old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)} in the run, {new.get(key)} now" for key in keys]
