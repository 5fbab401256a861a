"""Reading and running the ``eqf1_*`` cases, of the Equiformer authors' code."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from fairchem.core.datasets.atomic_data import AtomicData
from helpers import CONSERVATIVE, V1
from stored_case import StoredCase

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, split_degrees
from eqv2_plugin.backbones.protocol import ENCODED_FORCES, NOISE_SIGMA
from eqv2_plugin.checkpoints.equiformer_v1.config import backbone_options
from eqv2_plugin.checkpoints.equiformer_v1.weights import convert_state
from eqv2_plugin.models.hydra import EquiformerV2

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
MODES = ("plain", "denoise_mask", "denoise_all")


class EquiformerCase(StoredCase):
    """One folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        earlier = folder / "outputs_e3nn044.npz"
        self.earlier_outputs = dict(np.load(earlier)) if earlier.exists() else {}

    @property
    def modes(self) -> list[str]:
        """Prefixes of the outputs: "" without DeNS."""
        if "energy" in self.outputs:
            return [""]
        return [f"{mode}__" for mode in MODES if f"{mode}__energy" in self.outputs]

    @cached_property
    def options(self) -> dict:
        return backbone_options(self.config["model"]["kwargs"])

    def model(self, dtype: torch.dtype, convention: str = "e3nn_0.5") -> EquiformerV2:
        """Our model with the authors' weights, loaded with strict keys."""
        has_vectors = any(key.endswith("_head.alpha_dot") for key in self.state)
        heads = {"head": CONSERVATIVE} | ({"noise_forces": NOISE} if has_vectors else {})
        model = EquiformerV2(
            backbone={"model": V1, **self.options}, heads=heads, pass_through_head_outputs=True
        )
        self.load(model, self.state, convention)
        # The noise head predicts in training only; nothing here is drawn at random.
        model = model.to(dtype).train()
        for module in model.modules():
            if hasattr(module, "rate") or isinstance(module, torch.nn.Dropout):
                module.eval()
        return model

    def load(self, model: EquiformerV2, state: dict, convention: str | None = "e3nn_0.5") -> None:
        """Give the model the weights of a state dict of the authors'."""
        converted = convert_state(
            state,
            model.backbone.config,
            scalar_head="output_heads.head.energy.energy_block",
            vector_head="output_heads.noise_forces.vector_block"
            if "noise_forces" in model.output_heads
            else None,
            convention=convention,
        )
        model.load_state_dict(converted, strict=True)

    def data(self, mode: str, dtype: torch.dtype) -> AtomicData:
        """The batch of a mode; DeNS's with encoded forces, in the reference's kcal/mol/Å."""
        inputs = {key: torch.from_numpy(value) for key, value in self.inputs.items()}
        num, periodic = len(inputs["natoms"]), "cell" in inputs
        cell = inputs["cell"].clone() if periodic else torch.eye(3).repeat(num, 1, 1)
        positions = self.inputs.get(f"{mode}pos", self.inputs["pos"])
        data = self.batch(dtype, positions, cell, torch.full((num, 3), periodic))
        if mode.startswith("denoise"):
            forces = inputs[f"{mode}force"] * inputs[f"{mode}noise_mask"].unsqueeze(1)
            data[ENCODED_FORCES] = forces.to(dtype)
            data[NOISE_SIGMA] = torch.zeros(len(data.pos), dtype=dtype)
        return data

    def run(self, model: EquiformerV2, mode: str) -> dict[str, torch.Tensor]:
        """Outputs under the reference's names, on our own graph."""
        dtype = next(model.parameters()).dtype
        data = self.data(mode, dtype)
        seen: dict[str, torch.Tensor] = {}
        hook = model.backbone.norm.register_forward_hook(lambda *a: seen.update(x=a[2]))
        raw = model(data)
        hook.remove()
        outputs = {
            "energy": raw["energy"]["energy"],
            "forces": raw["forces"]["forces"],
            "x": as_e3nn(seen["x"], model.backbone.config.feature_channels),
        }
        if "noise_forces" in raw:
            vectors = raw["noise_forces"]
            outputs["aux"] = outputs["denoising_pos"] = vectors
            if mode.startswith("denoise"):
                corrupted = torch.from_numpy(self.inputs[f"{mode}noise_mask"]).unsqueeze(1)
                outputs["forces"] = torch.where(corrupted, vectors, outputs["forces"])
        return outputs


def as_e3nn(features: torch.Tensor, channels: Channels) -> torch.Tensor:
    """Our node features in e3nn's layout: channels slowest within a degree."""
    blocks = split_degrees(features, channels)
    return torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], dim=1)
