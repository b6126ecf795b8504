"""Identities and cameras that people name as they like."""

from collections.abc import Iterable


def as_numbers(words: Iterable[str]) -> dict[str, int]:
    """A number for every word: what it says if all are whole numbers, otherwise 1, 2, … in alphabetical order.

    Example: 7, 12 stay 7, 12; anna, bob, 12 become 2, 3, 1.
    """
    known = sorted(set(words))
    try:
        return {word: int(word) for word in known}
    except ValueError:
        return {word: number for number, word in enumerate(known, start=1)}
