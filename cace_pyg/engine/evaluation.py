"""Two-stage evaluation (§3.5 of the paper), and the rules by which both stages are weighed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple, TypedDict, overload

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.sample import Sample, Splits
from cace_pyg.data.unknown_people import without_unknown_people
from cace_pyg.engine.extraction import Extraction, extract, extract_embeddings
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbour_rows import (
    MOST_LISTED,
    NeighbourChoice,
    NeighbourRow,
    configured_choice,
    neighbour_rows,
    search_choice,
)
from cace_pyg.engine.neighbours import Neighbours, SecondStage, ask_pair_stage, find_neighbours
from cace_pyg.engine.ranks import ALONE, Ranks
from cace_pyg.models import CaceNet
from cace_pyg.progress import write_line
from cace_pyg.retrieval import (
    Calibration,
    Metrics,
    distance_blocks,
    euclidean_distance,
    evaluate_blocks,
    rerank,
    top_k,
)

_TOGETHER_AT_MOST = 2**22  # numbers


@dataclass(frozen=True)
class Distances:
    """What both stages measured; the distances to whole galleries are computed from the embeddings as they are wanted.

    Attributes:
        query: unit-length individual embeddings, ``(query, embedding)``.
        gallery: the same of the gallery.
        index: gallery positions of the top k of each query, ``(query, k)``.
        conditional: the second stage's distance of those, see :meth:`PairStage.distance`, ``(query, k)``.
        own_position: where each query itself stands in the gallery, see :func:`own_positions`; it is put behind all
            others, so that it takes no place among the top k.
    """

    query: Tensor
    gallery: Tensor
    index: Tensor
    conditional: Tensor
    own_position: Tensor | None = None

    def individual(self, queries: slice = slice(None)) -> Tensor:
        """Distances of some queries to the gallery by the individual embedding, ``(query, gallery)``, 0 to 2."""
        return self._with_own_last(queries, euclidean_distance(self.query[queries], self.gallery))

    def _with_own_last(self, queries: slice, individual: Tensor) -> Tensor:
        if self.own_position is not None:
            own = self.own_position[queries]
            here = (own >= 0).nonzero().flatten()
            individual[here, own[here]] = individual[here].amax(1) + 1
        return individual

    def two_stage(self, weight: float, queries: slice = slice(None)) -> Tensor:
        """Distances that rank the top k by (1 − weight)·individual + weight·conditional, then the rest."""
        return rerank(self.individual(queries), self.index[queries], self.conditional[queries], weight)

    def blocks(self, weight: float = 0.0) -> Iterator[Tensor]:
        """:meth:`two_stage` of all queries, some at a time; with weight 0 the individual distances."""
        for queries, individual in distance_blocks(self.query, self.gallery):
            individual = self._with_own_last(queries, individual)
            if weight == 0:
                yield individual
            else:
                yield rerank(individual, self.index[queries], self.conditional[queries], weight)

    def fused(self, weight: float) -> Tensor:
        """(1 − weight)·individual + weight·conditional of the top k of each query, ``(query, k)``, float64."""
        rows = max(1, _TOGETHER_AT_MOST // max(1, self.index.size(1) * self.query.size(1)))
        near = [
            (query[:, None].double() - self.gallery[index].double()).norm(dim=2)
            for query, index in zip(self.query.split(rows), self.index.split(rows), strict=True)
        ]
        return (1 - weight) * torch.cat(near) + weight * self.conditional.double()

    def decision_blocks(self, weight: float) -> Iterator[Tensor]:
        """Distances for one threshold for all queries, some queries at a time.

        The fused ones of the pairs that the second stage looked at, in all queries nearer than all others; of these the
        individual ones, moved behind by one number.
        """
        fused = self.fused(weight)
        behind = float(fused.max()) + 1
        for queries, individual in distance_blocks(self.query, self.gallery):
            individual = self._with_own_last(queries, individual)
            yield (individual.double() + behind).scatter(1, self.index[queries], fused[queries])


@dataclass(frozen=True)
class Evaluation:
    """The result of both stages on one query and gallery set.

    ``backend`` says what computed the second stage, and why; ``same_camera`` is that of the protocol; ``calibration``
    is one of this fusion weight, and ``drift`` how far scores are from its own; ``neighbours`` are the rows of
    re-ranking by neighbours, where it is asked for.
    """

    query: Extraction
    gallery: Extraction
    distances: Distances
    fusion_weight: float
    individual: Metrics
    two_stage: Metrics
    backend: str
    same_camera: Literal["remove", "keep"]
    calibration: Calibration | None = None
    drift: float | None = None
    neighbours: tuple[NeighbourRow, ...] = ()

    def stages(self) -> dict[str, Metrics]:
        """The metrics of both stages and of re-ranking by neighbours, by name."""
        found = {"individual": self.individual, "two_stage": self.two_stage}
        return found | {row.name: row.metrics for row in self.neighbours}


class LookedAt(NamedTuple):
    """Pairs that the second stage looked at and the protocol leaves, ``(pair,)``.

    Attributes:
        distance: fused.
        same: whether they show one person.
        query: which query each is of.
        gallery: pictures of other people that a query was compared with, on average.
    """

    distance: Tensor
    same: Tensor
    query: Tensor
    gallery: float


def looked_at_pairs(
    distances: Distances,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    weight: float,
    same_camera: Literal["remove", "keep"],
) -> LookedAt:
    """What a search with these settings looks at: matches and confusions in their real proportions."""
    labels, index = labels_of(query, gallery), distances.index
    pids, of_query = labels["gallery_pids"][index], labels["query_pids"][:, None]
    same = (pids == of_query) & (pids > 0)
    counts = pids >= 0
    if same_camera == "remove":
        counts &= ~(same & (labels["gallery_camids"][index] == labels["query_camids"][:, None]))
    if distances.own_position is not None:
        counts &= index != distances.own_position[:, None]
    rows = torch.arange(len(index))[:, None].expand_as(index)
    own_pictures = Counter(sample.pid for sample in gallery)
    of_others = (labels["gallery_pids"] >= 0).sum() - sum(own_pictures[sample.pid] for sample in query) / len(query)
    return LookedAt(distances.fused(weight)[counts], same[counts], rows[counts], float(of_others))


@torch.no_grad()
def measure_pairs(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    index: Tensor,
    pairs_per_batch: int | None,
    device: torch.device | str,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The distance of each query to its gallery images at ``index``, see :meth:`PairStage.distance`: ``(query, k)``.

    See :func:`measure_lists`.
    """
    stage = model.pair_stage
    return measure_lists(stage, query, gallery, [*index], pairs_per_batch, device, ranks).view(index.shape)


