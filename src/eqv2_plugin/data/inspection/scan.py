"""Going through a data set once, in order, with a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from eqv2_plugin.data.inspection.frames import Frame, FrameDataset

T = TypeVar("T")

# Neighbouring frames of a sample: pairs of consecutive frames tell about units and fixed atoms.
_RUN = 16
_BATCH = 32  # frames that a worker reads at a time


def sampled_indices(total: int, wanted: int | None) -> np.ndarray:
    """About ``wanted`` of ``total`` indices (None: all), in order: short runs, evenly spread."""
    if wanted is None or wanted >= total:
        return np.arange(total)
    runs = -(-wanted // _RUN)
    length = -(-wanted // runs)
    starts = np.linspace(0, total - length, runs).astype(np.int64)
    return np.unique((starts[:, None] + np.arange(length)).ravel())[:wanted]


def scan(
    dataset: FrameDataset,
    function: Callable[[Frame], T],
    indices: np.ndarray | None = None,
    workers: int = 0,
) -> Iterator[T]:
    """Yield ``function(frame)`` for the frames of a data set (those at ``indices``), in order.

    The function runs where the frame is read, in one of ``workers`` processes (0: this one), and
    must be picklable where workers are spawned. Its errors are raised here.
    """
    chosen = np.arange(len(dataset)) if indices is None else indices
    loader = DataLoader(
        _Mapped(dataset, function, chosen),
        batch_size=_BATCH,
        num_workers=workers,
        collate_fn=list,
    )
    with tqdm(total=len(chosen), unit="frames", desc=dataset.name, leave=False) as bar:
        for batch in loader:
            for value in batch:
                if isinstance(value, _Failure):
                    raise value.error
                yield value
            bar.update(len(batch))


class _Failure:
    """An error on its way from a worker; torch would wrap it into a page of text."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Mapped(Dataset):
    def __init__(self, dataset: FrameDataset, function: Callable, indices: np.ndarray) -> None:
        self.dataset, self.function, self.indices = dataset, function, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.function(self.dataset[int(self.indices[index])])
        except Exception as error:
            return _Failure(error)
