"""The training loop."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample, Splits
from cace_pyg.engine.assembly import build_model
from cace_pyg.engine.checkpoint import load_checkpoint, load_model_state, save_checkpoint
from cace_pyg.engine.evaluation import choose_weight, evaluate_individual
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.run_folder import RunFolder
from cace_pyg.models import CaceNet

Phase = JointPhase | PairPhase


@dataclass
class Progress:
    """How far a run is: with the weights and the optimizer, all that a continuation needs.

    Every random choice of an epoch is a function of the run's seed and the epoch, so no generator state is kept.
    """

    epoch: int = 0  # epochs that are done, over both phases
    best: float = -math.inf  # validation mAP of best.ckpt
    best_phase: str = ""
    fusion_weight: float | None = None
    log: list[dict] = field(default_factory=list)
    optimizer: dict | None = None


def train(config: Config, config_yaml: str, splits: Splits, environment: dict[str, str], resume: bool) -> RunFolder:
    """Train as ``config`` says, both phases, and leave ``last.ckpt``, ``best.ckpt`` and ``log.csv`` in the run folder.

    Args:
        config: the run.
        config_yaml: its text, kept in the folder and in every checkpoint.
        splits: training pictures, and the query and gallery of held-out training identities (may be empty).
        environment: kept in every checkpoint: versions, machine, data-set fingerprint.
        resume: go on from ``last.ckpt`` if there is one.

    Raises:
        RuntimeError: a loss is NaN or infinite, or a file cannot be written.
        FileExistsError, ValueError: see :meth:`RunFolder.open`.
    """
    folder = RunFolder(config.run_dir)
    folder.open(config_yaml, resume)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    fabric = Fabric(accelerator=config.device, devices=1, precision=config.precision)
    torch.manual_seed(config.seed)
    identities = len({sample.pid for sample in splits.train})
    continues = resume and folder.last.exists()
    model = build_model(config, identities, pretrained=not continues)
    progress = _resumed(folder, model) if continues else Progress()
    model.to(fabric.device)
    fixed = {"config": config_yaml, "identities": identities, "environment": environment}
    first_epoch = 0
    for make_phase in (JointPhase, PairPhase):
        phase = make_phase(config, splits.train)
        if progress.epoch < first_epoch + phase.epochs:
            _run_phase(fabric, model, phase, first_epoch, progress, config, splits, folder, fixed)
        first_epoch += phase.epochs
    return folder


class TrainingStep(torch.nn.Module):
    """From a batch to loss terms in one forward pass, which is what Fabric (precision, later DDP) wraps."""

    def __init__(self, model: CaceNet, phase: Phase):
        super().__init__()
        self.model = model
        self.phase = phase

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        return self.phase.losses(self.model, *batch)


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate at ``step`` of ``steps``: linear over ``warmup`` steps, then cosine to 0."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))


def _run_phase(
    fabric: Fabric,
    model: CaceNet,
    phase: Phase,
    first_epoch: int,
    progress: Progress,
    config: Config,
    splits: Splits,
    folder: RunFolder,
    fixed: dict,
) -> None:
    fresh = progress.epoch == first_epoch
    phase.start(model, fresh, fabric.device)
    step, optimizer = fabric.setup(TrainingStep(model, phase), phase.optimizer(model))
    if not fresh:
        optimizer.load_state_dict(progress.optimizer)
    for epoch in range(progress.epoch, first_epoch + phase.epochs):
        started = time.perf_counter()
        torch.manual_seed(config.seed + 1_000_003 * (epoch + 1))  # dropout and the like, whatever ran before
        row = {"epoch": epoch + 1, "phase": phase.name}
        row |= _run_epoch(fabric, model, step, phase, optimizer, epoch - first_epoch)
        is_last = epoch + 1 == first_epoch + phase.epochs
        if splits.query and (is_last or (epoch + 1) % config.train.validate_every == 0):
            validation = _validate(model, phase, config, splits.query, splits.gallery, fabric.device)
            row |= validation
        row["seconds"] = round(time.perf_counter() - started, 2)
        progress.log.append(row)
        _record(model, optimizer, phase, progress, bool(splits.query), folder, fixed)


def _run_epoch(fabric: Fabric, model: CaceNet, training_step, phase: Phase, optimizer, epoch: int) -> dict[str, float]:
    """One pass of a phase; the mean of every loss term."""
    phase.set_mode(model)
    steps = len(phase.sampler)
    totals: dict[str, float] = {}
    bar = tqdm(phase.batches(epoch), total=steps, desc=f"{phase.name} {epoch + 1}/{phase.epochs}", unit="step")
    for step, batch in enumerate(bar):
        at = epoch * steps + step
        factor = learning_rate_factor(at, phase.epochs * steps, phase.warmup_epochs * steps)
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate * factor
        terms = training_step(*(one.to(fabric.device) for one in batch))
        loss = sum(terms.values())
        _check_finite(loss, terms, phase, epoch, step)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        for name, term in terms.items():
            totals[name] = totals.get(name, 0.0) + term.item()
        bar.set_postfix({name: f"{total / (step + 1):.3f}" for name, total in totals.items()})
    row = {"learning_rate": phase.learning_rate * factor}
    return row | {name: total / steps for name, total in totals.items()}


def _check_finite(loss: Tensor, terms: dict[str, Tensor], phase: Phase, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} = {term.item():g}" for name, term in terms.items())
        raise RuntimeError(
            f"the loss is not finite at step {step + 1} of epoch {epoch + 1} of the {phase.name} phase: {values}. "
            "Nothing of this epoch is kept; lower the learning rate, lengthen the warm-up or use --precision 32-true"
        )


def _validate(
    model: CaceNet, phase: Phase, config: Config, query: Sequence[Sample], gallery: Sequence[Sample], device
) -> dict[str, float]:
    """Metrics on the held-out identities; with a trained pair branch also the fusion weight that does best there."""
    if not phase.trains_pairs:
        individual = evaluate_individual(model, query, gallery, config, device)
        return {"validation_individual_mAP": individual.mAP}
    choice, individual = choose_weight(model, query, gallery, config, device)
    two_stage = max(mAP for _, mAP, _ in choice.curve)
    return {
        "validation_individual_mAP": individual.mAP,
        "validation_two_stage_mAP": two_stage,
        "validation_fusion_weight": choice.weight,
    }


def _record(
    model: CaceNet,
    optimizer,
    phase: Phase,
    progress: Progress,
    validates: bool,
    folder: RunFolder,
    fixed: dict,
) -> None:
    """Write the log and the checkpoints of a finished epoch."""
    row = progress.log[-1]
    progress.epoch = row["epoch"]
    is_best = _is_best(row, phase, progress, validates)
    state = fixed | {
        "model": model.state_dict(),
        "epoch": progress.epoch,
        "best": progress.best,
        "best_phase": progress.best_phase,
        "fusion_weight": progress.fusion_weight,
        "log": progress.log,
    }
    if is_best:
        save_checkpoint(folder.best, state)
    save_checkpoint(folder.last, state | {"optimizer": optimizer.state_dict()})
    folder.write_log(progress.log)


def _is_best(row: dict, phase: Phase, progress: Progress, validates: bool) -> bool:
    """Whether this epoch becomes ``best.ckpt``; if so, ``progress`` remembers its score.

    The highest validation mAP wins, the later of equals; a phase starts its own contest, since the scores of the
    phases mean different things. Without validation the latest epoch wins.
    """
    score = row.get("validation_two_stage_mAP", row.get("validation_individual_mAP"))
    if validates and (score is None or (score < progress.best and phase.name == progress.best_phase)):
        return False
    progress.best = -math.inf if score is None else score
    progress.best_phase = phase.name
    progress.fusion_weight = row.get("validation_fusion_weight")
    return True


def _resumed(folder: RunFolder, model: CaceNet) -> Progress:
    state = load_checkpoint(folder.last)
    load_model_state(model, state["model"], folder.last)
    return Progress(
        state["epoch"],
        state["best"],
        state["best_phase"],
        state["fusion_weight"],
        state["log"],
        state["optimizer"],
    )
