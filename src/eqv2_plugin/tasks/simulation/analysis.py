"""What the frames of a replica say: stability, h(r), temperature and drift."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms

from eqv2_plugin.tasks.simulation.dynamics import End, Frame
from eqv2_plugin.tasks.simulation.frames import of_replica
from eqv2_plugin.tasks.simulation.metrics import (
    bond_deviation,
    counted_frames,
    distance_counts,
    distance_density,
    find_bonds,
    hr_error,
    pair_distances,
    stability_ps,
)
from eqv2_plugin.tasks.simulation.settings import SimulationSettings
from eqv2_plugin.tasks.simulation.thermostats import Thermostat


@dataclass(frozen=True)
class Reference:
    """A DFT trajectory.

    Attributes:
        positions: [frames, atoms, 3] Å.
        density: [bins] h(r), 1/Å.
    """

    positions: np.ndarray
    density: np.ndarray

    @classmethod
    def of(cls, positions: np.ndarray) -> Reference:
        return cls(positions, distance_density(distance_counts(positions)))

    def sampling_error(self, frames: int) -> float:
        """The h(r) error of so many frames of its own, drawn at random: what no model can beat.

        Frames of a simulation follow each other, and tell less than these.
        """
        count = min(frames, len(self.positions))
        some = np.random.default_rng(0).choice(len(self.positions), count, replace=False)
        return hr_error(distance_density(distance_counts(self.positions[some])), self.density)


@dataclass(frozen=True)
class Replica:
    """Of one replica. Temperature, drift and h(r) are of the frames up to the first broken bond.

    Attributes:
        number: from 0.
        end: why it ended early, or None.
        stability_ps: see `metrics.stability_ps`.
        hr_error: see `metrics.hr_error`.
        mean_temperature, std_temperature: K, over frames.
        drift: meV per atom and ps, slope of the conserved energy.
        times: [frames] ps.
        deviation: [frames] Å, largest of a bond.
        temperature: [frames] K.
        conserved: [frames] meV per atom, potential, kinetic and thermostat's energy, from 0.
        density: [bins] h(r), 1/Å.
    """

    number: int
    end: End | None
    stability_ps: float
    hr_error: float
    mean_temperature: float
    std_temperature: float
    drift: float
    times: np.ndarray
    deviation: np.ndarray
    temperature: np.ndarray
    conserved: np.ndarray
    density: np.ndarray


def analyse(
    frames: Sequence[Frame],
    index: int,
    number: int,
    numbers: np.ndarray,
    reference: Reference,
    settings: SimulationSettings,
) -> Replica:
    """One replica of a batch.

    Args:
        frames: of the batch, all.
        index: of the replica within the batch.
        number: of it among all.
        numbers: [atoms] atomic numbers.
        reference, settings: what it is compared with, and how it was made.
    """
    lived = of_replica(frames, index)
    positions = np.array([frame.positions[index] for frame in lived])
    first = Atoms(numbers, positions[0])
    bonds = find_bonds(first)
    means = pair_distances(reference.positions, bonds).mean(0)
    deviation = bond_deviation(positions, bonds, means)
    counted = counted_frames(deviation)
    density = distance_density(distance_counts(positions[:counted]))
    thermostat = settings.make_thermostat(torch.from_numpy(first.get_masses()))
    times = np.array([frame.step for frame in lived]) * settings.timestep * 1e-3
    temperature, conserved = _along(lived, index, thermostat)
    relative = 1e3 * (conserved - conserved[0]) / len(numbers)
    slope = np.polyfit(times[:counted], relative[:counted], 1)[0] if counted > 1 else np.nan
    return Replica(
        number=number,
        end=frames[-1].ended.get(index),
        stability_ps=stability_ps(deviation, settings.interval),
        hr_error=hr_error(density, reference.density),
        mean_temperature=float(temperature[:counted].mean()),
        std_temperature=float(temperature[:counted].std()),
        drift=float(slope),
        times=times,
        deviation=deviation,
        temperature=temperature,
        conserved=relative,
        density=density,
    )


def _along(
    frames: Sequence[Frame], index: int, thermostat: Thermostat
) -> tuple[np.ndarray, np.ndarray]:
    """[frames] K and [frames] eV: temperature and conserved energy."""
    # Frames in the place of replicas.
    state = stacked(frames, index).state(list(range(len(frames))), torch.device("cpu"))
    energies = torch.tensor([frame.energies[index] for frame in frames])
    conserved = energies + thermostat.kinetic_energy(state) + thermostat.energy(state)
    return thermostat.temperatures(state).numpy(), conserved.numpy()


def stacked(frames: Sequence[Frame], index: int) -> Frame:
    """One replica at all times, as if its frames were replicas."""
    names = [f.name for f in dataclasses.fields(Frame) if f.name not in ("step", "ended")]
    arrays = {name: np.array([getattr(frame, name)[index] for frame in frames]) for name in names}
    return Frame(frames[-1].step, **arrays)
