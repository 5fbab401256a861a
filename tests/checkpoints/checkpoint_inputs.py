"""Checkpoints of fairchem-core 1 that the tests read, and edited copies of them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.v1.file import V1File, take_apart

EMBEDDED = Path(__file__).parents[1] / "fixtures"
OC22 = EMBEDDED / "ckpt_ocp1_oc22_linref" / "checkpoint.pt"
DENS = EMBEDDED / "ckpt_hydra_dens_mptrj_best" / "checkpoint.pt"
PLAIN = EMBEDDED / "ckpt_ocp1_noprefix_modeldict" / "checkpoint.pt"


def checkpoint_cases() -> list[Path]:
    """Folders ``ckpt_*`` of this repository and of ``$EQV2_FIXTURES``.

    Raises:
        FileNotFoundError: one of the two has none; parametrised tests would pass unseen.
    """
    cases: dict[str, Path] = {}
    for folder in {EMBEDDED, Path(os.environ.get("EQV2_FIXTURES") or EMBEDDED)}:
        found = sorted(path.parent for path in folder.glob("ckpt_*/checkpoint.pt"))
        if not found:
            raise FileNotFoundError(f"no ckpt_*/checkpoint.pt in {folder}: check EQV2_FIXTURES")
        cases.update({path.name: path for path in found})
    return list(cases.values())


@cache
def _loaded(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def edited(source: Path, target: Path, change: Callable[[dict], object]) -> Path:
    """Write a copy of a checkpoint after ``change`` has edited it."""
    checkpoint = copy.deepcopy(_loaded(source))
    change(checkpoint)
    torch.save(checkpoint, target)
    return target


def taken_apart(path: Path, weights: str | None = None, **options: Any) -> V1File:
    return take_apart(read_checkpoint(path), path, weights, **options)


def with_training_state(checkpoint: dict) -> list[torch.Tensor]:
    """Make a stripped checkpoint one that a run can be resumed from; its EMA weights."""
    # Buffers of v1, and references that are not trained, are not averaged.
    buffers = ("SO3_", "mapping", "expand_index", "balance", "offset", "mat", "energy_lin_ref")
    state = checkpoint["state_dict"]
    trained = [key for key in state if not any(part in key for part in buffers)]
    shadow = [state[key] * 1.5 for key in trained]
    ema = {"decay": 0.999, "num_updates": None, "shadow_params": shadow, "collected_params": []}
    checkpoint.update(epoch=1.0, step=4, optimizer={"state": {}}, ema=ema)
    return shadow


class Expected:
    """What fairchem-core 1's calculator returned for the structures of one case."""

    def __init__(self, folder: Path) -> None:
        self.arrays = dict(np.load(folder / "expected.npz"))
        self.spread = json.loads((folder / "info.json").read_text())["gauge_spread_eV"]

    def structures(self) -> dict[str, Atoms]:
        """{index: structure}."""
        arrays = self.arrays
        return {
            i: Atoms(
                arrays[f"{i}/atomic_numbers"],
                positions=arrays[f"{i}/pos"],
                cell=arrays[f"{i}/cell"],
                pbc=arrays[f"{i}/pbc"],
            )
            for i in sorted({key.split("/")[0] for key in arrays})
        }

    def compare(self, index: str, atoms: Atoms) -> list[str]:
        """Check all properties that were stored; their names.

        The tolerance is five times the reference's own spread between calls, or 1e-5 of
        the largest value.
        """
        found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        if f"{index}/stress" in self.arrays:
            found["stress"] = atoms.get_stress(voigt=False)
        for name, ours in found.items():
            theirs = self.arrays[f"{index}/{name}"]
            tolerance = max(5 * self.spread[name], 1e-5 * np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)
        return list(found)
