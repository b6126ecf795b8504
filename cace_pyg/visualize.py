"""``python -m cace_pyg.visualize``: draw what a trained model sees."""

import argparse
import sys
from pathlib import Path
from typing import Any

from cace_pyg.config import Config, from_yaml
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.files import write_figures
from cace_pyg.explain.conditional_maps import draw_conditional_maps
from cace_pyg.explain.correspondences import draw_correspondences
from cace_pyg.explain.pair_analysis import analyse_pair
from cace_pyg.explain.pair_report import describe_pair, write_pair
from cace_pyg.explain.run_report import draw_ranked_lists
from cace_pyg.user_path import user_path

DESCRIPTION = """Draw what a trained model sees, as PNG and SVG.

  python -m cace_pyg.visualize pair A.jpg B.jpg --checkpoint RUN_DIR/checkpoints/best.ckpt
  python -m cace_pyg.visualize conditional_maps QUERY.jpg GALLERY.jpg … --checkpoint RUN_DIR/checkpoints/best.ckpt
  python -m cace_pyg.visualize correspondences A.jpg B.jpg --checkpoint RUN_DIR/checkpoints/best.ckpt
  python -m cace_pyg.visualize ranked_lists --checkpoint RUN_DIR/checkpoints/best.ckpt

The configuration is the checkpoint's; dotted options override it, such as
--evaluation.fusion paper | auto | 0.5, --data.root PATH, --data.height 256."""
PAIR = """Compare two pictures and analyse their pair graph.

Printed: the individual, conditional and fused distance; density and degrees of the graph; the decisive
correspondences (a maximum-weight matching: each clue is used once); the clusters of clues (communities).
Written: matching, clusters, degrees, and graph.graphml, which Gephi opens."""
CONDITIONAL_MAPS = """Feature maps of a query, by itself and given each gallery image (Fig. 4 of the paper): L2 norm of
each clue, and the changes in the query and in the gallery image. Up to eight gallery images."""
CORRESPONDENCES = """For the clues of A with the largest weights: the partner in B with the largest weight in the
model's graph, next to the most similar clue (Fig. 5 of the paper)."""
RANKED_LISTS = """The first ten gallery images of some queries, by the individual embedding and after the second stage,
right and wrong ones framed (Fig. 6 of the paper). Evaluates the model on its data set first."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        folder = _folder(known)
        config = from_yaml(load_checkpoint(known.checkpoint)["config"], *overrides)
        files = known.run(known, config, folder)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"written: {path}" for path in files))
    return 0


def _parser() -> argparse.ArgumentParser:
    kind: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = argparse.ArgumentParser("python -m cace_pyg.visualize", description=DESCRIPTION, **kind)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, summary, description in (
        ("pair", _pair, "analyse the pair graph of two pictures", PAIR),
        ("conditional_maps", _conditional_maps, "feature maps given other images (Fig. 4)", CONDITIONAL_MAPS),
        ("correspondences", _correspondences, "the graph next to top-K similarity (Fig. 5)", CORRESPONDENCES),
        ("ranked_lists", _ranked_lists, "ranked lists of queries, both stages (Fig. 6)", RANKED_LISTS),
    ):
        command = commands.add_parser(name, help=summary, description=description, **kind)
        command.set_defaults(run=run, command=name)
        if name == "ranked_lists":
            command.add_argument("--query", nargs="+", default=(), metavar="NAME", help="file names among the queries")
        else:
            command.add_argument("pictures", nargs="+", type=user_path, metavar="PICTURE")
        if name in ("pair", "correspondences"):
            command.add_argument("--strongest", type=int, default=20, help="lines to draw (default: 20)")
        command.add_argument(
            "--checkpoint", required=True, type=user_path, help="RUN_DIR/checkpoints/best.ckpt, or a bundle"
        )
        command.add_argument("--output", type=user_path, help="folder for the files (default: below RUN_DIR/figures)")
        command.add_argument("--format", choices=("png", "svg", "both"), default="both", help="default: both")
    return parser


def _folder(known: argparse.Namespace) -> Path:
    """The folder to write into; also checks what argparse cannot check."""
    count = len(getattr(known, "pictures", ()))
    if known.command in ("pair", "correspondences") and count != 2:
        raise ValueError(f"Expected two pictures (got {count}): {known.command} A.jpg B.jpg")
    if known.command == "conditional_maps" and count < 2:
        raise ValueError("Expected a query and at least one gallery picture (got 1 picture)")
    if getattr(known, "strongest", 1) < 1:
        raise ValueError(f"Expected --strongest of at least 1 (got {known.strongest})")
    beside = known.checkpoint.parent
    run_dir = beside.parent if beside.name == "checkpoints" else beside
    folder = known.output or run_dir / "figures"
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected --output to name a folder (got the file {folder}); choose another")
    return folder if known.output or known.command != "pair" else folder / _name(known)


def _name(known: argparse.Namespace) -> str:
    """The name of a figure, from the first two pictures."""
    return f"{known.command}_{'__'.join(picture.stem for picture in known.pictures[:2])}"


def _formats(known: argparse.Namespace) -> tuple[str, ...]:
    return ("png", "svg") if known.format == "both" else (known.format,)


def _pair(known: argparse.Namespace, config: Config, folder: Path) -> list[Path]:
    analysis = analyse_pair(known.checkpoint, tuple(known.pictures), config)
    files = write_pair(folder, analysis, known.strongest, _formats(known))
    print(describe_pair(analysis, known.strongest), end="\n\n")
    return files


def _conditional_maps(known: argparse.Namespace, config: Config, folder: Path) -> list[Path]:
    query, *gallery = known.pictures
    figure = draw_conditional_maps(known.checkpoint, query, gallery, config)
    return write_figures(folder, {_name(known): figure}, _formats(known))


def _correspondences(known: argparse.Namespace, config: Config, folder: Path) -> list[Path]:
    figure = draw_correspondences(known.checkpoint, tuple(known.pictures), config, known.strongest)
    return write_figures(folder, {_name(known): figure}, _formats(known))


def _ranked_lists(known: argparse.Namespace, config: Config, folder: Path) -> list[Path]:
    figures = draw_ranked_lists(known.checkpoint, config, known.query)
    named = {f"ranked_lists_{Path(name).stem}": figure for name, figure in figures.items()}
    return write_figures(folder, named, _formats(known))


if __name__ == "__main__":
    sys.exit(main())
