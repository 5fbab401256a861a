"""How well the auxiliary task goes: running figures of training batches."""

from __future__ import annotations

import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.common.ranks import own_part
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
        # Numbers where they come from a checkpoint.
        self.sums: dict[str, torch.Tensor | float] = {}
        # Since the progress line was last written.
        self.recent: dict[str, torch.Tensor | float] = {}

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
            for sums in (self.sums, self.recent):
                sums[name] = sums.get(name, 0.0) + total

    def mean_and_reset(self) -> dict[str, float]:
        """Figures since the last call, over all ranks; those without data are left out."""
        device = get_device_for_local_rank()
        totals = {
            name: float(
                distutils.all_reduce(torch.tensor(float(value), dtype=torch.float64, device=device))
            )
            for name, value in self.sums.items()
        }
        self.sums = {}
        return _means(totals)

    def state(self) -> dict[str, float]:
        """The sums so far."""
        return {name: float(value) for name, value in self.sums.items()}

    def restore(self, ranks: list[dict[str, float]], rank: int, count: int) -> None:
        """Go on from the `state` of every rank, as the ``rank``-th of ``count``."""
        self.sums = dict(own_part(ranks, rank, count, divisor=count))

    def recent_line(self) -> str:
        """Figures of this rank since the last call, in one line for the progress bar."""
        figures = _means({name: float(value) for name, value in self.recent.items()})
        self.recent = {}

        def shown(*names: str, form: str) -> str:
            return "/".join(format(figures[n], form) if n in figures else "-" for n in names)

        noise = shown("noise_mae_sigma", "noise_rmse_sigma", form=".2f")
        cosine = shown("noise_cosine", form=".2f")
        energy = shown("energy_mae_corrupted_meV", "energy_mae_clean_meV", form=".0f")
        forces = shown("forces_mae_uncorrupted_meV_per_A", form=".0f")
        corrupted = shown("corrupted_fraction_structures", "corrupted_fraction_atoms", form=".0%")
        return (
            f"noise MAE/RMSE {noise} sigma, cos {cosine}; energy corrupted/clean {energy} meV, "
            f"forces {forces} meV/Å; corrupted structures/atoms {corrupted}"
        )


def _means(totals: dict[str, float]) -> dict[str, float]:
    """Every figure that has data."""
    means = {
        name: totals[name] / totals[count]
        for name, count in _FIGURES.items()
        if totals.get(count, 0.0) > 0
    }
    if "noise_squared" in means:
        means["noise_rmse_sigma"] = means.pop("noise_squared") ** 0.5
    return means
