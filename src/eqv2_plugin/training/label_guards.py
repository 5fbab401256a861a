"""`LabelGuard` for each of several data sets that start from one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from fairchem.core.datasets.mt_concat_dataset import ConcatDataset

from eqv2_plugin.training.data_sets import data_set_of
from eqv2_plugin.training.label_guard import CHECK, LabelGuard


class LabelGuards:
    """Compares the starting checkpoint's predictions with some labels of every data set.

    Args:
        checkpoint, energy, unsafe: see `LabelGuard`.
        references: {data set: where its references come from}; energies are compared where it is
            the checkpoint.
    """

    def __init__(
        self,
        checkpoint: str | None,
        references: Mapping[str, str],
        energy: str = CHECK,
        unsafe: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self._guards = {
            name: LabelGuard(checkpoint, source, energy, unsafe)
            for name, source in references.items()
        }

    def check(self, datasets: ConcatDataset) -> None:
        """See `LabelGuard.check`; a ValueError names the data set."""
        for name, guard in self._guards.items():
            own = {
                split: dataset
                for split, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True)
                if data_set_of(split) == name
            }
            ratios = {"type": "explicit", "ratios": dict.fromkeys(own, 1.0)}
            try:
                guard.check(ConcatDataset(own, ratios))
            except ValueError as error:
                raise ValueError(f"data set {name}: {error}") from error
