"""How a molecule is simulated, and how many times at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ase import units

from eqv2_plugin.common.options import did_you_mean, make_options
from eqv2_plugin.tasks.simulation.thermostats import THERMOSTATS, Thermostat

_WHOLE = 1e-6


@dataclass(frozen=True)
class SimulationSettings:
    """Of all replicas; the defaults are those of the published simulations but the thermostat."""

    # "chain", ASE's Nosé-Hoover chain, or "published", the single variable of the published
    # simulations (`thermostats`).
    thermostat: str = "chain"
    temperature: float = 500.0  # K
    timestep: float = 0.5  # fs
    # fs; ASE advises a hundred time steps, the published simulations had 20.
    thermostat_time: float = 50.0
    picoseconds: float = 300.0  # of each replica
    save_every: int = 100  # steps between frames
    replicas: int = 5  # how many
    replicas_per_batch: int | None = None  # that share a model call; None for all
    seed: int = 123  # of starts and velocities

    def __post_init__(self) -> None:
        if self.thermostat not in THERMOSTATS:
            hint = did_you_mean(self.thermostat, THERMOSTATS)
            raise ValueError(f"there is no thermostat {self.thermostat!r}{hint}")
        for name in ("temperature", "timestep", "thermostat_time", "picoseconds"):
            if not 0 < getattr(self, name) < math.inf:
                value = getattr(self, name)
                raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
        for name in ("save_every", "replicas", "replicas_per_batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")
        frames = self.picoseconds / self.interval
        if abs(frames - round(frames)) > _WHOLE * frames or round(frames) < 1:
            raise ValueError(
                f"picoseconds={self.picoseconds:g} is no whole number of frames, which are "
                f"{self.interval:g} ps apart (save_every={self.save_every}, "
                f"timestep={self.timestep:g} fs)"
            )

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> SimulationSettings:
        """From a config."""
        return make_options(cls, options, "a simulation")

    @property
    def interval(self) -> float:
        """ps between frames."""
        return 1e-3 * self.timestep * self.save_every

    @property
    def frames(self) -> int:
        """Of each replica, with the start."""
        return round(self.picoseconds / self.interval) + 1

    def batches(self) -> list[range]:
        """Replicas that share a model call. One batch is simulated by one process."""
        size = self.replicas_per_batch or self.replicas
        starts = range(0, self.replicas, size)
        return [range(start, min(start + size, self.replicas)) for start in starts]

    def make_thermostat(self, masses: torch.Tensor) -> Thermostat:
        """For atoms of these masses ([N] u, float64)."""
        return THERMOSTATS[self.thermostat](
            masses[:, None],
            self.temperature,
            self.timestep * units.fs,
            self.thermostat_time * units.fs,
        )
