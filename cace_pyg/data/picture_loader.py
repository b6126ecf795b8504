"""Batches of pictures, decoded by other processes."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset, default_collate

from cace_pyg.data.dataset import Draw, Item, ReidDataset


class PictureLoader(DataLoader[Any]):
    """torch's ``DataLoader`` for a :class:`ReidDataset`; errors of pictures are raised unchanged, with one line.

    The DataLoader itself would turn a worker's whole traceback into the error message.

    Args:
        dataset: the pictures.
        workers: processes that decode them; 0: only this one. They stay alive between epochs.
        batch_size: pictures in a batch, in order.
        batch_sampler: instead of ``batch_size``, the draws of each batch.

    Raises:
        FileNotFoundError, ValueError: in iteration, see :meth:`ReidDataset.__getitem__`.
    """

    def __init__(
        self,
        dataset: ReidDataset,
        workers: int,
        batch_size: int = 1,
        batch_sampler: Iterable[list[Any]] | None = None,
    ):
        super().__init__(
            _Attempts(dataset),
            batch_size,
            batch_sampler=batch_sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_collate,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch has its own class
        for batch in super().__iter__():
            if isinstance(batch, Exception):
                try:
                    raise batch
                finally:  # its traceback has this frame; a cycle would keep the workers until they no longer listen
                    del batch
            yield batch


class _Attempts(Dataset[Item | Exception]):
    def __init__(self, dataset: ReidDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw | int) -> Item | Exception:
        try:
            return self.dataset[draw]
        except (OSError, ValueError) as error:
            return error


def _collate(attempts: list[Item | Exception]) -> Item | Exception:
    return next((attempt for attempt in attempts if isinstance(attempt, Exception)), None) or default_collate(attempts)
