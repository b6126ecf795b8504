"""Whether queries can be answered, from the labels alone, is what an evaluation finds out."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.data.matches import count_matches
from cace_pyg.data.sample import Sample
from cace_pyg.retrieval import evaluate

LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2)), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(LABELS, LABELS, st.integers(0, 6), st.sampled_from(["remove", "keep"]))
def test_the_counts_are_those_of_an_evaluation(queries, others, shared, same_camera):
    """The first ``shared`` queries lie in the gallery too."""
    query = [Sample(Path(f"q{i}"), 1 + pid, camid) for i, (pid, camid) in enumerate(queries)]
    gallery = query[:shared] + [Sample(Path(f"g{i}"), pid, camid) for i, (pid, camid) in enumerate(others)]
    found = count_matches(query, gallery, same_camera)
    labels = [np.array([picture[i] for picture in part]) for i in (1, 2) for part in (query, gallery)]
    own = np.r_[: len(query)]
    own[shared:] = -1
    try:
        metrics = evaluate(np.zeros((len(query), len(gallery))), *labels, same_camera=same_camera, own_position=own)
        assert found == (metrics.num_queries, metrics.left_out_absent, metrics.left_out_same_camera)
    except ValueError as error:
        assert found.counted == 0
        assert f"{found.absent} whose identity is absent from it, {found.same_camera} seen only by" in str(error)


def test_one_camera_for_all():
    query, gallery = [Sample(Path("q"), 7, 1)], [Sample(Path("g"), 7, 1)]
    assert count_matches(query, gallery) == (0, 0, 1) and count_matches(query, gallery, "keep") == (1, 0, 0)
    assert count_matches(query, query, "keep") == (0, 1, 0)


def test_one_camera_for_all_is_no_reason_against_validation_where_it_does_not_matter():
    from cace_pyg.data import hold_out_identities

    train = [Sample(Path(f"{pid}_{i}"), pid, 1) for pid in range(1, 9) for i in range(3)]
    with pytest.raises(ValueError, match="of the 0 that have three pictures or more from two cameras"):
        hold_out_identities(train, 0.5, 0)
    splits = hold_out_identities(train, 0.5, 0, "keep")
    assert (len(splits.query), len(splits.gallery), len(splits.train)) == (4, 8, 12)
    assert count_matches(splits.query, splits.gallery, "keep").counted == 4
