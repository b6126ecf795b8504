"""One training set from several."""

from collections.abc import Sequence

from cace_pyg.data.sample import Sample


def combine(parts: Sequence[Sequence[Sample]]) -> tuple[Sample, ...]:
    """The pictures of several data sets; no two of them share an identity or a camera afterwards.

    The first keeps its pids and camids; those of each other are moved above all before it.

    Args:
        parts: training pictures; no junk and no distractors.

    Raises:
        ValueError: a pid below 1, or nothing given.
    """
    if not parts or any(sample.pid < 1 for part in parts for sample in part):
        raise ValueError("Expected training pictures of pid 1 and above (got a smaller one, or no part at all)")
    combined: list[Sample] = []
    for part in parts:
        pid = max((sample.pid for sample in combined), default=0)
        camid = max((sample.camid for sample in combined), default=-1) + 1 if combined else 0
        combined += [Sample(sample.path, sample.pid + pid, sample.camid + camid) for sample in part]
    return tuple(combined)
