"""Our losses with per_batch normalisation are those of the published DeNS code.

The published code has one vector prediction, whose target is noise on corrupted atoms and force
on the others; here both heads predict the same vectors.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dens_inputs import config, labelled_batch, tasks
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss

from eqv2_plugin.dens.corruption import Corruption, corrupt_batch

FOLDER = Path(__file__).parents[1] / "fixtures" / "dens_loss"
REFERENCE = json.loads((FOLDER / "losses.json").read_text())
CASES = REFERENCE["cases"]
ARRAYS = dict(np.load(FOLDER / "data.npz"))
SIGMA = REFERENCE["normalizers"]["denoising_pos_target"][1]
# Relative; the reference was computed in float32.
TOLERANCE = 1e-5


def published_batch(fixed: torch.Tensor):
    data = labelled_batch(ARRAYS["natoms"].tolist(), fixed)
    for name in ("pos", "forces", "energy"):
        data[name] = torch.from_numpy(ARRAYS[name]).double()
    return data


def our_losses(fixed: torch.Tensor, noise_mask: torch.Tensor, noise_vec: torch.Tensor):
    coefficients = dict(REFERENCE["coefficients"])
    coefficients["noise_forces"] = coefficients.pop("denoising")
    normalizers = {**REFERENCE["normalizers"], "noise_forces": (0.0, 1.0)}
    data = published_batch(fixed)
    atoms = noise_mask & (fixed == 0)
    structures = torch.zeros(len(data.natoms), dtype=torch.bool)
    structures[data.batch[atoms]] = True
    noise = noise_vec.double() / SIGMA * atoms.unsqueeze(1)
    corruption = Corruption(structures, atoms, noise, SIGMA * structures[data.batch].double())
    vectors = torch.from_numpy(ARRAYS["pred_forces"]).double()
    predictions = {"energy": {"energy": torch.from_numpy(ARRAYS["pred_energy"]).double()}}
    predictions |= {name: {name: vectors} for name in ("forces", "noise_forces")}
    losses = compute_loss(
        tasks("per_batch", coefficients, normalizers),
        predictions,
        corrupt_batch(data, corruption, config(sigma=SIGMA)),
    )
    return {name: float(loss) for name, loss in losses.items()}


def without_target(name: str, noise_mask: torch.Tensor) -> torch.Tensor:
    """Fixed atoms that have no target of either kind in a published case."""
    fixed = torch.from_numpy(ARRAYS["fixed"]).long()
    if "free=False" in name:
        # Fixed atoms are trained on like free ones.
        return torch.zeros_like(fixed)
    if "all_atoms=True" in name:
        # Fixed atoms are denoised like free ones, but their forces are not trained on.
        return fixed * (~noise_mask).long()
    return fixed


@pytest.mark.parametrize("name", [name for name in CASES if name != "plain_s2ef"])
def test_losses_of_a_corrupted_batch_are_the_published_ones(name):
    index = CASES[name]["index"]
    # Without a mask all atoms are corrupted.
    mask = torch.from_numpy(ARRAYS.get(f"{index}/noise_mask", np.ones(25, dtype=bool)))
    noise_vec = torch.from_numpy(ARRAYS[f"{index}/noise_vec"])
    losses = our_losses(without_target(name, mask), mask, noise_vec)
    assert losses["energy"] == pytest.approx(CASES[name]["energy_term"], rel=TOLERANCE)
    vectors = losses["forces"] + losses["noise_forces"]
    assert vectors == pytest.approx(CASES[name]["denoise_term"], rel=TOLERANCE)
    assert sum(losses.values()) == pytest.approx(CASES[name]["loss_authors"], rel=TOLERANCE)


def test_losses_without_corruption_are_the_published_ones():
    fixed = torch.from_numpy(ARRAYS["fixed"]).long()
    none = torch.zeros(len(fixed), dtype=torch.bool)
    losses = our_losses(fixed, none, torch.zeros(len(fixed), 3))
    assert losses["noise_forces"] == 0
    assert sum(losses.values()) == pytest.approx(CASES["plain_s2ef"]["loss_authors"], rel=TOLERANCE)
