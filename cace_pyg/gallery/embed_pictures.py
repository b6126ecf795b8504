"""Embed pictures without a gallery."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from cace_pyg.gallery.embedder import Embedder
from cace_pyg.progress import progress_bar
from cace_pyg.read_picture import Picture, read_picture

_DECODERS = 4  # threads, each with one picture in memory at full size


def embed_pictures(
    pictures: Sequence[Picture], checkpoint: str | Path, device: str = "auto", progress: bool = False
) -> Tensor:
    """The individual embeddings of pictures, as the evaluation compares them.

    Args:
        pictures: paths, or PIL images, arrays, bytes of files.
        checkpoint: ``best.ckpt`` of a run, ``model.ckpt`` of a gallery, or a bundle.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: show a bar.

    Returns:
        ``(picture, embedding)``, float32, unit length, on the CPU. The distance of two pictures is the distance of
        their vectors; their similarity is the inner product.

    Raises:
        FileNotFoundError, ValueError: see :class:`Embedder` and :func:`cace_pyg.read_picture.read_picture`; or a
            single picture is given instead of a list, or the list is empty.
    """
    if isinstance(pictures, Picture):
        raise ValueError(f"Expected a list of pictures (got one, {type(pictures).__name__}); put it into a list")
    if not len(pictures):
        raise ValueError("Expected at least one picture (got none)")
    embeddings, embedder = [], Embedder(Path(checkpoint), device)
    embedder.expect_unstandardised("embed_pictures")
    each = embed_each(embedder, pictures)
    for found in progress_bar(each, desc="embed", unit="picture", total=len(pictures), disable=not progress):
        if isinstance(found, Exception):
            raise found
        embeddings.append(found)
    return torch.stack(embeddings)


def embed_each(embedder: Embedder, pictures: Sequence[Picture]) -> Iterator[Tensor | ValueError | OSError]:
    """The embedding of each picture, or the error why it cannot be read, in order.

    Threads read the next pictures while the previous ones are embedded. Two batches are in memory, in the size that
    the network takes.
    """

    def read(picture: Picture) -> Tensor | ValueError | OSError:
        try:
            return embedder.resize(read_picture(picture))
        except (ValueError, OSError) as error:
            return error

    step = embedder.config.evaluation.batch_size
    begun: deque[list[Future[Tensor | ValueError | OSError]]] = deque()
    with ThreadPoolExecutor(min(_DECODERS, os.cpu_count() or 1)) as threads:
        for first in range(0, len(pictures), step):
            begun.append([threads.submit(read, picture) for picture in pictures[first : first + step]])
            if len(begun) == 2:
                yield from _embedded(embedder, begun.popleft())
        while begun:
            yield from _embedded(embedder, begun.popleft())


def _embedded(
    embedder: Embedder, batch: Sequence[Future[Tensor | ValueError | OSError]]
) -> Iterator[Tensor | ValueError | OSError]:
    attempts = [future.result() for future in batch]
    good = [attempt for attempt in attempts if isinstance(attempt, Tensor)]
    embeddings = iter(embedder.embeddings(good) if good else ())
    for attempt in attempts:
        yield next(embeddings) if isinstance(attempt, Tensor) else attempt
