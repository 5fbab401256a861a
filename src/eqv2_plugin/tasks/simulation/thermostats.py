"""Nosé-Hoover dynamics of many replicas of one molecule, stepped from outside.

All is pure functions of float64 tensors on one device; nothing is read back from it. ASE's units:
Å, eV, u, and Å sqrt(u/eV) for times.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from ase import units

# Fourth-order factorisation into three steps (H. Yoshida, Phys. Lett. A 150, 262, 1990).
_OUTER = 1 / (2 - 2 ** (1 / 3))
_YOSHIDA = (_OUTER, 1 - 2 * _OUTER, _OUTER)
_LINKS = 3


@dataclass(frozen=True)
class State:
    """R replicas of N atoms, with M variables of each one's thermostat."""

    positions: torch.Tensor  # [R, N, 3] Å
    momenta: torch.Tensor  # [R, N, 3] sqrt(u eV)
    eta: torch.Tensor  # [R, M] the thermostat's positions
    rates: torch.Tensor  # [R, M] their time derivatives

    def where(self, chosen: torch.Tensor, other: State) -> State:
        """This state for the chosen replicas ([R] bool), the other one for the rest."""
        return State(
            torch.where(chosen[:, None, None], self.positions, other.positions),
            torch.where(chosen[:, None, None], self.momenta, other.momenta),
            torch.where(chosen[:, None], self.eta, other.eta),
            torch.where(chosen[:, None], self.rates, other.rates),
        )


@dataclass(frozen=True)
class Thermostat(ABC):
    """One step is `before`, then the forces at the new positions, then `after`.

    All 3 N coordinates count: nothing holds the centre of mass or the orientation.
    """

    masses: torch.Tensor  # [N, 1] u
    temperature: float  # K
    timestep: float  # in ASE's unit of time
    period: float  # of the thermostat, likewise

    variables = 1

    def start(self, positions: torch.Tensor, momenta: torch.Tensor) -> State:
        """Replicas whose thermostats have not acted yet."""
        rest = positions.new_zeros(len(positions), self.variables)
        return State(positions, momenta, rest, rest)

    @abstractmethod
    def before(self, state: State, forces: torch.Tensor) -> State:
        """Up to the new positions; ``forces`` ([R, N, 3] eV/Å) are those of the old ones."""

    @abstractmethod
    def after(self, state: State, forces: torch.Tensor) -> State:
        """The rest of the step; ``forces`` are those of the new positions."""

    @abstractmethod
    def energy(self, state: State) -> torch.Tensor:
        """[R] eV, which together with potential and kinetic energy is conserved."""

    def kinetic_energy(self, state: State) -> torch.Tensor:
        """[R] eV."""
        return (state.momenta**2 / self.masses).sum((1, 2)) / 2

    def temperatures(self, state: State) -> torch.Tensor:
        """[R] K."""
        return self.kinetic_energy(state) / (1.5 * len(self.masses) * units.kB)

    @property
    def _kt(self) -> float:
        return units.kB * self.temperature

    @property
    def _kt_all(self) -> float:
        """Twice the mean kinetic energy, eV."""
        return 3 * len(self.masses) * self._kt


