"""``python -m cace_pyg.data``: make the built-in data set."""

import sys
from dataclasses import fields

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic

DESCRIPTION = """Make the built-in data set: rendered pedestrians in Market-1501's layout, with part labels."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog="python -m cace_pyg.data", description=DESCRIPTION, exit_on_error=False)
    commands = parser.add_subcommands(required=True)
    synthetic = ArgumentParser(description=DESCRIPTION, exit_on_error=False, allow_abbrev=False)
    synthetic.add_argument("root", type=str, help="folder to make; left alone if it holds the same data set")
    synthetic.add_argument("--workers", type=int, default=2, help="processes that draw")
    synthetic.add_class_arguments(SyntheticSettings)
    commands.add_subcommand("synthetic", synthetic)
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        synthetic.prog = "python -m cace_pyg.data synthetic"
        synthetic.print_help()
        return 0
    try:
        parsed = parser.parse_args(arguments).synthetic
        settings = SyntheticSettings(**{one.name: parsed[one.name] for one in fields(SyntheticSettings)})
        print(make_synthetic(parsed.root, settings, parsed.workers))
    except (ArgumentError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
