"""The clues of many images, in memory or on disk."""

import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import PairOperand

Kept = TypeVar("Kept", Clues, PairOperand)


def keep_where_it_fits(images: Kept, device: torch.device | str) -> Kept:
    """Move the images to ``device`` if they take at most half of its free memory, else leave them.

    Otherwise a GPU would wait for the clues of every pair to be copied. Only CUDA devices report their free memory.
    """
    tensors = _tensors(images) if isinstance(images, PairOperand) else _tensors_of_clues(images)
    if torch.device(device).type != "cuda" or tensors[0].is_cuda:
        return images
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return images.to(device) if size <= torch.cuda.mem_get_info(device)[0] / 2 else images


def store_raw_clues(batches: Iterable[Clues], count: int, folder: str | None) -> Clues:
    """The raw clues of all batches, see :func:`store_clues`."""
    whole, filled = None, 0
    for batch in batches:
        if whole is None:
            whole = _room_of_clues(batch, count, folder)
        whole.features[filled : filled + len(batch)] = batch.features
        if whole.parts is not None and batch.parts is not None:
            whole.parts[filled : filled + len(batch)] = batch.parts
        filled += len(batch)
    assert whole is not None  # there is at least one image
    return whole


def store_clues(batches: Iterable[PairOperand], count: int, folder: str | None) -> PairOperand:
    """The prepared clues of all batches, in memory that is allocated once.

    Args:
        batches: ``count`` images in all, on the CPU.
        count: at least 1.
        folder: None: in memory. Otherwise in files in this folder, mapped into memory: the system keeps in memory what
            fits, and reads the rest when it is needed. The files have no names and vanish when the process ends, even
            if it is killed.

    Raises:
        ValueError: there is no such folder, or its disk has too little space.
    """
    whole, filled = None, 0
    for batch in batches:
        if whole is None:
            whole = _room(batch, count, folder)
        for room, tensor in zip(_tensors(whole), _tensors(batch), strict=True):
            room[filled : filled + len(batch)] = tensor
        filled += len(batch)
    assert whole is not None  # there is at least one image
    return whole


def _tensors(prepared: PairOperand) -> list[Tensor]:
    """The tensors that have a row for each image."""
    groups = [] if prepared.merged is None else [prepared.merged.group]
    return [*_tensors_of_clues(prepared.compared), prepared.intra, prepared.projected, prepared.individual, *groups]


def _tensors_of_clues(clues: Clues) -> list[Tensor]:
    return [clues.features] if clues.parts is None else [clues.features, clues.parts]


def _room(example: PairOperand, count: int, folder: str | None) -> PairOperand:
    intra, projected, individual = (
        _room_like(operand, count, folder) for operand in (example.intra, example.projected, example.individual)
    )
    merged = example.merged and example.merged._replace(group=_room_like(example.merged.group, count, folder))
    return PairOperand(_room_of_clues(example.compared, count, folder), intra, projected, individual, merged)


def _room_of_clues(example: Clues, count: int, folder: str | None) -> Clues:
    parts = None if example.parts is None else _room_like(example.parts, count, folder)
    return replace(example, features=_room_like(example.features, count, folder), parts=parts)


def _room_like(tensor: Tensor, count: int, folder: str | None) -> Tensor:
    shape = count, *tensor.shape[1:]
    if folder is None or 0 in shape:
        return tensor.new_empty(shape)
    return _mapped(shape, tensor.dtype, Path(folder))


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    """A tensor in an unnamed file."""
    size = torch.Size(shape).numel()
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            _take(file.fileno(), max(1, size * dtype.itemsize))
            return torch.from_file(file.name, shared=True, size=size, dtype=dtype).view(shape)
    except OSError as error:
        raise ValueError(
            f"Expected evaluation.clues_on_disk to be a folder with {size * dtype.itemsize / 1e9:.2g} GB to spare for "
            f"{shape[0]} images (got {folder}: {error.strerror}); choose another, or leave it out"
        ) from error


def _take(file: int, size: int) -> None:
    """Allocate the space on disk now; if the disk filled up later, the process would be killed."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:  # macOS
        os.truncate(file, size)
