"""From a fairchem inference checkpoint to the native form."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from eqv2_plugin.checkpoints.door import read_model
from eqv2_plugin.checkpoints.inference_checkpoint import as_native, read_inference_checkpoint
from eqv2_plugin.checkpoints.native import NativeModel, write_native
from eqv2_plugin.models.known_elements import references_or_nan

__all__ = ["as_native", "export_native", "read_inference_checkpoint"]


def export_native(checkpoint: Path, out: Path, unsafe: bool = False) -> NativeModel:
    """Write the native form of a checkpoint.

    It holds the averaged (EMA) weights, which are those that fairchem predicts with, the
    model's configuration and of every task what prediction needs. Losses and metrics stay
    behind: they serve training only.

    Args:
        checkpoint: fairchem inference checkpoint (``inference_ckpt.pt``) of one of our models.
        out: new file, ``.safetensors``.
        unsafe: unpickle and believe whatever is in the checkpoint.

    Raises:
        FileNotFoundError, ValueError: see `read_model` and `write_native`.
    """
    content = read_model(checkpoint, unsafe)
    references = {name: references_or_nan(values) for name, values in content.references.items()}
    content = dataclasses.replace(content, references=references)
    write_native(content, out)
    return content
