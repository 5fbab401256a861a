"""The molecule that is simulated: where replicas start, and what they are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.md.velocitydistribution import thermalize_momenta

from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.data.structures import Structures, open_structures
from eqv2_plugin.tasks.simulation.settings import SimulationSettings
from eqv2_plugin.tasks.splits import fingerprint, split_configs


@dataclass(frozen=True)
class Molecule:
    """A molecule and its data.

    Attributes:
        name: of the molecule.
        atoms: the first frame of ``starts``, without labels.
        starts: frames that replicas may start from.
        reference: all frames that replicas are compared with, by split.
        fingerprints: of the splits; they tell these data from others.
    """

    name: str
    atoms: Atoms
    starts: Structures
    reference: Mapping[str, Structures]
    fingerprints: Mapping[str, str]

    def start(self, settings: SimulationSettings, replica: int) -> Atoms:
        """A frame and Maxwell-Boltzmann momenta, drawn from the seed and the replica's number.

        Centre of mass and orientation are not held, as in the published simulations.

        Raises:
            ValueError: another molecule than in the first frame.
        """
        rng = np.random.default_rng(settings.seed)
        index = int(rng.permutation(len(self.starts))[replica])
        atoms = Atoms(self.atoms.numbers, self._positions(self.starts, index))
        rng = np.random.default_rng((settings.seed, replica))
        thermalize_momenta(atoms, settings.temperature, rng=rng)
        return atoms

    def reference_positions(self) -> np.ndarray:
        """[frames, atoms, 3] Å of the whole reference.

        Raises:
            ValueError: another molecule among them.
        """
        found = [
            self._positions(frames, i)
            for frames in self.reference.values()
            for i in range(len(frames))
        ]
        return np.array(found)

    def _positions(self, frames: Structures, index: int) -> np.ndarray:
        atoms = frames[index]
        if not np.array_equal(atoms.numbers, self.atoms.numbers):
            raise ValueError(
                f"{frames.name}: structure {index} is {atoms.get_chemical_formula()}, or has its "
                f"atoms in another order than the first, {self.atoms.get_chemical_formula()}: a "
                "simulation needs frames of one molecule"
            )
        return atoms.positions


def open_molecule(data: Mapping[str, Any], settings: SimulationSettings) -> Molecule:
    """Open the data of a config.

    Args:
        data: ``molecule`` (its name), ``atoms`` (how many it has), ``start`` (split that replicas
            start from), and what `split_configs` takes; all splits together are the reference.
        settings: of the simulation.

    Raises:
        FileNotFoundError: no data.
        ValueError: data that cannot be read, are periodic, of another molecule or with fixed
            atoms, or fewer frames to start from than replicas.
    """
    configs = split_configs(data)
    if data["start"] not in configs:
        raise ValueError(f"start={data['start']} is none of the splits {', '.join(configs)}")
    try:
        splits = {split: open_structures(config, split) for split, config in configs.items()}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. {data['how_to_get']}") from error
    starts = splits[data["start"]]
    if settings.replicas > len(starts):
        raise ValueError(
            f"replicas={settings.replicas} need as many frames to start from, but the split "
            f"{starts.name} has {len(starts)}"
        )
    atoms = starts[0]
    if atoms.pbc.any():
        raise ValueError(f"{starts.name} is periodic: simulations are for molecules")
    if fixed_mask(atoms).any():
        raise ValueError(f"{starts.name} has fixed atoms: all atoms of a simulation move")
    if len(atoms) != data["atoms"]:
        raise ValueError(
            f"the data hold {atoms.get_chemical_formula()} with {len(atoms)} atoms, but "
            f"{data['molecule']} has {data['atoms']}: give the data of molecule={data['molecule']}"
        )
    bare = Atoms(atoms.numbers, atoms.positions)
    prints = {split: fingerprint(configs[split], found) for split, found in splits.items()}
    return Molecule(str(data["molecule"]), bare, starts, splits, prints)
