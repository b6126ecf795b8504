"""Peaks that can be worked out by hand."""

import pytest
import torch

from benchmarks.peak_memory import peak_memory

MB = 1_000_000  # bytes; MB // 4 float32


def test_one_tensor():
    assert peak_memory(lambda: torch.empty(MB // 4)) == MB


def test_a_call_without_tensors():
    assert peak_memory(lambda: sum(range(10))) == 0


def test_temporaries_count_only_while_they_live():
    def call():
        kept = torch.empty(MB)
        temporary = torch.empty(2 * MB)
        del temporary
        return kept, torch.empty(MB // 2)

    assert peak_memory(call) == 12 * MB


def test_what_is_freed_first_makes_room():
    def call():
        for _ in range(5):
            torch.empty(MB)

    assert peak_memory(call) == 4 * MB


def test_memory_of_before_does_not_count_and_gives_no_room_when_freed():
    held = [torch.empty(MB)]

    def call():
        held.clear()
        return torch.empty(MB)

    assert peak_memory(call) == 4 * MB


def test_views_and_work_in_place_take_nothing():
    x = torch.zeros(MB)
    assert peak_memory(lambda: x.add_(1)[10:].view(-1)) < 100  # the scalar 1


def test_forward_and_backward():
    x = torch.ones(MB, requires_grad=True)
    # Three at once while the product goes backward: the gradient that comes in and the two terms that go to x.
    peak = peak_memory(lambda: (x * x).sin().sum().backward())
    assert 12 * MB <= peak < 12 * MB + 100  # and a few scalars


def test_a_graph_that_is_kept_for_the_backward_takes_more_than_none():
    x = torch.ones(MB, requires_grad=True)

    def chain():
        y = x
        for _ in range(6):
            y = y.sin()
        return y

    with torch.no_grad():
        assert peak_memory(chain) == 8 * MB
    assert peak_memory(chain) == 24 * MB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda():
    held = torch.empty(MB, device="cuda")

    def call():
        first = torch.empty(1 << 20, dtype=torch.uint8, device="cuda")
        del first
        return torch.empty(1 << 21, dtype=torch.uint8, device="cuda")

    assert peak_memory(call) == 1 << 21
    assert len(held) == MB
