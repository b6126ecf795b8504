"""The pair phase: trains only the pair branch, on frozen clues, with the individual ranking's confusions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.confusion_triplets import (
    ConfusionTripletSampler,
    confusion_negatives,
)
from cace_pyg.data.dataset import Draw, Item, ReidDataset
from cace_pyg.data.picture_loader import PictureLoader
from cace_pyg.data.sample import Sample
from cace_pyg.data.transforms import training_transform
from cace_pyg.engine.clue_store import keep_where_it_fits
from cace_pyg.engine.extraction import camera_statistics, extract_clues, extract_embeddings
from cace_pyg.engine.ranks import Ranks
from cace_pyg.graph import Clues
from cace_pyg.losses import triplet_loss
from cace_pyg.models import CaceNet, PairOperand


class PairPhase:
    """Triplets of an anchor, a match from another camera, and another person that the individual ranking puts near.

    Not in the paper: in our experiments the second stage gained from this, and gained nothing from joint training.

    Args:
        config: the run.
        samples: training pictures.
        ranks: processes that share each batch of triplets.

    Raises:
        ValueError: the anchors cannot be shared evenly among the ranks.
    """

    name = "pair"
    trains_pairs = True
    passes = 1  # forward and backward passes of a step

    def __init__(self, config: Config, samples: Sequence[Sample], ranks: Ranks):
        settings = config.pair_phase
        self.epochs = settings.epochs
        self.learning_rate = settings.learning_rate
        self.warmup_epochs = settings.warmup_epochs
        self.settings = settings
        self.config = config
        self.samples = samples
        self.ranks = ranks
        self.own = ranks.share(settings.anchors, "pair_phase.anchors")

    def start(self, model: CaceNet, fresh: bool, device: torch.device) -> None:
        """Rank the training pictures by the individual branch; with ``clues: cached`` store their clues.

        Args:
            model: its individual branch is trained.
            fresh: the phase begins here, so the conditional encoder starts as a copy of the individual one; False: the
                phase is resumed.
            device: of the model.
        """
        if fresh and self.config.loss.pairwise_weight == 0:
            model.start_conditional_from_individual()  # joint training with pairwise losses has trained its own
        self.needs_parts = model.needs_parts
        self.clues: Clues | None = None
        known = camera_statistics(model, self.samples, self.config, device, self.ranks)
        if self.settings.clues == "cached":
            embedding, clues = extract_clues(model, self.samples, self.config, device, self.ranks, known)
            self.clues = keep_where_it_fits(clues, device)
        else:
            embedding = extract_embeddings(model, self.samples, self.config, device, self.ranks)
        pids = torch.tensor([sample.pid for sample in self.samples])
        camids = torch.tensor([sample.camid for sample in self.samples])
        negatives = confusion_negatives(embedding, pids, self.settings.confusions)
        settings = self.settings
        self.sampler = ConfusionTripletSampler(
            pids, camids, negatives, settings.anchors, settings.batches_per_epoch, self.config.seed
        )

    def optimizer(self, model: CaceNet) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.AdamW(model.pair_branch(), settings.learning_rate, weight_decay=settings.weight_decay)

    def set_mode(self, model: CaceNet) -> None:
        model.eval()
        model.pair_stage.train()
        if model.encoder is not None:
            model.encoder.eval()  # the pair stage may share it, and it is not trained

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Anchors, matches and non-matches in that order: their augmented clues, ``(3·anchors, n, channel)``, or
        pictures.

        These are for this rank's share of the anchors. If the graph needs them, body parts, ``(3·anchors, n)``, or
        label maps follow.
        """
        self.sampler.set_epoch(epoch)
        self.random = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)  # the same after a resume
        if self.clues is not None:
            for triplets in self.sampler:
                chosen = self._augmented(self.clues, triplets[:, self.own].flatten().to(self.clues.features.device))
                yield (chosen.features,) if chosen.parts is None else (chosen.features, chosen.parts)
            return
        augmented = ReidDataset(
            self.samples,
            training_transform(self.config.augmentation),
            (self.config.data.height, self.config.data.width),
            parts=self.needs_parts,
            palette=self.config.data.part_palette,
        )
        draws = [self._draws(triplets, epoch, step) for step, triplets in enumerate(self.sampler)]
        for batch in PictureLoader(augmented, self.config.data.workers, batch_sampler=draws):
            item = Item(*batch)
            yield (item.image, item.parts) if self.needs_parts else (item.image,)

    def losses(self, model: CaceNet, batch: Tensor, parts: Tensor | None = None) -> dict[str, Tensor]:
        """The triplet loss on the second stage's distance."""
        if self.clues is not None:
            clues = Clues(batch, self.clues.grid, parts)
        else:
            with torch.no_grad():
                clues = self._augmented(model(batch, parts).clues)
        prepared = model.pair_stage.prepare(clues)
        anchors = len(prepared) // 3
        # slices and a copy, because the gradient of indexing costs as much as a matrix product
        anchor, others = prepared.select(slice(anchors)), prepared.select(slice(anchors, None))
        if self.config.evaluation.gallery_clues is not None:  # anchors are queries
            others = model.pair_stage.keep_clues(others, self.config.evaluation.gallery_clues)
        distance = model.pair_stage.distance(PairOperand.concatenate([anchor, anchor]), others)
        return {"pair_triplet": triplet_loss(distance[:anchors], distance[anchors:], self.settings.margin)}

    def _augmented(self, clues: Clues, images: Tensor | None = None) -> Clues:
        """Mirror some images, and drop clues, at random.

        Random numbers are drawn for all ranks, so that together they do what one process would.

        Args:
            images: only these, which are copied; None: all, and the features may be overwritten.
        """
        settings, device = self.settings, clues.features.device
        if settings.mirror > 0:
            drawn = torch.rand(3, settings.anchors, generator=self.random)
            clues = mirror_clues(clues, (drawn[:, self.own].flatten() < settings.mirror).to(device), images)
        elif images is not None:
            clues = clues.select(images)
        clues = replace(clues, features=clues.features.float())  # scaled values might overflow in half precision
        if settings.clue_dropout == 0:
            return clues
        drawn = torch.rand(3, settings.anchors, clues.features.size(1), generator=self.random)
        return clue_dropout(clues, settings.clue_dropout, drawn[:, self.own].flatten(0, 1), in_place=True)

    def _draws(self, triplets: Tensor, epoch: int, step: int) -> list[Draw]:
        """One augmentation seed for each picture of a batch, from the run's seed, the epoch and the step."""
        seed = ((self.config.seed * 1_000_003 + epoch) * 1_000_003 + step) % 2**62
        seeds = torch.randint(2**31, triplets.shape, generator=torch.Generator().manual_seed(seed))
        own = triplets[:, self.own].flatten(), seeds[:, self.own].flatten()
        return [Draw(int(index), int(seed)) for index, seed in zip(*own, strict=True)]


