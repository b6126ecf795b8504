"""Measures how well pictures were joined into people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array


@dataclass(frozen=True)
class ClusterMetrics:
    """Found people compared with the true ones; all measures except the counts are from 0 to 1, and 1 is best.

    Attributes:
        precision: share of joined pairs of pictures that show one person; 1 if none was joined.
        recall: share of pairs of one person that were joined; 1 if there is none.
        f1: their harmonic mean.
        bcubed_precision: for a picture, the share of its found person that shows its true person, including itself;
            the mean over pictures (Bagga and Baldwin, 1998; Amigó et al., 2009).
        bcubed_recall: for a picture, the share of its true person that was found with it; the mean over pictures.
        bcubed_f1: their harmonic mean.
        found: number of found people.
        true: number of true people.
    """

    precision: float
    recall: float
    f1: float
    bcubed_precision: float
    bcubed_recall: float
    bcubed_f1: float
    found: int
    true: int


def evaluate_clusters(found: ArrayLike, true: ArrayLike) -> ClusterMetrics:
    """Compare found people with the true ones.

    Example: found [0, 0, 1, 1] has the pairs (0, 1) and (2, 3), and true [0, 0, 0, 1] has (0, 1), (0, 2) and (1, 2):
    precision ½, recall ⅓, F1 0.4. B-cubed precision is (1 + 1 + ½ + ½) / 4, recall (⅔ + ⅔ + ⅓ + 1) / 4.

    Args:
        found: a label for each picture, ``(picture,)``, integers or words.
        true: the same.

    Raises:
        ValueError: shapes do not fit, or there is no picture.
    """
    found, true = np.asarray(found), np.asarray(true)
    if found.ndim != 1 or found.shape != true.shape or not len(found):
        raise ValueError(f"Expected a found and a true label for each picture (got {found.shape} and {true.shape})")
    row, column = (np.unique(labels, return_inverse=True)[1] for labels in (found, true))
    shared = coo_array((np.ones(len(row)), (row, column))).tocsr().tocoo()  # duplicate entries are added
    sizes, true_sizes = np.bincount(row), np.bincount(column)
    joined, same, both = (_pairs_in(counts) for counts in (sizes, true_sizes, shared.data))
    precision, recall = both / joined if joined else 1.0, both / same if same else 1.0
    bcubed_precision = float((shared.data**2 / sizes[shared.row]).sum() / len(row))
    bcubed_recall = float((shared.data**2 / true_sizes[shared.col]).sum() / len(row))
    return ClusterMetrics(
        precision,
        recall,
        _harmonic(precision, recall),
        bcubed_precision,
        bcubed_recall,
        _harmonic(bcubed_precision, bcubed_recall),
        len(sizes),
        len(true_sizes),
    )


def _pairs_in(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
