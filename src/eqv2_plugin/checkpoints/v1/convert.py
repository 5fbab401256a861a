"""From a file of fairchem-core 1 to an inference checkpoint of fairchem 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from eqv2_plugin.checkpoints.building import build, refuse_target, write_converted
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.v1.config import read_yaml
from eqv2_plugin.checkpoints.v1.file import V1File, take_apart
from eqv2_plugin.models.metadata import ModelMetadata

__all__ = ["Conversion", "build", "convert_file"]


@dataclass(frozen=True)
class Conversion:
    """What was done."""

    old: V1File  # what the old file held, and which of it was taken
    metadata: ModelMetadata  # as written into the checkpoint
    parameters: int  # their number
    checked: dict[str, torch.Tensor]  # {task: prediction} of the forward check


def convert_file(
    source: Path,
    target: Path,
    weights: str | None = None,
    config: Path | None = None,
    unsafe: bool = False,
    wanted_reference: str | None = None,
) -> Conversion:
    """Convert a checkpoint of fairchem-core 1 or OCP to a ``.pt`` file, written after all checks.

    Args:
        weights, wanted_reference: see `take_apart`.
        config: v1's YAML config, in place of the one in the file.
        unsafe: full unpickling, see `read_checkpoint`.

    Raises:
        FileExistsError: the target exists.
        ValueError: the file cannot be converted, in one sentence.
    """
    refuse_target(target)
    checkpoint = read_checkpoint(source, unsafe)
    given = read_yaml(config) if config else None
    parts = take_apart(checkpoint, source, weights, given, wanted_reference)
    del checkpoint
    written = write_converted(parts.content, parts.metadata, source, target)
    return Conversion(parts, written.metadata, written.parameters, written.checked)
