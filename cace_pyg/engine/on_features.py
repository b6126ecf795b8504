"""Trains, stores and uses a pair stage on features, without pictures and without a configuration file."""

import functools
import tempfile
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
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
from cace_pyg.engine.moved_to import moved_to
from cace_pyg.engine.neighbours import Reranking, SecondStage, ask_pair_stage, check_reranking, find_neighbours
from cace_pyg.engine.training import Trainer
from cace_pyg.graph import Clues, CorrespondenceAttention, GraphBuilder
from cace_pyg.models import CaceNet, ConditionalSettings, PairOperand, PairStage
from cace_pyg.progress import write_line
from cace_pyg.retrieval import Calibration, distance_blocks
from cace_pyg.retrieval.calibration import Form
from cace_pyg.retrieval.picture_sets import VIEWS, form_sets
from cace_pyg.retrieval.two_stage import top_k_of_blocks

RECIPE = ConditionalSettings(edges="inter", node_wise="mlp", width=64, compare="verification")


@dataclass(frozen=True)
class FittedPairStage:
    """A trained pair stage.

    Attributes:
        stage: in evaluation mode, on the CPU. Whatever takes a fitted stage leaves it on the device that it is on.
        fusion_weight: of its distance beside the individual one, chosen on held-out people; none where there were none.
        channels: of the clues that it takes.
        calibration: what fused distances mean, learned from the same people; None if there were none.
        gallery_clues: clues kept of a gallery image in training, or in a later calibration (docs/gallery_clues.md);
            :func:`rerank_features` keeps as many. None: all.
        standardised: whether it was trained on features with equal statistics in every camera (docs/cameras.md).
    """

    stage: PairStage = field(repr=False)
    fusion_weight: float | None
    channels: int
    calibration: Calibration | None = None
    gallery_clues: int | None = None
    standardised: bool = False

    def probability(self, distance: Tensor | ArrayLike, gallery: float | None = None) -> Tensor:
        """P(both pictures show one person), for fused distances of pairs that the second stage compared.

        Args:
            distance: such as those of :func:`rerank_features` with this stage's own fusion weight; any shape. Pairs
                beyond ``top_k`` were not compared, so a probability means nothing there.
            gallery: number of pictures that were searched, see :meth:`cace_pyg.retrieval.Calibration.probability`.

        Returns:
            float64, shaped as ``distance``.

        Raises:
            ValueError: there is no calibration, or a distance is not finite.
        """
        if self.calibration is None:
            raise ValueError(
                "Expected a calibrated pair stage (got one without calibration): nobody was held out of its training, "
                "or it is too old; calibrate_pair_stage learns a calibration from labelled features"
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
    """Train a pair stage on frozen clues, with the confusions of the individual ranking as negatives.

    This is the pair phase of a run, see :class:`cace_pyg.engine.pair_phase.PairPhase`, with the same loop.

    Args:
        features: of pictures of people that the network has not seen in training; otherwise there are no confusions,
            and a warning says so.
        pids: the person in each picture.
        camids: the camera of each picture; None: each picture has its own camera.
        graph: makes the builder; None: :class:`~cace_pyg.graph.CorrespondenceAttention` as in ``configs/on_top.yaml``.
        conditional: settings of the pair stage; default: those of ``configs/on_top.yaml``.
        settings: steps, batch, dropout; None: those of ``configs/on_top.yaml``, 20 epochs of 60 steps.
        held_out: share of the people on whom the best epoch and the fusion weight are chosen; 0: use the last epoch,
            without a weight.
        top_k: of the second stage in validation.
        seed: of weights, batches and dropout.
        run_dir: folder for checkpoints and the log; None: nothing is stored.
        resume: continue the run in ``run_dir``.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: of training; auto: bfloat16 if the device multiplies it in hardware, else float32.
        gallery_clues: number of clues that :func:`rerank_features` will keep of a gallery image; training then keeps as
            many of matches and non-matches. None: all.

    Raises:
        ValueError: labels do not fit the features or are below 0, or there are too few people; see also
            :class:`Trainer`.
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
            evaluation=EvaluationSettings(
                top_k=top_k, gallery_clues=gallery_clues, standardise_cameras=features.are_standardised
            ),
        )
        splits = hold_out_identities(KeptFeatures.samples(people, cameras), held_out, seed, called="held_out")
        folder = Trainer(model, config, splits, resume=resume).run()
        weight = load_weights(model, folder.best)
        calibration = calibration_of(load_checkpoint(folder.best))
    _tell_doubts(calibration)
    if weight == 0:
        write_line(
            "warning: on the held-out people the pair stage does not improve the ranking, so its weight is 0; give "
            "rerank_features a weight to use it anyway"
        )
    known = calibration, gallery_clues, features.are_standardised
    return FittedPairStage(model.pair_stage, weight, features.channels, *known)


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
    """The same stage with a new calibration, from people that neither it nor the network was trained on.

    One picture per camera of each person is a query, and the others are the gallery, as in validation.

    Args:
        fitted: from :func:`fit_pair_stage` or :func:`load_pair_stage`.
        features: of pictures from the cameras in question.
        pids: the person in each picture.
        camids: the camera of each picture; None: each picture has its own camera.
        form: see :func:`cace_pyg.retrieval.fit_calibration`.
        top_k: gallery pictures to compare for each query.
        seed: of the choice of queries.
        device: auto, cpu, cuda, cuda:1, mps.
        gallery_clues: clues that searches keep of a gallery image, see :func:`rerank_features`; None: as many as
            ``fitted`` remembers. The stage that is returned remembers the number that it was calibrated with.

    Raises:
        ValueError: labels or channels do not fit, nobody has three pictures from two cameras, or no fusion weight was
            chosen; see also :func:`cace_pyg.retrieval.fit_calibration`.
    """
    if features.channels != fitted.channels:
        raise ValueError(f"Expected clues of {fitted.channels} channels (got {features.channels})")
    _check_standardised(fitted, features)
    if fitted.fusion_weight is None:
        raise ValueError("Expected a stage with a fusion weight (got none): fused distances need it")
    people, cameras = _labels(features, pids, camids)
    splits = every_identity(KeptFeatures.samples(people, cameras), seed)
    clues = fitted.gallery_clues if gallery_clues is None else gallery_clues
    settings = EvaluationSettings(top_k=top_k, gallery_clues=clues)
    config = Config(DataSettings(root="features"), evaluation=settings, embedding=EmbeddingSettings(kind="published"))
    where = find_device(device)
    model = CaceNet(KeptFeatures(features), lambda _: fitted.stage.builder, embedding_channels=256, published=True)
    model.pair_stage = fitted.stage
    with moved_to(model, where):
        found = calibrate_on(model, splits.query, splits.gallery, config, fitted.fusion_weight, where, form)
    _tell_doubts(found)
    return replace(fitted, calibration=found, gallery_clues=clues)


def _tell_doubts(calibration: Calibration | None) -> None:
    for doubt in calibration.doubts() if calibration else ():
        write_line(f"warning: probabilities: {doubt}")


def load_pair_stage(checkpoint: str | Path, graph: Callable[[int], GraphBuilder] | None = None) -> FittedPairStage:
    """The pair stage of a checkpoint or a bundle, made by :func:`fit_pair_stage` or by any run.

    Args:
        checkpoint: a file or a folder.
        graph: the builder that it was trained with, if that is a class of your own: a file contains only its name, and
            no code is loaded by its name. None: the builder of the file.

    Raises:
        FileNotFoundError, ValueError: see :func:`cace_pyg.engine.checkpoint.load_checkpoint`; or the weights are not
            those of this ``graph``.
    """
    state = load_checkpoint(Path(checkpoint))
    channels, text = state.get("channels"), state["config"]
    if graph is None:
        config = from_yaml(text)
    else:
        others = {name: value for name, value in yaml.safe_load(text).items() if name != "graph"}
        config = replace(from_yaml(yaml.safe_dump(others)), graph=graph)
    if channels is None:
        raise ValueError(
            f"{checkpoint} is too old for load_pair_stage; train it again, or use load_weights on its model"
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
    try:
        model.pair_stage.load_state_dict({key.removeprefix("pair_stage."): value for key, value in weights.items()})
    except RuntimeError as error:
        got = type(model.pair_stage.builder).__name__
        raise ValueError(
            f"Expected the graph builder that {checkpoint} was trained with, {_graph_in(text)} (got {got}, to which "
            "its weights do not belong); give its class and settings as graph="
        ) from error
    stage, clues = model.pair_stage.eval(), config.evaluation.gallery_clues
    standardised = config.evaluation.standardise_cameras
    return FittedPairStage(stage, state["fusion_weight"], channels, calibration_of(state), clues, standardised)


def _graph_in(text: str) -> str:
    """The builder of a configuration's text as a call, such as ``CorrespondenceAttention(width=8)``."""
    graph = yaml.safe_load(text)["graph"]
    settings = (f"{name}={value}" for name, value in (graph.get("init_args") or {}).items() if value is not None)
    return f"{graph['class_path'].rpartition('.')[2]}({', '.join(settings)})"


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

    With ``neighbours``, these are re-ranked by the neighbours that pictures have in common, which both distances
    determine (docs/neighbours.md). With weight 0 only the embeddings count, and no pair is compared.

    Args:
        query: features of the network that the stage was trained on.
        gallery: features of the same network.
        fitted: the pair stage.
        top_k: gallery images to compare with each query; all if the gallery is smaller.
        weight: of the pair stage's distance, in [0, 1]; None: the one chosen in training.
        pairs_per_batch: pairs per forward pass; None: 64 on a CPU, 2048 on a GPU.
        device: auto, cpu, cuda, cuda:1, mps.
        progress: show a bar.
        neighbours: :class:`cace_pyg.config.KReciprocalSettings` or :class:`cace_pyg.config.PropagationSettings`; None:
            no such re-ranking.
        candidates: nearest images of each image, queries and gallery alike; both distances choose its neighbours among
            them.
        query_tracks: a label for each picture; pictures of one label are one query, compared by their mean embedding
            and by all pairs of their views (docs/tracks.md). Rows are then labels in the order of first occurrence.
            None: each picture is a query.
        gallery_tracks: the same for the gallery; columns are then labels.
        views: maximum number of pictures of a track that the pair stage compares.
        gallery_neighbours: the pair stage follows this many nearest gallery images of a good match, best match first,
            instead of the query's own list (docs/candidates.md); 0: it compares the ``top_k`` nearest.
        gallery_clues: clues kept of a gallery image, each the mean of several (docs/gallery_clues.md); None: as many as
            ``fitted`` remembers. As many as a picture has: all.

    Returns:
        float64 ``(query, gallery)``, smaller is nearer; ``cace_pyg.evaluate_ranking`` takes it.

    Raises:
        ValueError: clues have other channels or grids, no weight was chosen and none is given, or there are too few
            images for this number of neighbours, or too few clues to keep this many.
    """
    if query.channels != fitted.channels or gallery.channels != fitted.channels or query.grid != gallery.grid:
        raise ValueError(
            f"Expected clues of {fitted.channels} channels on one grid (got {query.channels} of {query.grid} and "
            f"{gallery.channels} of {gallery.grid}); extract them with the network that the stage was trained on"
        )
    _check_standardised(fitted, query, gallery)
    weight = fitted.fusion_weight if weight is None else weight
    if weight is None:
        raise ValueError("Expected a weight (got none): none was chosen in training, because nobody was held out")
    kept = fitted.gallery_clues if gallery_clues is None else gallery_clues
    for name, count, least in (
        ("top_k", top_k, 1),
        ("candidates", candidates, 1),
        ("gallery_neighbours", gallery_neighbours, 0),
    ):
        if not isinstance(count, Integral) or count < least:
            raise ValueError(f"Expected {name} as a whole number of at least {least} (got {count!r})")
    n = gallery.clues.size(1)
    if kept is not None and not (isinstance(kept, Integral) and 1 <= int(kept) <= n):
        raise ValueError(
            f"Expected gallery_clues as a whole number from 1 to {n}, the clues of a picture (got {kept!r}); leave it "
            "out for as many as in training"
        )
    if not 0 <= weight <= 1:
        raise ValueError(f"Expected a fusion weight in [0, 1] (got {weight})")
    near = None
    sides = _entries(query, query_tracks, views), _entries(gallery, gallery_tracks, views)
    embeddings = sides[0].embedding, sides[1].embedding
    if weight == 0 and neighbours is None:  # only the embeddings count: no pair is compared
        return torch.cat([block.double() for _, block in distance_blocks(*embeddings)])
    if neighbours is not None:
        check_reranking(neighbours, sum(map(len, embeddings)))
        listed = max(neighbours.k1, candidates)
        near = find_neighbours(*embeddings, None, listed)
        if weight == 0:
            return near.ranking(neighbours).whole().double()
    where = find_device(device)
    stage = fitted.stage.eval()
    ask = functools.partial(measure_lists, stage, pairs_per_batch=pairs_per_batch, device=where, progress=progress)
    with moved_to(stage, where):
        of_query, of_gallery = (
            Extraction((), side.embedding, prepare_features(stage, side.pictures, where, clues), views=side.views)
            for side, clues in zip(sides, (None, kept), strict=True)
        )
        blocks = (block for _, block in distance_blocks(*embeddings))
        index = top_k_of_blocks(blocks, len(embeddings[0]), top_k)
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


def _check_standardised(fitted: FittedPairStage, *several: Features) -> None:
    for features in several:
        if features.are_standardised != fitted.standardised:
            known, got = (
                "" if standardised else "not " for standardised in (fitted.standardised, features.are_standardised)
            )
            raise ValueError(
                f"Expected features that are {known}standardised by camera, as those of the training (got some that "
                f"are {got}standardised); see Features.standardised and docs/cameras.md"
            )


class _Entries(NamedTuple):
    """Pictures or tracks: their embeddings, and the pictures that the pair stage compares, see :class:`Extraction`."""

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
    """The pair stage's input of each image, on the CPU, with ``clues`` of it; the stage is on ``device``."""
    several = []
    for batch in features.clues.split(256):
        prepared = stage.prepare(Clues(batch.float().to(device), features.grid))
        several.append((prepared if clues is None else stage.keep_clues(prepared, clues)).to("cpu"))
    return PairOperand.concatenate(several)


def _labels(
    features: Features, pids: Sequence[int] | ArrayLike, camids: Sequence[int] | ArrayLike | None
) -> tuple[list[int], list[int]]:
    """Training labels from 1, for identities and cameras given as any numbers or words."""
    people, cameras = (np.asarray(values) for values in (pids, range(len(features)) if camids is None else camids))
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
