"""Pictures per second of the training loader, by augmentation, picture size and number of worker processes.

JPEG files of 128×64 pixels (as in Market-1501) are rendered into a temporary folder, then decoded, resized, augmented
and normalised into batches of identities × instances, without training. "decode only" includes resizing and
normalising, as all rows do. For "cached", every process has decoded and resized all pictures before the measurement.
Flips and erasing have probability 0.5, crops have 10 pixels of padding, colours change by at most 0.2 (training has no
colour jitter by default). Each process uses one thread.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from benchmarks.interleaved import interleaved_medians
from benchmarks.results_file import save_results
from cace_pyg.data import Sample, read_market_layout
from cace_pyg.data.dataset import ReidDataset, relabel
from cace_pyg.data.sampler import RandomIdentitySampler
from cace_pyg.data.synthetic import SyntheticSettings, make_synthetic
from cace_pyg.data.transforms import AugmentationSettings, training_transform
from cace_pyg.viz.style import SERIES

_FILE_SIZE = 128, 64  # (height, width) in pixels
_NOTHING = {"flip": 0.0, "crop_padding": 0, "erasing": 0.0, "colour_jitter": 0.0}
_EACH = {"flip": 0.5, "crop_padding": 10, "erasing": 0.5, "colour_jitter": 0.2}
_ALL, _CACHED = "all of them", "all, cached"
_AUGMENTATIONS = {
    "decode only": AugmentationSettings(**_NOTHING),
    "+ flip": AugmentationSettings(**_NOTHING | {"flip": _EACH["flip"]}),
    "+ crop": AugmentationSettings(**_NOTHING | {"crop_padding": _EACH["crop_padding"]}),
    "+ erasing": AugmentationSettings(**_NOTHING | {"erasing": _EACH["erasing"]}),
    "+ colour jitter": AugmentationSettings(**_NOTHING | {"colour_jitter": _EACH["colour_jitter"]}),
    _ALL: AugmentationSettings(**_EACH),
    _CACHED: AugmentationSettings(**_EACH),
}


class Case(NamedTuple):
    """A timed case: one augmentation with a number of worker processes."""

    augmentation: str
    workers: int


def make_loader(
    case: Case, samples: Sequence[Sample], size: tuple[int, int], options: argparse.Namespace
) -> DataLoader:
    """The loader of joint training; its cache is filled before worker processes start."""
    dataset = ReidDataset(
        samples,
        training_transform(_AUGMENTATIONS[case.augmentation]),
        size,
        labels=relabel(samples),
        cache=case.augmentation == _CACHED,
    )
    if case.augmentation == _CACHED:
        for index in range(len(dataset)):
            dataset[index]
    sampler = RandomIdentitySampler(
        [sample.pid for sample in samples],
        options.num_identities,
        options.num_instances,
        batches_per_epoch=options.batches,
    )
    return DataLoader(dataset, batch_sampler=sampler, num_workers=case.workers, persistent_workers=case.workers > 0)


def check(loaders: dict[Case, DataLoader]) -> None:
    """Check that neither workers nor the cache change pictures; also starts the workers."""
    reference: dict[str, torch.Tensor] = {}
    for case, loader in loaders.items():
        images = torch.cat([batch.image for batch in loader])
        drawn = _ALL if case.augmentation == _CACHED else case.augmentation
        expected = reference.setdefault(drawn, images)
        if not torch.equal(images, expected):
            raise RuntimeError(f"Expected the pictures of {drawn!r} without workers (got others for {case})")


def time_loaders(loaders: dict[Case, DataLoader], rounds: int) -> dict[Case, float]:
    """Median seconds of an epoch of each loader; all see the same epochs."""
    calls = {str(number): _epoch(loader) for number, loader in enumerate(loaders.values())}
    return dict(zip(loaders, interleaved_medians(calls, rounds).values(), strict=True))


def _epoch(loader: DataLoader) -> Callable[[], None]:
    epochs = count(1)

    def run() -> None:
        loader.batch_sampler.set_epoch(next(epochs))
        for _ in loader:
            pass

    return run


def measure(samples: Sequence[Sample], size: tuple[int, int], options: argparse.Namespace) -> list[dict[str, object]]:
    """The rows of one picture size."""
    cases = [Case(name, workers) for name in _AUGMENTATIONS for workers in options.workers]
    loaders = {case: make_loader(case, samples, size, options) for case in cases}
    check(loaders)
    images = options.batches * options.num_identities * options.num_instances
    rates = {case: images / seconds for case, seconds in time_loaders(loaders, options.rounds).items()}
    return [
        {
            "height": size[0],
            "width": size[1],
            "augmentation": case.augmentation,
            "workers": case.workers,
            "images/s": f"{rate:.0f}",
            "ms an image": f"{1e3 / rate:.3f}",
            "part of decode only": f"{rate / rates[Case('decode only', case.workers)]:.2f}",
        }
        for case, rate in rates.items()
    ]


def draw(table: list[dict[str, object]], options: argparse.Namespace) -> Figure:
    """One panel per size, with the bars for different numbers of workers side by side."""
    figure = Figure(figsize=(11.0, 5.4), layout="constrained")
    panels = figure.subplots(1, len(options.sizes), sharey=True, squeeze=False)[0]
    for axes, size in zip(panels, options.sizes, strict=True):
        _draw_panel(axes, [row for row in table if (row["height"], row["width"]) == size], options.workers)
        axes.set_title(f"{size[0]}×{size[1]} pixels", fontsize=11)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _draw_panel(axes: Axes, rows: list[dict[str, object]], workers: list[int]) -> None:
    thickness = 0.8 / len(workers)
    for turn, number in enumerate(workers):
        rates = [float(row["images/s"]) for row in rows if row["workers"] == number]
        places = [place + (turn - (len(workers) - 1) / 2) * thickness for place in range(len(rates))]
        label = f"{number} worker{'' if number == 1 else 's'}"
        bars = axes.barh(places, rates, 0.9 * thickness, color=SERIES[turn % len(SERIES)], label=label)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.set_yticks(range(len(_AUGMENTATIONS)), _AUGMENTATIONS)
    axes.set_xlabel("images a second")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = map(int, text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, as 384x128 (got {text!r})") from None
    return height, width


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_loading", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds: does it run?")
    parser.add_argument(
        "--sizes",
        type=_size,
        nargs="+",
        default=[(96, 48), (384, 128)],
        metavar="HEIGHTxWIDTH",
        help="of the resized pictures, pixels (default: 96x48 384x128)",
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2], help="worker processes; 0: none (default: 0 1 2)"
    )
    parser.add_argument("--num_identities", type=int, default=16, help="identities in a batch (default: 16)")
    parser.add_argument("--num_instances", type=int, default=4, help="pictures of each (default: 4)")
    parser.add_argument("--batches", type=int, default=8, help="batches per round (default: 8)")
    parser.add_argument("--pictures", type=int, default=256, help="JPEG files, 8 per identity (default: 256)")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (default: 7)")
    options = parser.parse_args()
    if options.quick:
        options.sizes, options.workers, options.rounds = [(48, 24)], [0, 1], 1
        options.num_identities, options.batches, options.pictures = 2, 2, 16
    return options


def main() -> None:
    options = _parse()
    torch.set_num_threads(1)
    settings = SyntheticSettings(
        train_identities=-(-options.pictures // 8), test_identities=1, images_per_identity=8,
        distractors=0, junk=0, height=_FILE_SIZE[0], width=_FILE_SIZE[1],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        samples = read_market_layout(make_synthetic(Path(folder) / "pictures", settings, progress=False)).train
        table = [row for size in options.sizes for row in measure(samples, size, options)]
    save_results("data_loading", table, draw(table, options), options.quick)


if __name__ == "__main__":
    main()
