"""``python -m cace_pyg.search``: keep a gallery on disk, and search for people in it."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import NoReturn, get_args

from cace_pyg.config import from_yaml
from cace_pyg.data.sorted_pictures import sorted_pictures
from cace_pyg.data.table import TABLES
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint
from cace_pyg.engine.files import atomic_file
from cace_pyg.gallery import Added, Gallery, SearchResult, search_galleries
from cace_pyg.gallery.add_on_ray import add_on_ray, expect_cluster
from cace_pyg.gallery.clue_codec import Precision
from cace_pyg.gallery.columns import column_types
from cace_pyg.gallery.describe import (
    decision_as_dict,
    describe_decision,
    describe_drift,
    describe_hits,
    describe_stats,
    hits_as_dicts,
    hits_figure,
)
from cace_pyg.gallery.gallery_table import is_gallery
from cace_pyg.gallery.neighbour_lists import check_neighbours
from cace_pyg.gallery.picture_facts import (
    PictureFacts,
    facts_from_names,
    facts_from_table,
    pictures_of_table,
)
from cace_pyg.retrieval import Calibration
from cace_pyg.user_path import user_path

DESCRIPTION = """Keep pictures of pedestrians in a gallery on disk, and find a person in it.

  python -m cace_pyg.search index FOLDER --gallery people.lance --checkpoint RUN_DIR/checkpoints/best.ckpt
  python -m cace_pyg.search query PICTURE --gallery people.lance --where "camera = 'c3'"
  python -m cace_pyg.search query A.jpg B.jpg C.jpg --together --gallery people.lance
  python -m cace_pyg.search query PICTURE --gallery january.lance --gallery february.lance
  python -m cace_pyg.search serve --gallery people.lance
  python -m cace_pyg.search index FOLDER --gallery people.lance --ray --workers 8

Needs LanceDB: pip install 'cace-pyg[gallery]', and for --ray 'cace-pyg[cluster]'. The gallery contains a copy of
the model, so only index needs a checkpoint.
Exit status 0: all is well; 1: some pictures could not be read, or found; 2: nothing could be done; 3: query
--false_alarms: nobody we know."""
INDEX = """Add all pictures of a folder to a gallery, and make the gallery if there is none. Pictures that are in it and
have not changed are skipped, so the same command continues after an interruption. Instead of a folder you can give a
table (.csv, .parquet) with a column path (relative to the table's folder); its other columns become columns of the
gallery."""
WHERE = "SQL over the columns (stats lists them): \"camera = 'c3' and time > timestamp '2026-01-31 12:00:00'\""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    try:
        known = parser.parse_args(arguments)
        return known.run(known)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; pictures counted so far are in the gallery, and the same command continues", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, like the commands; argparse would print the usage first."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help")


class _Once(argparse.Action):
    """An option that may be given once; argparse would take the last of several."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if (before := getattr(namespace, self.dest)) is not None:
            parser.error(f"Expected one {option_string} (got {before} and {values})")
        setattr(namespace, self.dest, values)


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m cace_pyg.search", description=DESCRIPTION, formatter_class=kind)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, summary in (
        ("index", _index, "add the pictures of a folder, into a new gallery if there is none"),
        ("add", _add, "add single pictures to a gallery"),
        ("remove", _remove, "remove pictures from a gallery"),
        ("query", _query, "find the person of a picture"),
        ("serve", _serve, "a web page to search for people, on this machine"),
        ("optimize", _optimize, "merge a gallery's files, delete earlier versions, renew its index"),
        ("stats", _stats, "show what is in a gallery"),
    ):
        command = commands.add_parser(name, help=summary, description=INDEX if name == "index" else summary)
        command.set_defaults(run=run)
        several = name == "query"
        command.add_argument(
            "--gallery",
            required=True,
            type=user_path,
            action="append" if several else _Once,
            help="its folder, such as people.lance" + ("; give it again to search several at once" if several else ""),
        )
        command.add_argument(
            "--checkpoint", type=user_path, help="the model; if the gallery exists, it must be its own"
        )
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
        _ARGUMENTS[name](command)
    return parser


