"""Words as numbers."""

import pytest

from cace_pyg.data.own_pictures import as_numbers


def test_numbers_stay_and_words_are_counted():
    assert as_numbers(["7", "12", "7"]) == {"7": 7, "12": 12}
    assert as_numbers(["bob", "anna", "12"]) == {"12": 1, "anna": 2, "bob": 3}


def test_junk_and_distractors_keep_their_meaning_among_words():
    assert as_numbers(["bob", "-1", "0", "anna"]) == {"-1": -1, "0": 0, "anna": 1, "bob": 2}
    with pytest.raises(ValueError, match="-1 .junk., 0 .distractor. or more .got -5."):
        as_numbers(["-5", "bob"])
