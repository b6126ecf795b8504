"""``python -m``, without a new process: importing torch and PyG takes one five seconds."""

import runpy
import sys
from unittest.mock import patch


def run_module(name: str, *arguments: str) -> int:
    """The exit status of ``python -m name …``."""
    with patch.object(sys, "argv", [name, *arguments]):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as stopped:
            return stopped.code or 0
    return 0
