"""Seconds to extract embeddings and clues of pictures with each network, as needed once before a pair stage.

This includes decoding, resizing and the network, as in ``cace_pyg.extract_features``, at 256×128. Networks are given as
NAME or NAME=WEIGHTS; without WEIGHTS they are random, which does not change the time. ``--keep`` stores the features
in a folder, one file per network.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.results_file import save_results
from cace_pyg import extract_features
from cace_pyg.data import read_market_layout
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.engine.build import FROZEN
from cace_pyg.models import Backbone, Extractor, PublishedEmbedding, TimmExtractor

_SIZE = 256, 128


def network(name: str, weights: str | None, earlier: Sequence[str] = ()) -> Extractor:
    """A network with its own embedding; ``earlier``: layers whose maps are added to the clues."""
    if name in FROZEN:
        return FROZEN[name](weights, size=_SIZE, earlier=earlier)
    if name.startswith("timm/"):
        return TimmExtractor(name, _SIZE, weights, earlier=earlier)
    return PublishedEmbedding(Backbone(name, weights, earlier=earlier))


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.extraction", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--data", type=Path, help="a data set in Market-1501's layout (default: rendered pictures)")
    parser.add_argument("--networks", nargs="+", default=["osnet_x0_25", "mobilenet_v2", "timm/vit_small_patch16_224"])
    parser.add_argument("--earlier", nargs="*", default=[], help="layers whose maps are added to the clues: conv3")
    parser.add_argument("--keep", type=Path, help="folder for the features")
    parser.add_argument("--quick", action="store_true", help="a few rendered pictures; written to *_quick")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few = SyntheticSettings(train_identities=4, test_identities=4, distractors=0, junk=0)
        root = options.data or make_synthetic(Path(folder) / "pictures", few, progress=False)
        splits = read_market_layout(root)
        parts = {"train": splits.train, "query": splits.query, "gallery": splits.gallery}
        rows = []
        for given in options.networks:
            name, _, weights = given.partition("=")
            extractor = network(name, weights or None, options.earlier)
            started, features = time.perf_counter(), {}
            for part, samples in parts.items():
                features[part] = extract_features(extractor, [sample.path for sample in samples], _SIZE)
            seconds, pictures = time.perf_counter() - started, sum(map(len, parts.values()))
            clues = features["train"].clues
            rows.append(
                {
                    "network": f"{name} {Path(weights).name}".strip(),
                    "pictures": pictures,
                    "seconds": seconds,
                    "ms_a_picture": 1000 * seconds / pictures,
                    "clues": f"{clues.size(1)}×{clues.size(2)}",
                    "bytes_a_picture": 2 * clues[0].numel(),
                }
            )
            print(rows[-1], flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                torch.save(
                    {part: vars(extracted) for part, extracted in features.items()},
                    options.keep / f"{'_'.join([name.replace('/', '_'), Path(weights).stem, *options.earlier])}.pt",
                )
            del features, clues
    save_results("extraction", rows, None, options.quick)


if __name__ == "__main__":
    main()
