"""The kernel's tests on the CPU."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest


def _is_broken() -> bool:
    triton, numpy = ([int(part) for part in version(name).split(".")[:2]] for name in ("triton", "numpy"))
    return triton < [3, 7] and numpy >= [2, 4]


@pytest.mark.skipif(_is_broken(), reason="the interpreter of Triton before 3.7 fails with numpy 2.4 and later")
def test_the_kernel_in_tritons_interpreter():
    """In a process of its own: Triton looks at TRITON_INTERPRET when it is imported, and is then one or the other."""
    tests = Path(__file__).with_name("test_relu_gram_products.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tests)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(command, env=environment, cwd=tests.parents[2], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(r"\d+ passed", found.stdout) and "skipped" not in found.stdout
