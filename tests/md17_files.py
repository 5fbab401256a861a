"""A file in the layout of MD17's original ones, of which none is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import units

from eqv2_plugin.data.sample import load_sample

KCAL = units.kcal / units.mol
FRAMES = 1100


def write_file(path: Path, unit: float = KCAL, revised: bool = False, **changes) -> Path:
    """Frames of the embedded sample as sgdml.org has them."""
    frames = [a for s in ("train", "val", "test") for a in load_sample("rmd17_ethanol", s)][:FRAMES]
    energies = np.array([a.calc.results["energy"] - 4209.0 for a in frames]) / unit
    arrays = {
        "nuclear_charges" if revised else "z": frames[0].numbers.astype(np.uint8),
        "coords" if revised else "R": np.array([a.positions for a in frames]),
        "energies" if revised else "E": energies if revised else energies[:, None],
        "forces" if revised else "F": np.array([a.calc.results["forces"] for a in frames]) / unit,
    }
    np.savez(path, **{k: v for k, v in {**arrays, **changes}.items() if v is not None})
    return path
