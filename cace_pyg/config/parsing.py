"""From options and YAML files to the typed tree, and back to text."""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch_geometric
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from cace_pyg.config.settings import Config
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.graph import GraphBuilder

T = TypeVar("T")

_NO_MATTER = ("run_dir", "device", "threads", "data.workers")  # may differ between a run and its continuation
_RENAMED = {  # what version 0.1 called it
    "conditional.engine": "conditional.backend",
    "evaluation.k1": "k_reciprocal.k1",
    "evaluation.k2": "k_reciprocal.k2",
    "evaluation.original_weight": "k_reciprocal.original_weight",
    "train.compile": "compile",
    "train.sync_batchnorm": "sync_batchnorm",
    "train.validate_every": "validate_every",
    "train": "joint_phase",
}


def config_parser(command: str, description: str) -> ArgumentParser:
    """The parser of every command that takes a configuration: ``--config FILE`` and one dotted option a field.

    The line under a field is its help. Reading them all takes a third of a second, so without a description, where
    nobody asks for help, there is none.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=bool(description))
    parser = ArgumentParser(
        prog=f"python -m cace_pyg.{command}",
        description=description,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="YAML file; options after it override it")
    parser.add_class_arguments(Config)
    return parser


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse, and let an error in a name show the near ones. Options override the file, wherever ``--config`` stands.

    Raises:
        ValueError: an unknown option, key or class, a value of the wrong type, or a file that is no YAML.
    """
    try:
        return parser.parse_args(_config_first(arguments))
    except ArgumentError as error:
        raise ValueError(_with_near_names(str(error), parser)) from error


def config_of(parsed: Namespace, parser: ArgumentParser) -> Config:
    """The typed tree of what was parsed."""
    made = parser.instantiate(parsed)
    config = Config(**{one.name: getattr(made, one.name) for one in fields(Config)})
    config.graph = _class_and_settings(config.graph)
    if config.conditional.convolution is not None:
        config.conditional.convolution = _class_and_settings(config.conditional.convolution)
    return config


def _class_and_settings(made: Callable[..., T]) -> functools.partial[T]:
    """What jsonargparse wraps in instantiators of its own, as ``functools.partial`` of the class."""
    if not isinstance(made, functools.partial):
        return functools.partial(made)
    return functools.partial(next(one for one in made.args if isinstance(one, type)), **made.keywords)


def from_yaml(text: str, *overrides: str) -> Config:
    """The typed tree of a text that :meth:`Config.to_yaml` made, with dotted options on top.

    Raises:
        ValueError: see :func:`parse`.
    """
    parser = config_parser("train", "")
    return config_of(parse(parser, ["--config", text, *overrides]), parser)


def differences(before: str, now: str) -> list[str]:
    """What two YAML texts of :meth:`Config.to_yaml` differ in, a line each, but for where and on what the run runs.

    A setting that the run knows nothing of, since it is older than the setting, counts as the default.
    """
    defaults = Config(DataSettings(root=".")).to_yaml()
    old, new, usual = (_flat(yaml.safe_load(text)) for text in (before, now, defaults))
    old |= {key: usual[key] for key in (new.keys() & usual.keys()) - old.keys()}
    keys = [key for key in sorted(old.keys() | new.keys()) if key not in _NO_MATTER and old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)} in the run, {new.get(key)} now" for key in keys]


def _config_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with ``--config`` and its value before all others; its file is looked at, so errors name it."""
    rest, first = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            first += [argument, *[value for value in [next(remaining, None)] if value is not None]]
        elif argument.startswith("--config="):
            first += ["--config", argument.split("=", 1)[1]]
        else:
            rest.append(argument)
    _check_renamed(argument.removeprefix("--").split("=")[0] for argument in rest if argument.startswith("--"))
    for value in first[1::2]:
        _check_yaml(value)
    return first + rest


def _check_renamed(names: Iterable[str]) -> None:
    for name in names:
        for old, new in _RENAMED.items():
            if name == old or name.startswith(f"{old}."):
                raise ValueError(f"{name} is called {new}{name.removeprefix(old)} since version 0.2: use that name")


def _check_yaml(value: str) -> None:
    is_text = "\n" in value
    if not is_text and not Path(value).is_file():
        return  # a missing file, which the parser reports
    try:
        tree = yaml.safe_load(value if is_text else Path(value).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        name = "the configuration" if is_text else value
        raise ValueError(f"{name}{line} is not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(tree, dict):
        name, shown = "the configuration" if is_text else value, repr(tree)[:60]
        raise ValueError(f"Expected {name} to hold keys such as data: and joint_phase: (got {shown}…); see configs/")
    _check_renamed(_flat(tree))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _with_near_names(message: str, parser: ArgumentParser) -> str:
    """Add the known names that look like the one an error complains of."""
    options = [option for action in parser._actions for option in action.option_strings]
    builders = sorted(kind.__name__ for kind in GraphBuilder.__subclasses__())
    wrong_layer = re.search(r'"conditional\.convolution"(?s:.*)dot import path string: (\S+)', message)
    if wrong_layer:
        near = difflib.get_close_matches(wrong_layer[1], torch_geometric.nn.conv.__all__, n=4, cutoff=0.4)
        return (
            f"Expected conditional.convolution as the name of a layer of torch_geometric.nn (got {wrong_layer[1]}); "
            f"near names: {', '.join(near or ['GCNConv', 'GATConv', 'SAGEConv', 'GraphConv'])}"
        )
    for pattern, known in (
        (r"arguments: (--[\w.]+)", options),
        (
            r"does not accept (?:option|nested key) '([\w.]+)'",
            [option.rsplit(".", 1)[-1].lstrip("-") for option in options],
        ),
        (r"dot import path string: (\w+)", builders),
    ):
        found = re.search(pattern, message)
        if found:
            near = difflib.get_close_matches(found[1], known, n=4, cutoff=0.5) or (
                builders if known is builders else []
            )
            hint = f"; near names: {', '.join(dict.fromkeys(near))}" if near else ""
            return f"{message}{hint}; all of them: {parser.prog} --help"
    return message
