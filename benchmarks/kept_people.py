"""Features stored by benchmarks.extraction, with the people held out of a pair stage that was trained on them."""

import argparse
from pathlib import Path
from typing import NamedTuple

import torch

from cace_pyg import Features, FittedPairStage, fit_pair_stage, load_pair_stage
from cace_pyg.config import PairPhaseSettings, from_yaml
from cace_pyg.data import Sample, hold_out_identities, read_market_layout
from cace_pyg.data.sample import Splits
from cace_pyg.engine.checkpoint import load_checkpoint
from cace_pyg.engine.features import KeptFeatures


class KeptPeople(NamedTuple):
    """Features of ``train``, ``query`` and ``gallery``, their pictures, the stage, and who was held out of it."""

    parts: dict[str, Features]
    samples: dict[str, list[Sample]]
    stage: FittedPairStage
    held: Splits


def add_options(
    parser: argparse.ArgumentParser, checkpoint: str = "RUN_DIR/checkpoints/best.ckpt of fit_pair_stage"
) -> None:
    parser.add_argument("--features", type=Path, help="file of benchmarks.extraction")
    parser.add_argument("--data", type=Path, help="the data set, in Market-1501's layout")
    parser.add_argument("--checkpoint", type=Path, help=checkpoint)
    parser.add_argument("--quick", action="store_true", help="seconds: people drawn at random; written to *_quick")


def read_kept_people(parser: argparse.ArgumentParser, options: argparse.Namespace) -> KeptPeople:
    """The data given by the options; with ``--quick`` a few random people."""
    if options.quick:
        return _random_people()
    if None in (options.features, options.data, options.checkpoint):
        parser.error("give --features, --data and --checkpoint, or --quick")
    kept, splits = torch.load(options.features, weights_only=True, mmap=True), read_market_layout(options.data)
    parts = {name: Features(**tensors) for name, tensors in kept.items()}
    samples = {"train": list(splits.train), "query": list(splits.query), "gallery": list(splits.gallery)}
    stage, config = load_pair_stage(options.checkpoint), from_yaml(load_checkpoint(options.checkpoint)["config"])
    return KeptPeople(parts, samples, stage, _held_out(samples["train"], config.data.hold_out, config.seed))


def _held_out(train: list[Sample], share: float, seed: int) -> Splits:
    numbered = KeptFeatures.samples([sample.pid for sample in train], [sample.camid for sample in train])
    return hold_out_identities(numbered, share, seed)


def _random_people() -> KeptPeople:
    """Noisy embeddings of people with distinctive clues, and a pair stage that was trained for a few steps."""
    parts, samples = {}, {}
    for number, (name, people) in enumerate((("train", 40), ("query", 12), ("gallery", 12))):
        draw = torch.Generator().manual_seed(min(number, 1))  # query and gallery show the same people
        own = torch.randn(people, 8, 16, generator=draw)
        pids, camids = torch.arange(people).repeat_interleave(6), torch.arange(6).remainder(3).repeat(people)
        if name == "query":
            pids, camids = pids[::6], camids[::6] + 3
        noise = torch.Generator().manual_seed(10 + number)
        clues = own[pids] + 0.7 * torch.randn(len(pids), 8, 16, generator=noise)
        embedding = clues.mean(1) + 0.4 * torch.randn(len(pids), 16, generator=noise)
        parts[name] = Features(embedding, clues, (4, 2))
        samples[name] = KeptFeatures.samples((pids + 1).tolist(), camids.tolist())
    samples["query"] = [sample._replace(path=Path(f"query{sample.path}")) for sample in samples["query"]]
    settings = PairPhaseSettings(epochs=1, batches_per_epoch=20, anchors=32, confusions=5, clue_dropout=0.2)
    labels = [[getattr(sample, name) for sample in samples["train"]] for name in ("pid", "camid")]
    with torch.enable_grad():
        stage = fit_pair_stage(parts["train"], *labels, settings=settings, held_out=0.2, device="cpu")
    return KeptPeople(parts, samples, stage, _held_out(samples["train"], 0.2, 0))
