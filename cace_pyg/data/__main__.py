"""``python -m cace_pyg.data``: make the built-in data set, check a data set, or find body parts in it."""

import sys
from argparse import ArgumentTypeError
from dataclasses import fields
from typing import get_args

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from cace_pyg.data.check_dataset import check_dataset
from cace_pyg.data.parse_pictures import parse_pictures
from cace_pyg.data.part_sheet import part_sheet
from cace_pyg.data.read_dataset import DatasetName
from cace_pyg.data.sorted_pictures import sorted_pictures
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.user_path import user_path

EXPLANATION = """Data sets.

  python -m cace_pyg.data synthetic ROOT    make the built-in data set
  python -m cace_pyg.data check ROOT        which data set is at ROOT, is it complete, can its pictures be read?
  python -m cace_pyg.data parse ROOT        label maps of body parts for its pictures (--graph Semantic), with MediaPipe
  python -m cace_pyg.data COMMAND --help    every option"""
SYNTHETIC = """Make the built-in data set: rendered pedestrians in Market-1501's layout, with part labels."""
CHECK = """Find the reader for a data set, compare its numbers of pictures, identities and cameras with those that its
authors published, and decode every picture. Exit status 0: all is well; 1: pictures are missing or broken, queries have
no match, something is left out or would make results look too good; 2: no data set. For your own data that looks like
part of a public set, give --name."""

PARSE = """Find the body parts of every picture in ROOT and its folders, and write label maps to ROOT/parts. If no pose
is found, horizontal stripes are used instead, and counted. Needs MediaPipe 0.10.21, in this interpreter or in that of
--python. Exit status 0: all pictures have a map; 1: some cannot be read; 2: nothing could be done."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(EXPLANATION)
        return 0
    try:
        parsed = _parser().parse_args(arguments)
        return {"synthetic": _synthetic, "check": _check, "parse": _parse}[parsed.subcommand](parsed[parsed.subcommand])
    except (ArgumentError, ArgumentTypeError, ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130


def _parser() -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="python -m cace_pyg.data", description="Data sets.", exit_on_error=False)
    commands = parser.add_subcommands(required=True)
    synthetic = ArgumentParser(description=SYNTHETIC, exit_on_error=False, allow_abbrev=False)
    synthetic.add_argument("root", type=str, help="new folder; unchanged if it already contains the same data set")
    synthetic.add_argument("--workers", type=int, default=2, help="processes that draw")
    synthetic.add_class_arguments(SyntheticSettings)
    commands.add_subcommand("synthetic", synthetic, help="make the built-in data set")
    check = ArgumentParser(description=CHECK, exit_on_error=False, allow_abbrev=False)
    check.add_argument("root", type=str, help="folder or table")
    check.add_argument("--name", choices=get_args(DatasetName), help="check against this data set, not the best fit")
    check.add_argument("--pattern", type=str, help="regular expression for file names, as --data.pattern of train")
    check.add_argument("--decode", type=bool, default=True, help="false: count only, without decoding pictures")
    commands.add_subcommand("check", check, help="check a data set")
    parse = ArgumentParser(description=PARSE, exit_on_error=False, allow_abbrev=False)
    parse.add_argument("root", type=str, help="a data set, or a folder of crops")
    parse.add_argument("--python", type=str, default=sys.executable, help="interpreter that has MediaPipe")
    parse.add_argument("--overwrite", action="store_true", help="make existing maps again")
    parse.add_argument("--draw", type=str, help="PNG file: some pictures next to their maps, to look at")
    commands.add_subcommand("parse", parse, help="find body parts")
    return parser


def _synthetic(parsed: Namespace) -> int:
    settings = SyntheticSettings(**{field.name: parsed[field.name] for field in fields(SyntheticSettings)})
    print(make_synthetic(user_path(parsed.root), settings, parsed.workers))
    return 0


def _check(parsed: Namespace) -> int:
    found = check_dataset(user_path(parsed.root), parsed.name, parsed.decode, parsed.pattern)
    print(found)
    return 0 if found.passed else 1


def _parse(parsed: Namespace) -> int:
    root, draw = user_path(parsed.root), None if parsed.draw is None else user_path(parsed.draw)
    if draw is not None and not (draw.suffix.lower() == ".png" and draw.parent.is_dir()):
        raise ValueError(f"Expected --draw FILE.png in an existing folder (got {draw})")
    made = parse_pictures(root, parsed.python, parsed.overwrite)
    print(made)
    if draw is not None:
        part_sheet(sorted_pictures(root)).save(draw)
        print(f"written: {draw}")
    return 1 if made.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
