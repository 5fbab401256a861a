"""How well the auxiliary task goes: running figures of training batches."""

from __future__ import annotations

import torch
from fairchem.core.common import distutils
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.dens.batch import NOISE_TARGET
from eqv2_plugin.dens.corruption import Corruption

# Names of the sums, each with the name of its count.
_FIGURES = {
    "noise_mae_sigma": "noise_components",
    "noise_squared": "noise_components",
    "noise_cosine": "noise_atoms",
    "energy_mae_corrupted_meV": "corrupted_structures",
    "energy_mae_clean_meV": "clean_structures",
    "forces_mae_uncorrupted_meV_per_A": "force_components",
    "corrupted_fraction_atoms": "free_atoms",
    "corrupted_fraction_structures": "structures",
}


class DenoisingMonitor:
    """Sums over training steps; means on request."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        # Of the last step that corrupted an atom, for the progress bar.
        self.latest: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def update(
        self,
        predictions: dict[str, dict[str, torch.Tensor]],
        original: AtomicData,
        corruption: Corruption,
        tasks: dict[str, Task],
    ) -> None:
        """Take one training step into account.

        Args:
            predictions: the model's outputs on the corrupted batch.
            original: the batch before corruption.
            corruption: what was drawn.
            tasks: by name.
        """
        free = original.fixed == 0
        atoms, structures = corruption.atoms, corruption.structures
        noise = predictions[NOISE_TARGET][NOISE_TARGET][atoms]
        target = corruption.noise[atoms]
        energy = tasks["energy"].normalizer.denorm(predictions["energy"]["energy"])
        if tasks["energy"].element_references is not None:
            energy = tasks["energy"].element_references.undo_refs(original, energy)
        energy_error = 1e3 * (energy - original.energy).abs()
        plain = free & ~atoms
        forces = tasks["forces"].normalizer.denorm(predictions["forces"]["forces"])
        force_error = 1e3 * (forces - original.forces)[plain].abs()
        cosine = torch.cosine_similarity(noise, target, dim=1)
        if len(target):
            mae = (noise - target).abs().mean()
            self.latest = {"noise/sigma": mae, "noise cos": cosine.mean()}
        values = {
            "noise_mae_sigma": (noise - target).abs().sum(),
            "noise_squared": (noise - target).square().sum(),
            "noise_components": target.numel(),
            "noise_cosine": cosine.sum(),
            "noise_atoms": len(target),
            "energy_mae_corrupted_meV": energy_error[structures].sum(),
            "corrupted_structures": structures.sum(),
            "energy_mae_clean_meV": energy_error[~structures].sum(),
            "clean_structures": (~structures).sum(),
            "forces_mae_uncorrupted_meV_per_A": force_error.sum(),
            "force_components": force_error.numel(),
            "corrupted_fraction_atoms": atoms.sum(),
            "free_atoms": free.sum(),
            "corrupted_fraction_structures": structures.sum(),
            "structures": len(structures),
        }
        for name, value in values.items():
            total = torch.as_tensor(value, dtype=torch.float64, device=energy.device)
            self.sums[name] = self.sums.get(name, torch.zeros_like(total)) + total

    def mean_and_reset(self) -> dict[str, float]:
        """Figures since the last call, over all ranks; those without data are left out."""
        totals = {n: float(distutils.all_reduce(v.clone())) for n, v in self.sums.items()}
        self.sums = {}
        means = {
            name: totals[name] / totals[count]
            for name, count in _FIGURES.items()
            if totals.get(count, 0.0) > 0
        }
        if "noise_squared" in means:
            means["noise_rmse_sigma"] = means.pop("noise_squared") ** 0.5
        return means
