"""The typed tree: every field with its unit."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypedDict

import yaml

from cace_pyg.bounded_numbers import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.data.transforms import AugmentationSettings
from cace_pyg.graph import CorrespondenceAttention, GraphBuilder
from cace_pyg.losses import LossSettings
from cace_pyg.models import ConditionalSettings
from cace_pyg.models.backbone import Stem
from cace_pyg.models.frozen_extractor import ChannelOrder
from cace_pyg.models.generalised_mean import Pooling
from cace_pyg.models.normalisation import Normalisation

Precision = Literal["32-true", "16-mixed", "bf16-mixed", "auto"]


@dataclass
class BackboneSettings:
    """The convolutional network, see cace_pyg.models.Backbone."""

    name: str = "resnet50"
    """small_cnn, osnet_x0_25 to osnet_x1_0 (osnet_ibn_…, osnet_ain_…), a CNN of torchvision: resnet50, …, with
    instance-batch norm: resnet50_ibn_a, …, any model of timm: timm/vit_small_patch16_224, …, or onnx or openvino: the
    frozen network in the file at weights."""
    weights: str | None = None
    """null (random), imagenet (downloaded), or the path of a state dict (torchvision, timm, fast-reid, …), of an .onnx
    or of OpenVINO's .xml."""
    last_stride: int | None = None
    """1 doubles the resolution of the feature map; 2 leaves the network unchanged; null: 1 for torchvision's."""
    earlier: list[str | int] | None = None
    """Earlier layers whose maps are added to the channels of the clues, such as [conv3] of OSNet, [layer3] of a ResNet,
    [13] of mobilenet_v2, [blocks.8] of a transformer of timm, or names of tensors or nodes of onnx and openvino; null:
    none."""
    stem: Stem = "torchvision"
    """First layers of a ResNet, as in the library of the weights (torchvision; strong_baseline; fast_reid)."""
    normalisation: Normalisation | None = None
    """For timm, onnx and openvino: the images they take: imagenet (its mean and deviation), symmetric (-1 to 1:
    TransReID, CLIP-ReID), clip, unit (0 to 1), pixels (0 to 255); null: by timm or the file, else imagenet, or pixels
    for openvino."""
    map: str | None = None
    """For onnx and openvino: tensor, or node, with the map of clues; null: the input of the last global pooling."""
    output: str | None = None
    """For onnx and openvino: the output that is the embedding; null: the only one (image, embedding)."""
    channel_order: ChannelOrder | None = None
    """For onnx and openvino: rgb or bgr; null: by the file, else rgb for onnx, bgr for openvino."""


@dataclass
class EmbeddingSettings:
    """Individual and conditional embedding."""

    kind: Literal["trained", "published"] = "trained"
    """published: the individual embedding is the network's own, with its neck; only the pair stage is trained."""
    channels: PositiveInt = 768
    """Size of an embedding (the authors' code: 768)."""
    batch_norm: bool = True
    """Normalise embeddings over the batch; false is the paper's bare 1×1 convolution."""
    pooling: Pooling = "mean"
    """Of a trained individual embedding: mean (the paper), or generalised_mean with a learned exponent, initially 3
    (the authors' code). Conditional embeddings always use the mean."""
    cache: str | None = None
    """Folder that stores a published network's embedding and clues of each picture for other runs, clues in half
    precision; null: each run extracts them again."""

    def __post_init__(self) -> None:
        if self.cache is not None and self.kind != "published":
            raise ValueError(
                f"Expected embedding.kind published with embedding.cache, which is for networks that are not trained "
                f"(got {self.kind}); give --embedding.kind published, or leave the cache out"
            )


@dataclass
class JointPhaseSettings:
    """The joint phase (§4.2 of the paper)."""

    epochs: NonNegativeInt = 80
    """Passes over the training pictures (the paper: 80); 0 skips the phase."""
    batches_per_epoch: PositiveInt | None = None
    """Steps of an epoch; null: as many as one pass needs."""
    num_identities: int = 4
    """Identities in a batch (the paper: 4)."""
    num_instances: int = 4
    """Pictures of each identity in a batch (the paper: 4)."""
    learning_rate: PositiveFloat = 6.25e-3
    """Of SGD after warm-up; then cosine to 0 (the paper: 6.25e-3)."""
    momentum: NonNegativeFloat = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 5e-4
    """Of SGD (the paper: 5e-4)."""
    warmup_epochs: NonNegativeFloat = 5.0
    """Epochs in which the learning rate grows linearly from 0 (the paper: 5)."""
    detach_clues: bool = True
    """Do not train the backbone with the pairwise losses, which can ruin it. False is the paper."""
    accumulate: PositiveInt = 1
    """Number of passes for a rank's share of a batch: fewer pictures in memory, but triplets only within a pass."""
    pairs_across_ranks: bool = False
    """Under torchrun: triplets and pairs across all ranks, as in one process (docs/ranks.md)."""