class NoseHooverChain(Thermostat):
    """The algorithm of ASE's ``NoseHooverChainNVT`` with three links, for many replicas.

    M. E. Tuckerman et al., J. Phys. A 39, 5629 (2006): the Liouville operator in factors.
    ``period`` is ASE's ``tdamp``.
    """

    variables = _LINKS

    def before(self, state: State, forces: torch.Tensor) -> State:
        state = self._thermostat(state)
        momenta = state.momenta + self.timestep / 2 * forces
        positions = state.positions + self.timestep * momenta / self.masses
        return State(positions, momenta, state.eta, state.rates)

    def after(self, state: State, forces: torch.Tensor) -> State:
        momenta = state.momenta + self.timestep / 2 * forces
        return self._thermostat(State(state.positions, momenta, state.eta, state.rates))

    def energy(self, state: State) -> torch.Tensor:
        first, rest = state.eta[:, 0], state.eta[:, 1:].sum(1)
        own = sum(q / 2 * state.rates[:, j] ** 2 for j, q in enumerate(self._inertia))
        return self._kt_all * first + self._kt * rest + own

    @property
    def _inertia(self) -> list[float]:
        one = self._kt * self.period**2
        return [3 * len(self.masses) * one] + [one] * (self.variables - 1)

    def _thermostat(self, state: State) -> State:
        """Half a step of the chain, which scales the momenta of a replica by one number."""
        twice_kinetic = (state.momenta**2 / self.masses).sum((1, 2))  # [R]
        rates, eta, scale = list(state.rates.unbind(1)), state.eta, torch.ones_like(twice_kinetic)
        for share in _YOSHIDA:
            step = share * self.timestep / 2
            for link in reversed(range(self.variables)):
                self._push(rates, link, twice_kinetic, step)
            eta = eta + step * torch.stack(rates, 1)
            change = torch.exp(-step * rates[0])
            scale, twice_kinetic = scale * change, twice_kinetic * change**2
            for link in range(self.variables):
                self._push(rates, link, twice_kinetic, step)
        momenta = state.momenta * scale[:, None, None]
        return State(state.positions, momenta, eta, torch.stack(rates, 1))

    def _push(
        self, rates: list[torch.Tensor], link: int, twice_kinetic: torch.Tensor, step: float
    ) -> None:
        """Half of ``step`` for one link: the one before drives it, the next one damps it."""
        inertia = self._inertia
        if link == 0:
            drive = twice_kinetic - self._kt_all
        else:
            drive = inertia[link - 1] * rates[link - 1] ** 2 - self._kt
        push = step / 2 / inertia[link] * drive
        if link == self.variables - 1:
            rates[link] = rates[link] + push
        else:
            damping = torch.exp(-step / 4 * rates[link + 1])
            rates[link] = (rates[link] * damping + push) * damping


class PublishedNoseHoover(Thermostat):
    """One thermostat variable, as the simulations behind the published tables integrated it.

    X. Fu et al., "Forces are not Enough", Trans. Mach. Learn. Res. (2023), published code. The
    effective period is sqrt(2) longer than ``period``: the friction follows the kinetic energy,
    not twice of it. The friction of a step is taken from its first half, so that `energy` is kept
    to first order in the time step only.
    """

    def before(self, state: State, forces: torch.Tensor) -> State:
        dt, friction = self.timestep, state.rates[:, :, None]  # [R, 1, 1]
        speed = state.momenta / self.masses
        change = forces / self.masses - friction * speed
        positions = state.positions + speed * dt + change * dt**2 / 2
        half = state.momenta + self.masses * change * dt / 2
        excess = self._excess(state.momenta) + self._excess(half)
        rates = state.rates + dt / (2 * self._inertia) * excess[:, None]
        return State(positions, half, state.eta + dt / 2 * (state.rates + rates), rates)

    def after(self, state: State, forces: torch.Tensor) -> State:
        dt = self.timestep
        momenta = (state.momenta + forces * dt / 2) / (1 + state.rates[:, :, None] * dt / 2)
        return State(state.positions, momenta, state.eta, state.rates)

    def energy(self, state: State) -> torch.Tensor:
        return self._inertia * state.rates[:, 0] ** 2 + self._kt_all * state.eta[:, 0]

    @property
    def _inertia(self) -> float:
        return self._kt_all * self.period**2

    def _excess(self, momenta: torch.Tensor) -> torch.Tensor:
        """[R] eV, kinetic energy above its mean at the temperature wanted."""
        return (momenta**2 / self.masses).sum((1, 2)) / 2 - self._kt_all / 2


THERMOSTATS: dict[str, type[Thermostat]] = {
    "chain": NoseHooverChain,
    "published": PublishedNoseHoover,
}