def mirror_clues(clues: Clues, mirrored: Tensor, images: Tensor | None = None) -> Clues:
    """Mirror the clues of some images, as if the pictures had been mirrored.

    The feature map of a mirrored picture is nearly the mirrored feature map, so frozen clues can be augmented without
    the network.

    Args:
        clues: of some images.
        mirrored: which of them to mirror, ``(image,)`` booleans.
        images: take only these images, in this order, and ``mirrored`` is about them, ``(image,)``; None: all.
    """
    number, device = clues.features.size(1), mirrored.device
    images = torch.arange(len(clues), device=device) if images is None else images
    row_by_row = torch.arange(number, device=device)
    order = torch.where(mirrored.unsqueeze(1), row_by_row.view(clues.grid).flip(1).flatten(), row_by_row)
    flat = (images.unsqueeze(1) * number + order).flatten()  # one copy of whole rows: three times as fast as indexing
    features = clues.features.flatten(0, 1).index_select(0, flat).view(len(images), number, -1)
    parts = None if clues.parts is None else clues.parts[images.unsqueeze(1), order]
    return replace(clues, features=features, parts=parts)


def clue_dropout(clues: Clues, probability: float, drawn: Tensor, in_place: bool = False) -> Clues:
    """Set whole clues to zero, and scale the others so that the expected mean is unchanged (Srivastava et al., 2014).

    The pair branch sees the same few thousand confusions of the training pictures again and again, and would memorise
    them; with half of the clues dropped, no pair looks the same twice (docs/results/). A clue of zeros has no edges in
    a graph of cosines.

    Args:
        clues: of some images.
        probability: of dropping a clue, in [0, 1); 0 returns the clues unchanged.
        drawn: a number for each clue, ``(image, n)``, uniform in [0, 1).
        in_place: overwrite the features, which are in float32.

    Returns:
        The clues, at least in float32: scaled values might overflow in half precision.
    """
    if probability == 0:
        return clues
    kept = (drawn >= probability).to(clues.features.device).unsqueeze(-1) / (1 - probability)
    return replace(clues, features=clues.features.mul_(kept) if in_place else clues.features * kept)
