"""The data set format ``md17_npz``: one molecule's trajectory as it is published (sgdml.org)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.common.registry import registry
from fairchem.core.datasets.ase_datasets import AseAtomsDataset

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.data.ase_dataset import CheckedAtoms
from eqv2_plugin.data.inspection.forces import HOT

# Names of the arrays in original and in revised (rMD17) files.
_NAMES = {"numbers": ("z", "nuclear_charges"), "positions": ("R", "coords"),
          "energies": ("E", "energies"), "forces": ("F", "forces")}  # fmt: skip
# Frames of the original files, whose permutation the authors of Equiformer published.
FRAMES = {
    "aspirin": 211_762, "benzene": 627_983, "ethanol": 555_092, "malonaldehyde": 993_237,
    "naphthalene": 326_250, "salicylic": 320_231, "toluene": 442_790, "uracil": 133_770,
}  # fmt: skip
UNITS = {"kcal/mol": units.kcal / units.mol, "eV": 1.0}
_TRAIN, _VAL, _SEED = 950, 50, 1
PARTS = ("train", "val", "test")
# eV/Å, median over atoms: 0.9 to 2.5 in rMD17 at 500 K; eV taken for kcal/mol make at most 0.11.
_COLD = 0.3
_LOOKED_AT = 1000


class Trajectory(NamedTuple):
    """Arrays of a file: numbers [n], positions [frames, n, 3] Å, energies [frames] eV, forces
    [frames, n, 3] eV/Å; float64, but positions and forces as they are stored."""

    numbers: np.ndarray
    positions: np.ndarray
    energies: np.ndarray
    forces: np.ndarray


class _Frames(AseAtomsDataset):
    """The reader itself, without checks of labels."""

    def _load_dataset_get_ids(self, config: dict[str, Any]) -> np.ndarray:
        path, part = Path(config["src"]).expanduser(), config.get("part")
        if part not in PARTS:
            raise ValueError(
                f"there is no part {part!r} of a trajectory{did_you_mean(part, PARTS)}"
            )
        self.trajectory = read_trajectory(path, config.get("unit", "kcal/mol"))
        found = split_frames(
            path, len(self.trajectory.positions), config.get("molecule"), config.get("indices")
        )
        # In float64: of total energies, float32 keeps 1 meV.
        self.mean_energy = float(self.trajectory.energies[found["train"]].mean())
        return found[part]

    def get_atoms(self, idx: int) -> Atoms:
        frame, found = int(self.ids[idx]), self.trajectory
        atoms = Atoms(found.numbers, found.positions[frame].astype(np.float64))
        atoms.info = {"sid": Path(self.config["src"]).stem, "fid": frame}
        energy = float(found.energies[frame]) - self.mean_energy
        forces = found.forces[frame].astype(np.float64)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        return atoms


@registry.register_dataset("md17_npz")
class MD17Dataset(CheckedAtoms, _Frames):
    """Frames of one molecule, energies in eV relative to the mean of the training set.

    Args:
        config: ``src``: the file (.npz), original or revised;
            ``part``: "train" (950 frames), "val" (50) or "test" (the rest);
            ``unit``: "kcal/mol", as files are published, or "eV"; of energies, and per Å of forces;
            ``molecule``: a name in `FRAMES`, whose published permutation splits an original file;
            ``indices``: a file (.npz) with ``idx_train``, ``idx_val`` and ``idx_test`` instead.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file of another kind, in another unit than stated, or whose frames are not
            those that the published permutation is for.
    """


def training_energy_std(
    root: str | None, file: str, reader: Mapping[str, Any], how_to_get: str
) -> float:
    """Standard deviation (n - 1) of the training energies in eV, the scale of what is learnt.

    Args:
        root: folder of the file, of which None is refused.
        file: its name.
        reader: options of `MD17Dataset` but ``src`` and ``part``.
        how_to_get: said where it is missing.

    Raises:
        FileNotFoundError, ValueError: see `MD17Dataset`.
    """
    if root is None:
        raise FileNotFoundError(f"no data: data_root=FOLDER must be given. {how_to_get}")
    path = Path(root).expanduser() / file
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}. {how_to_get}")
    found = read_trajectory(path, reader["unit"])
    parts = split_frames(path, len(found.positions), reader["molecule"], reader["indices"])
    return float(found.energies[parts["train"]].std(ddof=1))


def read_trajectory(path: Path, unit: str) -> Trajectory:
    """Read a file.

    Args:
        path: the file.
        unit: a key of `UNITS`.

    Raises:
        FileNotFoundError, ValueError: see `MD17Dataset`.
    """
    if unit not in UNITS:
        raise ValueError(f"there is no unit {unit!r}{did_you_mean(unit, UNITS)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    status = path.stat()
    return _read(path, unit, status.st_mtime_ns, status.st_size)


# The three parts are in one file.
@lru_cache(maxsize=1)
def _read(path: Path, unit: str, *_: int) -> Trajectory:
    stored = read_npz(path)
    arrays = {}
    for key, names in _NAMES.items():
        name = next((one for one in names if one in stored), None)
        if name is None:
            raise ValueError(f"{path} is no file of MD17: it has no array {' or '.join(names)}")
        arrays[key] = stored[name]
    factor, shape = UNITS[unit], arrays["positions"].shape
    numbers, energies = arrays["numbers"].astype(int), arrays["energies"].astype(float).ravel()
    forces = arrays["forces"] * factor
    if not len(shape) == 3 == shape[-1] or forces.shape != shape or numbers.shape != shape[1:2]:
        raise ValueError(f"{path} is no file of MD17: positions, forces and elements do not match")
    if len(energies) != shape[0]:
        raise ValueError(f"{path} has {len(energies)} energies for {shape[0]} frames")
    _check_unit(path, unit, forces)
    return Trajectory(numbers, arrays["positions"], energies * factor, forces)


def _check_unit(path: Path, unit: str, forces: np.ndarray) -> None:
    """Forces tell: at these temperatures they are alike in all molecules."""
    some = forces[:: max(1, len(forces) // _LOOKED_AT)]
    median = float(np.median(np.linalg.norm(some, axis=-1)))
    other = next(one for one in UNITS if one != unit)
    if not _COLD < median < HOT:
        raise ValueError(
            f"{path}: the median force on an atom would be {median:.3g} eV/Å if the file is in "
            f"{unit}, as stated; a molecule at 500 K has about 1.5. Is it in {other}? Set "
            f"unit={other}, or use the published file"
        )


def split_frames(
    path: Path, count: int, molecule: str | None, indices: str | None
) -> dict[str, np.ndarray]:
    """{part: numbers of its frames}: those of a file, or the published ones (950, 50, the rest).

    Args:
        path: of the trajectory, for errors.
        count: of its frames.
        molecule, indices: see `MD17Dataset`.

    Raises:
        FileNotFoundError, ValueError: see `MD17Dataset`.
    """
    if indices is not None:
        return _indices(Path(indices).expanduser(), count)
    if molecule not in FRAMES:
        raise ValueError(
            f"there is no molecule {molecule!r} in MD17{did_you_mean(molecule, FRAMES)}"
        )
    if count != FRAMES[molecule]:
        raise ValueError(
            f"{path} has {count:,} frames, the original file of {molecule} {FRAMES[molecule]:,}: "
            "the published indices of training, validation and test frames are not for this file. "
            "Use the original one, or give indices=FILE.npz with idx_train, idx_val and idx_test"
        )
    order = np.random.default_rng(_SEED).permutation(count)
    return dict(zip(PARTS, np.split(order, [_TRAIN, _TRAIN + _VAL]), strict=True))


def _indices(path: Path, count: int) -> dict[str, np.ndarray]:
    stored = read_npz(path)
    if missing := [f"idx_{part}" for part in PARTS if f"idx_{part}" not in stored]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}")
    found = {part: stored[f"idx_{part}"].astype(int).ravel() for part in PARTS}
    every = np.concatenate(list(found.values()))
    if len(every) and not (every.min() >= 0 and every.max() < count):
        raise ValueError(f"{path} names frames that a trajectory of {count:,} frames does not have")
    if len(np.unique(every)) != len(every):
        raise ValueError(f"{path} names frames more than once: parts must not share any")
    return found
