"""How well the auxiliary task goes: running figures of training batches, and of validation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import Task

from eqv2_plugin.backbones.protocol import name_for_references
from eqv2_plugin.common.ranks import own_part
from eqv2_plugin.dens.corruption import NOISE_TARGET, Corruption

_LABELS = ("energy", "forces")
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
    # Of validation frames, by the evaluated weights.
    "noise_mae_encoded_sigma": "validated_components",
    "noise_mae_unencoded_sigma": "validated_components",
}
_NAMES = (*_FIGURES, *dict.fromkeys(_FIGURES.values()))


class DenoisingMonitor:
    """Sums over training steps; means on request."""

    def __init__(self) -> None:
        # Numbers where they come from a checkpoint.
        self.sums: dict[str, torch.Tensor | float] = {}
        # Since the progress line was last written.
        self.recent: dict[str, torch.Tensor | float] = {}

    @torch.no_grad()
    def update(
        self, original: AtomicData, corruption: Corruption, tasks: Mapping[str, Task]
    ) -> None:
        """Take one training step into account; nothing is read back from the device.

        ``original`` is the batch before corruption; the tasks' losses have just seen predictions.
        """
        predicted = {name: tasks[name].loss_fn.predicted for name in (*_LABELS, NOISE_TARGET)}
        energy, forces = (tasks[name].normalizer.denorm(predicted[name]) for name in _LABELS)
        energy = energy.view(-1)
        if tasks["energy"].element_references is not None:
            name_for_references(original)
            energy = tasks["energy"].element_references.undo_refs(original, energy)
        energy_error = 1e3 * (energy - original.energy.view(-1)).abs()
        force_error = 1e3 * (forces - original.forces).abs()
        noise, target = predicted[NOISE_TARGET], corruption.noise
        atoms, structures, free = corruption.atoms, corruption.structures, original.fixed == 0
        figures = {
            "noise_mae_sigma": ((noise - target).abs(), atoms),
            "noise_squared": ((noise - target).square(), atoms),
            "noise_cosine": (torch.cosine_similarity(noise, target, dim=1), atoms),
            "energy_mae_corrupted_meV": (energy_error, structures),
            "energy_mae_clean_meV": (energy_error, ~structures),
            "forces_mae_uncorrupted_meV_per_A": (force_error, free & ~atoms),
            "corrupted_fraction_atoms": (atoms, free),
            "corrupted_fraction_structures": (structures, torch.ones_like(structures)),
        }
        totals = _totals(figures)
        for sums in (self.sums, self.recent):
            _add(sums, totals)

    def update_encoding(
        self, corruption: Corruption, encoded: torch.Tensor, unencoded: torch.Tensor
    ) -> None:
        """Take the noise of a validation batch into account; nothing is read back from the device.

        It was predicted with encoded forces, and without: [N, 3].
        """
        figures = {
            name: ((noise - corruption.noise).abs(), corruption.atoms)
            for name, noise in (
                ("noise_mae_encoded_sigma", encoded),
                ("noise_mae_unencoded_sigma", unencoded),
            )
        }
        _add(self.sums, _totals(figures))

    def mean_and_reset(self) -> dict[str, float]:
        """Figures since the last call, over all ranks; those without data are left out."""
        sums, self.sums = _numbers(self.sums), {}
        if not sums:
            return {}
        device = get_device_for_local_rank()
        values = [sums.get(name, 0.0) for name in _NAMES]
        here = torch.tensor(values, dtype=torch.float64, device=device)
        return _means(dict(zip(_NAMES, distutils.all_reduce(here).tolist(), strict=True)))

    def state(self) -> dict[str, float]:
        """The sums so far."""
        return _numbers(self.sums)

    def restore(self, ranks: list[dict[str, float]], rank: int, count: int) -> None:
        """Go on from the `state` of every rank, as the ``rank``-th of ``count``."""
        self.sums = dict(own_part(ranks, rank, count, divisor=count))

    def recent_line(self) -> str:
        """Figures of this rank since the last call, in one line for the progress bar."""
        figures, self.recent = _means(_numbers(self.recent)), {}

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


# Values, and the rows [N] or [B] that count.
_Counted = tuple[torch.Tensor, torch.Tensor]


def _totals(figures: Mapping[str, _Counted]) -> dict[str, torch.Tensor]:
    """Sums and counts of figures."""
    totals: dict[str, torch.Tensor] = {}
    for name, (values, counted) in figures.items():
        # A mask: an index would wait for the device.
        rows = counted.unsqueeze(1).expand(-1, values[:1].numel())
        kept = torch.where(rows, values.reshape(rows.shape), 0)
        totals[name] = kept.sum(dtype=torch.float64)
        totals[_FIGURES[name]] = rows.sum(dtype=torch.float64)
    return totals


def _add(sums: dict[str, torch.Tensor | float], totals: Mapping[str, torch.Tensor]) -> None:
    for name, total in totals.items():
        sums[name] = sums.get(name, 0.0) + total


def _numbers(sums: dict[str, torch.Tensor | float]) -> dict[str, float]:
    """Read from the device."""
    return {name: float(value) for name, value in sums.items()}


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
