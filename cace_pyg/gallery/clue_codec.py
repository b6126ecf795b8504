"""Packs the second stage's input of an image into few bytes, and unpacks it."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet, PairOperand

Precision = Literal["int8", "float16"]
MOST_BYTES = 64 * 1024  # of an image


class ClueCodec:
    """Stores what the second stage needs of an image and cannot compute again: the compared features,
    the projected features, and the image's individual part.

    ``int8`` stores the first two as integers from −127 to 127 with a float32 scale for each clue, so that a faint
    clue is stored as well as a strong one; ``float16`` stores them in half precision. The individual part (some hundred
    numbers) is float16 in both.

    Args:
        example: prepared clues of any images, from the model: only their sizes matter.
        precision: ``int8`` or ``float16``.

    Raises:
        ValueError: an image would need more than 64 KiB: the graph or the convolution keeps whole clues.
    """

    def __init__(self, example: PairOperand, precision: Precision):
        self.precision = precision
        self.grid = example.compared.grid
        n = self.grid[0] * self.grid[1]
        fields: list[tuple[Any, ...]] = [("individual", "<f2", (example.individual.size(1),))]
        for name, values in (("compared", example.compared.features), ("projected", example.projected)):
            kind = "i1" if precision == "int8" else "<f2"
            fields.append((name, kind, (n, values.size(2))))
            if precision == "int8":
                fields.append((f"{name}_scale", "<f4", (n, 1)))
        self.kind = np.dtype(fields)
        if self.bytes_per_image > MOST_BYTES:
            raise ValueError(
                f"Expected at most {MOST_BYTES:,} bytes an image for the second stage (got {self.bytes_per_image:,}: "
                f"compared {example.compared.features.size(2)}, projected {example.projected.size(2)} channels for "
                f"each of {n} clues); a gallery needs a model with a narrow graph, such as --graph.form released and "
                "--conditional.width 64, or --precision int8"
            )

    @property
    def bytes_per_image(self) -> int:
        return self.kind.itemsize

    def encode(self, prepared: PairOperand) -> list[bytes]:
        """One blob for each image.

        Raises:
            ValueError: a number is not finite, or is too large for half precision.
        """
        records = np.zeros(len(prepared), self.kind)
        records["individual"] = _half(prepared.individual, "the individual part")
        for name, values in (("compared", prepared.compared.features), ("projected", prepared.projected)):
            if self.precision == "float16":
                records[name] = _half(values, name)
            else:
                records[name], records[f"{name}_scale"] = _whole(values)
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
        compared = Clues(self._values(records, "compared"), self.grid)
        individual = torch.from_numpy(records["individual"].astype(np.float32))
        with torch.no_grad():
            return model.pair_stage.restore(compared, self._values(records, "projected"), individual)

    def _values(self, records: np.ndarray, name: str) -> Tensor:
        values = records[name].astype(np.float32)
        return torch.from_numpy(values * records[f"{name}_scale"] if self.precision == "int8" else values)


def _half(values: Tensor, name: str) -> np.ndarray:
    half = values.cpu().half()
    if not half.isfinite().all():
        raise ValueError(f"Expected {name} to fit half precision (got up to {float(values.abs().max()):.3g})")
    return half.numpy()


def _whole(clues: Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = clues.cpu().numpy()
    if not values.shape[2]:  # a graph of locations has no keys
        return values.astype(np.int8), np.ones((*values.shape[:2], 1), np.float32)
    if not np.isfinite(values).all():
        raise ValueError("Expected clues with finite numbers (got NaN or infinity); the network has diverged")
    scale = np.abs(values).max(axis=2, keepdims=True) / 127
    return np.rint(values / np.where(scale > 0, scale, 1)).astype(np.int8), scale
