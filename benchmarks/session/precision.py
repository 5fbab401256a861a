"""What TF32 and bfloat16 cost on the trained model that the sample recipe left.

Energies, forces and relaxed energies against float64 with the same weights.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import torch
from ase import Atoms
from session.models import precision
from session.setting import Jobs, Setting

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import BatchPredictor, Prediction, choose_task, open_unit
from eqv2_plugin.inference.settings import RelaxationSettings

_NAMES = ("fp32", "tf32", "bf16")


def jobs(setting: Setting) -> Jobs:
    """One row per precision: single points, and relaxations of the first frames.

    Raises:
        FileNotFoundError: the recipe has not run.
    """
    if not setting.recipe_checkpoint.exists():
        raise FileNotFoundError("the part recipe has to come first: it trains the model")
    on = _On(setting)
    for name in _NAMES if setting.device == "cuda" else ("fp32", "bf16"):
        yield f"{name}, energies and forces", partial(on.errors, name)
        yield f"{name}, relaxed energies", partial(on.relaxed, name)


class _On:
    """The model in both dtypes, and its frames."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.count, self.steps = (2, 2) if setting.tiny else (32, 20)

    @cache  # noqa: B019 lives as long as the process
    def predictor(self, dtype: torch.dtype) -> BatchPredictor:
        unit = open_unit(self.setting.recipe_checkpoint, self.setting.device, dtype)
        return BatchPredictor(unit, choose_task(unit, None))

    @cache  # noqa: B019
    def frames(self) -> list[Atoms]:
        found = load_sample("oc20_sample", "train")
        return [found[i * len(found) // self.count] for i in range(self.count)]

    def predict(self, name: str, structures: list[Atoms]) -> list[Prediction]:
        dtype = torch.float64 if name == "float64" else torch.float32
        predictor = self.predictor(dtype)
        # fairchem sets TF32 in each call, as the settings of the unit say.
        predictor.unit.inference_settings.tf32 = name == "tf32"
        with precision(name, self.setting.device):
            return predictor(structures)

    @cache  # noqa: B019
    def single_points(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Energies per atom, and forces, of all frames."""
        found = self.predict(name, self.frames())
        energies = [p.energy / len(p.forces) for p in found]
        return np.array(energies), np.concatenate([p.forces for p in found])

    def errors(self, name: str) -> dict[str, Any]:
        (energies, forces), (exact_energies, exact) = map(self.single_points, (name, "float64"))
        gaps = 1e3 * np.abs(energies - exact_energies)
        lengths = 1e3 * np.linalg.norm(forces - exact, axis=1)
        return {
            "energy, mean meV/atom": float(gaps.mean()),
            "energy, largest": float(gaps.max()),
            "force, mean meV/Å": float(lengths.mean()),
            "force, largest": float(lengths.max()),
            "mean force of the model": float(1e3 * np.linalg.norm(exact, axis=1).mean()),
        }

    @cache  # noqa: B019
    def relaxations(self, name: str) -> dict[str, tuple[float, np.ndarray]]:
        settings = RelaxationSettings(fmax=1e-6, steps=self.steps, maxstep=0.04)
        job = [(str(i), atoms.copy()) for i, atoms in enumerate(self.frames())]
        done = relax_many(
            job, partial(self.predict, name), settings, batch=BatchLimit(structures=32)
        )
        return {r.id: (r.energy, r.atoms.positions) for r in done}

    def relaxed(self, name: str) -> dict[str, Any]:
        mine, exact = self.relaxations(name), self.relaxations("float64")
        gaps = [1e3 * abs(mine[key][0] - exact[key][0]) for key in exact]
        apart = [np.linalg.norm(mine[key][1] - exact[key][1], axis=1).max() for key in exact]
        return {
            "relaxed energy, mean meV": float(np.mean(gaps)),
            "relaxed energy, largest": float(np.max(gaps)),
            "apart, mean Å": float(np.mean(apart)),
            "apart, largest": float(np.max(apart)),
        }
