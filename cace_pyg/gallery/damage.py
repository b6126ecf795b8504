"""Damaged files of a gallery, told from other errors."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")
_READS = 3  # attempts
_UNREADABLE = (RuntimeError, ValueError, OSError, TypeError, LookupError, ArithmeticError)  # raised for damaged files


class UnreadableTableError(RuntimeError):
    """Files of the table are damaged or missing."""


def read_again(read: Callable[[], T]) -> T:
    """Read, and try again up to twice if files are missing: another process may have merged them meanwhile."""
    for _ in range(_READS - 1):
        with suppress(UnreadableTableError):
            return read()
    return read()


@contextmanager
def damage_told(words: Callable[[BaseException], str], reading: bool = False) -> Iterator[None]:
    """Report a panic of Lance as damage, and with ``reading`` any error that only damaged files can cause.

    Args:
        words: what is said of an error.
        reading: nothing is written meanwhile.

    Raises:
        UnreadableTableError: in place of these errors.
    """
    try:
        yield
    except UnreadableTableError:
        raise
    except BaseException as error:  # a panic is not an Exception
        panic = type(error).__name__ in ("PanicException", "RustPanic")
        gone = "Not found: " in str(error)  # a file that another commit or an optimisation deleted
        if not (panic or gone or (reading and isinstance(error, _UNREADABLE))):
            raise
        raise UnreadableTableError(words(error)) from error
