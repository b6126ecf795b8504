"""Paths as users type them."""

from argparse import ArgumentTypeError
from pathlib import Path


def user_path(text: str) -> Path:
    """The path in a command's argument; ``~`` is the home folder, which a shell does not replace in ``--key=~/x``.

    Raises:
        ArgumentTypeError: the text is empty, which ``Path`` would treat as the current folder.
    """
    if not text:
        raise ArgumentTypeError("Expected a path (got an empty string)")
    return Path(text).expanduser()
