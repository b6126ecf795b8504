"""Finds the clues in a network's graph: the map that its last pooling reads."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

Shape = tuple[int, ...]
Layout = Literal["NCHW", "NHWC", "NTC", "NCT"]  # T: tokens

_REDUCTIONS = {"ReduceMean", "ReduceMax"}
_GLOBAL = {"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"}
_WINDOWS = {"AveragePool", "MaxPool", "LpPool"}
_CONVOLUTIONS = {"Conv", "GroupConv"}
_PICKS = {"Gather", "Slice"}  # steps that take one token, the class token
_RESHAPES = {"Reshape", "Flatten", "Squeeze"}
_MOST_EXTRA = 5  # tokens that are not patches: a class token, and DINOv2's four registers
_LISTED = 4
_FEWEST = 8  # channels of an output that is taken for clues without being named
_ENDS_OF_BLOCKS = {"Add", "AveragePool", "Clip", "Concat", "MaxPool", "Relu"}


class Step(NamedTuple):
    """A node of the graph: the names of its tensors, and the axes that it works along if the file states them."""

    kind: str  # by ONNX's name
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class NetworkGraph:
    """A network in any file format: its steps in order, and the shapes of its tensors for one picture."""

    steps: tuple[Step, ...]
    shapes: Mapping[str, Shape]
    other_names: Mapping[str, str] = field(default_factory=dict)  # of tensors

    def tensor(self, named: str) -> str:
        """The tensor of this name, or the first one that the step of this name makes; the name itself if none is."""
        by_step = {step.name: step.outputs[0] for step in self.steps}
        return named if named in self.shapes else self.other_names.get(named) or by_step.get(named, named)


class ClueMap(NamedTuple):
    """A tensor of clues.

    Attributes:
        tensor: its name in the graph.
        layout: the order of its axes.
        grid: (H, W) of the clues.
        channels: of a clue.
        extra: number of tokens before those of the patches; they are not clues.
    """

    tensor: str
    layout: Layout
    grid: tuple[int, int]
    channels: int
    extra: int = 0

    def clues(self, found: Tensor) -> Tensor:
        """The tensor for some pictures, rearranged to ``(image, H·W, channels)``."""
        if self.layout == "NCHW":
            return found.flatten(2).mT
        if self.layout == "NHWC":
            return found.flatten(1, 2)
        tokens = found if self.layout == "NTC" else found.mT
        return tokens[:, self.extra :]

    def as_map(self, found: Tensor) -> Tensor:
        """The tensor for some pictures, rearranged to ``(image, channels, H, W)``."""
        return self.clues(found).mT.unflatten(2, self.grid)


def find_clue_map(
    graph: NetworkGraph,
    embedding: str,
    size: tuple[int, int],
    named: str | None,
    file: str,
    outputs: Sequence[str] = (),
) -> ClueMap:
    """The map that a network pools into its embedding, or the map with a given name.

    An output that is a map of at least 8 channels with the picture's proportions, and from which the embedding is not
    computed, is taken instead, if there is only one: somebody put it into the file for this (see
    :class:`~cace_pyg.models.two_networks.TwoNetworks`).

    A pooling takes a mean, a maximum or a depthwise convolution over a whole map or over all tokens, or takes the class
    token. The last pooling is the one after which no map is computed any more: a gate (squeeze and excitation) also
    pools, but multiplies the result with its map. For a generalised mean, the map is the one before its power.

    Args:
        graph: of the network.
        embedding: the output that is the embedding.
        size: (height, width) of the picture.
        named: name of the tensor, or of the step that makes it; None: find it.
        file: for error messages.
        outputs: of the network.

    Raises:
        ValueError: there is no tensor of this name, or it is not a map; or the map cannot be determined. The message
            lists the candidates.
    """
    before = _Ancestry(graph)
    steps = before.steps_before(embedding)
    every = [name for step in reversed(steps) for name in step.outputs]
    if named is None:
        apart = [name for name in outputs if name not in every and _could_be_clues(graph, name, size, file)]
        named = apart[0] if len(apart) == 1 else None
    if named is not None:
        return _named_map(graph, size, named, file, every)
    found = {}
    for step in steps:
        layout = _pooled_layout(step, graph.shapes)
        if layout is not None and before.is_last(step, steps):
            tensor, layout = before.source(step.inputs[0], layout)
            if len(graph.shapes[tensor]) == 4 or not before.is_reduced(tensor):
                found[tensor] = layout
    if len(found) != 1:
        kind = "no global pooling" if not found else f"{len(found)} poolings of different maps"
        raise ValueError(
            f"cannot tell which tensor of {file} is the map before pooling ({kind}); name it as --backbone.map NAME. "
            f"{_candidates(graph, list(found) or every)}"
        )
    ((tensor, layout),) = found.items()
    return _clue_map(graph, tensor, layout, size, file)


def find_earlier_map(
    graph: NetworkGraph,
    embedding: str,
    size: tuple[int, int],
    named: str,
    file: str,
    fits: Callable[[ClueMap], bool],
) -> ClueMap:
    """The map with a given name, in addition to that of :func:`find_clue_map`.

    Raises:
        ValueError: no step makes a tensor of this name, or it is not a map. The message lists maps that pass ``fits``.
    """
    steps = _Ancestry(graph).steps_before(embedding)
    try:
        clue_map = _named_map(graph, size, named, file)
        if any(clue_map.tensor in step.outputs for step in steps):
            return clue_map
        problem = "from which the embedding is not computed" if clue_map.tensor in graph.shapes else "no tensor"
    except ValueError:
        shape = graph.shapes.get(graph.tensor(named))
        problem = "which does not exist" if shape is None else f"of shape {shape}"
    candidates = []
    for step in steps:
        if step.kind in _ENDS_OF_BLOCKS:
            with suppress(ValueError):
                candidates += [found for name in step.outputs if fits(found := _named_map(graph, size, name, file))]
    few = candidates[:: -(-len(candidates) // _LISTED)] if candidates else []
    listed = ", ".join(
        f"{found.tensor} ({found.channels} channels of {found.grid[0]}×{found.grid[1]})" for found in few
    )
    raise ValueError(
        f"Expected backbone.earlier to name a map or tokens of {file} (got {named!r}, {problem}). "
        + (f"Some of them, in the order of the network: {listed}" if listed else "It has no earlier maps")
    )


def _could_be_clues(graph: NetworkGraph, tensor: str, size: tuple[int, int], file: str) -> bool:
    """Whether a tensor is a map of the picture's proportions with channels enough: no mask, no attention matrix."""
    try:
        found = _named_map(graph, size, tensor, file)
    except ValueError:
        return False
    return found.channels >= _FEWEST and 0.5 < found.grid[0] * size[1] / (found.grid[1] * size[0]) < 2


