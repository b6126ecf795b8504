"""``python -m cace_pyg.data``: make the built-in data set, or check one that is there."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from cace_pyg.data.check_dataset import check_dataset
from cace_pyg.data.read_dataset import DatasetName
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic

EXPLANATION = """Data sets.

  python -m cace_pyg.data synthetic ROOT    make the built-in data set
  python -m cace_pyg.data check ROOT        which data set lies at ROOT, is it whole, can its pictures be read?
  python -m cace_pyg.data COMMAND --help    every option"""
SYNTHETIC = """Make the built-in data set: rendered pedestrians in Market-1501's layout, with part labels."""
CHECK = """Say which reader fits a data set, count its pictures, identities and cameras beside what its authors
published, and decode every picture. Exit status 0: all is well; 1: pictures are missing or broken; 2: no data set."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(EXPLANATION)
        return 0
    try:
        parsed = _parser().parse_args(arguments)
        return {"synthetic": _synthetic, "check": _check}[parsed.subcommand](parsed[parsed.subcommand])
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="python -m cace_pyg.data", description="Data sets.", exit_on_error=False)
    commands = parser.add_subcommands(required=True)
    synthetic = ArgumentParser(description=SYNTHETIC, exit_on_error=False, allow_abbrev=False)
    synthetic.add_argument("root", type=str, help="folder to make; left alone if it holds the same data set")
    synthetic.add_argument("--workers", type=int, default=2, help="processes that draw")
    synthetic.add_class_arguments(SyntheticSettings)
    commands.add_subcommand("synthetic", synthetic, help="make the built-in data set")
    check = ArgumentParser(description=CHECK, exit_on_error=False, allow_abbrev=False)
    check.add_argument("root", type=str, help="folder or table")
    check.add_argument("--name", choices=get_args(DatasetName), help="check against this data set, not the best fit")
    check.add_argument("--decode", type=bool, default=True, help="false: count only, without decoding pictures")
    commands.add_subcommand("check", check, help="look at a data set that is there")
    return parser


def _synthetic(parsed: Namespace) -> int:
    settings = SyntheticSettings(**{one.name: parsed[one.name] for one in fields(SyntheticSettings)})
    print(make_synthetic(parsed.root, settings, parsed.workers))
    return 0


def _check(parsed: Namespace) -> int:
    found = check_dataset(Path(parsed.root), parsed.name, parsed.decode)
    print(found)
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
