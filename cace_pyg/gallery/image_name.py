"""What a gallery calls a picture that is a file."""

import os
from pathlib import Path


def image_name(path: str | Path) -> str:
    """Its absolute path, ``.`` and ``..`` worked out, so that a file has one name however its path is written.

    Links are left as they are: a folder that is reached by two has two names, and ``..`` after a link to a folder is
    the folder that link lies in, as `cd` takes it.
    """
    return os.path.abspath(path)
