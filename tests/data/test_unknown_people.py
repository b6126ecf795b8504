"""People who are taken out of the gallery."""

from pathlib import Path

import pytest

from cace_pyg.data.sample import Sample
from cace_pyg.data.unknown_people import without_unknown_people

QUERY = [Sample(Path(f"q{pid}_{i}.jpg"), pid, 1) for pid in range(1, 11) for i in range(2)]
GALLERY = [Sample(Path(f"g{pid}_{i}.jpg"), pid, 2) for pid in (-1, *range(13)) for i in range(3)]


def test_a_share_of_the_query_people_goes_with_all_of_their_pictures():
    left = without_unknown_people(QUERY, GALLERY, 0.3, seed=0)
    gone = {sample.pid for sample in GALLERY} - {sample.pid for sample in left}
    assert len(gone) == 3 and gone <= {sample.pid for sample in QUERY}
    assert left == [sample for sample in GALLERY if sample.pid not in gone]


def test_the_draw_is_the_seeds_and_not_the_orders():
    drawn = without_unknown_people(QUERY, GALLERY, 0.5, seed=4)
    assert drawn == without_unknown_people(QUERY[::-1], GALLERY, 0.5, seed=4)
    assert drawn != without_unknown_people(QUERY, GALLERY, 0.5, seed=5)
    assert without_unknown_people(QUERY, GALLERY, 0, seed=4) is GALLERY


@pytest.mark.parametrize(("share", "takes"), [(0.01, 0), (0.99, 10)])
def test_a_share_that_takes_nobody_or_everybody_is_refused(share, takes):
    with pytest.raises(ValueError, match=f"some of the 10 query people.*got {share}, which removes {takes}"):
        without_unknown_people(QUERY, GALLERY, share, seed=0)