def _named_map(
    graph: NetworkGraph, size: tuple[int, int], named: str, file: str, candidates: Iterable[str] = ()
) -> ClueMap:
    tensor = graph.tensor(named)
    shape = graph.shapes.get(tensor, ())
    if not _is_map(shape) or len(shape) not in (3, 4):
        what = f"of shape {shape}" if tensor in graph.shapes else "which does not exist"
        raise ValueError(
            f"Expected backbone.map to name a map or tokens of {file} (got {named!r}, {what}). "
            f"{_candidates(graph, candidates)}"
        )
    pooled = [_pooled_layout(step, graph.shapes) for step in graph.steps if tensor in step.inputs[:1]]
    usual: Layout = "NTC" if len(shape) == 3 else _usual_layout(shape, size)
    return _clue_map(
        graph, tensor, next((candidate for candidate in pooled if candidate is not None), usual), size, file
    )


def _usual_layout(shape: Shape, size: tuple[int, int]) -> Layout:
    """Channels last only if that has the picture's proportions and the other reading does not."""
    first, last = (abs(math.log(h / w * size[1] / size[0])) for h, w in (shape[1:3], shape[2:4]))
    return "NHWC" if first < 0.2 < last else "NCHW"


def _clue_map(graph: NetworkGraph, tensor: str, layout: Layout, size: tuple[int, int], file: str) -> ClueMap:
    shape = graph.shapes[tensor]
    if layout in ("NCHW", "NHWC"):
        channels, *grid = shape[1:] if layout == "NCHW" else (shape[3], *shape[1:3])
        return ClueMap(tensor, layout, (grid[0], grid[1]), channels)
    tokens, channels = shape[1:] if layout == "NTC" else (shape[2], shape[1])
    patches = [graph.shapes.get(step.outputs[0], ()) for step in graph.steps if step.kind in _CONVOLUTIONS]
    grids = [(shape[2], shape[3]) for shape in patches if len(shape) == 4]
    for extra in range(_MOST_EXTRA + 1):
        for height, width in grids:
            if height * width == tokens - extra:
                return ClueMap(tensor, layout, (height, width), channels, extra)
    for extra in range(_MOST_EXTRA + 1):
        width = math.isqrt(max(tokens - extra, 0) * size[1] // size[0])
        height = width * size[0] // size[1]
        if width and height * width == tokens - extra and height * size[1] == width * size[0]:
            return ClueMap(tensor, layout, (height, width), channels, extra)
    raise ValueError(
        f"Expected the tokens of {tensor} in {file} to be a grid of patches of {size[0]}×{size[1]} pixels, "
        f"behind at most {_MOST_EXTRA} others (got {tokens}, which fits no grid); name another as --backbone.map NAME. "
        f"{_candidates(graph, [name for step in reversed(graph.steps) for name in step.outputs])}"
    )


def _pooled_layout(step: Step, shapes: Mapping[str, Shape]) -> Layout | None:
    """The order of the axes of the tensor that a step pools; None if it does not pool."""
    before = shapes.get(step.inputs[0], ()) if step.inputs else ()
    after = shapes.get(step.outputs[0], ())
    if len(before) not in (3, 4) or not _is_map(before) or not after:
        return None
    axes: tuple[int, ...] = ()
    if step.kind in _REDUCTIONS and step.axes is not None:
        axes = tuple(sorted(axis % len(before) for axis in step.axes))
    elif step.kind in _GLOBAL:
        axes = tuple(range(2, len(before)))
    elif step.kind in _WINDOWS or (step.kind in _CONVOLUTIONS and _covers(step, shapes)):
        axes = (2, 3) if len(before) == 4 and after[2:] == (1, 1) else ()
    elif step.kind in _PICKS and len(before) == 3 and after in ((1, before[2]), (1, 1, before[2])):
        axes = (1,)
    by_axes: dict[tuple[int, ...], Layout]
    by_axes = {(2, 3): "NCHW", (1, 2): "NHWC"} if len(before) == 4 else {(1,): "NTC", (2,): "NCT"}
    return by_axes.get(axes)


def _covers(step: Step, shapes: Mapping[str, Shape]) -> bool:
    """Whether a convolution is depthwise and as large as its map, and so a weighted mean."""
    before, after, kernel = (shapes.get(name, ()) for name in (step.inputs[0], step.outputs[0], step.inputs[1]))
    return len(before) == 4 and before[1] == after[1] and kernel[-3:] == (1, *before[2:])


class _Ancestry:
    """The step that makes each tensor, and the steps before and after it."""

    def __init__(self, graph: NetworkGraph):
        self.graph = graph
        self.maker = {output: step for step in graph.steps for output in step.outputs}

    def steps_before(self, tensor: str) -> list[Step]:
        """All steps that a tensor is computed from, in the graph's order."""
        wanted = {tensor}
        chosen = []
        for step in reversed(self.graph.steps):
            if wanted & set(step.outputs):
                chosen.append(step)
                wanted |= set(step.inputs)
        return chosen[::-1]

    def is_last(self, pooling: Step, steps: Iterable[Step]) -> bool:
        """Whether no map is computed from the result of a pooling."""
        after = set(pooling.outputs)
        for step in steps:
            if after & set(step.inputs):
                after |= set(step.outputs)
        return not any(_is_map(self.graph.shapes.get(name, ())) for name in after)

    def is_reduced(self, tensor: str) -> bool:
        """Whether a tensor is a map that was already pooled along one side, and not a sequence of tokens."""
        maker = self.maker.get(tensor)
        return maker is not None and maker.kind in _REDUCTIONS

    def source(self, tensor: str, layout: Layout) -> tuple[str, Layout]:
        """The map itself, if it is only rearranged before it is pooled."""
        shapes = self.graph.shapes
        while (step := self.maker.get(tensor)) is not None and step.inputs:
            given = step.inputs[0]
            shape, was = shapes[tensor], shapes.get(given, ())
            flat = len(shape) == 3 and len(was) == 4
            if step.kind == "Pow":
                tensor = given
            elif step.kind in _RESHAPES and layout == "NCT" and flat and was[2] * was[3] == shape[2]:
                tensor, layout = given, "NCHW"
            elif step.kind in _RESHAPES and layout == "NTC" and flat and was[1] * was[2] == shape[1]:
                tensor, layout = given, "NHWC"
            elif step.kind == "Transpose" and len(shape) == 3 and step.axes == (0, 2, 1):
                tensor, layout = given, "NTC" if layout == "NCT" else "NCT"
            elif step.kind == "Slice" and layout == "NTC" and 0 < was[1] - shape[1] <= _MOST_EXTRA:
                tensor = given  # the class token was removed
            else:
                break
        return tensor, layout


def _is_map(shape: Shape) -> bool:
    """Whether a tensor of one picture has spatial dimensions besides channels."""
    return len(shape) >= 3 and sum(length > 1 for length in shape[1:]) >= 2


def _candidates(graph: NetworkGraph, tensors: Iterable[str]) -> str:
    """Names of maps with their shapes, one for each shape."""
    by_shape: dict[Shape, str] = {}
    for tensor in tensors:
        shape = graph.shapes.get(tensor, ())
        if len(shape) in (3, 4) and shape[0] == 1 and _is_map(shape):
            by_shape.setdefault(shape, tensor)
    if not by_shape:
        return "It has no maps"
    listed = [f"{tensor} {shape}" for shape, tensor in list(by_shape.items())[:_LISTED]]
    return f"Candidates: {', '.join(listed)}{', …' if len(by_shape) > _LISTED else ''}"
