"""Does a model use the forces that are encoded? Its noise with and without them, side by side."""

from __future__ import annotations

from dataclasses import replace

import torch
from fairchem.core.datasets.atomic_data import AtomicData
from torch import nn

from eqv2_plugin.backbones.protocol import ENCODED_FORCES, NOISE_SIGMA
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import Corruption, corrupt_batch, draw_corruption
from eqv2_plugin.graphs.build import build_graph
from eqv2_plugin.heads.forces import NoiseHead, VectorHead


def noise_head(model: nn.Module) -> NoiseHead | None:
    """The model's noise head, if it was trained with DeNS."""
    return next((h for h in model.output_heads.values() if isinstance(h, NoiseHead)), None)


@torch.no_grad()
def noise_with_and_without(
    model: nn.Module, data: AtomicData, corruption: Corruption, config: DenoisingConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, 3] noise of a corrupted batch in units of sigma, with encoded forces and with zeros.

    Predictions never see encoded forces; this is no prediction, and calls the backbone itself.

    Args:
        model: in evaluation mode, with a noise head.
        data: the batch before corruption, with ``forces`` [N, 3] in eV/Å, on the model's device.
        corruption, config: as in training.
    """
    corrupted = corrupt_batch(data, corruption, replace(config, encode_forces=True))
    head = noise_head(model)
    assert head is not None
    graph = build_graph(corrupted, model.backbone.config)
    encoded = corrupted[ENCODED_FORCES]

    def noise(forces: torch.Tensor) -> torch.Tensor:
        embedded = model.backbone.embed(
            graph,
            corrupted["atomic_numbers"],
            corrupted["batch"],
            len(corrupted["natoms"]),
            encoded=(forces, corrupted[NOISE_SIGMA]),
        )
        return VectorHead.forward(head, corrupted, embedded)[head.output_name]

    return noise(encoded), noise(torch.zeros_like(encoded))


def draw_everywhere(config: DenoisingConfig, data: AtomicData, seed: int) -> Corruption:
    """A corruption of every structure; the same on every call."""
    everywhere = replace(
        config,
        probability=1.0,
        exclude_splits=(),
        max_force_norm=None,
        max_mean_force_norm=None,
    )
    return draw_corruption(everywhere, data, torch.Generator().manual_seed(seed))
