"""Occluded-DukeMTMC, where a researcher already has it: it is made of DukeMTMC's pictures, which were withdrawn."""

from pathlib import Path

from cace_pyg.data.counts import Counts, SplitCounts, check_counts
from cace_pyg.data.dukemtmc import DUKE_NAMES
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.sample import Splits

OCCLUDED_DUKE = SplitCounts(Counts(15_618, 702, 8), Counts(2_210, 519, 8), Counts(17_661, 1_110, 8))


def read_occluded_duke(root: str | Path, allow_partial: bool = False) -> Splits:
    """Occluded-DukeMTMC (Miao et al., ICCV 2019), counted: the folders that its authors' lists make of the pictures.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root, DUKE_NAMES)
    check_counts("Occluded-DukeMTMC", splits, OCCLUDED_DUKE, allow_partial)
    return splits
