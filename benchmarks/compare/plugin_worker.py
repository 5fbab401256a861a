"""EquiformerV2 of this package, with the reference's weights (random ones without)."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare.serving import Implementation, serve
from compare.structure_arrays import fairchem_batch

from eqv2_plugin.checkpoints.v1.config import backbone_options, normalise_model
from eqv2_plugin.checkpoints.v1.heads import translate_heads
from eqv2_plugin.checkpoints.v1.names import rename_v1_state
from eqv2_plugin.kernels.linear import product
from eqv2_plugin.layers.sphere_grid import SphereGrid
from eqv2_plugin.models.hydra import EquiformerV2


class Plugin(Implementation):
    """As `FAIRChemCalculator` and fairchem's trainer run it.

    Args:
        recompute: in training, recompute the attention in the backward pass.

    Attributes:
        options: of the model.
    """

    options: dict[str, Any]

    def __init__(self, recompute: bool) -> None:
        self.recompute = recompute

    def load(self, config: dict[str, Any], weights: Path) -> None:
        v1 = normalise_model({"model": config})
        options = backbone_options(v1.backbone)
        heads, _ = translate_heads(v1.heads, {}, {}, "")
        backbone = {
            "model": "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone",
            **options,
            "activation_checkpointing": self.recompute,
        }
        self.options = {"backbone": backbone, "heads": heads}
        self.model = EquiformerV2(**self.options)
        if weights.exists():
            state = torch.load(weights, weights_only=True)
            self.model.load_state_dict(rename_v1_state(state), strict=True)

    def set_structures(self, arrays: dict[str, np.ndarray], device: str) -> None:
        self.device = device
        self.model.to(device)
        self.batch = fairchem_batch(arrays).to(device)

    def arithmetic(self, precision: str) -> dict[str, float]:
        """Floating-point operations of the matrix products of a forward pass, and their rate.

        Counted in float64, which keeps to torch's operators; the counter sees no others. S2
        activations are left out: in float32 they are no products.
        """
        batch = self.batch.clone()
        model = copy.deepcopy(self.model).double().eval()
        for key in ("pos", "cell"):
            batch[key] = batch[key].double()
        without_s2 = patch.object(SphereGrid, "silu", _uncounted(SphereGrid.silu))
        with torch.no_grad(), without_s2, FlopCounterMode(display=False) as counter:
            model(batch)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        left, right = torch.randn(2, 1024, 1024, device=self.device, dtype=dtype)
        seconds = []
        for _ in range(20):
            start = time.perf_counter()
            product(left, right)
            if self.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return {"flop": counter.get_total_flops(), "flop_per_second": 2 * 1024**3 / min(seconds)}

    def forward(self) -> dict[str, torch.Tensor]:
        out = self.model(self.batch.clone())
        return {
            "energy": out["energy"]["energy"].view(-1),
            "forces": out["forces"]["forces"].view(-1, 3),
        }


def _uncounted(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def uncounted(*arguments: Any, **options: Any) -> torch.Tensor:
        with _disable_current_modes():
            return function(*arguments, **options)

    return uncounted


if __name__ == "__main__":
    serve(Plugin(recompute="--recompute" in sys.argv[1:]))
