"""The two halves of a model as modules with named tensors, for ONNX."""

from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from cace_pyg.graph import Clues
from cace_pyg.models import CaceNet, FrozenExtractor, PairOperand


class ExportedClues:
    """The parts of :class:`~cace_pyg.models.PairOperand` that a pair needs, as named tensors.

    ``compared`` without channels, ``intra`` with inter edges only, and ``individual`` of aligned clues have no
    information and are left out.

    Args:
        model: the model.
        example: its pair stage's input of any image.

    Attributes:
        names: the remaining ones of ``compared``, ``intra``, ``projected``, ``individual`` and ``parts``.
        grid: (H, W) of the feature map.
    """

    def __init__(self, model: CaceNet, example: PairOperand):
        settings = model.pair_stage.settings
        wanted = {
            "compared": example.compared.features.size(-1) > 0 and settings.edges != "intra",
            "intra": settings.edges != "inter" and settings.compare != "aligned_clues",
            "projected": True,
            "individual": example.individual.size(-1) > 0,
            "parts": example.compared.parts is not None and settings.edges != "intra",
        }
        self.names = tuple(name for name, is_wanted in wanted.items() if is_wanted)
        self.grid = example.compared.grid

    def tensors(self, operand: PairOperand) -> dict[str, Tensor]:
        """The parts by name, each ``(image, …)``."""
        every = {
            "compared": operand.compared.features,
            "intra": operand.intra,
            "projected": operand.projected,
            "individual": operand.individual,
        }
        if operand.compared.parts is not None:
            every["parts"] = operand.compared.parts
        return {name: every[name] for name in self.names}

    def operand(self, tensors: dict[str, Tensor]) -> PairOperand:
        """The inverse of :meth:`tensors`, as far as a pair needs it."""
        projected = tensors["projected"]
        images = projected.size(0)  # with len() an exported model would take only this size
        compared = Clues(tensors.get("compared", projected[..., :0]), self.grid, tensors.get("parts"))
        intra = tensors["intra"] if "intra" in self.names else projected.new_zeros(images, 0, 0)
        individual = tensors["individual"] if "individual" in self.names else projected.new_zeros(images, 0)
        return PairOperand(compared, intra, projected, individual)


class IndividualBranch(torch.nn.Module):
    """The first stage, and the part of the second that depends on one image; includes the normalisation.

    Args:
        model: in evaluation mode.
        clues: which parts of the prepared clues to return.
        size: (height, width) of the pictures.

    Shapes: uint8 ``(image, 3, height, width)``, and if the graph uses body parts label maps, uint8
    ``(image, height, width)``, to ``embedding`` ``(image, embedding)``, of unit length, and the clues by name.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: CaceNet, clues: ExportedClues, size: tuple[int, int]):
        super().__init__()
        self.model = model
        self.clues = clues
        self.vote = PartVote(size, clues.grid) if model.needs_parts else None
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, part_maps: Tensor | None = None) -> dict[str, Tensor]:
        """Return the embedding and the clues."""
        embedding, clues = self.model((images.float() / 255 - self.mean) / self.deviation)
        if self.vote is not None:
            clues = replace(clues, parts=self.vote(part_maps))
        unit = torch.nn.functional.normalize(embedding, dim=-1)
        return {"embedding": unit} | self.clues.tensors(self.model.pair_stage.prepare(clues))


class ClueBranch(torch.nn.Module):
    """The part of the second stage that depends on one image, from the maps of a network with its own file.

    Args:
        model: in evaluation mode.
        clues: which parts of the prepared clues to return.
        size: (height, width) of the pictures, and so of label maps.

    Shapes: the maps of :meth:`FrozenExtractor.run`, each ``(image, …)``, and if the graph uses body parts label maps,
    uint8 ``(image, height, width)``, to the clues by name.
    """

    def __init__(self, model: CaceNet, clues: ExportedClues, size: tuple[int, int]):
        super().__init__()
        assert isinstance(model.extractor, FrozenExtractor)
        self.pair_stage = model.pair_stage
        self.extractor = model.extractor
        self.clues = clues
        self.vote = PartVote(size, clues.grid) if model.needs_parts else None

    def forward(self, maps: list[Tensor], part_maps: Tensor | None = None) -> dict[str, Tensor]:
        """Return the clues."""
        clues = self.extractor.clues(maps)
        if self.vote is not None:
            clues = replace(clues, parts=self.vote(part_maps))
        return self.clues.tensors(self.pair_stage.prepare(clues))


class PairScorer(torch.nn.Module):
    """The distance of one query to many gallery images, see :meth:`PairStage.distance`.

    Args:
        model: in evaluation mode.
        clues: which parts of the prepared clues are inputs.

    Shapes: the clues of the query, each ``(1, …)``, and of the gallery images, each ``(pair, …)``, to ``(pair,)``.
    """

    def __init__(self, model: CaceNet, clues: ExportedClues):
        super().__init__()
        self.model = model
        self.clues = clues

    def forward(self, query: dict[str, Tensor], gallery: dict[str, Tensor]) -> Tensor:
        """Return the distance of each pair."""
        return self.model.pair_stage.distance(self.clues.operand(query), self.clues.operand(gallery))


_LABELS = 256  # labels that uint8 maps can have


class PartVote(torch.nn.Module):
    """The exportable twin of :func:`~cace_pyg.graph.clues.clue_parts`, without a loop over labels.

    Every pixel under a clue votes for its label; the rule and the results are the same as there.

    Args:
        size: (height, width) of the label maps.
        grid: (H, W) of the feature map.

    Shapes: uint8 ``(image, height, width)`` to int64 ``(image, H·W)``.
    """

    voters: Tensor

    def __init__(self, size: tuple[int, int], grid: tuple[int, int]):
        super().__init__()
        rows, columns = (_cells(*lengths) for lengths in zip(size, grid, strict=True))
        voters = [
            torch.tensor([row * size[1] + column for row in of_row for column in of_column])
            for of_row in rows
            for of_column in columns
        ]
        # cells differ in size if sizes do not divide; missing pixels point to an extra pixel with its own label
        outside = size[0] * size[1]
        self.register_buffer("voters", torch.nn.utils.rnn.pad_sequence(voters, True, outside), persistent=False)

    def forward(self, part_maps: Tensor) -> Tensor:
        """Return the part of each clue."""
        labels = torch.nn.functional.pad(part_maps.flatten(1).long(), (0, 1), value=_LABELS)
        chosen = labels[:, self.voters]
        votes = torch.zeros(*chosen.shape[:2], _LABELS + 1, device=chosen.device)
        votes = votes.scatter_add(2, chosen, torch.ones_like(chosen, dtype=votes.dtype))
        most, part = votes[..., 1:_LABELS].max(-1)  # the first, and so the smallest, among equals
        return torch.where(votes[..., 0] > most, 0, part + 1)


def _cells(length: int, cells: int) -> list[range]:
    """The pixels of each cell of adaptive average pooling, along one side."""
    return [range(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
