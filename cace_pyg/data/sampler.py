"""Batches of P identities × K pictures."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from cace_pyg.data.dataset import Draw


class RandomIdentitySampler:
    """Yields batches of ``num_identities`` different identities with ``num_instances`` pictures each.

    Identities come in rounds, each in a new order, so that all are used equally often. All pictures of an identity are
    used before one is repeated. An identity with fewer pictures than ``num_instances`` repeats some.

    Args:
        pids: identity of each picture.
        num_identities: identities in a batch.
        num_instances: pictures of each.
        seed: with the epoch, determines every batch.
        batches_per_epoch: None: as many as one pass over the pictures needs. ``len()`` is this number.
        rank: of this process. Each of ``ranks`` processes gets its own identities of every batch, in order of rank;
            together they get the same batch as one process would.
        ranks: number of processes that share each batch.

    Raises:
        ValueError: there are too few identities for a batch, nobody has two pictures, the ranks cannot share the
            identities evenly, or a number is too small.
    """

    def __init__(
        self,
        pids: Sequence[int],
        num_identities: int,
        num_instances: int,
        seed: int = 0,
        batches_per_epoch: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ):
        if num_identities % ranks:
            raise ValueError(
                f"Expected num_identities to be a multiple of the {ranks} ranks that share a batch (got "
                f"{num_identities}); change --joint_phase.num_identities or the number of ranks"
            )
        self.by_pid: dict[int, list[int]] = defaultdict(list)
        for index, pid in enumerate(pids):
            self.by_pid[int(pid)].append(index)  # as keys, equal tensors would be different
        if min(num_identities, num_instances) < 2:
            raise ValueError(
                f"Expected at least 2 identities and 2 pictures of each in a batch (got {num_identities} and "
                f"{num_instances}); a triplet needs a match and a non-match"
            )
        if batches_per_epoch is not None and batches_per_epoch < 1:
            raise ValueError(f"Expected batches_per_epoch of at least 1, or None (got {batches_per_epoch})")
        if len(self.by_pid) < num_identities:
            raise ValueError(
                f"Expected at least num_identities = {num_identities} training identities (got {len(self.by_pid)}); "
                "lower --joint_phase.num_identities or --data.hold_out, or check --data.root"
            )
        if max(map(len, self.by_pid.values())) < 2:
            raise ValueError(
                "Expected identities with several pictures (every training identity has one): no triplet exists"
            )
        self.num_identities = num_identities
        self.num_instances = num_instances
        share = num_identities // ranks * num_instances
        self.own = slice(rank * share, (rank + 1) * share)
        self.seed = seed
        self.epoch = 0
        self.batches = batches_per_epoch or -(-len(pids) // (num_identities * num_instances))

    def set_epoch(self, epoch: int) -> None:
        """Choose the batches of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Draw]]:
        rng = random.Random(f"{self.seed}/{self.epoch}")
        waiting: list[int] = []
        unused: dict[int, list[int]] = {}
        for _ in range(self.batches):
            chosen: list[int] = []
            while len(chosen) < self.num_identities:
                if not waiting:
                    waiting = rng.sample(sorted(self.by_pid), len(self.by_pid))
                    waiting.sort(key=chosen.__contains__)  # those in this batch already come last (a stable sort)
                    waiting.reverse()
                chosen.append(waiting.pop())
            indices = [index for pid in chosen for index in self._take(pid, unused, rng)]
            yield [Draw(index, rng.getrandbits(62)) for index in indices][self.own]

    def _take(self, pid: int, unused: dict[int, list[int]], rng: random.Random) -> list[int]:
        """The next pictures of one identity, all different if it has enough."""
        taken: list[int] = []
        while len(taken) < self.num_instances:
            if not unused.get(pid):
                pictures = self.by_pid[pid]
                shuffled = rng.sample(pictures, len(pictures))
                unused[pid] = [index for index in shuffled if index not in taken] or shuffled
            taken.append(unused[pid].pop())
        return taken
