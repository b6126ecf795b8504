"""From options and YAML files to the typed tree, and back to text."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch_geometric
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from cace_pyg.config.settings import Config
from cace_pyg.graph import GraphBuilder

_NO_MATTER = ("run_dir", "device", "threads", "data.workers")  # may differ between a run and its continuation


def config_parser(command: str, description: str) -> ArgumentParser:
    """The parser of every command that takes a configuration: ``--config FILE`` and one dotted option a field."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the line under a field is its help
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
    return Config(**{one.name: getattr(made, one.name) for one in fields(Config)})


def to_yaml(parsed: Namespace) -> str:
    """Every field of the configuration with its value, defaults included."""
    keep = {one.name for one in fields(Config)}
    only = Namespace(**{key: value for key, value in parsed.__dict__.items() if key in keep})
    return config_parser("train", "").dump(only, skip_unset=False)


def from_yaml(text: str, *overrides: str) -> Config:
    """The typed tree of a text that :func:`to_yaml` made, with dotted options on top.

    Raises:
        ValueError: see :func:`parse`.
    """
    parser = config_parser("train", "")
    return config_of(parse(parser, ["--config", text, *overrides]), parser)


def differences(before: str, now: str) -> list[str]:
    """What two YAML texts of :func:`to_yaml` differ in, a line each, but for where and on what the run runs.

    A setting that the run knows nothing of, since it is older than the setting, counts as the default.
    """
    defaults = to_yaml(parse(config_parser("train", ""), ["--data.root=."]))
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
    for value in first[1::2]:
        _check_yaml(value)
    return first + rest


def _check_yaml(value: str) -> None:
    if "\n" in value or not Path(value).is_file():
        return  # a text, or a missing file, which the parser reports
    try:
        tree = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(f"{value}{line} is not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(tree, dict):
        shown = repr(tree)[:60]
        raise ValueError(f"Expected {value} to hold keys such as data: and train: (got {shown}…); see configs/")


def _flat(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
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