@dataclass
class PairPhaseSettings:
    """The second phase: the pair branch alone, on frozen clues, with the individual ranking's confusions."""

    epochs: NonNegativeInt = 40
    """0 skips the phase, and with it the second stage."""
    batches_per_epoch: PositiveInt = 60
    """Steps of an epoch."""
    anchors: PositiveInt = 96
    """Triplets in a batch."""
    confusions: PositiveInt = 20
    """Negatives are drawn from this many nearest wrong identities of the anchor."""
    data: str | None = None
    """NAME:ROOT of another training set for this phase, of people that the network has not seen; null: data."""
    clues: Literal["cached", "fresh"] = "cached"
    """cached: clues stay in memory, 4·n·channels bytes per picture; fresh: computed at each step, augmented."""
    clue_dropout: NonNegativeFloat = 0.5
    """Probability of dropping a whole clue, for anchor, match and non-match; 0: never."""
    mirror: ClosedUnitInterval = 0.0
    """Probability of mirroring a picture's map of clues; 0: never."""
    learning_rate: PositiveFloat = 1e-3
    """Of AdamW after warm-up; then cosine to 0."""
    weight_decay: NonNegativeFloat = 1e-2
    """Of AdamW."""
    warmup_epochs: NonNegativeFloat = 0.0
    """Epochs in which the learning rate grows linearly from 0."""
    margin: NonNegativeFloat = 0.3
    """Triplet margin on ‖f(a|b) − f(b|a)‖, between unit-length embeddings (0 to 2)."""

    def __post_init__(self) -> None:
        if not 0 <= self.clue_dropout < 1:
            raise ValueError(f"Expected pair_phase.clue_dropout in [0, 1), such as 0.5 (got {self.clue_dropout})")


class Policy(TypedDict):
    """The settings of a protocol, named as in :func:`cace_pyg.retrieval.evaluate`."""

    same_camera: Literal["remove", "keep"]
    average_precision: Literal["step", "trapezoid"]


@dataclass
class EvaluationSettings:
    """Two-stage retrieval (§3.5)."""

    top_k: PositiveInt = 100
    """Gallery pictures that the second stage re-ranks for each query."""
    gallery_neighbours: NonNegativeInt = 0
    """Number of gallery neighbours of each good match that the second stage compares next, best match first
    (docs/candidates.md); 0: it only compares the query's nearest."""
    gallery_clues: PositiveInt | None = None
    """Number of clues kept of a gallery picture for the second stage, and of matches and non-matches in the pair phase;
    each is the mean of several (docs/gallery_clues.md); null: all."""
    fusion: Literal["auto", "paper"] | ClosedUnitInterval = "auto"
    """Weight of the conditional distance: a number in [0, 1]; `paper`: 1; `auto`: chosen on held-out identities."""
    average_precision: Literal["step", "trapezoid"] = "step"
    """step: mean precision at the matches; trapezoid: as in Market-1501's own script, never larger."""
    same_camera: Literal["remove", "keep"] = "remove"
    """Gallery pictures with the query's own identity and camera; remove is the protocol."""
    standardise_cameras: bool = False
    """Give the embeddings and clues of each camera the mean and deviation of all cameras together: for a network that
    never saw these cameras (docs/cameras.md). No labels of people are used."""
    unknown_share: ClosedUnitInterval = 0.0
    """Share of the query people, drawn by the seed, whose pictures are removed from the gallery: unknown people."""
    flip: bool = False
    """Average the individual embedding with that of the mirrored picture; twice the time. Clues are not averaged."""
    batch_size: PositiveInt = 64
    """Pictures per forward pass."""
    pairs_per_batch: PositiveInt | None = None
    """Pairs per forward pass of the second stage; null: 64 of one query on a CPU, 2048 of several on a GPU."""
    clues_on_disk: str | None = None
    """Folder for the clues of pictures, also in the pair phase, if memory is too small for them; null: memory."""

    def __post_init__(self) -> None:
        if not 0 <= self.unknown_share < 1:
            raise ValueError(
                f"Expected evaluation.unknown_share in [0, 1), such as 0.3 (got {self.unknown_share}); with 1 nobody "
                "could be found"
            )

    def policy(self) -> Policy:
        """The named options of :func:`cace_pyg.retrieval.evaluate`."""
        return {"same_camera": self.same_camera, "average_precision": self.average_precision}


@dataclass
class NeighbourSettings:
    """Re-ranking by the neighbours that pictures have in common, one more row for each stage (docs/neighbours.md)."""

    method: Literal["k_reciprocal", "propagation"] | None = None
    """k_reciprocal (Zhong et al., 2017), or propagation (Zhang et al., 2020: message passing); null: none."""
    candidates: PositiveInt = 50
    """Nearest pictures of each picture, queries and gallery; the pair stage chooses its neighbours among them."""
    pairs: Literal["all", "mutual"] = "all"
    """all candidates, or only mutual ones: fewer pairs, but a smaller gain (docs/neighbours.md)."""
    fusion: Literal["auto"] | ClosedUnitInterval = "auto"
    """Weight of the conditional distance in choosing neighbours, in [0, 1]; auto: the second stage's."""
    tune: bool = False
    """Choose the settings of the method, and this weight, on held-out identities, for each row separately."""

    def __post_init__(self) -> None:
        if self.tune and self.method is None:
            raise ValueError("Expected neighbours.method with neighbours.tune, which chooses its settings (got null)")


