"""The pictures that a configuration names."""

from dataclasses import replace
from typing import get_args

from cace_pyg.config.settings import DataSettings
from cace_pyg.data.combine import combine
from cace_pyg.data.read_dataset import DatasetName, read_dataset
from cace_pyg.data.sample import Splits


def read_splits(data: DataSettings) -> Splits:
    """``data.root``, with the training pictures of ``data.extra_train`` after its own.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.data.read_dataset.read_dataset`; an extra set is not written
            as NAME:ROOT.
    """
    splits = read_dataset(data.name, data.root, data.allow_partial)
    if not data.extra_train:
        return splits
    extra = [read_dataset(*_name_and_root(entry), data.allow_partial).train for entry in data.extra_train]
    return replace(splits, train=combine([splits.train, *extra]))


def _name_and_root(entry: str) -> tuple[str, str]:
    name, colon, root = entry.partition(":")
    if not colon or name not in get_args(DatasetName):
        raise ValueError(
            f"Expected data.extra_train as NAME:ROOT with a NAME of {', '.join(get_args(DatasetName))} (got {entry!r})"
        )
    return name, root
