"""What several ranks measure together: the first one writes it down for the test."""

import gc
from dataclasses import replace
from unittest.mock import patch

import torch
from torch.nn.parallel import DistributedDataParallel

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.sample import Splits
from cace_pyg.engine.build import build_model
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.launch_fabric import launch_fabric
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.ranks import Ranks, leave_ranks
from cace_pyg.engine.training import Trainer, TrainingStep
from cace_pyg.explain import run_report
from cace_pyg.train import main


def train(arguments):
    """The command, whose report shows one query, and which leaves the ranks when nothing of DDP is left."""
    choose, leave = run_report.choose_queries, torch.distributed.destroy_process_group

    def checked():
        assert not [found for found in gc.get_objects() if isinstance(found, DistributedDataParallel)]
        leave()

    with (
        patch.object(run_report, "choose_queries", lambda evaluation: choose(evaluation)[:1]),
        patch.object(torch.distributed, "destroy_process_group", checked),
    ):
        return main(arguments)


def gradients(output, arguments):
    """Of one batch of each phase the loss terms, and the gradients by name; the numbers of all ranks are the first's.

    BatchNorm is frozen, the model has random weights. With joint_phase.accumulate 2 the joint batch goes through in
    two halves.
    """
    found, rank = _gradients(arguments)
    if rank == 0:
        torch.save(found, output)
    leave_ranks()


def _gradients(arguments):
    config, samples = _read(arguments)
    fabric = launch_fabric(config)
    ranks = Ranks(fabric.global_rank, fabric.world_size)
    found = {}
    for make in (JointPhase, PairPhase):
        torch.manual_seed(0)
        model = build_model(config, len({sample.pid for sample in samples}), pretrained=False)
        torch.nn.init.normal_(model.pair_stage.expansion.weight, std=0.1)
        phase = make(config, samples, ranks)
        phase.start(model, False, torch.device("cpu"))
        step, _ = fabric.setup(TrainingStep(model, phase), phase.optimizer(model))
        model.eval()
        passes = []
        for part in zip(*(tensor.chunk(phase.passes) for tensor in next(iter(phase.batches(3)))), strict=True):
            terms = step(*part)
            fabric.backward(sum(terms.values()) / phase.passes)
            passes.append(torch.stack([term.detach() for term in terms.values()]))
        means = torch.stack(passes).mean(0)
        means = means if ranks.count == 1 else fabric.all_reduce(means, reduce_op="mean")
        of_weights = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        found[phase.name] = dict(zip(terms, means, strict=True)) | of_weights
    return found, ranks.rank


def weights(output, arguments):
    """What every rank has after a training, with one pass a step and with two; and the mean of the ranks' numbers."""
    config, samples = _read(arguments)
    found = {}
    for passes in (1, 2):
        settings = replace(config.joint_phase, accumulate=passes)
        config = replace(config, joint_phase=settings, run_dir=f"{config.run_dir}{passes}")
        model = build_model(config, len({sample.pid for sample in samples}), pretrained=False)
        trainer = Trainer(model, config, Splits(samples, (), ()))
        trainer.run()
        own = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
        found[f"accumulate {passes}"] = trainer.ranks.gather_objects(own)
    mean = trainer._over_ranks({"rank": float(trainer.ranks.rank)})
    if trainer.is_first:
        torch.save(found | mean, output)
    leave_ranks()


def _read(arguments):
    parser = config_parser("train", "")
    config = config_of(parse(parser, arguments), parser)
    return config, read_market_layout(config.data.root).train
