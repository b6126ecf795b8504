"""Writes vectors to a file, with the names of their pictures."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cace_pyg.engine.files import atomic_file

ENDINGS = (".parquet", ".npy")
Write = Callable[[str, Tensor], None]
_AT_ONCE = 1024  # rows of a Parquet file in memory


def vector_file(path: Path, channels: int, model: str) -> AbstractContextManager[Write]:
    """A file that is written vector by vector. It appears when the block ends without an error; else nothing changes.

    Parquet: columns ``path`` and ``embedding`` (a fixed number of float32), with the model's fingerprint in the
    schema's metadata under ``cace_pyg.model``. NumPy: an array ``(picture, embedding)`` of float32, and next to it
    ``NAME.names.txt`` with a line for each row, in UTF-8.

    Args:
        path: ends in ``.parquet`` or ``.npy``.
        channels: of a vector.
        model: the model's fingerprint.

    Yields:
        A function that takes a name and its vector; it raises a ValueError if the file cannot store the name.

    Raises:
        ValueError: the path has another ending, or its folder does not exist.
        ImportError: Parquet without pyarrow.
    """
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"Expected a file ending in .parquet or .npy to write (got {path})")
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"Expected a file in an existing folder to write (got {path})")
    return _numpy(path, channels) if path.suffix.lower() == ".npy" else _parquet(path, channels, model)


def names_path(path: Path) -> Path:
    """The file with the names of the rows of a ``.npy`` file."""
    return path.with_suffix(".names.txt")


@contextmanager
def _numpy(path: Path, channels: int) -> Iterator[Write]:
    with atomic_file(path) as file, atomic_file(names_path(path)) as names_file:
        count = 0

        def write_header() -> None:
            """Write the header; it has room for the final number of rows."""
            described = {"descr": "<f4", "fortran_order": False, "shape": (count, channels)}
            np.lib.format.write_array_header_1_0(file, described)

        def write(name: str, vector: Tensor) -> None:
            nonlocal count
            _expect_utf8(name)
            if len(name.splitlines()) != 1:
                raise ValueError("its name has a line break, which a list of names cannot hold; write .parquet")
            names_file.write(f"{name}\n".encode())
            file.write(vector.numpy().astype("<f4").tobytes())
            count += 1

        write_header()
        start = file.tell()
        yield write
        file.seek(0)
        write_header()
        if file.tell() != start:
            raise RuntimeError("this NumPy does not write a header of fixed size; write .parquet")


@contextmanager
def _parquet(path: Path, channels: int, model: str) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow: pip install pyarrow (or cace-pyg[parquet]), or write .npy") from error
    fields = [pa.field("path", pa.string(), False), pa.field("embedding", pa.list_(pa.float32(), channels), False)]
    schema = pa.schema(fields, metadata={"cace_pyg.model": model})
    with atomic_file(path) as file, ParquetWriter(file, schema) as writer:
        names: list[str] = []
        vectors: list[Tensor] = []

        def write(name: str, vector: Tensor) -> None:
            _expect_utf8(name)
            names.append(name)
            vectors.append(vector)
            if len(names) == _AT_ONCE:
                write_rows()

        def write_rows() -> None:
            if names:
                embedding = pa.FixedSizeListArray.from_arrays(torch.cat(vectors).numpy(), channels)
                writer.write_table(pa.table([pa.array(names), embedding], schema=schema))
                names.clear()
                vectors.clear()

        yield write
        write_rows()


def _expect_utf8(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError("its name is not UTF-8 and cannot be written; rename it") from error
