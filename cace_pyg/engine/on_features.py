"""The pair stage on features: trained, kept, and asked, without pictures and without a configuration file."""

import functools
import tempfile
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from cace_pyg.config import Config, PairPhaseSettings, from_yaml
from cace_pyg.config.settings import EmbeddingSettings, EvaluationSettings, JointPhaseSettings, Precision
from cace_pyg.data.read_dataset import DataSettings
from cace_pyg.data.validation import every_identity, hold_out_identities
from cace_pyg.engine.candidates import follow_neighbours, nearest_in_gallery
from cace_pyg.engine.checkpoint import calibration_of, load_checkpoint, load_weights
from cace_pyg.engine.distances import Distances
from cace_pyg.engine.extraction import Extraction
from cace_pyg.engine.features import Features, KeptFeatures
from cace_pyg.engine.held_out import calibrate_on
from cace_pyg.engine.launch_fabric import find_device
from cace_pyg.engine.measure_pairs import measure_lists
from cace_pyg.engine.neighbours import Reranking, SecondStage, ask_pair_stage, check_reranking, find_neighbours
from cace_pyg.engine.training import Trainer
from cace_pyg.graph import Clues, CorrespondenceAttention, GraphBuilder
from cace_pyg.models import CaceNet, ConditionalSettings, PairOperand, PairStage
from cace_pyg.retrieval import Calibration, distance_blocks
from cace_pyg.retrieval import top_k as nearest
from cace_pyg.retrieval.calibration import Form
from cace_pyg.retrieval.picture_sets import VIEWS, form_sets

RECIPE = ConditionalSettings(edges="inter", node_wise="mlp", width=64, compare="verification")


@dataclass(frozen=True)
class FittedPairStage:
    """A trained pair stage.

    Attributes:
        stage: in evaluation mode, on the CPU.
        fusion_weight: of its distance beside the individual one, chosen on held-out people; none where there were none.
        channels: of the clues that it takes.
        calibration: what fused distances mean, learned from the same people; none where there were none.
    """

    stage: PairStage
    fusion_weight: float | None
    channels: int
    calibration: Calibration | None = None

    def probability(self, distance: Tensor | ArrayLike, gallery: float | None = None) -> Tensor:
        """P(both pictures show one person), of fused distances of pairs that the second stage looked at.

        Args:
            distance: such as those of :func:`rerank_features` with this stage's own fusion weight; any shape. Beyond
                ``top_k`` nobody has looked, and a probability means nothing.
            gallery: how many pictures were searched, see :meth:`cace_pyg.retrieval.Calibration.probability`.

        Returns:
            float64, as ``distance``.

        Raises:
            ValueError: there is no calibration, or a distance is not finite.
        """
        if self.calibration is None:
            raise ValueError(
                "Expected a calibrated pair stage (got one without): nobody was held out of its training, or it is "
                "older than calibrations; calibrate_pair_stage learns one from labelled features"
            )
        values = distance.detach().cpu().numpy() if isinstance(distance, Tensor) else np.asarray(distance)
        if values.dtype.kind not in "fiu":
            raise ValueError(f"Expected numbers as distances (got {values.dtype})")
        return torch.as_tensor(self.calibration.probability(values, gallery))


