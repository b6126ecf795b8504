"""The training loop."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from cace_pyg.config import Config
from cace_pyg.data.sample import Splits
from cace_pyg.engine.assembly import build_model
from cace_pyg.engine.checkpoint import load_checkpoint, load_individual_branch, load_model_state, save_checkpoint
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


class Trainer:
    """Trains both phases as ``config`` says; leaves ``last.ckpt``, ``best.ckpt`` and ``log.csv`` in the run folder.

    Args:
        config: the run.
        config_yaml: its text, kept in the folder and in every checkpoint.
        splits: training pictures, and the query and gallery of held-out training identities (may be empty).
        environment: kept in every checkpoint: versions, machine, data-set fingerprint.
        resume: go on from ``last.ckpt`` if there is one.

    Raises:
        FileExistsError, ValueError, RuntimeError: see :meth:`RunFolder.open`.
        FileNotFoundError, ValueError: no checkpoint at ``start_from``, or one of another individual branch.
    """

    def __init__(
        self, config: Config, config_yaml: str, splits: Splits, environment: dict[str, str], resume: bool = False
    ):
        if config.train.epochs == config.pair_phase.epochs == 0:
            raise ValueError("there is nothing to train: train.epochs and pair_phase.epochs are both 0")
        self.config = config
        self.splits = splits
        self.folder = RunFolder(config.run_dir)
        self.folder.open(config_yaml, resume)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.fabric = Fabric(accelerator=config.device, devices=1, precision=config.precision)
        identities = len({sample.pid for sample in splits.train})
        self.fixed = {"config": config_yaml, "identities": identities, "environment": environment}
        torch.manual_seed(config.seed)
        continues = resume and self.folder.last.exists()
        self.model = build_model(config, identities, pretrained=not continues and config.start_from is None)
        if self.model.backbone.loaded_weights is not None:
            tqdm.write(str(self.model.backbone.loaded_weights))
        if config.start_from is not None and not continues:
            load_individual_branch(self.model, Path(config.start_from))
        _check_pair_branch(self.model, config)
        _check_graph(self.model, config)
        self.progress, self.optimizer_state = Progress(), None
        if continues:
            self._continue()
        self.model.to(self.fabric.device)

    def run(self) -> RunFolder:
        """Train all epochs that are left.

        Raises:
            RuntimeError: a loss is NaN or infinite, or a file cannot be written.
        """
        first_epoch = 0
        for make_phase in (JointPhase, PairPhase):
            phase = make_phase(self.config, self.splits.train)
            if self.progress.epoch < first_epoch + phase.epochs:
                self._run_phase(phase, first_epoch)
            first_epoch += phase.epochs
        return self.folder

    def _run_phase(self, phase: Phase, first_epoch: int) -> None:
        fresh = self.progress.epoch == first_epoch
        phase.start(self.model, fresh, self.fabric.device)
        step, optimizer = self.fabric.setup(TrainingStep(self.model, phase), phase.optimizer(self.model))
        if not fresh:
            optimizer.load_state_dict(self.optimizer_state)
        last = first_epoch + phase.epochs
        for epoch in range(self.progress.epoch + 1, last + 1):
            started = time.perf_counter()
            torch.manual_seed(self.config.seed + 1_000_003 * epoch)  # dropout and the like, whatever ran before
            row = {"epoch": epoch, "phase": phase.name}
            row |= self._run_epoch(phase, step, optimizer, epoch - first_epoch - 1)
            if self.splits.query and (epoch == last or epoch % self.config.train.validate_every == 0):
                row |= self._validate(phase)
            row["seconds"] = round(time.perf_counter() - started, 2)
            self._record(row, optimizer)

    def _run_epoch(self, phase: Phase, training_step, optimizer, epoch: int) -> dict[str, float]:
        """One pass of a phase; the mean of every loss term."""
        phase.set_mode(self.model)
        steps = len(phase.sampler)
        totals: dict[str, float] = {}
        bar = tqdm(phase.batches(epoch), total=steps, desc=f"{phase.name} {epoch + 1}/{phase.epochs}", unit="step")
        for step, batch in enumerate(bar):
            at = epoch * steps + step
            factor = learning_rate_factor(at, phase.epochs * steps, phase.warmup_epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * factor
            terms = training_step(*(one.to(self.fabric.device) for one in batch))
            loss = sum(terms.values())
            _check_finite(loss, terms, phase, epoch, step)
            optimizer.zero_grad()
            self.fabric.backward(loss)
            optimizer.step()
            for name, term in terms.items():
                totals[name] = totals.get(name, 0.0) + term.item()
            bar.set_postfix(_postfix(totals, step + 1, self.model, phase))
        _check_weights(self.model, phase, epoch)
        row = {"learning_rate": phase.learning_rate * factor}
        row |= {name: total / steps for name, total in totals.items()}
        return row | (_density(self.model) if phase.trains_pairs else {})

    def _validate(self, phase: Phase) -> dict[str, float]:
        """Metrics on the held-out identities; with a trained pair branch also the fusion weight that is best there."""
        held_out = (self.splits.query, self.splits.gallery, self.config, self.fabric.device)
        if not phase.trains_pairs:
            return {"validation_individual_mAP": evaluate_individual(self.model, *held_out).mAP}
        choice, individual = choose_weight(self.model, *held_out)
        return {
            "validation_individual_mAP": individual.mAP,
            "validation_two_stage_mAP": max(mAP for _, mAP, _ in choice.curve),
            "validation_fusion_weight": choice.weight,
        }

    def _record(self, row: dict, optimizer) -> None:
        """Write the log and the checkpoints of a finished epoch."""
        progress = self.progress
        progress.log.append(row)
        progress.epoch = row["epoch"]
        is_best = self._is_best(row)
        state = self.fixed | {"model": self.model.state_dict()} | vars(progress)
        if is_best:
            save_checkpoint(self.folder.best, state)
        save_checkpoint(self.folder.last, state | {"optimizer": optimizer.state_dict()})
        self.folder.write_log(progress.log)

    def _is_best(self, row: dict) -> bool:
        """Whether this epoch becomes ``best.ckpt``; if so, the progress remembers its score.

        The highest validation mAP wins, the later of equals; a phase starts its own contest, since the scores of the
        phases mean different things. Without held-out identities the latest epoch wins.
        """
        progress = self.progress
        score = row.get("validation_two_stage_mAP", row.get("validation_individual_mAP"))
        if self.splits.query and (score is None or (score < progress.best and row["phase"] == progress.best_phase)):
            return False
        progress.best = -math.inf if score is None else score
        progress.best_phase = row["phase"]
        progress.fusion_weight = row.get("validation_fusion_weight")
        return True

    def _continue(self) -> None:
        state = load_checkpoint(self.folder.last)
        load_model_state(self.model, state["model"], self.folder.last)
        self.progress = Progress(**{name: state[name] for name in vars(self.progress)})
        self.optimizer_state = state["optimizer"]


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


@torch.no_grad()
def _check_graph(model: CaceNet, config: Config) -> None:
    """Draw the graph of an empty picture, so that a builder that cannot do it says so before anything is trained."""
    was_training = model.training
    size = (config.data.height, config.data.width)
    clues = model.eval()(torch.zeros(1, 3, *size), torch.zeros(1, *size, dtype=torch.uint8)).clues
    model.conditional.builder(clues, clues)
    model.train(was_training)


def _check_pair_branch(model: CaceNet, config: Config) -> None:
    if config.pair_phase.epochs > 0 and not model.pair_branch():
        raise ValueError(
            f"the pair phase has nothing to train: {type(model.conditional.builder).__name__} has no weights, and "
            "aligned clues are compared without a convolution; give --pair_phase.epochs 0 and a weight, such as "
            "--evaluation.fusion 0.5"
        )
    if config.loss.pairwise_weight > 0 and config.conditional.compare == "aligned_clues":
        raise ValueError(
            "aligned clues have no conditional embeddings, which the pairwise losses of the joint phase compare; give "
            "--loss.pairwise_weight 0 and train the attention in the pair phase"
        )


def _density(model: CaceNet) -> dict[str, float]:
    """The share of edges that the graph of the last training batch has, within images and between them, 0 to 1."""
    within, between = model.conditional.density
    return {"density_intra": float(within), "density_inter": float(between)}


def _postfix(totals: dict[str, float], steps: int, model: CaceNet, phase: Phase) -> dict[str, str]:
    """What the progress bar says beside the time."""
    said = {name: f"{total / steps:.3f}" for name, total in totals.items()}
    if phase.trains_pairs:
        said |= {name: f"{density:.0%}" for name, density in _density(model).items()}
    return said


def _check_finite(loss: Tensor, terms: dict[str, Tensor], phase: Phase, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} = {term.item():g}" for name, term in terms.items())
        raise RuntimeError(
            f"the loss is not finite at step {step + 1} of epoch {epoch + 1} of the {phase.name} phase: {values}. "
            "Nothing of this epoch is kept; lower the learning rate, lengthen the warm-up or use --precision 32-true"
        )


def _check_weights(model: CaceNet, phase: Phase, epoch: int) -> None:
    """The last step of an epoch, or BatchNorm's statistics, can overflow behind a loss that is still finite."""
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(
                f"{name} is not finite after epoch {epoch + 1} of the {phase.name} phase. Nothing of this epoch is "
                "kept; lower the learning rate, lengthen the warm-up or use --precision 32-true"
            )
