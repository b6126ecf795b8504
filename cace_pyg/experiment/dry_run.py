"""A short trial of a complete run."""

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from cace_pyg.config import Config
from cace_pyg.data.read_dataset import read_splits
from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.validation import hold_out_identities
from cace_pyg.engine.evaluation import check_fusion
from cace_pyg.engine.preflight import check_matches
from cace_pyg.experiment.run import train_and_evaluate


def dry_run(config: Config) -> bool:
    """Try out a run: the whole data set is read and split, and then a few of its identities are used.

    It does one step of each phase at full picture size and batch, validation, checkpoints, both stages of evaluation
    on one batch, and the report, in a temporary folder that is removed. The run folder is not touched.

    Returns:
        Whether this process has the result; of several ranks only the first has.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: see :func:`cace_pyg.experiment.run.run`.
    """
    check_fusion(config)
    splits = read_splits(config.data)
    check_matches(splits, config)
    held_out = hold_out_identities(splits.train, config.data.hold_out, config.seed, config.evaluation.same_camera)
    published = config.embedding.kind == "published"  # has no joint phase
    identities = max(4, config.joint_phase.num_identities)
    with tempfile.TemporaryDirectory() as folder:
        short = replace(
            config,
            run_dir=folder,
            validate_every=1,
            joint_phase=replace(config.joint_phase, epochs=0 if published else 1, batches_per_epoch=1),
            pair_phase=replace(config.pair_phase, epochs=min(1, config.pair_phase.epochs), batches_per_epoch=1),
            k_reciprocal=replace(config.k_reciprocal, k1=2, k2=1),
            propagation=replace(config.propagation, k1=2, k2=2),
        )
        same_camera = config.evaluation.same_camera
        parts = excerpt(splits, identities, same_camera), excerpt(held_out, identities, same_camera)
        _, evaluation = train_and_evaluate(short, *parts)
    return evaluation is not None


_PICTURES = 8  # of one identity


def excerpt(splits: Splits, identities: int, same_camera: Literal["remove", "keep"] = "remove") -> Splits:
    """At most 8 pictures of each of a few identities; every query keeps matches if it has any.

    Args:
        splits: whole data set; query and gallery may be empty.
        identities: number of training identities, and number of queries of different identities.
        same_camera: see :func:`cace_pyg.retrieval.evaluate`; ``"remove"``: matches come from another camera.
    """
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in splits.train:
        by_pid[sample.pid].append(sample)
    several = sorted(by_pid, key=lambda pid: len(by_pid[pid]) < 2)[:identities]  # a triplet needs two pictures
    train = [sample for pid in several for sample in by_pid[pid][:_PICTURES]]
    query, gallery = _with_matches(splits.query, splits.gallery, identities, same_camera == "keep")
    return Splits(tuple(train), query, gallery)


def _with_matches(
    query: Sequence[Sample], gallery: Sequence[Sample], identities: int, own_camera: bool
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample in gallery:
        by_pid[sample.pid].append(sample)
    chosen: dict[int, Sample] = {}
    matches: list[Sample] = []
    for sample in query:
        others = [other for other in by_pid[sample.pid] if other.path != sample.path]
        others = [other for other in others if own_camera or other.camid != sample.camid]
        if len(chosen) < identities and sample.pid not in chosen and others:
            chosen[sample.pid] = sample
            matches += others[:_PICTURES]
    strangers = [sample for sample in gallery if sample.pid not in chosen][:_PICTURES]
    return tuple(chosen.values()) or tuple(query[:identities]), tuple(matches + strangers)
