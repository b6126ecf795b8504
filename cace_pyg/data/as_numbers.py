"""Identities and cameras that people name as they like."""

from collections.abc import Iterable


def as_numbers(words: Iterable[str]) -> dict[str, int]:
    """A number for every word: what it says if all are whole numbers, otherwise 1, 2, … in alphabetical order.

    −1 and 0 stay what they are among words too, since they mean junk and a distractor.

    Example: 7, 12 stay 7, 12; anna, bob, 12, -1 become 2, 3, 1, −1.

    Raises:
        ValueError: a number below −1.
    """
    known = sorted(set(words))
    numbers = {word: _number(word) for word in known}
    if (lowest := min((one for one in numbers.values() if one is not None), default=0)) < -1:
        raise ValueError(f"Expected identities and cameras of -1 (junk), 0 (distractor) or more (got {lowest})")
    if None not in numbers.values():
        return numbers
    meant = {word: number for word, number in numbers.items() if number in (-1, 0)}
    others = [word for word in known if word not in meant]
    return meant | {word: number for number, word in enumerate(others, start=1)}


def _number(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None
