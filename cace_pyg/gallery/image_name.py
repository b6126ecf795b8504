"""What a gallery calls a picture."""

import os
from pathlib import Path


def image_name(picture: str | Path) -> str:
    """A file's absolute path, ``.`` and ``..`` worked out, so that a file has one name however its path is written.

    Links are left as they are: a folder that is reached by two has two names, and ``..`` after a link to a folder is
    the folder that link lies in, as ``cd`` takes it. ``sha256:…``, the name of a picture without a file, stays.
    """
    return str(picture) if str(picture).startswith("sha256:") else os.path.abspath(picture)
