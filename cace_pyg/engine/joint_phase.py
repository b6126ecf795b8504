"""The joint phase: individual losses, and pairwise losses if they have a weight, on P×K batches."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cace_pyg.config import Config
from cace_pyg.data.dataset import ReidDataset, relabel
from cace_pyg.data.picture_loader import PictureLoader
from cace_pyg.data.sample import Sample
from cace_pyg.data.sampler import RandomIdentitySampler
from cace_pyg.data.transforms import training_transform
from cace_pyg.engine.ranks import Ranks
from cace_pyg.graph import Clues
from cace_pyg.losses import CaceLoss
from cace_pyg.models import CaceNet
from cace_pyg.retrieval import euclidean_distance


class JointPhase:
    """§4.2 of the paper: SGD on P identities × K pictures.

    Args:
        config: the run.
        samples: training pictures.
        ranks: processes that share each batch.

    Raises:
        ValueError: the identities of a batch cannot be shared evenly among the ranks or the passes of a step, or too
            few are left for a triplet.
    """

    name = "joint"

    def __init__(self, config: Config, samples: Sequence[Sample], ranks: Ranks):
        settings = config.joint_phase
        self.epochs = settings.epochs
        self.learning_rate = settings.learning_rate
        self.warmup_epochs = settings.warmup_epochs
        self.trains_pairs = config.loss.pairwise_weight > 0
        self.passes = settings.accumulate
        self.settings = settings
        self.ranks = ranks
        _check_shares(config, ranks)
        self.loss = CaceLoss(config.loss)
        self.sampler = RandomIdentitySampler(
            [sample.pid for sample in samples],
            settings.num_identities,
            settings.num_instances,
            config.seed,
            settings.batches_per_epoch,
            ranks.rank,
            ranks.count,
        )
        size = (config.data.height, config.data.width)
        self.dataset = ReidDataset(
            samples,
            training_transform(config.augmentation),
            size,
            labels=relabel(samples),
            cache=config.data.cache,
            palette=config.data.part_palette,
        )
        self.loader = PictureLoader(self.dataset, config.data.workers, batch_sampler=self.sampler)

    def start(self, model: CaceNet, fresh: bool, device: torch.device) -> None:
        """Also read body parts if the pairwise losses need a graph of them."""
        self.dataset.parts = self.trains_pairs and model.needs_parts

    def optimizer(self, model: CaceNet) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.SGD(
            model.parameters(), settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay
        )

    def set_mode(self, model: CaceNet) -> None:
        model.train()

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Pictures, labels, and label maps if the graph needs them; they depend only on the seed and the epoch."""
        self.sampler.set_epoch(epoch)
        for images, labels, _, _, part_maps in self.loader:
            yield (images, labels, part_maps) if self.dataset.parts else (images, labels)

    def losses(
        self, model: CaceNet, images: Tensor, labels: Tensor, part_maps: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The loss terms; their sum is minimised."""
        embedding, clues = model(images, part_maps)
        if self.settings.pairs_across_ranks:
            embedding, labels = self.ranks.gather(embedding), self.ranks.gather(labels)
            clues = self._gathered(clues) if self.trains_pairs else clues
        unit = torch.nn.functional.normalize(embedding, dim=-1)
        assert model.classifier is not None and model.pair_classifier is not None  # no published embedding
        terms = self.loss.individual(model.classifier(embedding), euclidean_distance(unit, unit), labels)
        if self.trains_pairs:
            prepared = model.pair_stage.prepare(clues.detach() if self.settings.detach_clues else clues)
            pairs = model.conditional.all_pairs(prepared)
            terms |= self.loss.pairwise(model.pair_classifier(pairs.embedding), pairs.distance, labels)
        return terms

    def _gathered(self, clues: Clues) -> Clues:
        """The clues of all ranks, with gradients if the pairwise losses may reach the backbone."""
        features = clues.features.detach() if self.settings.detach_clues else clues.features
        parts = None if clues.parts is None else self.ranks.gather(clues.parts)
        return replace(clues, features=self.ranks.gather(features), parts=parts)


def _check_shares(config: Config, ranks: Ranks) -> None:
    settings, together = config.joint_phase, ranks.count if config.joint_phase.pairs_across_ranks else 1
    passes = ranks.count * settings.accumulate
    if settings.num_identities % passes:
        raise ValueError(
            f"Expected joint_phase.num_identities to be a multiple of {ranks.count} ranks times joint_phase.accumulate "
            f"{settings.accumulate} (got {settings.num_identities})"
        )
    share = settings.num_identities // passes * together
    if share < 2:
        raise ValueError(
            f"Expected at least 2 identities in a pass (got {share}: joint_phase.num_identities "
            f"{settings.num_identities} over {ranks.count} ranks and joint_phase.accumulate {settings.accumulate}); "
            "raise --joint_phase.num_identities, or give --joint_phase.pairs_across_ranks true"
        )
