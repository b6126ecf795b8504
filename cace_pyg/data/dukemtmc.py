"""DukeMTMC-reID, where a researcher already has it: its authors withdrew it, and nothing here downloads it."""

from pathlib import Path

from cace_pyg.data.counts import Counts, SplitCounts, check_counts
from cace_pyg.data.market_layout import NameForm, read_market_layout
from cace_pyg.data.sample import Splits

DUKE_NAMES = NameForm(r"(?P<pid>\d{4,})_c(?P<camid>\d+)_f\d+", "PPPP_cC_fFFFFFFF.jpg", "0001_c2_f0046182.jpg")
DUKEMTMC = SplitCounts(Counts(16_522, 702, 8), Counts(2_228, 702, 8), Counts(17_661, 1_110, 8))


def read_dukemtmc(root: str | Path, allow_partial: bool = False) -> Splits:
    """DukeMTMC-reID (Ristani et al., 2016; Zheng et al., ICCV 2017), counted.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root, DUKE_NAMES)
    check_counts("DukeMTMC-reID", splits, DUKEMTMC, allow_partial)
    return splits
