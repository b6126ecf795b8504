"""The training loop."""

import gc
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.config.settings import BackboneSettings
from cace_pyg.data.read_dataset import read_named_root
from cace_pyg.data.sample import Splits, fingerprint
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.checkpoint import (
    LatestCheckpoint,
    calibration_of,
    check_network,
    latest_checkpoint,
    load_checkpoint,
    load_individual_branch,
    load_model_state,
    load_weights,
    network_facts,
    save_checkpoint,
)
from cace_pyg.engine.environment import describe_environment
from cace_pyg.engine.evaluation import evaluate_individual
from cace_pyg.engine.held_out import validate_pairs
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.launch_fabric import launch_fabric, synchronise_batch_norm
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.preflight import check_settings, check_trainable
from cace_pyg.engine.ranks import Ranks
from cace_pyg.engine.run_folder import RunFolder
from cace_pyg.models import (
    Backbone,
    CaceNet,
    ConditionalSettings,
    FrozenExtractor,
    PublishedEmbedding,
    TimmExtractor,
)
from cace_pyg.models.generalised_mean import Pooling
from cace_pyg.progress import progress_bar, write_line
from cace_pyg.retrieval import Calibration

Phase = JointPhase | PairPhase

_KNOWN = 0.99  # mAP is never that high on people that a network has not seen


@dataclass
class Progress:
    """How far a run is. Together with the weights and the optimizer this is all that is needed to continue it.

    Every random choice of an epoch depends only on the run's seed and the epoch, so no generator state is stored.
    """

    epoch: int = 0  # finished epochs of both phases
    best: float = -math.inf  # validation mAP of best.ckpt
    best_phase: str = ""
    fusion_weight: float | None = None
    calibration: dict[str, Any] | None = None
    log: list[dict[str, Any]] = field(default_factory=list)


