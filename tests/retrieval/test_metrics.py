"""The protocol against a naive loop, a sorting reference and numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cace_pyg.retrieval import evaluate


def naive(distance, query_pids, gallery_pids, query_camids, gallery_camids, same_camera):
    """Sort, filter and walk down the list, query by query (the form of torchreid's Python evaluation)."""
    precisions, firsts, penalties, absent, taken = [], [], [], 0, 0
    for q, row in enumerate(distance):
        order = sorted(range(len(row)), key=lambda g: (row[g], g))
        found, kept, known = [], 0, False
        for g in order:
            same = gallery_pids[g] == query_pids[q] and query_pids[q] != 0
            known = known or same
            own = same_camera == "remove" and same and gallery_camids[g] == query_camids[q]
            if gallery_pids[g] == -1 or own:
                continue
            kept += 1
            if same:
                found.append(kept)
        if not found:
            absent, taken = absent + (not known), taken + known
            continue
        precisions.append(sum((i + 1) / p for i, p in enumerate(found)) / len(found))
        firsts.append(found[0])
        penalties.append(len(found) / found[-1])
    return precisions, firsts, penalties, absent, taken


@st.composite
def rankings(draw):
    queries, gallery = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    # few different values, so that ties are common
    distance = draw(
        st.lists(
            st.lists(st.integers(0, 4), min_size=gallery, max_size=gallery),
            min_size=queries,
            max_size=queries,
        )
    )
    pids = lambda low, size: st.lists(st.integers(low, 3), min_size=size, max_size=size)  # noqa: E731
    cams = lambda size: st.lists(st.integers(1, 2), min_size=size, max_size=size)  # noqa: E731
    return (
        np.asarray(distance, dtype=np.float32) / 4,
        *(np.asarray(draw(labels)) for labels in (pids(0, queries), pids(-1, gallery), cams(queries), cams(gallery))),
    )


@settings(max_examples=300, deadline=None)
@given(rankings(), st.sampled_from(["remove", "keep"]))
def test_equals_the_naive_loop(ranking, same_camera):
    precisions, firsts, penalties, absent, taken = naive(*ranking, same_camera)
    if not precisions:
        with pytest.raises(ValueError, match=f"{absent} whose identity is absent from it, {taken} seen only"):
            evaluate(*ranking, same_camera=same_camera)
        return
    metrics = evaluate(*ranking, same_camera=same_camera)
    assert metrics.mAP == pytest.approx(np.mean(precisions))
    assert metrics.mINP == pytest.approx(np.mean(penalties))
    assert metrics.average_precision == pytest.approx(precisions)
    assert metrics.cmc == pytest.approx([np.mean(np.array(firsts) <= k) for k in range(1, 51)])
    assert (metrics.num_queries, metrics.left_out_absent, metrics.left_out_same_camera) == (
        len(precisions), absent, taken,
    )  # fmt: skip


def test_by_hand():
    """Junk is skipped, the distractor counts as a place, the own camera is removed: matches at places 2 and 4."""
    distance = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]
    metrics = evaluate(distance, [7], [-1, 0, 7, 7, 5, 7], [1], [2, 2, 2, 1, 3, 3])
    assert metrics.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert (metrics.rank1, metrics.rank5, metrics.rank10) == (0, 1, 1)
    assert metrics.mINP == pytest.approx(2 / 4)
    assert metrics.as_dict().keys() == {"mAP", "rank1", "rank5", "rank10", "mINP"}


def market_script(flags):
    """Average precision as in the script that Market-1501's authors distribute, image by image."""
    old_recall, old_precision, ap, found = 0.0, 1.0, 0.0, 0
    for j, good in enumerate(flags):
        found += good
        recall, precision = found / sum(flags), found / (j + 1)
        ap += (recall - old_recall) * ((old_precision + precision) / 2)
        old_recall, old_precision = recall, precision
        if found == sum(flags):
            return ap
    return ap


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=20).filter(any))
def test_the_trapezoid_form_is_that_of_markets_script(flags):
    labels = [1], [1 if good else 2 for good in flags], [1], [2] * len(flags)
    trapezoid = evaluate([range(len(flags))], *labels, average_precision="trapezoid")
    assert trapezoid.mAP == pytest.approx(market_script(flags))
    assert trapezoid.mAP <= evaluate([range(len(flags))], *labels).mAP + 1e-12
    assert trapezoid.policy.startswith("average precision: trapezoid form;")


def test_the_trapezoid_form_by_hand():
    """Matches at places 1 and 3: (1 + 1)/2 and (1/2 + 2/3)/2, half a recall each."""
    metrics = evaluate([[0.1, 0.2, 0.3]], [7], [7, 5, 7], [1], [2, 2, 2], average_precision="trapezoid")
    assert metrics.mAP == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_ties_go_by_gallery_order():
    assert evaluate([[0.5, 0.5]], [1], [1, 2], [1], [2, 2]).rank1 == 1
    assert evaluate([[0.5, 0.5]], [1], [2, 1], [1], [2, 2]).rank1 == 0


def test_queries_without_a_match_are_left_out_and_counted():
    metrics = evaluate(np.zeros((3, 2)), [1, 2, 9], [1, 2], [1, 1, 1], [2, 1])
    assert (metrics.num_queries, metrics.left_out_absent, metrics.left_out_same_camera) == (1, 1, 1)
    assert metrics.query_index.tolist() == [0]
    assert "1 absent from the gallery, 1 seen only by their own camera" in metrics.policy


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"got 1 and 1 for queries, 3 and 2"):
        evaluate(np.zeros((1, 2)), [1], [1, 2, 3], [1], [1, 2])
    with pytest.raises(ValueError, match="got NaN for query 1"):
        evaluate([[0.0, 1.0], [np.nan, 1.0]], [1, 1], [1, 2], [1, 1], [2, 2])
    with pytest.raises(ValueError, match="got pid -1 at query 0"):
        evaluate([[0.0]], [-1], [1], [1], [2])
    with pytest.raises(ValueError, match="same_camera 'remove' or 'keep'"):
        evaluate([[0.0]], [1], [1], [1], [2], same_camera="drop")
    with pytest.raises(ValueError, match="average_precision 'step' or 'trapezoid'"):
        evaluate([[0.0]], [1], [1], [1], [2], average_precision="voc")
