"""The processes that other tests fork."""

import os

import torch

from tests.forkserver import on_ranks


def tell():
    print(repr(os.environ.get("CUDA_VISIBLE_DEVICES")), torch.cuda.is_available())


def test_forked_processes_see_no_gpu(tmp_path):
    assert on_ranks(1, tmp_path, tell) == "'' False\n"
