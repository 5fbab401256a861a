"""What whole runs share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from finetuning_inputs import write_start


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Where samples are unpacked."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def start(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint to fine-tune from, only to be read, and its EMA weights."""
    path = tmp_path_factory.mktemp("start") / "start.pt"
    return path, write_start(path)
