"""Paths as people type them."""

from argparse import ArgumentTypeError
from pathlib import Path


def user_path(text: str) -> Path:
    """The path that an argument of a command means: ``~`` is the home folder, which a shell leaves in ``--key=~/x``.

    Raises:
        ArgumentTypeError: the text is empty, which ``Path`` would take for the current folder.
    """
    if not text:
        raise ArgumentTypeError("Expected a path (got an empty text)")
    return Path(text).expanduser()
