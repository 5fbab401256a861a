"""The data loader of training: fairchem's, with workers that stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fairchem.core.components.common.dataloader_builder import get_dataloader
from torch.utils.data import DataLoader, Dataset


def create_dataloader(
    dataset: Dataset,
    batch_sampler_fn: Callable[..., Any],
    collate_fn: Callable[..., Any],
    num_workers: int,
) -> DataLoader:
    """fairchem's `get_dataloader`, whose workers live as long as the loader.

    Ranks on one node are spawned processes, and so are their workers: each takes seconds to
    start, which fairchem's loader would spend in every epoch and before every validation.
    """
    made = get_dataloader(dataset, batch_sampler_fn, collate_fn, num_workers)
    return DataLoader(
        dataset,
        batch_sampler=made.batch_sampler,
        collate_fn=collate_fn,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )
