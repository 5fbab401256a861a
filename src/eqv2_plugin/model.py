"""The model that fairchem trains: backbone, heads, and which parameters decay."""

from __future__ import annotations

from fairchem.core.common.registry import registry
from fairchem.core.models.base import HydraModel
from torch import nn

from eqv2_plugin.layers.norms import EquivariantNorm
from eqv2_plugin.layers.radial import LearnableGaussianBasis


@registry.register_model("equiformer_v2_hydra")
class EquiformerV2(HydraModel):
    """fairchem's HydraModel that also says which parameters have no weight decay.

    fairchem looks for ``no_weight_decay`` on the whole model only, so the backbone's own
    would never be found.
    """

    def no_weight_decay(self) -> set[str]:
        """Biases, normalisations and the learnable radial basis."""
        names = {name for name, _ in self.named_parameters() if name.endswith(".bias")}
        for path, module in self.named_modules():
            if isinstance(module, (nn.LayerNorm, EquivariantNorm, LearnableGaussianBasis)):
                names |= {f"{path}.{name}" for name, _ in module.named_parameters()}
        return names
