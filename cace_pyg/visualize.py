"""``python -m cace_pyg.visualize``: what a trained model sees between two pictures."""

import argparse
import sys
from pathlib import Path

from cace_pyg.config import from_yaml
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.pair_analysis import PairAnalysis, analyse_pair
from cace_pyg.engine.pair_report import describe_pair, write_pair

DESCRIPTION = """Compare two pictures with a trained model and take their pair graph apart.

Printed: the individual, conditional and fused distance; density and degrees of the graph; the decisive
correspondences (a maximum-weight matching: each clue is used once); the clusters of clues (communities).
Written: matching.png, clusters.png, degrees.png, and graph.graphml, which Gephi opens.

The configuration is the checkpoint's; any of its dotted options can be given to override it, such as
--evaluation.fusion paper | auto | 0.5, --data.height 256."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        folder = _output(known)
        analysis = _analyse(known, overrides)
        formats = ("png", "svg") if known.format == "svg" else ("png",)
        files = write_pair(folder, analysis, known.strongest, formats)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(describe_pair(analysis, known.strongest), end="\n\n")
    print("\n".join(f"written: {path}" for path in files))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.visualize",
        "python -m cace_pyg.visualize --checkpoint RUN_DIR/checkpoints/best.ckpt --pair A.jpg B.jpg [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, type=Path, help="RUN_DIR/checkpoints/best.ckpt")
    parser.add_argument("--pair", required=True, nargs="+", type=Path, metavar="PICTURE", help="two pictures, a and b")
    parser.add_argument("--output", type=Path, help="folder for the files (default: RUN_DIR/pairs/A__B)")
    parser.add_argument("--strongest", type=int, default=20, help="matches to draw and print (default: 20)")
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="svg: vector figures beside the PNGs")
    return parser


def _output(known: argparse.Namespace) -> Path:
    """Check what argparse cannot, and find the folder to write into."""
    if len(known.pair) != 2:
        raise ValueError(f"Expected two pictures after --pair (got {len(known.pair)}); give --pair A.jpg B.jpg")
    if known.strongest < 1:
        raise ValueError(f"Expected --strongest of at least 1 (got {known.strongest})")
    beside = known.checkpoint.parent
    run_dir = beside.parent if beside.name == "checkpoints" else beside
    folder = known.output or run_dir / "pairs" / "__".join(picture.stem for picture in known.pair)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"Expected --output to name a folder (got the file {folder}); choose another")
    return folder


def _analyse(known: argparse.Namespace, overrides: list[str]) -> PairAnalysis:
    config = from_yaml(load_checkpoint(known.checkpoint)["config"], *overrides)
    return analyse_pair(known.checkpoint, tuple(known.pair), config)


if __name__ == "__main__":
    sys.exit(main())