def random_scores(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    weight: float,
    pairs_per_batch: int | None,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    pairs: int = 1000,
) -> Tensor:
    """Fused distances of pairs of a query and a gallery image that are drawn at random, the same in every call.

    Nearly all of them show two people, so that nobody has to know who is who to compare two sets of cameras by them.

    Args:
        model: in evaluation mode, on ``device``.
        query: what was extracted of some images.
        gallery: the same of others, or of the same.
        weight: of the conditional distance.
        pairs_per_batch: pairs a forward pass; none: as many as suit the device.
        device: of the model.
        ranks: all of them have to call this.
        pairs: how many at least.

    Returns:
        ``(pair,)``, float64; without pairs of an image and itself.
    """
    size = len(query.embedding), -(-pairs // len(query.embedding))
    index = torch.randint(len(gallery.embedding), size, generator=torch.Generator().manual_seed(0))
    conditional = torch.zeros(index.shape)
    if weight > 0:
        conditional = measure_pairs(model, query, gallery, index, pairs_per_batch, device, ranks)
    drawn = Distances(query.embedding, gallery.embedding, index, conditional)
    return drawn.fused(weight)[drawn.fused(0.0) > _ITSELF]


_ITSELF = 1e-3  # distance below which two embeddings are those of one picture


def measure(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    device: torch.device | str,
    ranks: Ranks = ALONE,
) -> tuple[Extraction, Extraction, Distances]:
    """Both stages' distances of a query and a gallery set; every image passes the backbone once, on one rank."""
    model.eval().pair_stage.check_device(torch.device(device))  # before minutes of extraction
    extracted_query = extract(model, query, config, device, "query", ranks)
    one_set = tuple(query) == tuple(gallery)
    extracted_gallery = extracted_query if one_set else extract(model, gallery, config, device, "gallery", ranks)
    embeddings = extracted_query.embedding, extracted_gallery.embedding
    own = own_positions(query, gallery)
    first_stage = Distances(*embeddings, torch.empty(0), torch.empty(0), own)
    index = torch.cat([top_k(block, config.evaluation.top_k) for block in first_stage.blocks()])
    pairs = config.evaluation.pairs_per_batch
    conditional = measure_pairs(model, extracted_query, extracted_gallery, index, pairs, device, ranks)
    return extracted_query, extracted_gallery, replace(first_stage, index=index, conditional=conditional)


def evaluate_individual(
    model: CaceNet, query: Sequence[Sample], gallery: Sequence[Sample], config: Config, device: torch.device | str
) -> Metrics:
    """The first stage alone."""
    of_query, of_gallery = (extract_embeddings(model, samples, config, device) for samples in (query, gallery))
    blocks = (block for _, block in distance_blocks(of_query, of_gallery))
    return evaluate_blocks(blocks, **labels_of(query, gallery), same_camera=config.evaluation.same_camera)


def evaluate_two_stage(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    calibration: Calibration | None = None,
    choice: NeighbourChoice | None = None,
) -> Evaluation | None:
    """Rank ``gallery`` for every query by individual distance, then the top k again with the conditional one.

    On several ranks all take part in extraction and pairs; the first has the result, the others none. Neighbours are
    re-ranked by ``choice``; none: as the configuration says, if it says so.
    """
    extracted_query, extracted_gallery, distances = measure(model, query, gallery, config, device, ranks)
    if calibration is not None and calibration.weight != weight:
        calibration = None
    drift = None
    if calibration is not None:
        pairs = config.evaluation.pairs_per_batch
        drift = calibration.drift(
            random_scores(model, extracted_query, extracted_gallery, weight, pairs, device, ranks)
        )
    labels = labels_of(query, gallery)
    choice = choice or configured_choice(config, weight)
    neighbours = None
    if choice is not None:
        measured = extracted_query, extracted_gallery, distances
        neighbours = measure_neighbours(model, *measured, config, choice, weight, device, ranks)
    if ranks.rank > 0:
        return None
    individual = evaluate_blocks(distances.blocks(), **labels, **config.evaluation.policy())
    two_stage = evaluate_blocks(distances.blocks(weight), **labels, **config.evaluation.policy())
    backend = f"{model.pair_stage.backend} ({model.pair_stage.backend_reason})"
    same_camera = config.evaluation.same_camera
    evaluation = Evaluation(
        extracted_query,
        extracted_gallery,
        distances,
        weight,
        individual,
        two_stage,
        backend,
        same_camera,
        calibration,
        drift,
    )
    if choice is None or neighbours is None:
        return evaluation
    rows = neighbour_rows(neighbours, choice, weight, partial(evaluate_blocks, **labels, **config.evaluation.policy()))
    return replace(evaluation, neighbours=rows)


def measure_neighbours(
    model: CaceNet,
    query: Extraction,
    gallery: Extraction,
    distances: Distances,
    config: Config,
    choice: NeighbourChoice,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
    listed: int = 0,
) -> Neighbours:
    """The nearest of all pictures; the pair stage's word on them where it has a weight.

    Args:
        model: see :func:`measure`.
        query: what it extracted.
        gallery: what it extracted.
        distances: what it measured.
        config: the run's.
        choice: with what neighbours will be re-ranked.
        weight: the second stage's.
        device: see :func:`measure`.
        ranks: see there.
        listed: neighbours of each picture to list at least.
    """
    candidates, listed = config.neighbours.candidates, max(listed, choice.individual.k1, choice.two_stage.k1)
    asked = weight > 0 or choice.fusion > 0
    listed = max(listed, candidates) if asked else listed
    near = find_neighbours(query.embedding, gallery.embedding, distances.own_position, listed)
    if not asked:
        return near
    ask = partial(
        measure_lists,
        model.pair_stage,
        pairs_per_batch=config.evaluation.pairs_per_batch,
        device=device,
        ranks=ranks,
        title="neighbours",
    )
    second_stage = SecondStage(distances.index, distances.conditional)
    return ask_pair_stage(near, query, gallery, second_stage, candidates, config.neighbours.pairs == "mutual", ask)


def choose_neighbours(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    weight: float,
    device: torch.device | str,
    ranks: Ranks = ALONE,
) -> NeighbourChoice | None:
    """With what neighbours are best re-ranked on held-out identities, see :func:`search_choice`; none: not asked for.

    Where that gains nothing there, a warning says so.

    Raises:
        ValueError: there are no held-out identities.
    """
    configured = configured_choice(config, weight)
    if configured is None:
        return None
    if not query:
        raise ValueError(
            "neighbours.tune chooses on held-out identities, and there are none (data.hold_out 0); leave it out, and "
            "give the numbers"
        )
    measured = measure(model, query, gallery, config, device, ranks)
    neighbours = measure_neighbours(model, *measured, config, configured, weight, device, ranks, MOST_LISTED)
    protocol = partial(evaluate_blocks, **labels_of(query, gallery), **config.evaluation.policy())
    choice, reached = search_choice(neighbours, configured, weight, protocol)
    for stage, mAP in reached.items() if ranks.rank == 0 else ():
        without = protocol(measured[2].blocks(0.0 if stage == "individual" else weight)).mAP
        if mAP <= without:
            write_line(
                f"warning: on the held-out identities neighbours do not help the {stage} ranking: {100 * mAP:.1f} mAP "
                f"at best, {100 * without:.1f} without. People there may be seen too seldom, or by one camera alone"
            )
    return choice


def resolve_fusion_weight(fusion: str | float, chosen: float | None) -> float:
    """The weight that ``evaluation.fusion`` means, given the one chosen on held-out identities in training.

    Raises:
        ValueError: ``auto`` where none was chosen, or a weight outside [0, 1].
    """
    if fusion == "paper":
        return 1.0
    if fusion == "auto":
        if chosen is None:
            raise ValueError(
                "evaluation.fusion auto needs a weight chosen on held-out identities, and this run had none "
                "(data.hold_out 0, or no pair branch trained); give --evaluation.fusion paper or a number in [0, 1]"
            )
        return chosen
    if not 0 <= float(fusion) <= 1:
        raise ValueError(f"Expected evaluation.fusion auto, paper or a number in [0, 1] (got {fusion})")
    return float(fusion)


class Labels(TypedDict):
    """What the protocol looks at, named as :func:`cace_pyg.retrieval.evaluate` has it."""

    query_pids: Tensor
    gallery_pids: Tensor
    query_camids: Tensor
    gallery_camids: Tensor
    own_position: Tensor | None


def labels_of(query: Sequence[Sample], gallery: Sequence[Sample]) -> Labels:
    """Pids and camids, and which gallery picture is the query itself."""
    return {
        "query_pids": torch.tensor([sample.pid for sample in query]),
        "gallery_pids": torch.tensor([sample.pid for sample in gallery]),
        "query_camids": torch.tensor([sample.camid for sample in query]),
        "gallery_camids": torch.tensor([sample.camid for sample in gallery]),
        "own_position": own_positions(query, gallery),
    }


def own_positions(query: Sequence[Sample], gallery: Sequence[Sample]) -> Tensor | None:
    """Where the very picture of each query stands in the gallery, by its path, −1 where it does not; none: nowhere."""
    positions = {sample.path: position for position, sample in enumerate(gallery)}
    own = torch.tensor([positions.get(sample.path, -1) for sample in query])
    return own if (own >= 0).any() else None


@overload
def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None = None,
    *,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation: ...


@overload
def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None,
    fabric: Fabric | None,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation | None: ...


def evaluate_model(
    model: CaceNet,
    query: Sequence[Sample],
    gallery: Sequence[Sample],
    config: Config,
    fusion_weight: float | None = None,
    fabric: Fabric | None = None,
    held_out: Splits | None = None,
    calibration: Calibration | None = None,
) -> Evaluation | None:
    """Both stages, with the fusion weight that the configuration asks for; leaves the model on the CPU.

    Args:
        model: what ranks.
        query: query pictures.
        gallery: gallery pictures.
        config: the run's.
        fusion_weight: the one chosen on held-out identities in training, for ``evaluation.fusion auto``.
        fabric: of all ranks that take part, of which the first has the result; none: this process alone.
        calibration: what fused distances mean, as the checkpoint has it; left out where it is of another weight.
        held_out: query and gallery of identities held out of training, for ``neighbours.tune``.

    Raises:
        ValueError: ``neighbours.tune`` without held-out identities, or see :func:`resolve_fusion_weight`.
    """
    weight = fusion_weight_of(config, fusion_weight)
    device = fabric.device if fabric else find_device(config.device)
    ranks = Ranks(fabric.global_rank, fabric.world_size) if fabric else Ranks()
    gallery = without_unknown_people(query, gallery, config.evaluation.unknown_share, config.seed)
    model.to(device)
    choice = None
    if config.neighbours.tune:
        chosen_on = ((), ()) if held_out is None else (held_out.query, held_out.gallery)
        choice = choose_neighbours(model, *chosen_on, config, weight, device, ranks)
    evaluation = evaluate_two_stage(model, query, gallery, config, weight, device, ranks, calibration, choice)
    model.to("cpu")
    return evaluation


def fusion_weight_of(config: Config, chosen: float | None) -> float:
    """The weight of the conditional distance that a run's configuration asks for.

    Without a trained pair branch the second stage has nothing to say: its weight is 0 unless a number is given.

    Args:
        config: the run's.
        chosen: the weight chosen on held-out identities in training.

    Raises:
        ValueError: see :func:`resolve_fusion_weight`.
    """
    untrained = config.evaluation.fusion == "auto" and not trains_pairs(config)
    return 0.0 if untrained else resolve_fusion_weight(config.evaluation.fusion, chosen)


def trains_pairs(config: Config) -> bool:
    """Whether a run of this configuration trains its pair branch."""
    return config.loss.pairwise_weight > 0 or config.pair_phase.epochs > 0


def check_fusion(config: Config) -> None:
    """Raise ``ValueError`` if ``evaluation.fusion`` asks for a weight that this run cannot choose."""
    if config.evaluation.fusion != "auto":
        resolve_fusion_weight(config.evaluation.fusion, None)
    elif trains_pairs(config) and config.data.hold_out == 0:
        raise ValueError(
            "evaluation.fusion auto chooses its weight on held-out identities, but data.hold_out is 0; "
            "hold some out, or give --evaluation.fusion paper or a number in [0, 1]"
        )
