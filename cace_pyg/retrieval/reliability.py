"""Tests whether probabilities are right: reliability curve and expected calibration error (Guo et al., 2017)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_BINS = 15


class Estimate(NamedTuple):
    """A measure with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted and observed probabilities, in bins of equal width.

    Attributes:
        predicted: mean probability of the pairs in each bin that is not empty, ascending.
        observed: share of these pairs that show one person.
        count: number of pairs.
        error: expected calibration error, 0 to 1: mean of ``|observed − predicted|`` over the pairs.
    """

    predicted: np.ndarray
    observed: np.ndarray
    count: np.ndarray
    error: Estimate

    def as_dict(self) -> dict[str, list[float]]:
        """For JSON, with six decimals: beyond that, batches and machines differ."""
        points = {name: getattr(self, name).round(6).tolist() for name in ("predicted", "observed", "count")}
        return {"expected_calibration_error": [round(number, 6) for number in self.error], **points}


def expected_calibration_error(probability: ArrayLike, same: ArrayLike, bins: int = _BINS) -> float:
    """Mean distance between the probabilities of a bin and the share of its pairs that show one person.

    Example: of three pairs with probabilities [0.8, 0.8, 0.1], only the first shows one person. The bin at 0.8 is off
    by 0.3 and the bin at 0.1 by 0.1, so the error is (2·0.3 + 0.1) / 3 = 0.23.

    Args:
        probability: ``(pair,)``, 0 to 1.
        same: ``(pair,)``, whether a pair shows one person.
        bins: of equal width.

    Raises:
        ValueError: see :func:`reliability_curve`.
    """
    probability, same, bin_of = _checked(probability, same, bins)
    return float(_error(*_sums(probability, same, bin_of, bins)))


def reliability_curve(
    probability: ArrayLike,
    same: ArrayLike,
    people: ArrayLike,
    bins: int = _BINS,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Reliability:
    """The reliability curve, and the expected calibration error with its bootstrap interval over people.

    Args:
        probability: ``(pair,)``, 0 to 1.
        same: ``(pair,)``, whether a pair shows one person.
        people: ``(pair,)``, the query's person; people are drawn with replacement, each with all their pairs.
        bins: of equal width.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: there are no pairs or no bins, shapes differ, or a probability is outside 0 to 1.
    """
    probability, same, bin_of = _checked(probability, same, bins)
    person = np.unique(np.asarray(people), return_inverse=True)[1].reshape(-1)
    if len(person) != len(same):
        raise ValueError(f"Expected a person for each of {len(same)} pairs (got {len(person)})")
    weights = resampled_people(int(person.max()) + 1, resamples, seed)
    sums = _sums(probability, same, bin_of, bins)
    cells = person * bins + bin_of
    by_person = [
        np.bincount(cells, values, (person.max() + 1) * bins).reshape(-1, bins)
        for values in (np.ones(len(same)), probability, same)
    ]
    errors = _error(*(weights @ sums_of_person for sums_of_person in by_person))
    count, predicted, observed = (row[sums[0] > 0] for row in sums)
    interval = percentiles(errors, confidence)
    return Reliability(
        predicted / count, observed / count, count.astype(int), Estimate(float(_error(*sums)), *interval)
    )


def resampled_people(people: int, resamples: int, seed: int) -> np.ndarray:
    """How often each person is drawn, with replacement: ``(resample, person)``."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(people, np.full(people, 1 / people), size=resamples).astype(float)


def percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central interval of a bootstrap distribution; NaN if it is empty."""
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _checked(probability: ArrayLike, same: ArrayLike, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probability, same = np.asarray(probability, dtype=float), np.asarray(same, dtype=float)
    if probability.shape != same.shape or probability.ndim != 1 or not len(same):
        raise ValueError(
            f"Expected a probability and a truth for each of some pairs (got {probability.shape} and {same.shape})"
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("Expected probabilities from 0 to 1 (got others, or NaN); Calibration.probability gives some")
    if bins < 1:
        raise ValueError(f"Expected at least one bin (got {bins})")
    return probability, same, np.minimum((probability * bins).astype(int), bins - 1)


def _sums(
    probability: np.ndarray, same: np.ndarray, bin_of: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each bin: the number of pairs, the sum of their probabilities, and how many show one person."""
    count, predicted, observed = (
        np.bincount(bin_of, values, bins) for values in (np.ones(len(same)), probability, same)
    )
    return count, predicted, observed


def _error(count: np.ndarray, predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    return np.abs(observed - predicted).sum(-1) / count.sum(-1)
