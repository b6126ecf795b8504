"""Market-1501, whole."""

from pathlib import Path

from cace_pyg.data.counts import Counts, SplitCounts, check_counts
from cace_pyg.data.market_layout import read_market_layout
from cace_pyg.data.sample import Splits

MARKET1501 = SplitCounts(Counts(12_936, 751, 6), Counts(3_368, 750, 6), Counts(15_913, 750, 6))


def read_market1501(root: str | Path, allow_partial: bool = False) -> Splits:
    """Market-1501 (Zheng et al., ICCV 2015) as its authors distribute it, counted.

    Its gallery folder holds 19,732 pictures: 3,819 with pid −1 are junk and left out, 2,798 with pid 0000 are
    distractors and stay.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.market_layout.read_market_layout`, and
            :func:`cace_pyg.data.counts.check_counts` with ``allow_partial``.
    """
    splits = read_market_layout(root)
    check_counts("Market-1501", splits, MARKET1501, allow_partial)
    return splits
