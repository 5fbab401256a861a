"""Does a model that was trained with DeNS use the forces that are encoded?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.encoding import draw_everywhere, noise_head, noise_with_and_without
from eqv2_plugin.doctor.examination import CannotRunError, Denoise, Examination, Outcome
from eqv2_plugin.inference.predictor import BatchPredictor

# The smallest noise and share of the papers' tables: every model with DeNS has seen the like. Only
# directions are compared, since a file does not say in which sigma its model counts.
_CORRUPTION = DenoisingConfig(probability=1.0, corruption_ratio=0.25, sigma=0.05, coefficient=0.0)
# Of the mean cosine between true and predicted noise: a model that ignores the forces has 0.
_USED = 0.1
_DRAWS = 8  # wanted, if time allows


def encoded_forces(exam: Examination) -> Outcome:
    """Cosine between true and predicted noise with encoded forces, and without.

    The forces are the model's own for the structures before they are corrupted.
    """
    denoise = exam.subject.denoise
    if denoise is None:
        raise CannotRunError("the model was not trained with DeNS")
    cost = 3 * exam.cost(exam.subject.predict, exam.structures)
    draws = exam.affordable(0.06, cost, _DRAWS)
    found = [denoise(exam.structures, seed) for seed in range(draws)]
    true, encoded, unencoded = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(true) == 0:
        raise CannotRunError("no free atom was drawn to be moved")
    cosines = [float(_cosines(true, noise).mean()) for noise in (encoded, unencoded)]
    used = cosines[0] - cosines[1] >= _USED
    text = (
        f"cosine of the noise {cosines[0]:.2f} with encoded forces, {cosines[1]:.2f} without; "
        f"{len(true)} atoms moved"
    )
    if not used:
        text += ": the forces are hardly used (see force_scale in docs/dens.md)"
    numbers = {"cosine_encoded": cosines[0], "cosine_unencoded": cosines[1]}
    return Verdict.GOOD if used else Verdict.LOOK, text, numbers


def denoiser(predictor: BatchPredictor) -> Denoise | None:
    """What `encoded_forces` asks of a model; None if it has no noise head."""
    model = predictor.unit.model.module
    if noise_head(model) is None:
        return None

    def denoise(
        structures: Sequence[Atoms], seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        forces = [prediction.forces for prediction in predictor(structures)]
        data = atomicdata_list_to_batch([predictor.data(atoms) for atoms in structures])
        data.forces = torch.as_tensor(np.concatenate(forces), dtype=data.pos.dtype)
        data.fixed = torch.as_tensor(np.concatenate([fixed_mask(a) for a in structures])).long()
        data.dataset_name = [predictor.task_name] * len(structures)
        corruption = draw_everywhere(_CORRUPTION, data, seed)
        device = next(model.parameters()).device
        noises = noise_with_and_without(model, data.to(device), corruption.to(device), _CORRUPTION)
        moved = corruption.atoms.numpy()
        encoded, unencoded = (noise.cpu().numpy()[moved] for noise in noises)
        return corruption.noise.numpy()[moved], encoded, unencoded

    return denoise


def _cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.maximum(norms, 1e-12)
