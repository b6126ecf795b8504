"""``python -m cace_pyg.evaluate``: evaluate both stages of a trained model, or a published network."""

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
from cace_pyg.engine.distances import labels_of
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import evaluate_model
from cace_pyg.engine.files import write_text
from cace_pyg.engine.launch_fabric import launch_fabric
from cace_pyg.engine.preflight import check_matches, check_neighbours
from cace_pyg.engine.published_evaluation import evaluate_published
from cace_pyg.engine.ranks import leave_ranks
from cace_pyg.engine.results import as_json, metrics_of, metrics_table, open_set_table, results_table, single_shots
from cace_pyg.engine.training import people_of_pair_phase
from cace_pyg.retrieval import Metrics, SingleShot
from cace_pyg.user_path import user_path

DESCRIPTION = """Rank a gallery by individual distance, then re-rank the top k by conditional distance.

  python -m cace_pyg.evaluate --checkpoint RUN_DIR/checkpoints/best.ckpt
  torchrun --nproc_per_node 4 -m cace_pyg.evaluate --checkpoint …    several GPUs or machines, see docs/ranks.md
  python -m cace_pyg.evaluate --config market1501 --data.root PATH --backbone.weights PATH

With --checkpoint the configuration is the run's. With --config the network at backbone.weights is evaluated as it was
published, by its pooled features and its own neck: a network of torchvision, timm, fast-reid, torchreid or a strong
baseline (--backbone.stem), or an ONNX (--backbone.name onnx) or OpenVINO (--backbone.name openvino) file.

Dotted options override either, such as --data.root PATH, --evaluation.top_k 50, --evaluation.fusion paper | auto | 0.5,
--evaluation.average_precision trapezoid, --evaluation.unknown_share 0.3 (people who are not in the gallery,
docs/decision.md), --neighbours.method k_reciprocal, --conditional.backend dense. All of them:
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
        overrides = _overrides(known, overrides)
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
    what.add_argument("--checkpoint", type=user_path, help="RUN_DIR/checkpoints/best.ckpt, or a bundle")
    what.add_argument("--config", type=user_path, help="YAML file, or name, of settings with a published network")
    parser.add_argument("--output", type=user_path, help="JSON file for the metrics; without it they are only printed")
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="query and gallery of the data set, or the identities held out of training (default: test)",
    )
    parser.add_argument(
        "--k_reciprocal",
        action="store_true",
        help="short for --neighbours.method k_reciprocal: re-rank by k-reciprocal neighbours (Zhong et al., 2017), by "
        "the individual embeddings and by both stages",
    )
    parser.add_argument(
        "--single_shot",
        action="store_true",
        help="also use CUHK03's protocol: one gallery picture of each identity, drawn 100 times",
    )
    return parser


def _overrides(known: argparse.Namespace, overrides: list[str]) -> list[str]:
    given = {option.partition("=")[0] for option in overrides}
    if "--run_dir" in given:
        raise ValueError("an evaluation has no run folder: leave --run_dir out; --output FILE stores the metrics")
    if not known.k_reciprocal:
        return overrides
    if "--neighbours.method" in given:
        raise ValueError("--k_reciprocal is short for --neighbours.method k_reciprocal: give one of them")
    return [*overrides, "--neighbours.method=k_reciprocal"]


def _prepare_output(path: Path) -> None:
    """Check the output file before an hour of work."""
    if path.is_dir():
        raise ValueError(f"Expected --output to name a JSON file (got the folder {path})")
    path.parent.mkdir(parents=True, exist_ok=True)


def _of_checkpoint(known: argparse.Namespace, overrides: list[str]) -> tuple[str, dict[str, Any]] | None:
    state = load_checkpoint(known.checkpoint)
    if "network" not in state and any(option.startswith("--backbone.weights") for option in overrides):
        raise ValueError("a checkpoint has its own weights: leave --backbone.weights out, or give --config instead")
    config = from_yaml(state["config"], *overrides)
    try:
        splits, chosen_on, environment = _read(config, known)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}\ndata.root, {Path(config.data.root).absolute()}, is from the checkpoint; give --data.root and "
            "--data.name if the data is elsewhere"
        ) from error
    fabric = launch_fabric(replace(config, precision="32-true"))  # full precision, whatever the training used
    model, state = load_model(known.checkpoint, config)
    evaluation = evaluate_model(
        model,
        splits.query,
        splits.gallery,
        config,
        state["fusion_weight"],
        fabric,
        calibration=calibration_of(state),
        held_out=chosen_on,
    )
    if evaluation is None:  # the first rank has it
        return None
    environment |= {"ranks": str(fabric.world_size)}
    decisions = decisions_of(evaluation)
    content = metrics_of(evaluation, environment, decisions) | {"split": known.split}
    content |= {name: getattr(config.evaluation, name) for name in ("gallery_neighbours", "gallery_clues")}
    told = _told(config, known.split, len(evaluation.distances.query), len(evaluation.distances.gallery))
    if not known.single_shot:
        return f"{told}\n{results_table(evaluation, decisions=decisions)}", content
    distances = evaluation.distances  # from here on the whole query × gallery matrix
    stages = {"individual": distances.individual(), "two_stage": distances.two_stage(evaluation.fusion_weight)}
    curves = single_shots(stages, labels_of(evaluation.query.samples, evaluation.gallery.samples), config.seed)
    return f"{told}\n{results_table(evaluation, curves, decisions)}", content | as_json(curves)


def _told(config: Config, split: str, queries: int, gallery: int) -> str:
    """A line about what is evaluated."""
    settings = config.evaluation
    compared = f"{min(settings.top_k, gallery):,} "
    if settings.gallery_neighbours:
        compared += f"pictures, following {settings.gallery_neighbours} gallery neighbours"
    else:
        compared = f"the {compared}nearest"
    fewer = f", with {settings.gallery_clues} clues of a gallery picture" if settings.gallery_clues else ""
    return f"{split}: {queries:,} queries, {gallery:,} in the gallery; the second stage compares {compared}{fewer}"


def _of_published(known: argparse.Namespace, overrides: list[str]) -> tuple[str, dict[str, Any]]:
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("a published network is evaluated by one process: start python, not torchrun")
    parser = config_parser("evaluate", "")
    config = config_of(parse(parser, ["--config", str(known.config), *overrides]), parser)
    splits, _, environment = _read(config, known)
    rows, curves, decisions, described = evaluate_published(config, splits.query, splits.gallery, known.single_shot)
    individual = rows.pop("individual")
    content = {"individual": individual.as_dict(), "network": described, "policy": individual.policy}
    content |= {"open_set": {name: found.as_dict() for name, found in decisions.items()}}
    further: dict[str, Metrics | SingleShot] = {**rows, **curves}
    table = metrics_table({"individual": individual, **further}, described)
    return "\n".join([table, open_set_table(decisions)]), content | as_json(further) | {"environment": environment}


def _read(config: Config, known: argparse.Namespace) -> tuple[Splits, Splits | None, dict[str, str]]:
    """The data to rank, the data to choose settings on (if any), and the environment."""
    splits = read_splits(config.data)
    environment = describe_environment(config.seed, fingerprint(splits))
    held_out = None
    if known.split == "validation" or config.neighbours.tune:
        same_camera = config.evaluation.same_camera
        if not splits.train:
            what = "--split validation" if known.split == "validation" else "neighbours.tune"
            raise ValueError(
                f"Expected training pictures with {what}, which uses people held out of them (got none in "
                f"{config.data.root}); leave it out"
            )
        held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed, same_camera)
    if known.split == "validation" and held_out is not None:
        splits = held_out
    check_matches(splits, config)
    check_neighbours(splits, config)
    chosen_on = people_of_pair_phase(config, held_out) if held_out is not None and config.neighbours.tune else None
    return splits, chosen_on, environment


if __name__ == "__main__":
    sys.exit(main())
