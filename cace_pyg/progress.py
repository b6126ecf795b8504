"""Shows the progress of a loop: a bar on a terminal; otherwise, in a file or a pipe, an occasional line."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from operator import length_hint
from time import perf_counter
from typing import Any, Protocol, Self

from tqdm import tqdm

_INTERVAL = 30.0  # s between two lines of one loop


class ProgressBar(Protocol):
    """The part of tqdm's interface that is used here."""

    def __iter__(self) -> Iterator[Any]: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: Any) -> None: ...

    def update(self, n: int = 1) -> object: ...

    def set_postfix(self, values: Mapping[str, Any], /) -> None: ...

    def set_postfix_str(self, text: str, /) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """A progress bar in plain lines: one every half minute, and one at the end.

    If ``leave`` is false, a loop that ends before its first line prints none.
    """

    def __init__(self, iterable: Iterable[Any] | None, total: int | None, desc: str, unit: str, leave: bool):
        self.iterable = () if iterable is None else iterable
        self.total = length_hint(iterable) if total is None else total  # 0: unknown, or nothing to do
        self.desc, self.unit, self.leave = desc, unit, leave
        self._file = sys.stderr
        self._done, self._postfix = 0, ""
        self._said: int | None = None  # how much was done at the last line
        self._started = self._said_at = perf_counter()

    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.iterable:
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        self._done += n
        if perf_counter() - self._said_at >= _INTERVAL:
            self._say()

    def set_postfix(self, values: Mapping[str, Any]) -> None:
        self.set_postfix_str(", ".join(f"{name}={value}" for name, value in values.items()))

    def set_postfix_str(self, text: str) -> None:
        self._postfix = text

    def close(self) -> None:
        if self._done != self._said and (self.leave or self._said is not None):
            self._say()

    def _say(self) -> None:
        self._said, self._said_at = self._done, perf_counter()
        count = f"{self._done}/{self.total}" if self.total else self._done
        told = [f"{count} {self.unit}", f"{self._said_at - self._started:.1f} s", self._postfix]
        print(f"{self.desc}: {', '.join(filter(None, told))}", file=self._file, flush=True)


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    leave: bool = True,
    disable: bool = False,
) -> ProgressBar:
    """tqdm if ``sys.stderr`` is a terminal; otherwise lines like "joint 7/60: 45/45 step, 9.8 s, triplet=0.58".

    Args:
        iterable: to iterate over; without one, call ``update``.
        desc: describes the loop.
        unit: of the count.
        total: number of steps, if the iterable does not know it.
        leave: whether the bar stays at the end; without a terminal, whether a loop of less than half a minute prints a
            line.
        disable: show nothing.
    """
    if disable or sys.stderr.isatty():
        return tqdm(iterable, desc=desc, unit=unit, total=total, leave=leave, disable=disable)
    return _Lines(iterable, total, desc, unit, leave)


def write_line(message: str) -> None:
    """Write a line to ``sys.stdout`` above the bars, unbuffered, so that the order is right if both share a file."""
    tqdm.write(message)
    sys.stdout.flush()
