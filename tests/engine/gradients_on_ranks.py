"""A program for torchrun: the loss and the gradients of one batch, over however many ranks it has.

Arguments: a file to write, then dotted options of a run. BatchNorm is frozen, the model has random weights. With
joint_phase.accumulate 2 the joint batch goes through in two halves.
"""

import sys
from dataclasses import replace

import torch

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.engine.checkpoint import build_model
from cace_pyg.engine.joint_phase import JointPhase
from cace_pyg.engine.launch_fabric import launch_fabric
from cace_pyg.engine.pair_phase import PairPhase
from cace_pyg.engine.ranks import Ranks, leave_ranks
from cace_pyg.engine.training import TrainingStep


def measure(config):
    """Of each phase the loss terms, and the gradients by name; the numbers of all ranks are those of the first."""
    fabric = launch_fabric(config)
    ranks = Ranks(fabric.global_rank, fabric.world_size)
    samples = read_market_layout(config.data.root).train
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
        for part in zip(*(one.chunk(phase.passes) for one in next(iter(phase.batches(3)))), strict=True):
            terms = step(*part)
            fabric.backward(sum(terms.values()) / phase.passes)
            passes.append(torch.stack([term.detach() for term in terms.values()]))
        means = torch.stack(passes).mean(0)
        means = means if ranks.count == 1 else fabric.all_reduce(means, reduce_op="mean")
        gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        found[phase.name] = dict(zip(terms, means, strict=True)) | gradients
    return found, ranks


def main(output, arguments):
    parser = config_parser("train", "")
    config = config_of(parse(parser, arguments), parser)
    config = replace(config, data=replace(config.data, workers=0))
    found, ranks = measure(config)
    if ranks.rank == 0:
        torch.save(found, output)
    leave_ranks()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
