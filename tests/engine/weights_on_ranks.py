"""A program for torchrun: trains, then gathers what every rank has; arguments: a file to write, options of a run."""

import sys
from dataclasses import replace

import torch

from cace_pyg.config import config_of, config_parser, parse
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.sample import Splits
from cace_pyg.engine.ranks import leave_ranks
from cace_pyg.engine.training import Trainer


def main(output, arguments):
    parser = config_parser("train", "")
    config = config_of(parse(parser, arguments), parser)
    splits = Splits(read_market_layout(config.data.root).train, (), ())
    found = {}
    for passes in (1, 2):
        settings = replace(config.joint_phase, accumulate=passes)
        trainer = Trainer(replace(config, train=settings, run_dir=f"{config.run_dir}{passes}"), "", splits, {})
        trainer.run()
        own = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
        found[f"accumulate {passes}"] = trainer.ranks.gather_objects(own)
    mean = trainer._over_ranks({"rank": float(trainer.ranks.rank)})
    if trainer.is_first:
        torch.save(found | mean, output)
    leave_ranks()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
