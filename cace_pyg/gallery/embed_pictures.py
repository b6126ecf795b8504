"""Pictures to vectors, without a gallery."""

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
    """The individual embeddings of pictures, as evaluation compares them.

    Args:
        pictures: paths, or PIL images, arrays, bytes of files.
        checkpoint: ``best.ckpt`` of a run, ``model.ckpt`` of a gallery, or a bundle.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: show a bar.

    Returns:
        ``(picture, embedding)``, float32, of unit length, on the CPU: the distance of two pictures is that of their
        vectors, the similarity their inner product.

    Raises:
        FileNotFoundError, ValueError: see :class:`Embedder` and :func:`cace_pyg.read_picture.read_picture`; or one
            picture comes without a list, or none.
    """
    if isinstance(pictures, Picture):
        raise ValueError(f"Expected a list of pictures (got one, {type(pictures).__name__}); put it into a list")
    if not len(pictures):
        raise ValueError("Expected at least one picture (got none)")
    embeddings = []
    each = embed_each(Embedder(Path(checkpoint), device), pictures)
    for found in progress_bar(each, desc="embed", unit="picture", total=len(pictures), disable=not progress):
        if isinstance(found, Exception):
            raise found
        embeddings.append(found)
    return torch.stack(embeddings)


def embed_each(embedder: Embedder, pictures: Sequence[Picture]) -> Iterator[Tensor | ValueError | OSError]:
    """The embedding of each picture, or why it cannot be read, in their order.

    Pictures are read in threads while those before are embedded; two batches are in memory, as small as the network
    takes them.
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
            begun.append([threads.submit(read, one) for one in pictures[first : first + step]])
            if len(begun) == 2:
                yield from _embedded(embedder, begun.popleft())
        while begun:
            yield from _embedded(embedder, begun.popleft())


def _embedded(
    embedder: Embedder, batch: Sequence[Future[Tensor | ValueError | OSError]]
) -> Iterator[Tensor | ValueError | OSError]:
    attempts = [one.result() for one in batch]
    good = [one for one in attempts if isinstance(one, Tensor)]
    embeddings = iter(embedder.embeddings(good) if good else ())
    for one in attempts:
        yield next(embeddings) if isinstance(one, Tensor) else one
