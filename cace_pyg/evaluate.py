"""``python -m cace_pyg.evaluate``: both stages of a trained model on a data set."""

import argparse
import json
import sys
from pathlib import Path

from cace_pyg.config import from_yaml
from cace_pyg.data.fingerprint import fingerprint
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import with_k_reciprocal
from cace_pyg.engine.read_splits import read_splits
from cace_pyg.engine.run import evaluate_model, load_model, metrics_of, results_table
from cace_pyg.engine.run_folder import write_text

DESCRIPTION = """Rank a gallery by individual distance, then the top k again by the conditional one.

The configuration is the checkpoint's; any of its dotted options can be given to override it, such as
--data.root PATH, --evaluation.top_k 50, --evaluation.fusion paper | auto | 0.5, --conditional.engine dense."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.evaluate",
        "python -m cace_pyg.evaluate --checkpoint RUN_DIR/checkpoints/best.ckpt [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--checkpoint", required=True, type=Path, help="RUN_DIR/checkpoints/best.ckpt")
    parser.add_argument("--output", type=Path, help="JSON file for the metrics; without it they are printed only")
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="query and gallery of the data set, or the identities held out of training (default: test)",
    )
    parser.add_argument(
        "--k_reciprocal",
        action="store_true",
        help="also rank with k-reciprocal neighbours (Zhong et al., 2017): instead of the second stage, and after it",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        evaluation, environment = _evaluate(known.checkpoint, known.split, known.k_reciprocal, overrides)
        print(results_table(evaluation))
        if known.output is not None:
            write_text(known.output, json.dumps(metrics_of(evaluation, environment), indent=2) + "\n")
            print(f"metrics: {known.output}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _evaluate(checkpoint: Path, split: str, k_reciprocal: bool, overrides: list[str]):
    config = from_yaml(load_checkpoint(checkpoint)["config"], *overrides)
    splits = read_splits(config.data)
    environment = describe_environment(config.seed, fingerprint(splits))
    if split == "validation":
        splits = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    model, state = load_model(checkpoint, config)
    evaluation = evaluate_model(model, state, splits.query, splits.gallery, config)
    return with_k_reciprocal(evaluation, config) if k_reciprocal else evaluation, environment


if __name__ == "__main__":
    sys.exit(main())