def _index_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=user_path, help="or a table, .csv or .parquet, with the pictures")
    command.add_argument(
        "--precision", choices=get_args(Precision), help="number format of a new gallery's clues (default: int8)"
    )
    command.add_argument(
        "--gallery_clues",
        type=int,
        metavar="N",
        help="number of clues that a new gallery keeps of a picture (default: as in the model's training, usually all; "
        "docs/gallery_clues.md)",
    )
    facts = command.add_mutually_exclusive_group()
    facts.add_argument("--pattern", help="columns from file names: 'c(?P<camera>\\d+)s\\d_(?P<frame>\\d+)'")
    facts.add_argument(
        "--metadata", type=user_path, help="columns from a .csv or .parquet with a column path, relative to FOLDER"
    )
    command.add_argument("--ray", action="store_true", help="use the workers of a Ray cluster instead of this process")
    command.add_argument(
        "--neighbours",
        action="store_true",
        help="store each picture's neighbours by both stages, for query --neighbours; add, remove and later index "
        "commands then update them (docs/neighbours.md)",
    )
    command.add_argument(
        "--workers", type=int, help="number of Ray workers (default: one per GPU, or per core without GPUs)"
    )
    command.add_argument(
        "--ray_address", help="address of a running cluster: auto, or HOST:6379 (default: start one here)"
    )


def _add_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("pictures", type=user_path, nargs="+")
    command.add_argument("--camera", help="of all these pictures")


def _remove_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("pictures", type=user_path, nargs="*")
    command.add_argument("--where", help=WHERE)
    command.add_argument("--missing", action="store_true", help="pictures whose file is gone")
    command.add_argument(
        "--force", action="store_true", help="remove even if --missing finds more than half of them gone"
    )


def _query_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("picture", type=user_path, nargs="+")
    command.add_argument("--together", action="store_true", help="the pictures show one person and are one query")
    command.add_argument("--top_k", type=int, default=10, help="how many to show (default: 10)")
    command.add_argument(
        "--first_stage", type=int, help="how many pictures the second stage compares (default: the model's)"
    )
    command.add_argument("--where", help=WHERE)
    command.add_argument(
        "--false_alarms",
        type=float,
        metavar="RATE",
        help="say whether the person is known at all; RATE, such as 0.01, is the share of people who are not in the "
        "gallery that may be mistaken for one who is; exit status 3: nobody we know (docs/decision.md)",
    )
    command.add_argument(
        "--neighbours", action="store_true", help="rank by the neighbours that index --neighbours stored"
    )
    command.add_argument(
        "--gallery_neighbours",
        type=int,
        default=0,
        metavar="N",
        help="let the second stage also compare the N nearest gallery pictures of each good match, best match first "
        "(docs/candidates.md; default: 0, only the query's nearest)",
    )
    command.add_argument(
        "--camera",
        action=_Once,
        help="that took the pictures; for a model with evaluation.standardise_cameras (docs/cameras.md)",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--figure", type=user_path, help="PNG or SVG of the ranked list, before and after the second stage"
    )


def _serve_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: only this machine)")
    command.add_argument("--port", type=int, default=8000, help="0: any free port (default: 8000)")
    command.add_argument("--open", action="store_true", help="open the page in the browser")


def _optimize_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--erase",
        action="store_true",
        help="leave no data of removed pictures on disk; nobody else may use the gallery meanwhile",
    )
    command.add_argument(
        "--views_alone", action="store_true", help="keep only the clues of the views of each track (docs/tracks.md)"
    )


_ARGUMENTS = {
    "index": _index_arguments,
    "add": _add_arguments,
    "remove": _remove_arguments,
    "query": _query_arguments,
    "serve": _serve_arguments,
    "optimize": _optimize_arguments,
    "stats": lambda command: command.add_argument("--json", action="store_true", help="print JSON"),
}


def _open(known: argparse.Namespace, path: Path | None = None) -> Gallery:
    gallery = Gallery.open(path or known.gallery, known.checkpoint, known.device)
    own = gallery.path / "model.ckpt"
    if known.checkpoint is not None and _calibration_of(known.checkpoint) != _calibration_of(own):
        print(
            f"warning: {known.checkpoint} has another calibration than the gallery {gallery.path}, which uses its own. "
            f"To renew that: python -m cace_pyg.calibrate --checkpoint {own} --data.root PATH --output {own}",
            file=sys.stderr,
        )
    return gallery