def fit_pair_stage(
    features: Features,
    pids: Sequence[int] | ArrayLike,
    camids: Sequence[int] | ArrayLike | None = None,
    graph: Callable[[int], GraphBuilder] | None = None,
    conditional: ConditionalSettings = RECIPE,
    settings: PairPhaseSettings | None = None,
    held_out: float = 0.1,
    top_k: int = 100,
    seed: int = 0,
    run_dir: str | Path | None = None,
    resume: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    gallery_clues: int | None = None,
) -> FittedPairStage:
    """Train a pair stage on frozen clues, against the confusions of the individual ranking.

    The pair phase of a run, see :class:`cace_pyg.engine.pair_phase.PairPhase`, by the same loop.

    Args:
        features: of pictures whose people the network has not seen; else there are no confusions, and a warning.
        pids: who is on each.
        camids: which camera took each; none: each is a camera of its own.
        graph: makes the builder; none: :class:`~cace_pyg.graph.CorrespondenceAttention` as ``configs/on_top.yaml`` has
            it.
        conditional: of the pair stage; default: the recipe of ``configs/on_top.yaml``.
        settings: steps, batch, dropout; none: those of ``configs/on_top.yaml``, 20 epochs of 60 steps.
        held_out: share of the people on whom the best epoch and the fusion weight are chosen; 0: the last epoch, and no
            weight.
        top_k: of the second stage while validating.
        seed: of weights, batches and dropout.
        run_dir: folder for checkpoints and the log; none: nothing is kept.
        resume: go on with what is in ``run_dir``.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: of training; auto: bfloat16 where the device multiplies it itself, else float32.
        gallery_clues: clues that :func:`rerank_features` will keep of a gallery image; training then keeps as many of
            matches and non-matches. None: all.

    Raises:
        ValueError: labels do not fit the features or are below 0, too few people, or see :class:`Trainer`.
    """
    people, cameras = _labels(features, pids, camids)
    width = min(64, features.channels)
    graph = graph or functools.partial(CorrespondenceAttention, width=width, sharpness=16.0)
    torch.manual_seed(seed)
    model = CaceNet(KeptFeatures(features), graph, embedding_channels=256, conditional=conditional, published=True)
    with ExitStack() as stack:
        config = Config(
            DataSettings(root="features", hold_out=held_out),
            run_dir=str(run_dir or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"),
            seed=seed,
            device=device,
            precision=precision,
            graph=graph,
            conditional=conditional,
            joint_phase=JointPhaseSettings(epochs=0),
            pair_phase=settings or PairPhaseSettings(epochs=20, mirror=0.5),
            evaluation=EvaluationSettings(top_k=top_k, gallery_clues=gallery_clues),
        )
        splits = hold_out_identities(KeptFeatures.samples(people, cameras), held_out, seed)
        folder = Trainer(model, config, splits, resume=resume).run()
        weight = load_weights(model, folder.best)
        calibration = calibration_of(load_checkpoint(folder.best))
    return FittedPairStage(model.pair_stage, weight, features.channels, calibration)


def calibrate_pair_stage(
    fitted: FittedPairStage,
    features: Features,
    pids: Sequence[int] | ArrayLike,
    camids: Sequence[int] | ArrayLike | None = None,
    form: Form = "logistic",
    top_k: int = 100,
    seed: int = 0,
    device: str = "auto",
    gallery_clues: int | None = None,
) -> FittedPairStage:
    """The same stage with probabilities learned anew, from people whom neither it nor the network was trained on.

    One picture a camera of each person is a query, the others are the gallery, as in validation.

    Args:
        fitted: from :func:`fit_pair_stage` or :func:`load_pair_stage`.
        features: of pictures from the cameras in question.
        pids: who is on each.
        camids: which camera took each; none: each is a camera of its own.
        form: see :func:`cace_pyg.retrieval.fit_calibration`.
        top_k: gallery pictures to look at for each query.
        seed: of the choice of queries.
        device: auto, cpu, cuda, cuda:1, mps.
        gallery_clues: clues that searches keep of a gallery image, see :func:`rerank_features`; none: all.

    Raises:
        ValueError: labels or channels do not fit, nobody has three pictures from two cameras, no fusion weight was
            chosen, or see :func:`cace_pyg.retrieval.fit_calibration`.
    """
    if features.channels != fitted.channels:
        raise ValueError(f"Expected clues of {fitted.channels} channels (got {features.channels})")
    if fitted.fusion_weight is None:
        raise ValueError("Expected a stage with a fusion weight (got none): it is what fused distances are made with")
    people, cameras = _labels(features, pids, camids)
    splits = every_identity(KeptFeatures.samples(people, cameras), seed)
    settings = EvaluationSettings(top_k=top_k, gallery_clues=gallery_clues)
    config = Config(DataSettings(root="features"), evaluation=settings, embedding=EmbeddingSettings(kind="published"))
    where = find_device(device)
    model = CaceNet(KeptFeatures(features), lambda _: fitted.stage.builder, embedding_channels=256, published=True)
    model.pair_stage = fitted.stage
    weight = fitted.fusion_weight
    try:
        found = calibrate_on(model.to(where), splits.query, splits.gallery, config, weight, where, form)
    finally:
        fitted.stage.to("cpu")
    return replace(fitted, calibration=found)


def load_pair_stage(checkpoint: str | Path) -> FittedPairStage:
    """The pair stage of a checkpoint or a bundle: of :func:`fit_pair_stage`, or of any run.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.engine.checkpoint.load_checkpoint`; or its graph is a class
            of your own, which no file can name.
    """
    state = load_checkpoint(Path(checkpoint))
    config, channels = from_yaml(state["config"]), state.get("channels")
    if channels is None:
        raise ValueError(
            f"{checkpoint} is older than load_pair_stage; train it again, or use load_weights on its model"
        )
    empty = Features(torch.ones(1, 1), torch.zeros(1, 1, channels), (1, 1))
    model = CaceNet(
        KeptFeatures(empty),
        config.graph,
        embedding_channels=config.embedding.channels,
        batch_norm=config.embedding.batch_norm,
        conditional=config.conditional,
        published=True,
    )
    weights = {key: value for key, value in state["model"].items() if key.startswith("pair_stage.")}
    model.pair_stage.load_state_dict({key.removeprefix("pair_stage."): value for key, value in weights.items()})
    return FittedPairStage(model.pair_stage.eval(), state["fusion_weight"], channels, calibration_of(state))


@torch.no_grad()
def rerank_features(
    query: Features,
    gallery: Features,
    fitted: FittedPairStage,
    top_k: int = 100,
    weight: float | None = None,
    pairs_per_batch: int | None = None,
    device: str = "auto",
    progress: bool = True,
    neighbours: Reranking | None = None,
    candidates: int = 50,
    query_tracks: Sequence[Hashable] | None = None,
    gallery_tracks: Sequence[Hashable] | None = None,
    views: int = VIEWS,
    gallery_neighbours: int = 0,
    gallery_clues: int | None = None,
) -> Tensor:
    """Two-stage distances: rank by the embeddings, then the ``top_k`` nearest of each query by both distances (§3.5).

    With ``neighbours`` those are re-ranked by the neighbours that pictures have in common, which both distances decide
    (docs/neighbours.md); with weight 0 the embeddings alone decide, and no pair is looked at.

    Args:
        query: of the network whose features the stage was trained on.
        gallery: of the same.
        fitted: the pair stage.
        top_k: gallery images to look at for each query; more than there are means all.
        weight: of the pair stage's distance, in [0, 1]; none: the one chosen in training.
        pairs_per_batch: pairs a forward pass; none: 64 on a CPU, 2048 on a GPU.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: show a bar.
        neighbours: :class:`cace_pyg.config.KReciprocalSettings` or :class:`cace_pyg.config.PropagationSettings`; none:
            no such re-ranking.
        candidates: nearest images of each image, queries and gallery alike, among which both distances find its
            neighbours.
        query_tracks: a label for each picture; pictures of one label are one query, compared by their mean embedding
            and by all pairs of their views (docs/tracks.md). Rows are then labels in the order in which they first
            occur. None: each picture is a query.
        gallery_tracks: the same of the gallery, whose columns they become.
        views: pictures of a track that the pair stage looks at, at most.
        gallery_neighbours: nearest images of a gallery image that the pair stage goes on to from there, best first,
            instead of down the query's own list (docs/candidates.md); 0: it looks at the ``top_k`` nearest.
        gallery_clues: clues kept of a gallery image, each the mean of several (docs/gallery_clues.md); none: all.

    Returns:
        float64 ``(query, gallery)``, smaller is nearer; ``cace_pyg.evaluate_ranking`` takes it.

    Raises:
        ValueError: clues of other channels or grids, no weight was chosen and none is given, there are too few images
            for so many neighbours, or too few clues to keep so many.
    """
    if query.channels != fitted.channels or gallery.channels != fitted.channels or query.grid != gallery.grid:
        raise ValueError(
            f"Expected clues of {fitted.channels} channels on one grid (got {query.channels} of {query.grid} and "
            f"{gallery.channels} of {gallery.grid}); extract them with the network that the stage was trained on"
        )
    weight = fitted.fusion_weight if weight is None else weight
    if weight is None:
        raise ValueError("Expected a weight: none was chosen in training, where nobody was held out (got none)")
    if gallery_neighbours < 0:
        raise ValueError(f"Expected gallery_neighbours of at least 0 (got {gallery_neighbours})")
    if candidates < 1:
        raise ValueError(f"Expected candidates of at least 1 (got {candidates})")
    near = None
    sides = _entries(query, query_tracks, views), _entries(gallery, gallery_tracks, views)
    embeddings = sides[0].embedding, sides[1].embedding
    if weight == 0 and neighbours is None:  # the embeddings alone: no pair has anything to say
        return torch.cat([block.double() for _, block in distance_blocks(*embeddings)])
    if neighbours is not None:
        check_reranking(neighbours, sum(map(len, embeddings)))
        listed = max(neighbours.k1, candidates)
        near = find_neighbours(*embeddings, None, listed)
        if weight == 0:
            return near.ranking(neighbours).whole().double()
    where = find_device(device)
    stage = fitted.stage.to(where).eval()
    ask = functools.partial(measure_lists, stage, pairs_per_batch=pairs_per_batch, device=where, progress=progress)
    try:
        of_query, of_gallery = (
            Extraction((), one.embedding, prepare_features(stage, one.pictures, where, clues), views=one.views)
            for one, clues in zip(sides, (None, gallery_clues), strict=True)
        )
        blocks = (block for _, block in distance_blocks(*embeddings))
        index = torch.cat([nearest(block, top_k) for block in blocks])
        if gallery_neighbours and weight > 0:
            follows = nearest_in_gallery(embeddings[1], gallery_neighbours)
            look = functools.partial(ask, of_query, of_gallery)
            index, conditional = follow_neighbours(*embeddings, index, follows, weight, look)
        else:
            conditional = ask(of_query, of_gallery, [*index]).view(index.shape)
        if near is None or neighbours is None:
            return Distances(*embeddings, index, conditional).two_stage(weight)
        second_stage, ask = SecondStage(index, conditional), functools.partial(ask, title="neighbours")
        near = ask_pair_stage(near, of_query, of_gallery, second_stage, candidates, False, ask)
        return near.ranking(neighbours, weight, weight).whole().double()
    finally:
        fitted.stage.to("cpu")


class _Entries(NamedTuple):
    """Pictures or tracks: their embeddings, and the pictures that the pair stage looks at, see :class:`Extraction`."""

    embedding: Tensor
    pictures: Features
    views: Tensor | None


def _entries(features: Features, tracks: Sequence[Hashable] | None, views: int) -> _Entries:
    if tracks is None:
        return _Entries(features.embedding, features, None)
    sets = form_sets(features.embedding, tracks, views=views)
    kept, numbered = sets.kept()
    return _Entries(sets.embedding, features.select(kept), numbered)


def prepare_features(
    stage: PairStage, features: Features, device: torch.device, clues: int | None = None
) -> PairOperand:
    """What the pair stage, which is on ``device``, keeps of each image, and how many clues of it; on the CPU."""
    several = []
    for one in features.clues.split(256):
        prepared = stage.prepare(Clues(one.float().to(device), features.grid))
        several.append((prepared if clues is None else stage.keep_clues(prepared, clues)).to("cpu"))
    return PairOperand.concatenate(several)


def _labels(
    features: Features, pids: Sequence[int] | ArrayLike, camids: Sequence[int] | ArrayLike | None
) -> tuple[list[int], list[int]]:
    """Training labels from 1, whatever numbers or words the identities and cameras have."""
    people, cameras = (np.asarray(one) for one in (pids, range(len(features)) if camids is None else camids))
    for name, labels in (("pids", people), ("camids", cameras)):
        if labels.shape != (len(features),) or labels.dtype.kind not in "iuU":
            raise ValueError(
                f"Expected {name} as a whole number or a word for each of {len(features)} images (got {labels.dtype} "
                f"{labels.shape})"
            )
    if people.dtype.kind != "U" and (people < 0).any():
        raise ValueError(f"Expected pids of 0 and above to train on (got {int(people.min())}); leave junk out")
    pid, camid = (np.unique(labels, return_inverse=True)[1] for labels in (people, cameras))
    return (pid + 1).tolist(), camid.tolist()
