"""``python -m cace_pyg.evaluate``: both stages of a trained model on a data set, or a published network."""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cace_pyg.config import Config, config_of, config_parser, from_yaml, parse
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.sample import Splits, fingerprint
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_model
from cace_pyg.engine.decisions import decisions_of
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import evaluate_model, labels_of
from cace_pyg.engine.files import write_text
from cace_pyg.engine.launch_fabric import launch_fabric
from cace_pyg.engine.preflight import check_matches
from cace_pyg.engine.published_evaluation import evaluate_published
from cace_pyg.engine.ranks import leave_ranks
from cace_pyg.engine.results import (
    further_results,
    metrics_of,
    metrics_table,
    open_set_table,
    results_table,
)
from cace_pyg.user_path import user_path

DESCRIPTION = """Rank a gallery by individual distance, then the top k again by the conditional one.

  python -m cace_pyg.evaluate --checkpoint RUN_DIR/checkpoints/best.ckpt
  torchrun --nproc_per_node 4 -m cace_pyg.evaluate --checkpoint …    several GPUs or machines, see docs/ranks.md
  python -m cace_pyg.evaluate --config configs/market1501.yaml --data.root PATH --backbone.weights PATH

With --checkpoint the configuration is the run's. With --config the network at backbone.weights is evaluated as it was
published, by its pooled features and its own neck: torchvision's, timm's, or one of fast-reid, torchreid or a strong
baseline (--backbone.stem); or a file of ONNX (--backbone.name onnx) or OpenVINO (--backbone.name openvino).

Dotted options override either, such as --data.root PATH, --evaluation.top_k 50, --evaluation.fusion paper | auto | 0.5,
--evaluation.average_precision trapezoid, --evaluation.unknown_share 0.3 (people who are not in the gallery,
docs/decision.md), --k_reciprocal.k1 20, --conditional.backend dense. All of them:
python -m cace_pyg.train --help."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = _parser()
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        parser.print_help()
        return 0
    known, overrides = parser.parse_known_args(arguments)
    try:
        if known.output is not None:
            _prepare_output(known.output)
        found = (_of_checkpoint if known.checkpoint else _of_published)(known, overrides)
        leave_ranks()
        if found is None:
            return 0
        text, content = found
        print(text)
        if known.output is not None:
            write_text(known.output, json.dumps(content, indent=2) + "\n")
            print(f"metrics: {known.output}")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m cace_pyg.evaluate",
        "python -m cace_pyg.evaluate (--checkpoint FILE | --config FILE) [options]",
        DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=user_path, help="RUN_DIR/checkpoints/best.ckpt")
    what.add_argument("--config", type=user_path, help="YAML file of a run that names a published network")
    parser.add_argument("--output", type=user_path, help="JSON file for the metrics; without it they are printed only")
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
    parser.add_argument(
        "--single_shot",
        action="store_true",
        help="also measure by CUHK03's protocol: one gallery picture of each identity, drawn 100 times",
    )
    return parser


def _prepare_output(path: Path) -> None:
    """Before an hour of work."""
    if path.is_dir():
        raise ValueError(f"Expected --output to name a JSON file (got the folder {path})")
    path.parent.mkdir(parents=True, exist_ok=True)


def _of_checkpoint(known: argparse.Namespace, overrides: list[str]) -> tuple[str, dict[str, Any]] | None:
    state = load_checkpoint(known.checkpoint)
    if "network" not in state and any(option.startswith("--backbone.weights") for option in overrides):
        raise ValueError("a checkpoint holds its own weights: leave --backbone.weights out, or give --config instead")
    config = from_yaml(state["config"], *overrides)
    try:
        splits, environment = _read(config, known)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\ndata.root, {Path(config.data.root).absolute()}, stands in the checkpoint; give --data.root and "
            "--data.name where the data lies elsewhere"
        ) from error
    fabric = launch_fabric(replace(config, precision="32-true"))  # evaluation is exact, whatever training was
    model, state = load_model(known.checkpoint, config)
    chosen = state["fusion_weight"], fabric, calibration_of(state)
    evaluation = evaluate_model(model, splits.query, splits.gallery, config, *chosen)
    if evaluation is None:  # the first rank has it
        return None
    environment |= {"ranks": str(fabric.world_size)}
    decisions = decisions_of(evaluation)
    if not (known.k_reciprocal or known.single_shot):
        return results_table(evaluation, decisions=decisions), metrics_of(evaluation, environment, decisions)
    distances = evaluation.distances  # from here on whole: query × gallery of them
    stages = {"individual": distances.individual(), "two_stage": distances.two_stage(evaluation.fusion_weight)}
    embeddings = evaluation.query.embedding, evaluation.gallery.embedding
    labels = labels_of(evaluation.query.samples, evaluation.gallery.samples)
    further = further_results(stages, embeddings, labels, config, known.k_reciprocal, known.single_shot)
    decisions |= further.open_set
    content = metrics_of(evaluation, environment, decisions) | further.as_dict()
    return results_table(evaluation, further, decisions), content


def _of_published(known: argparse.Namespace, overrides: list[str]) -> tuple[str, dict[str, Any]]:
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("a published network is evaluated by one process: start python, not torchrun")
    parser = config_parser("evaluate", "")
    config = config_of(parse(parser, ["--config", str(known.config), *overrides]), parser)
    splits, environment = _read(config, known)
    metrics, further, described = evaluate_published(
        config, splits.query, splits.gallery, known.k_reciprocal, known.single_shot
    )
    content = {"individual": metrics.as_dict(), "network": described, "policy": metrics.policy}
    content |= {"open_set": {name: found.as_dict() for name, found in further.open_set.items()}}
    table = "\n".join([metrics_table({"individual": metrics}, further, described), open_set_table(further.open_set)])
    return table, content | further.as_dict() | {"environment": environment}


def _read(config: Config, known: argparse.Namespace) -> tuple[Splits, dict[str, str]]:
    splits = read_splits(config.data)
    environment = describe_environment(config.seed, fingerprint(splits))
    if known.split == "validation":
        same_camera = config.evaluation.same_camera
        splits = hold_out_identities(splits.train, config.data.hold_out, config.seed, same_camera)
    check_matches(splits, config)
    images = len({sample.path for sample in (*splits.query, *splits.gallery)})
    if known.k_reciprocal and config.k_reciprocal.k1 >= images:
        raise ValueError(
            f"Expected k_reciprocal.k1 below the number of images, {images} (got {config.k_reciprocal.k1})"
        )
    return splits, environment


if __name__ == "__main__":
    sys.exit(main())
