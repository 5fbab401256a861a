"""Replicas side by side: one model call per step for all that still move."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from eqv2_plugin.inference.replicas import PredictReplicas
from eqv2_plugin.inference.resilient import STRUCTURE_FAULTS
from eqv2_plugin.tasks.simulation.thermostats import State, Thermostat

# K; a replica that leaves it has exploded, or stands still.
COLDEST, HOTTEST = 0.1, 1e5


@dataclass(frozen=True)
class End:
    """Why a replica ended early, and after how many steps: its frames are those before."""

    step: int
    reason: str


@dataclass(frozen=True)
class Frame:
    """R replicas of N atoms at one time; float64. All that a simulation needs to go on."""

    step: int  # taken so far
    positions: np.ndarray  # [R, N, 3] Å, in no box
    momenta: np.ndarray  # [R, N, 3] sqrt(u eV)
    eta: np.ndarray  # [R, M]; see `State`
    rates: np.ndarray
    energies: np.ndarray  # [R] eV, potential
    forces: np.ndarray  # [R, N, 3] eV/Å
    # Replicas (from 0) that have ended, whose numbers are those before the step.
    ended: Mapping[int, End] = field(default_factory=dict)

    def state(self, replicas: list[int], device: torch.device) -> State:
        """Of some replicas, on a device."""
        arrays = (self.positions, self.momenta, self.eta, self.rates)
        return State(*(torch.from_numpy(array[replicas]).to(device) for array in arrays))


class Dynamics:
    """Steps of all replicas, from one saved frame to the next.

    A replica ends where its temperature leaves 0.1 to 1e5 K, a prediction is not finite, or the
    model refuses it. The others go on with the same numbers: it stands still among them up to the
    next frame, and is left out of later model calls. ``model`` gives the predictor of so many
    replicas.
    """

    def __init__(self, thermostat: Thermostat, model: Callable[[int], PredictReplicas]) -> None:
        self.thermostat = thermostat
        self._model = model
        self._device = thermostat.masses.device

    def start(self, positions: np.ndarray, momenta: np.ndarray) -> Frame:
        """The frame before the first step; both are [R, N, 3].

        Raises:
            ValueError: the model refuses a start, or its prediction is not finite.
        """
        where = torch.from_numpy(positions).to(self._device)
        energies, forces = (one.cpu().numpy() for one in self._model(len(positions))(where))
        if not np.isfinite(energies).all() or not np.isfinite(forces).all():
            raise ValueError("the model's prediction is not finite where the simulation starts")
        rest = np.zeros((len(positions), self.thermostat.variables))
        return Frame(0, positions, momenta, rest, rest, energies, forces)

    def advance(self, frame: Frame, steps: int) -> Frame:
        """The frame that so many steps lead to."""
        moving = [r for r in range(len(frame.energies)) if r not in frame.ended]
        run = _Run(frame, moving, self._device)
        for step in range(frame.step + 1, frame.step + steps + 1):
            self._step(run, step)
        return run.read(frame, frame.step + steps)

    def _step(self, run: _Run, step: int) -> None:
        trial = self.thermostat.before(run.state, run.forces)
        energies, forces, trial = self._predict(run, trial, step)
        new = self.thermostat.after(trial, forces)
        kelvin = self.thermostat.temperatures(new)
        finite = torch.isfinite(energies) & torch.isfinite(forces).all(2).all(1)
        good = finite & (kelvin >= COLDEST) & (kelvin <= HOTTEST)
        run.keep(step, finite, good, kelvin, new, energies, forces)

    def _predict(
        self, run: _Run, trial: State, step: int
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        """Predictions; replicas that have ended, or that the model refuses, have not moved."""
        while True:
            trial = trial.where(run.alive, run.state)
            try:
                return *self._model(len(run.moving))(trial.positions), trial
            except STRUCTURE_FAULTS as error:
                if not self._find_refused(run, trial, step):
                    raise RuntimeError(
                        f"the model refuses the replicas of step {step} together, but none alone: "
                        f"{error}"
                    ) from error

    def _find_refused(self, run: _Run, trial: State, step: int) -> bool:
        found = False
        for index in run.alive.nonzero()[:, 0].tolist():
            try:
                self._model(1)(trial.positions[index : index + 1])
            except STRUCTURE_FAULTS as error:
                run.alive[index] = False
                run.refused[index] = End(step, f"the model refuses it: {error}")
                found = True
        return found


class _Run:
    """The moving replicas on their device, up to the next frame."""

    def __init__(self, frame: Frame, moving: list[int], device: torch.device) -> None:
        self.moving = moving
        self.state = frame.state(moving, device)
        self.energies = torch.from_numpy(frame.energies[moving]).to(device)
        self.forces = torch.from_numpy(frame.forces[moving]).to(device)
        self.alive = torch.ones(len(moving), dtype=torch.bool, device=device)
        self.ends = torch.zeros(len(moving), dtype=torch.long, device=device)
        self.kelvin = torch.zeros_like(self.energies)
        self.finite = torch.ones_like(self.alive)
        self.refused: dict[int, End] = {}

    def keep(
        self,
        step: int,
        finite: torch.Tensor,
        good: torch.Tensor,
        kelvin: torch.Tensor,
        new: State,
        energies: torch.Tensor,
        forces: torch.Tensor,
    ) -> None:
        """Take the step for those that are alive and good; the alive others end here."""
        self.ends = torch.where(self.alive & ~good, step, self.ends)
        self.kelvin = torch.where(self.alive, kelvin, self.kelvin)
        self.finite = torch.where(self.alive, finite, self.finite)
        self.alive = self.alive & good
        self.state = new.where(self.alive, self.state)
        self.energies = torch.where(self.alive, energies, self.energies)
        self.forces = torch.where(self.alive[:, None, None], forces, self.forces)

    def read(self, before: Frame, step: int) -> Frame:
        """Everything back from the device: once per frame."""
        ended = dict(before.ended)
        ends, kelvin, finite = (one.tolist() for one in (self.ends, self.kelvin, self.finite))
        for index, replica in enumerate(self.moving):
            if index in self.refused:
                ended[replica] = self.refused[index]
            elif ends[index]:
                ended[replica] = End(ends[index], _reason(finite[index], kelvin[index]))
        new: dict[str, np.ndarray] = {}
        for name in ("positions", "momenta", "eta", "rates", "energies", "forces"):
            source = self if name in ("energies", "forces") else self.state
            new[name] = getattr(before, name).copy()
            new[name][self.moving] = getattr(source, name).cpu().numpy()
        return Frame(step, **new, ended=ended)


def _reason(finite: bool, kelvin: float) -> str:
    if finite:
        return f"its temperature is {kelvin:.3g} K, outside {COLDEST:g} to {HOTTEST:g} K"
    return "the predicted energy or forces are not finite"
