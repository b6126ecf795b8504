"""Checks files and options before the parser reads them: it would import any class and open any file they name."""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from importlib.resources import files as package_files
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import torch_geometric
import yaml

from cace_pyg.config.settings import Config
from cace_pyg.graph import GraphBuilder

_RENAMED = {  # names of version 0.1
    "conditional.engine": "conditional.backend",
    "evaluation.k1": "k_reciprocal.k1",
    "evaluation.k2": "k_reciprocal.k2",
    "evaluation.original_weight": "k_reciprocal.original_weight",
    "train.compile": "compile",
    "train.sync_batchnorm": "sync_batchnorm",
    "train.validate_every": "validate_every",
    "train": "joint_phase",
}
_DEEPEST = 8  # nested keys; a YAML file may contain itself


def checked_arguments(arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The arguments with ``--config`` and its value first, and the values in them and in the file, by dotted key.

    Raises:
        ValueError: a name is outdated, a class is not one of ours or a PyG layer, a group of settings is something
            else, a file is not YAML, or there is no configuration of this name.
        FileNotFoundError: a file that comes with the library is given with a wrong path.
    """
    options, files = [], []
    remaining = iter(arguments)
    for argument in remaining:
        if argument == "--config":
            files += [argument, *[value for value in [next(remaining, None)] if value is not None]]
        elif argument.startswith("--config="):
            files += ["--config", argument.split("=", 1)[1]]
        else:
            options.append(argument)
    files[1::2] = map(_config_file, files[1::2])
    said: dict[str, Any] = {}
    for value in files[1::2]:
        tree = _read_tree(value)
        check_tree(tree)
        said |= flat(tree)
    given = _given(options)
    check_renamed(given)
    for key, value in given.items():
        _check_option(key, value)
    return files + options, said | given


def check_tree(tree: dict[str, Any]) -> None:
    """Raise ``ValueError`` for contents that a configuration file may not have, see :func:`checked_arguments`."""
    values = flat(tree)
    check_renamed(values)
    for key in values:
        name, _, last = key.rpartition(".")
        if last == "class_path" and name not in _CLASSES:
            raise ValueError(f"Expected a class for graph and conditional.convolution only (got one for {name or key})")
    for group in _GROUPS & tree.keys():
        if not isinstance(tree[group], dict):
            raise ValueError(f"Expected {group} as keys with values, such as {_example(group)} (got {tree[group]!r})")
    _check_class("graph", tree.get("graph", "CorrespondenceAttention"))
    if (convolution := tree.get("conditional", {}).get("convolution")) is not None:
        _check_class("conditional.convolution", convolution)


def flat(tree: dict[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """The values of nested mappings by dotted key.

    Raises:
        ValueError: they are nested deeper than any configuration is.
    """
    if depth > _DEEPEST:
        raise ValueError(f"Expected at most {_DEEPEST} levels of keys in a configuration (got more: {prefix[:60]}…)")
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.", depth + 1) if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def check_renamed(names: Iterable[str]) -> None:
    """Raise ``ValueError`` for a name of version 0.1; the message has the new name."""
    for name in names:
        for old, new in _RENAMED.items():
            if name == old or name.startswith(f"{old}."):
                raise ValueError(f"{name} was renamed to {new}{name.removeprefix(old)} in version 0.2: use that name")


def _given(options: Sequence[str]) -> dict[str, str]:
    """The value of each ``--key value`` or ``--key=value``."""
    given = {}
    for option, following in pairwise([*options, ""]):
        if option.startswith("--"):
            key, equals, value = option.removeprefix("--").partition("=")
            given[key] = value if equals else following
    return given


def _check_option(key: str, value: str) -> None:
    if key in _GROUPS:
        tree = _yaml_or_text(value)
        if not isinstance(tree, dict):
            also = f"; to re-rank by it, give --neighbours.method {key}" if key in _METHODS else ""
            raise ValueError(
                f"Expected an option for each setting of {key}, such as --{_example(key)} (got {value!r}){also}"
            )
        check_tree({key: tree})
    name = key.removesuffix(".class_path").removesuffix(".help")
    only_help = key.endswith(".help") and (not value or value.startswith("--"))
    none = name == "conditional.convolution" and value == "null"
    if name in _CLASSES and not only_help and not none:
        _check_class(name, _yaml_or_text(value))


def _yaml_or_text(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


_GROUPS = {field.name for field in fields(Config) if is_dataclass(get_type_hints(Config)[field.name])}
_METHODS = ("k_reciprocal", "propagation")
_CLASSES = {
    "graph": ("a class of cace_pyg.graph", "cace_pyg.graph."),
    "conditional.convolution": ("the name of a layer of torch_geometric.nn", "torch_geometric.nn."),
}


def _example(group: str) -> str:
    kind = get_type_hints(Config)[group]
    return f"{group}.{fields(kind)[0].name}"


def _check_class(key: str, value: Any) -> None:
    """Look up a class by name among ours or PyG's layers."""
    what, room = _CLASSES[key]
    path = value.get("class_path") if isinstance(value, dict) else value
    name = path.removeprefix(room).removeprefix("conv.") if isinstance(path, str) else ""
    if key == "graph":
        ours = [kind for kind in GraphBuilder.__subclasses__() if kind.__module__.startswith(room)]
        known = usual = sorted(kind.__name__ for kind in ours)
    else:
        known, usual = torch_geometric.nn.conv.__all__, ["GCNConv", "GATConv", "SAGEConv", "GraphConv"]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5) or usual
        raise ValueError(
            f"Expected {key} as {what} (got {path!r}); near names: {', '.join(near)}. Give a class of your own in "
            f"Python, as {key.split('.')[-1]}=: classes named in files or options are never imported"
        )


def _config_file(value: str) -> str:
    """The file of a configuration; a single word, such as ``synthetic``, is one that comes with the library."""
    if "\n" in value or Path(value).expanduser().is_file():
        return value
    package = Path(str(package_files("cace_pyg")))
    places = package / "configs", package.parent / "configs"  # in a wheel; in a clone
    known = {path.stem: str(path) for place in places for path in place.glob("*.yaml")}
    name = Path(value).stem
    if value in known:
        return known[value]
    if re.fullmatch(r"\w+", value):
        raise ValueError(
            f"Expected --config as a YAML file, or as the name of one that comes with cace_pyg: "
            f"{', '.join(sorted(known))} (got {value}, which is neither)"
        )
    if name in known:
        raise FileNotFoundError(f"no file at {value}; --config {name} takes the one that comes with cace_pyg")
    return value


class _KeysOnce(yaml.SafeLoader):
    """The safe loader, but a duplicate key is an error: the first would be ignored."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} is duplicated", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_tree(value: str) -> dict[str, Any]:
    is_text = "\n" in value
    if not is_text and not Path(value).is_file():
        return {}  # a missing file, which the parser reports
    name = "the configuration" if is_text else value
    try:
        tree = yaml.load(value if is_text else Path(value).read_text(encoding="utf-8"), _KeysOnce)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ValueError(f"{name}{line} is not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        shown = repr(tree)[:60]
        raise ValueError(f"Expected {name} to contain keys such as data: and joint_phase: (got {shown}…); see configs/")
    return tree
