"""A trial of a whole run."""

import tempfile
from dataclasses import replace

from cace_pyg.config import Config
from cace_pyg.data.excerpt import excerpt
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.read_splits import read_splits
from cace_pyg.engine.run import check_fusion, train_and_evaluate


def dry_run(config: Config, config_yaml: str) -> bool:
    """All that a run does, in little: the whole data set is read and split, then a few of its identities go through.

    One step of each phase at full picture size and batch, validation, checkpoints, both stages of evaluation on one
    batch, and the report, in a temporary folder that is removed. The run folder is not touched.

    Returns:
        Whether this process is the one that has a result, as the first of several ranks has.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: see :func:`cace_pyg.engine.run.run`.
    """
    check_fusion(config)
    splits = read_splits(config.data)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed)
    identities = max(4, config.train.num_identities)
    with tempfile.TemporaryDirectory() as folder:
        short = replace(
            config,
            run_dir=folder,
            train=replace(config.train, epochs=1, batches_per_epoch=1, validate_every=1),
            pair_phase=replace(config.pair_phase, epochs=min(1, config.pair_phase.epochs), batches_per_epoch=1),
        )
        parts = excerpt(splits, identities), excerpt(held_out, identities)
        _, evaluation = train_and_evaluate(short, config_yaml, *parts)
    return evaluation is not None