def _calibration_of(checkpoint: Path) -> Calibration | None:
    return calibration_of(load_checkpoint(checkpoint))


def _index(known: argparse.Namespace) -> int:
    if not known.ray and (known.workers is not None or known.ray_address):
        raise ValueError("--workers and --ray_address are for --ray (got none); give it, or leave them out")
    pictures, facts = _told_pictures(known)
    column_types(facts.metadata)  # check them before a gallery is made
    if known.ray:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage data for Ray's makers
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its messages about this process go to its log files
        expect_cluster(known.workers, known.ray_address)
    if is_gallery(known.gallery):
        gallery = _open(known)
        stats = gallery.stats()
        if known.precision not in (None, kept := stats["precision"]):
            raise ValueError(
                f"{known.gallery} stores clues as {kept}: leave --precision out, or make another --gallery"
            )
        if known.gallery_clues not in (None, count := stats["gallery_clues"]):
            raise ValueError(
                f"{known.gallery} stores {count or 'all'} clues of a picture: leave --gallery_clues out, or make "
                "another --gallery"
            )
    elif known.checkpoint is None:
        raise ValueError(
            f"there is no gallery at {known.gallery} yet: --checkpoint RUN_DIR/checkpoints/best.ckpt makes one"
        )
    else:
        precision: Precision = known.precision or "int8"
        if known.neighbours:
            settings = from_yaml(load_checkpoint(known.checkpoint)["config"])
            check_neighbours(settings.k_reciprocal, settings.neighbours.candidates)
        gallery = Gallery.create(known.gallery, known.checkpoint, precision, known.device, known.gallery_clues)
    added = _add_all(known, gallery, pictures, facts)
    _keep_neighbours(gallery, known.neighbours)
    gallery.optimize()
    print(added)
    kept = ", each with its neighbours" if gallery.keeps_neighbours else ""
    print(f"gallery: {known.gallery}, {len(gallery)} pictures{kept}")
    _warn_of_drift(gallery)
    if gallery.keeps_neighbours and len(gallery) <= (k1 := gallery.embedder.config.k_reciprocal.k1):
        print(
            f"warning: query --neighbours needs more than {k1} pictures (k_reciprocal.k1), and the gallery has "
            f"{len(gallery)}",
            file=sys.stderr,
        )
    return 1 if added.unreadable else 0


def _keep_neighbours(gallery: Gallery, wanted: bool = False) -> None:
    if wanted or gallery.keeps_neighbours:
        gallery.keep_neighbours(progress=True)


def _add_all(known: argparse.Namespace, gallery: Gallery, pictures: list[Path], facts: PictureFacts) -> Added:
    if not known.ray:
        return gallery.add(pictures, facts.camera, facts.taken, facts.metadata, progress=True)
    return add_on_ray(gallery, pictures, facts, known.workers, known.ray_address, known.device)


def _told_pictures(known: argparse.Namespace) -> tuple[list[Path], PictureFacts]:
    if known.folder.is_dir() or not (known.folder.is_file() or known.folder.suffix.lower() in TABLES):
        pictures = sorted_pictures(known.folder)
        return pictures, _facts(known, pictures)
    if known.pattern or known.metadata:
        raise ValueError(f"{known.folder} is a table with its own columns: leave --pattern and --metadata out")
    pictures = pictures_of_table(known.folder)
    return pictures, facts_from_table(pictures, known.folder.parent, known.folder)


def _facts(known: argparse.Namespace, pictures: list[Path]) -> PictureFacts:
    if known.pattern:
        return facts_from_names(pictures, known.folder, known.pattern)
    if known.metadata:
        return facts_from_table(pictures, known.folder, known.metadata)
    nothing = [None] * len(pictures)
    return PictureFacts(nothing, nothing, [{}] * len(pictures))


def _add(known: argparse.Namespace) -> int:
    folders = [str(path) for path in known.pictures if path.is_dir()]
    if folders:
        raise ValueError(f"Expected pictures (got the folder {folders[0]}): index adds all pictures of a folder")
    gallery = _open(known)
    added = gallery.add(known.pictures, camera=[known.camera] * len(known.pictures))
    _keep_neighbours(gallery)
    print(added)
    return 1 if added.unreadable else 0