class Trainer:
    """Trains a model in both phases; writes ``last.ckpt``, ``best.ckpt`` and ``log.csv`` into the run folder.

    Under ``torchrun`` every rank makes one; the first rank writes and validates.

    Args:
        model: what is trained, in place, and left on the device of the training:
            :func:`cace_pyg.engine.build.build_model` makes the one that ``config`` describes; your own may have any
            extractor.
        config: of the training: data, phases, evaluation, ``run_dir``. What it says of the model is that of ``model``.
        held_out: training pictures, and the query and gallery of training identities held out of them (may be empty),
            as :func:`cace_pyg.data.hold_out_identities` returns them. Never give the data set's own query and gallery,
            since the best epoch and the fusion weight are chosen on these. The pair phase has its own people if
            ``pair_phase.data`` is set.
        environment: stored in every checkpoint: versions, machine, data-set fingerprint.
        resume: continue from ``last.ckpt`` if there is one, or from the one before if it is truncated.
        fabric: launched already; None: :func:`launch_fabric` of ``config``.

    Raises:
        FileExistsError, ValueError, RuntimeError: see :meth:`RunFolder.open`.
        FileNotFoundError, ValueError: there is no checkpoint at ``start_from``, or it has another individual branch.
        ValueError: ``config.conditional`` is not the model's, the numbers of classes and of training identities differ,
            the ranks cannot share a phase's batches, or they do not see the same run folder.
    """

    def __init__(
        self,
        model: CaceNet,
        config: Config,
        held_out: Splits,
        environment: dict[str, str] | None = None,
        resume: bool = False,
        fabric: Fabric | None = None,
    ):
        check_settings(config)
        config = _as_built(config, model)
        self.model = model
        self.config = config
        self.splits = {"joint": held_out, "pair": people_of_pair_phase(config, held_out)}
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.fabric = fabric or launch_fabric(config)
        self.ranks = Ranks(self.fabric.global_rank, self.fabric.world_size)
        identities = held_out.num_identities
        check_trainable(model, config, identities, self.fabric.device)
        self.phases: list[Phase] = [
            JointPhase(config, held_out.train, self.ranks),
            PairPhase(config, self.splits["pair"].train, self.ranks),
        ]
        self.folder = RunFolder(config.run_dir)
        config_yaml = config.to_yaml()
        if self.is_first:
            self.folder.open(config_yaml, resume)
        self.fabric.barrier()
        self.fixed = {"config": config_yaml, "identities": identities, "environment": environment or {}}
        if isinstance(model.extractor, PublishedEmbedding):
            self.fixed["layers"] = model.extractor.layers
        elif isinstance(model.extractor, FrozenExtractor):
            self.fixed["network"] = network_facts(model.extractor)
        elif not isinstance(model.extractor, Backbone | TimmExtractor):
            self.fixed["own_extractor"] = type(model.extractor).__name__
        self.fixed["channels"] = model.extractor.channels
        latest = latest_checkpoint(self.folder) if resume else None
        if config.start_from is not None and latest is None:
            load_individual_branch(self.model, Path(config.start_from))
        self.progress, self.optimizer_state = Progress(), None
        if latest is not None:
            self._continue(latest)
        self._check_epochs()
        if config.sync_batchnorm:
            self.model = synchronise_batch_norm(self.model, self.fabric.device)
        if config.compile is not None:
            self.model.get_submodule("extractor").compile(backend=config.compile)
        self.model.to(self.fabric.device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and validates."""
        return self.ranks.rank == 0

    def run(self) -> RunFolder:
        """Train all remaining epochs.

        Raises:
            RuntimeError: a loss is NaN or infinite, or a file cannot be written.
        """
        first_epoch = 0
        while self.phases:
            phase = self.phases.pop(0)  # so that it is freed when it ends, with its loader's workers
            if self.progress.epoch < first_epoch + phase.epochs:
                self._run_phase(phase, first_epoch)
                if self.ranks.count > 1:
                    gc.collect()  # frees DDP, whose hooks stay on the weights until then
            first_epoch += phase.epochs
        return self.folder

    def _run_phase(self, phase: Phase, first_epoch: int) -> None:
        fresh = self.progress.epoch == first_epoch
        if fresh and phase.trains_pairs and self.model.is_published and self.is_first:
            self._warn_of_known_people()
        self.ranks.take_firsts(self.model.buffers())  # every rank has its own BatchNorm statistics
        phase.start(self.model, fresh, self.fabric.device)
        step, optimizer = self.fabric.setup(TrainingStep(self.model, phase), phase.optimizer(self.model))
        if not fresh:
            optimizer.load_state_dict(self.optimizer_state)
        last = first_epoch + phase.epochs
        for epoch in range(self.progress.epoch + 1, last + 1):
            started = time.perf_counter()
            # for dropout and the like, whatever ran before
            torch.manual_seed(self.config.seed + 1_000_003 * epoch + 7_919 * self.ranks.rank)
            row = {"epoch": epoch, "phase": phase.name}
            row |= self._run_epoch(phase, step, optimizer, epoch - first_epoch - 1)
            if self.is_first:
                calibration = None
                if self.splits[phase.name].query and (epoch == last or epoch % self.config.validate_every == 0):
                    found, calibration = self._validate(phase)
                    row |= found
                row["seconds"] = round(time.perf_counter() - started, 2)
                self._record(row, calibration, optimizer)
            self.progress.epoch = epoch

    def _run_epoch(
        self, phase: Phase, training_step: _FabricModule, optimizer: torch.optim.Optimizer, epoch: int
    ) -> dict[str, float]:
        """Train one epoch of a phase; returns the mean of every loss term."""
        phase.set_mode(self.model)
        steps = len(phase.sampler)
        totals: dict[str, float] = {}
        title = f"{phase.name} {epoch + 1}/{phase.epochs}"
        bar = progress_bar(phase.batches(epoch), total=steps, desc=title, unit="step", disable=not self.is_first)
        for step, batch in enumerate(bar):
            at = epoch * steps + step
            factor = learning_rate_factor(at, phase.epochs * steps, phase.warmup_epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = phase.learning_rate * factor
            optimizer.zero_grad()
            for terms in self._passes(phase, training_step, batch, epoch, step):
                for name, term in terms.items():
                    totals[name] = totals.get(name, 0.0) + term.item() / phase.passes
            optimizer.step()
            bar.set_postfix(_postfix(totals, step + 1, self.model, phase))
        _check_weights(self.model, phase, epoch)
        row = {"learning_rate": phase.learning_rate * factor}
        row |= self._over_ranks({name: total / steps for name, total in totals.items()})
        return row | (_density(self.model) if phase.trains_pairs else {})

    def _passes(
        self, phase: Phase, training_step: _FabricModule, batch: Sequence[Tensor], epoch: int, step: int
    ) -> Iterator[dict[str, Tensor]]:
        """Forward and backward of a batch, in as many passes as the phase asks for; yields the loss terms of each."""
        parts = zip(*(tensor.to(self.fabric.device).chunk(phase.passes) for tensor in batch), strict=True)
        for number, part in enumerate(parts, 1):
            waits = self.ranks.count > 1 and number < phase.passes  # gradients are exchanged once
            with self.fabric.no_backward_sync(training_step, enabled=waits):
                terms = training_step(*part)
                loss = sum(terms.values())
                _check_finite(loss, terms, phase, epoch, step)
                self.fabric.backward(loss / phase.passes)
            yield terms

    def _over_ranks(self, means: dict[str, float]) -> dict[str, float]:
        """The mean over the ranks."""
        if self.ranks.count == 1:
            return means
        values = torch.tensor([*means.values()], dtype=torch.float64, device=self.fabric.device)
        reduced = self.fabric.all_reduce(values, reduce_op="mean")
        assert isinstance(reduced, Tensor)  # for mypy: a tensor went in
        return dict(zip(means, reduced.tolist(), strict=True))

    def _warn_of_known_people(self) -> None:
        """Warn if the network ranks held-out people perfectly: it was trained on them, and nothing is left to learn."""
        splits = self.splits["pair"]
        if not splits.query:
            return
        found = evaluate_individual(self.model, splits.query, splits.gallery, self.config, self.fabric.device)
        if found.mAP >= _KNOWN:
            write_line(
                f"warning: the network ranks the held-out people with {100 * found.mAP:.1f} mAP, so it has probably "
                "been trained on them. Neither confusions nor a fusion weight can be learned from them: hold out those "
                "whom the network has not seen (its own data.hold_out and seed), train the pair stage on other people "
                "(--pair_phase.data NAME:ROOT), or on harder pictures (--pair_phase.clues fresh, "
                "--pair_phase.clue_dropout 0.7) with a fixed weight (--evaluation.fusion 0.1). The clues of another "
                "network help, too: docs/on_your_network.md"
            )

    def _validate(self, phase: Phase) -> tuple[dict[str, float], Calibration | None]:
        """Metrics on the held-out identities; with a trained pair branch also the fusion weight and a calibration."""
        splits = self.splits[phase.name]
        held_out = (splits.query, splits.gallery, self.config, self.fabric.device)
        if not phase.trains_pairs:
            return {"validation_individual_mAP": evaluate_individual(self.model, *held_out).mAP}, None
        choice, individual, calibration = validate_pairs(self.model, *held_out)
        found = {
            "validation_individual_mAP": individual.mAP,
            "validation_two_stage_mAP": max(mAP for _, mAP, _ in choice.curve),
            "validation_fusion_weight": choice.weight,
        }
        return found, calibration

    def _record(self, row: dict[str, Any], calibration: Calibration | None, optimizer: torch.optim.Optimizer) -> None:
        """Write the log and the checkpoints of a finished epoch."""
        progress = self.progress
        progress.log.append(row)
        progress.epoch = row["epoch"]
        is_best = self._is_best(row)
        if is_best:
            progress.calibration = calibration.as_dict() if calibration else None
        state = self.fixed | {"model": self.model.state_dict()} | vars(progress)
        if is_best:
            save_checkpoint(self.folder.best, state)
        if self.folder.last.exists():
            os.replace(self.folder.last, self.folder.previous)
        further = {"optimizer": optimizer.state_dict(), "precision": self.fabric.strategy.precision.state_dict()}
        save_checkpoint(self.folder.last, state | further)
        self.folder.write_log(progress.log)

    def _is_best(self, row: dict[str, Any]) -> bool:
        """Whether this epoch becomes ``best.ckpt``; if so, the progress remembers its score.

        The highest validation mAP wins, the later of equals. Each phase is judged separately, since the scores of the
        phases mean different things. Without held-out identities the latest epoch wins.
        """
        progress = self.progress
        score = row.get("validation_two_stage_mAP", row.get("validation_individual_mAP"))
        is_worse = score is None or (score < progress.best and row["phase"] == progress.best_phase)
        if self.splits[row["phase"]].query and is_worse:
            return False
        progress.best = -math.inf if score is None else score
        progress.best_phase = row["phase"]
        progress.fusion_weight = row.get("validation_fusion_weight")
        return True

    def _continue(self, latest: LatestCheckpoint) -> None:
        """Load the contents of a checkpoint; all ranks have read it."""
        state = latest.state
        check_network(self.model, state, latest.path)
        load_model_state(self.model, state["model"], latest.path)
        if self.is_first and latest.path != self.folder.last:
            os.replace(latest.path, self.folder.last)  # else the broken file would become previous.ckpt
        if self.is_first:
            what = f"{latest.problem}; continuing from the checkpoint before" if latest.problem else "continuing"
            write_line(f"{what}, after epoch {state['epoch']} of {sum(phase.epochs for phase in self.phases)}")
        told = {
            name: state[name] for name in vars(self.progress) if name in state
        }  # an older checkpoint has no calibration
        self.progress = Progress(**told)
        self.optimizer_state = state["optimizer"]
        if state.get("precision"):  # the loss scale of float16
            self.fabric.strategy.precision.load_state_dict(state["precision"])

    def _check_epochs(self) -> None:
        epochs = self.ranks.gather_objects(self.progress.epoch)
        if len(set(epochs)) > 1:
            raise ValueError(
                f"Expected all ranks to continue from the same epoch (got {epochs}): every machine has to see the same "
                f"folder as --run_dir {self.folder.path}"
            )


def people_of_pair_phase(config: Config, held_out: Splits) -> Splits:
    """The people of ``pair_phase.data``, some of them held out; if it is None, those of the joint phase."""
    if config.pair_phase.data is None:
        return held_out
    train = read_named_root(config.pair_phase.data, "pair_phase.data", config.data.allow_partial).train
    return hold_out_identities(train, config.data.hold_out, config.seed, config.evaluation.same_camera)


class Fitted(NamedTuple):
    """A finished training: its folder, and the best fusion weight and the calibration from held-out identities, if
    any."""

    folder: RunFolder
    fusion_weight: float | None
    calibration: Calibration | None = None


def _as_built(config: Config, model: CaceNet) -> Config:
    """The configuration with the settings of a model that was built elsewhere, so that the stored file is right."""
    settings = model.pair_stage.settings
    if config.conditional not in (settings, ConditionalSettings()):
        raise ValueError(
            "Expected the model to be built with the configuration's conditional settings (got others); give them to "
            "CaceNet(…, conditional=…), or leave them out of the Config"
        )
    embedding = config.embedding
    pooling: Pooling = "mean" if model.pooling is None else "generalised_mean"
    kind: Literal["trained", "published"] = "published" if model.is_published else "trained"
    head = model.encoder or getattr(model.pair_stage, "encoder", None)
    if head is not None:
        channels, batch_norm = head.convolution.out_features, head.convolution.bias is None
        embedding = replace(embedding, channels=channels, batch_norm=batch_norm)
    network = model.extractor
    if isinstance(network, FrozenExtractor) and config.backbone.name != network.name:
        backbone = BackboneSettings(
            network.name,
            str(network.path),
            map=network.map.tensor,
            output=network.output,
            normalisation=network.normalisation,
            channel_order=network.channel_order,
            earlier=[clue_map.tensor for clue_map in network.earlier] or None,
        )
        config = replace(config, backbone=backbone)
    return replace(config, conditional=settings, embedding=replace(embedding, kind=kind, pooling=pooling))


def fit(model: CaceNet, config: Config, splits: Splits, resume: bool = False) -> Fitted:
    """Hold out training identities, train, and leave the best weights in the model, on the CPU, in evaluation mode.

    Args:
        model: see :class:`Trainer`; its classes are the training identities that are not held out.
        config: of the training; ``data.hold_out`` says how many identities are held out.
        splits: the whole data set; query and gallery are not used.
        resume: continue the run in ``config.run_dir``, or start it if there is none.

    Raises:
        FileExistsError, ValueError, RuntimeError: see :class:`Trainer`.
    """
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed, config.evaluation.same_camera)
    trainer = Trainer(model, config, held_out, describe_environment(config.seed, fingerprint(splits)), resume)
    folder = trainer.run()
    return Fitted(folder, load_weights(model, folder.best), calibration_of(load_checkpoint(folder.best)))


class TrainingStep(torch.nn.Module):
    """Maps a batch to loss terms in one forward pass; Fabric wraps this module for precision and DDP."""

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


def _density(model: CaceNet) -> dict[str, float]:
    """The density of the last training batch's graphs, within images and between them, 0 to 1."""
    assert model.pair_stage.density is not None  # a batch was trained on
    within, between = model.pair_stage.density
    return {"density_intra": float(within), "density_inter": float(between)}


def _postfix(totals: dict[str, float], steps: int, model: CaceNet, phase: Phase) -> dict[str, str]:
    """What the progress bar shows next to the time."""
    said = {name: f"{total / steps:.3f}" for name, total in totals.items()}
    if phase.trains_pairs:
        said |= {name: f"{density:.0%}" for name, density in _density(model).items()}
    return said


def _check_finite(loss: Tensor, terms: dict[str, Tensor], phase: Phase, epoch: int, step: int) -> None:
    if not torch.isfinite(loss):
        values = ", ".join(f"{name} = {term.item():g}" for name, term in terms.items())
        raise RuntimeError(
            f"the loss is not finite at step {step + 1} of epoch {epoch + 1} of the {phase.name} phase: {values}. "
            "This epoch is discarded; lower the learning rate, lengthen the warm-up or use --precision 32-true"
        )


def _check_weights(model: CaceNet, phase: Phase, epoch: int) -> None:
    """Check the weights: the last step of an epoch or BatchNorm's statistics can overflow while the loss is finite."""
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(
                f"{name} is not finite after epoch {epoch + 1} of the {phase.name} phase. This epoch is discarded; "
                "lower the learning rate, lengthen the warm-up or use --precision 32-true"
            )
