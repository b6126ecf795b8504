"""``python -m``, without a new process: importing torch and PyG takes one five seconds."""

import runpy
import sys
from unittest.mock import patch

import torch


def run_module(name: str, *arguments: str) -> int:
    """The exit status of ``python -m name …``."""
    threads = torch.get_num_threads()
    with patch.object(sys, "argv", [name, *arguments]):
        try:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as stopped:
            return stopped.code or 0
        finally:
            torch.set_num_threads(threads)
    return 0
