"""Batches of a fixed number of structures, as the papers' tables state batch sizes."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset, Sampler
from torch.utils.data.distributed import DistributedSampler


class StructureBatchSampler(Sampler[list[int]]):
    """Global batches of ``batch_size`` structures, dealt out to the data-parallel ranks.

    The global batches do not depend on the number of ranks, so training on two ranks
    equals training on one. fairchem's own sampler packs by atoms instead. Interface as
    fairchem's units expect it (``set_epoch_and_start_iteration``). Without ``drop_last`` an
    incomplete last batch is a smaller one.

    Raises:
        ValueError: ``batch_size`` is not a multiple of the ranks, or exceeds the data set.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        num_replicas: int,
        rank: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        if batch_size % num_replicas:
            raise ValueError(
                f"batch_size={batch_size} (structures over all ranks) must be a multiple of the "
                f"{num_replicas} ranks"
            )
        if drop_last and len(dataset) < batch_size:
            raise ValueError(
                f"the data set has {len(dataset)} structures, fewer than batch_size={batch_size}"
            )
        self.per_rank = batch_size // num_replicas
        self.drop_last = drop_last
        self.start_iteration = 0
        self.order: DistributedSampler = DistributedSampler(
            dataset, num_replicas, rank, shuffle=shuffle, seed=seed, drop_last=drop_last
        )

    def __len__(self) -> int:
        full, rest = divmod(len(self.order), self.per_rank)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.order)
        for step in range(self.start_iteration, len(self)):
            yield order[step * self.per_rank : (step + 1) * self.per_rank]

    def set_epoch_and_start_iteration(self, epoch: int, start_iter: int) -> None:
        """Shuffle for this epoch, and start at this batch of it."""
        self.order.set_epoch(epoch)
        self.start_iteration = start_iter