def _remove(known: argparse.Namespace) -> int:
    if not (known.pictures or known.where or known.missing):
        raise ValueError("Expected pictures, --where SQL or --missing, to know what to remove (got none)")
    gallery = _open(known)
    missing = gallery.missing() if known.missing else []
    if len(missing) > len(gallery) / 2 and not known.force:
        raise ValueError(
            f"{len(missing)} of {len(gallery)} files are gone, such as {missing[0]}: is their disk mounted? "
            "--missing --force removes them"
        )
    unknown = [str(path) for path in known.pictures if path not in gallery]
    removed = gallery.remove([*known.pictures, *missing], known.where)
    _keep_neighbours(gallery)
    print(f"removed: {removed}; left: {len(gallery)}")
    if unknown:
        print(f"not in the gallery: {', '.join(unknown)}", file=sys.stderr)
    return 1 if unknown else 0


def _query(known: argparse.Namespace) -> int:
    formats = (".png", ".svg")
    if known.figure and (known.figure.suffix.lower() not in formats or not known.figure.parent.is_dir()):
        raise ValueError(f"Expected --figure FILE.png or FILE.svg in an existing folder (got {known.figure})")
    if len(known.picture) > 1 and not known.together:
        raise ValueError(
            f"Expected one picture (got {len(known.picture)}); if they show one person, give --together; otherwise "
            "search for each separately"
        )
    galleries = [_open(known, path) for path in known.gallery]
    rate = known.false_alarms
    found = _search(known, galleries)
    if rate is not None and not len(found):
        what = "the gallery is empty" if known.where is None else f"nothing passes --where {known.where}"
        raise ValueError(f"Expected pictures to compare with (got none: {what}), so nobody can be known or unknown")
    if known.json:
        told = hits_as_dicts(found) if rate is None else decision_as_dict(found, rate)
        print(json.dumps(told, indent=2))
    else:
        if known.where is not None and not len(found):
            print(f"no picture passes --where {known.where}; search stats lists the columns")
        print("\n".join([describe_hits(found), *([] if rate is None else [describe_decision(found, rate)])]))
    for gallery in galleries:
        _warn_of_drift(gallery)
    if known.figure and not len(found):
        print(f"not written, since nothing was found: {known.figure}", file=sys.stderr)
    elif known.figure:
        with atomic_file(known.figure) as file:
            figure = hits_figure(galleries, known.picture[0], found)
            figure.savefig(file, format=known.figure.suffix[1:].lower(), dpi=150)
        print(f"written: {known.figure}", file=sys.stderr)
    return 3 if found.is_known is False else 0


def _search(known: argparse.Namespace, galleries: list[Gallery]) -> SearchResult:
    asked = known.top_k, known.where, known.first_stage, known.false_alarms
    if len(galleries) == 1:
        follow, camera = known.gallery_neighbours, known.camera
        return galleries[0].search(
            known.picture, *asked, known.neighbours, together=True, gallery_neighbours=follow, camera=camera
        )
    for option, given in (
        ("--neighbours", known.neighbours),
        ("--gallery_neighbours", known.gallery_neighbours),
        ("several pictures", len(known.picture) > 1),
        ("--camera", known.camera is not None),
    ):
        if given:
            raise ValueError(f"Expected one --gallery with {option} (got {len(galleries)}); search each alone")
    return search_galleries(galleries, known.picture[0], *asked)


def _warn_of_drift(gallery: Gallery) -> None:
    if warning := describe_drift(gallery, f"the gallery {gallery.path}"):
        print(warning, file=sys.stderr)


def _serve(known: argparse.Namespace) -> int:
    if not 0 <= known.port <= 65535:
        raise ValueError(f"Expected --port from 0 to 65535 (got {known.port})")
    try:
        from cace_pyg.gallery.page import serve
    except ImportError as error:
        raise RuntimeError(f"serve needs Starlette and uvicorn ({error}): pip install 'cace-pyg[gallery]'") from error
    serve(_open(known), known.host, known.port, known.open)
    return 0


def _optimize(known: argparse.Namespace) -> int:
    gallery = _open(known)
    gallery.optimize(known.erase, known.views_alone)
    print(describe_stats(known.gallery, gallery.stats()))
    return 0


def _stats(known: argparse.Namespace) -> int:
    stats = _open(known).stats()
    print(json.dumps(stats, indent=2) if known.json else describe_stats(known.gallery, stats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
