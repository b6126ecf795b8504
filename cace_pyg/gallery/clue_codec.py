"""Packs the second stage's input of an image into few bytes, and unpacks it."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet, Merged, PairOperand, keep_clues

Precision = Literal["int8", "float16", "int4"]
MOST_BYTES = 64 * 1024  # of an image
_KINDS = {"int8": ("i1", "<f4"), "float16": ("<f2", None), "int4": ("u1", "<f2")}  # of numbers, and of their scale


class ClueCodec:
    """Stores what the second stage needs of an image and cannot compute again: the compared features,
    the projected features, and the image's individual part.

    ``int8`` stores the first two as integers from −127 to 127 with a float32 scale for each clue, so that a faint
    clue is stored as well as a strong one; ``float16`` stores them in half precision. The individual part (some hundred
    numbers) is float16 in both. ``int4`` stores integers from −7 to 7 with a float16 scale, and the individual part
    as ``int8`` stores a clue.

    With ``clues`` that many are stored of each image (:func:`cace_pyg.models.keep_clues`), and for each clue of the map
    which of them stands for it, in one byte, or in two if more than 256 are stored.

    Args:
        example: prepared clues of any images, from the model: only their sizes matter.
        precision: ``int8``, ``float16`` or ``int4``.
        clues: how many are stored of an image; None: all.

    Raises:
        ValueError: an image would need more than 64 KiB: the graph or the convolution keeps whole clues; or there are
            not so many clues.
    """

    def __init__(self, example: PairOperand, precision: Precision, clues: int | None = None):
        if precision not in get_args(Precision):
            raise ValueError(f"Expected a precision of {', '.join(get_args(Precision))} (got {precision!r})")
        self.precision = precision
        self.grid = example.compared.grid
        kept = example if clues is None else keep_clues(example, clues)
        self.clues = None if kept.merged is None else clues
        self._channels = {name: values.size(2) for name, values in _parts(kept).items()}
        fields: list[tuple[Any, ...]] = []
        for name, values in _parts(kept).items():
            number, scale = _KINDS[self._precision_of(name)]
            n, channels = values.shape[1:]
            fields.append((name, number, (n, -(-channels // 2) if number == "u1" else channels)))
            if scale is not None:
                fields.append((f"{name}_scale", scale, (n, 1)))
        if kept.merged is not None:
            fields.append(("group", "u1" if kept.projected.size(1) <= 256 else "<i2", kept.merged.group.shape[1:]))
        self.kind = np.dtype(fields)
        if self.bytes_per_image > MOST_BYTES:
            raise ValueError(
                f"Expected at most {MOST_BYTES:,} bytes an image for the second stage (got {self.bytes_per_image:,}: "
                f"compared {self._channels['compared']}, projected {self._channels['projected']} channels for each of "
                f"{kept.projected.size(1)} clues); a gallery needs a model with a narrow graph, such as --graph.form "
                "released and --conditional.width 64, or --precision int8"
            )

    @property
    def bytes_per_image(self) -> int:
        return self.kind.itemsize

    def encode(self, prepared: PairOperand) -> list[bytes]:
        """One blob for each image, from all of its clues.

        Raises:
            ValueError: a number is not finite, or is too large for half precision.
        """
        kept = prepared if self.clues is None else keep_clues(prepared, self.clues)
        records = np.zeros(len(kept), self.kind)
        for name, values in _parts(kept).items():
            precision = self._precision_of(name)
            if precision == "float16":
                records[name] = _half(values, _NAMES[name])
            elif precision == "int8":
                records[name], records[f"{name}_scale"] = _whole(values)
            else:
                numbers, scale = _whole(values, 7)
                records[name] = _pack(numbers)
                records[f"{name}_scale"] = _half(torch.from_numpy(scale), f"a scale of {_NAMES[name]}")
        if kept.merged is not None:
            records["group"] = kept.merged.group.cpu().numpy()
        return [record.tobytes() for record in records]

    def decode(self, blobs: list[bytes], model: CaceNet) -> PairOperand:
        """The prepared clues of some images, float32, on the CPU.

        Raises:
            ValueError: a blob has another size: it was made by another model, or is damaged.
        """
        wrong = [len(blob) for blob in blobs if len(blob) != self.bytes_per_image]
        if wrong:
            raise ValueError(
                f"Expected {self.bytes_per_image} bytes of clues per image (got {wrong[0]} for {len(wrong)} of "
                f"{len(blobs)}); the gallery is damaged, or another model made it"
            )
        records = np.frombuffer(b"".join(blobs), self.kind)
        individual, compared, projected = (self._values(records, name) for name in _NAMES)
        grid, merged = self.grid, None
        if self.clues is not None:
            grid = self.clues, 1
            group = records["group"]
            merged = Merged(torch.from_numpy(group.astype(group.dtype.newbyteorder("="))), self.grid)
        with torch.no_grad():
            return model.pair_stage.restore(Clues(compared, grid), projected, individual[:, 0], merged)

    def _precision_of(self, name: str) -> Precision:
        if name != "individual":
            return self.precision
        return "int8" if self.precision == "int4" else "float16"

    def _values(self, records: np.ndarray, name: str) -> Tensor:
        values = records[name]
        if values.dtype.kind == "u":
            values = _unpack(values, self._channels[name])
        values = values.astype(np.float32)
        scaled = f"{name}_scale" in (self.kind.names or ())
        return torch.from_numpy(values * records[f"{name}_scale"].astype(np.float32) if scaled else values)


_NAMES = {"individual": "the individual part", "compared": "compared", "projected": "projected"}


def _parts(prepared: PairOperand) -> dict[str, Tensor]:
    """Named as the fields are, each ``(image, clue, channel)``."""
    clues = {"compared": prepared.compared.features, "projected": prepared.projected}
    return {"individual": prepared.individual.unsqueeze(1), **clues}


def _half(values: Tensor, name: str) -> np.ndarray:
    half = values.cpu().half()
    if not half.isfinite().all():
        raise ValueError(f"Expected {name} to fit half precision (got up to {float(values.abs().max()):.3g})")
    return half.numpy()


def _whole(clues: Tensor, largest: int = 127) -> tuple[np.ndarray, np.ndarray]:
    values = clues.cpu().numpy()
    if not values.shape[2]:  # a graph of locations has no keys
        return values.astype(np.int8), np.ones((*values.shape[:2], 1), np.float32)
    if not np.isfinite(values).all():
        raise ValueError("Expected clues with finite numbers (got NaN or infinity); the network has diverged")
    scale = np.abs(values).max(axis=2, keepdims=True) / largest
    return np.rint(values / np.where(scale > 0, scale, 1)).astype(np.int8), scale


def _pack(numbers: np.ndarray) -> np.ndarray:
    """Two numbers from −7 to 7 a byte."""
    codes = (numbers + 8).astype(np.uint8)
    if codes.shape[2] % 2:
        codes = np.concatenate([codes, np.full_like(codes[..., :1], 8)], axis=2)
    return codes[..., ::2] | codes[..., 1::2] << 4


def _unpack(packed: np.ndarray, channels: int) -> np.ndarray:
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:2], -1)[..., :channels].astype(np.int8) - 8
