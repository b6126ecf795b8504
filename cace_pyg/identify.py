"""``python -m cace_pyg.identify``: join the pictures of a gallery into people."""

import argparse
import json
import sys
from pathlib import Path

from cace_pyg.engine.files import atomic_file
from cace_pyg.gallery import Gallery
from cace_pyg.gallery.describe import describe_drift
from cace_pyg.gallery.describe_people import (
    describe_explained,
    describe_identified,
    describe_sightings,
    explained_as_dict,
    sightings_as_dicts,
    sightings_figure,
)
from cace_pyg.gallery.people import IdentifySettings, People
from cace_pyg.user_path import user_path

DESCRIPTION = """Join the pictures of a gallery into people, across cameras, and store the result in its column person.

  python -m cace_pyg.identify --gallery people.lance
  python -m cace_pyg.identify --gallery people.lance --person 7 --figure person.png
  python -m cace_pyg.identify --gallery people.lance --explain A.jpg B.jpg
  python -m cace_pyg.identify --gallery people.lance --not_same A.jpg B.jpg
  python -m cace_pyg.identify --gallery people.lance --remove 7 --erase

The first line computes the missing distances of new pictures, and continues after an interruption. A new picture joins
a person or starts a new one, and existing numbers do not change. --same and --not_same are stored and always obeyed.
The model needs a calibration (python -m cace_pyg.calibrate). See docs/people.md. A join is no proof of identity.
Exit status 0: all is well; 2: nothing could be done."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known = parser.parse_args(arguments)
    try:
        _check(known)
        _run(known, People(Gallery.open(known.gallery, device=known.device)))
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.identify",
        "python -m cace_pyg.identify --gallery people.lance [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--gallery", type=user_path, required=True, help="its folder, such as people.lance")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--person", type=int, metavar="NUMBER", help="show a person's sightings, in time order")
    for name, told in (
        ("explain", "show which pairs made two pictures one person, or why they are two people"),
        ("same", "two pictures show one person: store this, and identify everybody again"),
        ("not_same", "two pictures show different people: store this, and identify everybody again"),
        ("take_back", "forget what was said about two pictures"),
    ):
        action.add_argument(f"--{name}", nargs=2, metavar=("A", "B"), type=user_path, help=told)
    action.add_argument(
        "--export", type=user_path, metavar="FOLDER", help="write the corrections as pairs.csv and pictures.csv"
    )
    action.add_argument("--remove", type=int, metavar="NUMBER", help="remove a person: all pictures and corrections")
    action.add_argument(
        "--anew",
        action="store_true",
        help="join all pictures again from scratch; people keep their numbers if most pictures stay together",
    )
    parser.add_argument(
        "--probability",
        type=float,
        help="two groups of pictures are one person if the mean of their pairs is above this; a higher value gives "
        "fewer wrong joins and more people (default: 0.1, see docs/people.md, or the last value)",
    )
    parser.add_argument(
        "--ignore_times",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="two pictures of one camera at one time may show one person (default: they may not, or the last choice)",
    )
    parser.add_argument("--erase", action="store_true", help="with --remove: leave nothing of them on disk")
    parser.add_argument("--figure", type=user_path, help="with --person: PNG or SVG of the sightings, by camera")
    parser.add_argument("--json", action="store_true", help="with --person or --explain: print JSON")
    return parser


def _check(known: argparse.Namespace) -> None:
    shown = known.person is not None
    for wrong, told in (
        (known.erase and known.remove is None, "--erase is for --remove NUMBER"),
        (known.figure is not None and not shown, "--figure is for --person NUMBER"),
        (known.json and not (shown or known.explain), "--json is for --person and --explain"),
    ):
        if wrong:
            raise ValueError(f"{told} (got none)")
    if known.figure and (known.figure.suffix.lower() not in (".png", ".svg") or not known.figure.parent.is_dir()):
        raise ValueError(f"Expected --figure FILE.png or FILE.svg in an existing folder (got {known.figure})")


def _run(known: argparse.Namespace, people: People) -> None:
    if known.person is not None:
        _show(people, known.person, known.json, known.figure)
    elif known.explain:
        found = people.explain(*known.explain)
        print(json.dumps(explained_as_dict(found), indent=2) if known.json else describe_explained(found))
    elif known.export:
        pairs, pictures = people.export(known.export)
        print(f"written: {known.export / 'pairs.csv'} ({pairs} pairs), {known.export / 'pictures.csv'} ({pictures})")
    elif known.remove is not None:
        removed = people.remove(known.remove, known.erase)
        print(f"removed: {removed} pictures of person {known.remove}; left in the gallery: {len(people.gallery)}")
        print("their files were not deleted: indexing their folder again would add them again")
    else:
        _identify(known, people)


def _identify(known: argparse.Namespace, people: People) -> None:
    before = people.settings
    settings = IdentifySettings(
        before.probability if known.probability is None else known.probability,
        before.ignore_times if known.ignore_times is None else known.ignore_times,
    )
    for pair, same in ((known.same, True), (known.not_same, False)):
        if pair:
            people.say(pair[0], pair[1], same)
    if known.take_back:
        people.take_back(*known.take_back)
        print("taken back. People stay as they are now; --anew joins all pictures again without this correction")
    print(describe_identified(people.identify(settings, known.anew, progress=True)))
    if warning := describe_drift(people.gallery, f"the gallery {people.gallery.path}"):
        print(warning, file=sys.stderr)


def _show(people: People, person: int, as_json: bool, figure: Path | None) -> None:
    found = people.sightings(person)
    print(json.dumps(sightings_as_dicts(found), indent=2) if as_json else describe_sightings(found))
    if figure:
        with atomic_file(figure) as file:
            drawn = sightings_figure(people.gallery, found)
            drawn.savefig(file, format=figure.suffix[1:].lower(), dpi=150, facecolor="white")
        print(f"written: {figure}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