@dataclass
class KReciprocalSettings:
    """k-reciprocal re-ranking (Zhong et al., 2017): neighbours.method k_reciprocal."""

    k1: PositiveInt = 20
    """Number of neighbours (Zhong et al.: 20)."""
    k2: PositiveInt = 6
    """Neighbours to average over (Zhong et al.: 6)."""
    original_weight: ClosedUnitInterval = 0.3
    """Weight of the original distance (Zhong et al.: 0.3)."""

    def __post_init__(self) -> None:
        if self.k2 > self.k1:
            raise ValueError(
                f"Expected k_reciprocal.k2 of at most k_reciprocal.k1 (got k1 {self.k1}, k2 {self.k2}); give both"
            )


@dataclass
class PropagationSettings:
    """Message passing between pictures (Zhang et al., 2020): neighbours.method propagation."""

    k1: PositiveInt = 26
    """Neighbours that describe a picture, including itself (Zhang et al.: 26)."""
    k2: PositiveInt = 7
    """Neighbours that send messages to it, including itself (Zhang et al.: 7)."""
    exponent: NonNegativeFloat = 2.0
    """Exponent of the cosine that weights messages (Zhang et al.: 2)."""
    original_weight: ClosedUnitInterval = 0.0
    """Weight of the original distance (Zhang et al.: 0)."""

    def __post_init__(self) -> None:
        if self.k2 > self.k1:
            raise ValueError(
                f"Expected propagation.k2 of at most propagation.k1 (got k1 {self.k1}, k2 {self.k2}); give both"
            )


@dataclass
class Config:
    """One run."""

    data: DataSettings
    run_dir: str = "runs/run"
    """Folder of everything the run writes; it must not exist yet, unless --resume."""
    start_from: str | None = None
    """Checkpoint of another run, RUN_DIR/checkpoints/best.ckpt, whose individual branch this run starts with."""
    seed: NonNegativeInt = 0
    """Of weights, sampling and augmentation."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 (the second GPU), mps."""
    precision: Precision = "32-true"
    """Fabric's precision of training; auto: bf16-mixed if the device multiplies bfloat16 in hardware, else 32-true."""
    threads: PositiveInt | None = None
    """CPU threads of torch; null: all cores."""
    compile: str | None = None
    """Backend of torch.compile for the backbone, such as inductor; null: not compiled."""
    sync_batchnorm: bool = False
    """Under torchrun, on GPUs: BatchNorm over the pictures of all ranks."""
    validate_every: PositiveInt = 10
    """Epochs between validations on the held-out identities, in both phases."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    graph: Callable[[int], GraphBuilder] = CorrespondenceAttention
    """Graph builder: a class of cace_pyg.graph and its own settings (--graph.form paper); from Python the class, or
    functools.partial(CorrespondenceAttention, form="paper")."""
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    conditional: ConditionalSettings = field(default_factory=ConditionalSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    joint_phase: JointPhaseSettings = field(default_factory=JointPhaseSettings)
    pair_phase: PairPhaseSettings = field(default_factory=PairPhaseSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    neighbours: NeighbourSettings = field(default_factory=NeighbourSettings)
    k_reciprocal: KReciprocalSettings = field(default_factory=KReciprocalSettings)
    propagation: PropagationSettings = field(default_factory=PropagationSettings)

    def to_yaml(self) -> str:
        """Every field with its value, defaults included; :func:`cace_pyg.config.from_yaml` reads it back.

        Raises:
            ValueError: a graph or a convolution cannot be named in a file, such as a lambda.
        """
        return yaml.safe_dump(_plain(self), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """A value for YAML; a class, or ``functools.partial`` of one, becomes its name and its arguments."""
    if is_dataclass(value) and not isinstance(value, type):
        return {setting.name: _plain(getattr(value, setting.name)) for setting in fields(value)}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # jsonargparse's bounded numbers are types that YAML does not know
    return _named_class(value) if callable(value) else value


def _named_class(make: Callable[..., Any]) -> dict[str, Any]:
    made, given = (make.func, make.keywords) if isinstance(make, functools.partial) else (make, {})
    if not isinstance(made, type):
        raise ValueError(
            "Expected graph and conditional.convolution as a class, or functools.partial of one with its settings "
            f"(got {make!r}), because the configuration is stored as a file"
        )
    known = inspect.signature(made).parameters.values()
    usual = {parameter.name: parameter.default for parameter in known if parameter.default is not parameter.empty}
    room = "cace_pyg.graph" if issubclass(made, GraphBuilder) else "torch_geometric.nn"
    path = f"{room}.{made.__name__}" if made.__module__.startswith(room) else f"{made.__module__}.{made.__qualname__}"
    return {"class_path": path, "init_args": usual | given}
