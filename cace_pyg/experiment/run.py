"""A complete run: read, train, evaluate, report."""

import csv
from pathlib import Path

import torch
from lightning_fabric import Fabric

from cace_pyg.config import Config
from cace_pyg.data.part_map import check_part_maps
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.sample import Splits, fingerprint
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.build import build_model
from cace_pyg.engine.checkpoint import (
    LatestCheckpoint,
    calibration_of,
    latest_checkpoint,
    load_model,
)
from cace_pyg.engine.decisions import decisions_of
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import Evaluation, check_fusion, evaluate_model, trains_pairs
from cace_pyg.engine.files import write_csv
from cace_pyg.engine.launch_fabric import launch_fabric
from cace_pyg.engine.preflight import check_matches, check_neighbours, check_settings
from cace_pyg.engine.results import metrics_of, queries_of
from cace_pyg.engine.run_folder import RunFolder
from cace_pyg.engine.training import Trainer, people_of_pair_phase
from cace_pyg.explain.run_report import report_run
from cace_pyg.models import CaceNet, FrozenExtractor
from cace_pyg.progress import write_line


def run(config: Config, resume: bool, report: bool = True) -> tuple[RunFolder, Evaluation | None]:
    """Train, evaluate ``best.ckpt`` on query and gallery, write ``metrics.json``, ``queries.csv`` and ``report.html``.

    Under ``torchrun`` all ranks train and the first evaluates; the others return no evaluation.

    Raises:
        ValueError: the configuration and the data set do not fit; raised before anything is trained.
        FileNotFoundError: there is no data set at ``data.root``, or pictures lack the label maps that the graph needs.
        RuntimeError: see :class:`cace_pyg.engine.training.Trainer`.
    """
    check_fusion(config)
    splits = read_splits(config.data)
    check_matches(splits, config)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed, config.evaluation.same_camera)
    return train_and_evaluate(config, splits, held_out, resume, report)


def train_and_evaluate(
    config: Config, splits: Splits, held_out: Splits, resume: bool = False, report: bool = True
) -> tuple[RunFolder, Evaluation | None]:
    """:func:`run` with splits that were read already.

    Args:
        config: the run.
        splits: the whole data set.
        held_out: training pictures, and query and gallery of the identities held out of them.
        resume: continue from ``last.ckpt``.
        report: write ``report.html``, which takes some seconds.
    """
    check_settings(config)
    check_neighbours(splits, config)
    fabric = launch_fabric(config)
    precision = str(fabric.strategy.precision.precision)
    environment = describe_environment(config.seed, fingerprint(splits)) | {"precision": precision}
    folder = RunFolder(config.run_dir)
    if fabric.is_global_zero:
        folder.check(config.to_yaml(), resume)
    latest = latest_checkpoint(folder) if resume else None
    model = _build(config, held_out.num_identities, latest, fabric)
    if model.needs_parts:
        check_part_maps([*splits.train, *splits.query, *splits.gallery])
    Trainer(model, config, held_out, environment, resume, fabric).run()
    if not fabric.is_global_zero:
        return folder, None
    environment |= {"ranks": str(fabric.world_size)}
    model, state = load_model(folder.best, config)
    chosen_on = people_of_pair_phase(config, held_out) if config.neighbours.tune else None
    evaluation = evaluate_model(
        model,
        splits.query,
        splits.gallery,
        config,
        state["fusion_weight"],
        calibration=calibration_of(state),
        held_out=chosen_on,
    )
    decisions = decisions_of(evaluation)
    folder.write_metrics(metrics_of(evaluation, environment, decisions))
    write_csv(folder.queries, queries_of(evaluation))
    if report:
        with folder.log.open(newline="") as file:
            log = list(csv.DictReader(file))
        title = f"CACE-Net on {Path(config.data.root).name}"
        second_stage = trains_pairs(config)
        told = log, environment, config.to_yaml()
        report_run(folder.report, title, model, evaluation, decisions, second_stage, *told)
    return folder, evaluation


def _build(config: Config, identities: int, latest: LatestCheckpoint | None, fabric: Fabric) -> CaceNet:
    """The network with its initial weights, unless a checkpoint has them.

    The first rank downloads what is needed, and the others find it there.
    """
    torch.manual_seed(config.seed)
    pretrained = latest is None and config.start_from is None
    layers = latest.state.get("layers") if latest else None
    for first in (True, False):
        if first == fabric.is_global_zero:
            model = build_model(config, identities, pretrained, layers)
        fabric.barrier()  # Fabric's rank_zero_first hangs after a restart by torchrun
    extractor = model.extractor
    loaded = extractor if isinstance(extractor, FrozenExtractor) else getattr(extractor, "loaded_weights", None)
    if fabric.is_global_zero and loaded is not None:
        write_line(str(loaded))
    if fabric.is_global_zero and config.backbone.earlier and not isinstance(extractor, FrozenExtractor):
        layers_too = ", ".join(map(str, config.backbone.earlier))
        write_line(f"clues have {extractor.channels} channels, with those of earlier layers ({layers_too})")
    return model
