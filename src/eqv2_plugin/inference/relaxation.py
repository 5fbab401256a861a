"""One relaxation, stepped externally, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import PropertyNotImplementedError

from eqv2_plugin.inference.predictor import Prediction
from eqv2_plugin.inference.settings import RelaxationSettings

FAILED = "failed"


@dataclass(frozen=True)
class Relaxed:
    """One finished relaxation, or one that failed."""

    id: str  # of the structure
    initial: Atoms  # where it started; no calculator
    # Where it ended, without calculator; of a failed one the last structure that was predicted
    # (the initial one if none was).
    atoms: Atoms
    energy: float  # eV, of ``atoms``; NaN if it failed before any prediction
    forces: np.ndarray  # [atoms, 3] eV/Å as predicted, of fixed atoms too; dtype of the model
    steps: int  # that the optimizer took
    converged: bool  # whether every free atom's force was below fmax at the end
    energies: np.ndarray  # [steps + 1] eV, before the first and after every step
    fmax: np.ndarray  # [steps + 1] eV/Å, largest force on an atom that may move
    # Why it failed, or empty. The numbers of a failed one are those up to its last good prediction.
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether the model's predictions diverged, or there were none."""
        return bool(self.error)


class NotInLockstepError(RuntimeError):
    """An optimizer that asks for energies within a step: a fault of the code, of no structure."""


class SuppliedResults(GetPropertiesMixin):
    """A calculator that hands out what a batched model call has supplied for these positions.

    ASE's own calculators compare all atoms at each question, and would calculate by themselves.
    """

    name = "supplied"

    def __init__(self) -> None:
        self._prediction: Prediction | None = None

    def supply(self, prediction: Prediction | None) -> None:
        """Results of the current positions; None once the atoms have moved."""
        self._prediction = prediction

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As ASE's calculators; ``free_energy`` is the energy, as in ``FAIRChemCalculator``.

        Raises:
            NotInLockstepError: the atoms have moved, and no results have been supplied since.
        """
        if name not in ("energy", "free_energy", "forces"):
            raise PropertyNotImplementedError(f"{name} is not predicted")
        if self._prediction is None:
            raise NotInLockstepError(
                f"{name} was asked for within a step: this optimizer cannot be advanced in lockstep"
            )
        if name == "forces":
            return np.array(self._prediction.forces)  # constraints change what they are given
        return self._prediction.energy


class Relaxation:
    """A structure (which stays as it is) with its optimizer of ASE.

    The owner predicts ``atoms`` and hands the result to `receive`, again and again until
    `finished`. Between two predictions this does exactly what one turn of ASE's
    ``Optimizer.run`` does. The file ``trajectory`` appears when the relaxation has ended; of one
    that failed, in a folder `FAILED` beside it.
    """

    def __init__(
        self,
        identity: str,
        structure: Atoms,
        settings: RelaxationSettings,
        trajectory: Path | None = None,
    ) -> None:
        self.id = identity
        self.initial = structure.copy()
        self.initial.calc = None
        self.atoms = self.initial.copy()
        self.settings = settings
        self.finished = False
        self._results = SuppliedResults()
        self.atoms.calc = self._results
        self._trajectory = trajectory
        self._writing = trajectory and trajectory.with_name(f".{trajectory.name}.partial")
        self._optimizer = settings.make_optimizer(
            self.atoms, str(self._writing) if self._writing else None
        )
        self._last = self.atoms.positions.copy()
        self._forces = np.full((len(self.atoms), 3), np.nan)
        self._energies: list[float] = []
        self._fmax: list[float] = []
        self._converged = False
        self._error = ""

    def receive(self, prediction: Prediction) -> None:
        """Take energy and forces of the current positions, and move on unless it has ended."""
        taken = self._optimizer.nsteps
        if not np.isfinite(prediction.energy) or not np.isfinite(prediction.forces).all():
            return self.fail(
                f"the prediction after step {taken} is not finite: energy "
                f"{prediction.energy:g} eV, {int(np.sum(~np.isfinite(prediction.forces)))} force "
                "components"
            )
        self._results.supply(prediction)
        with self._guarded(f"reading the forces after step {taken}"):
            gradient = self._optimizer.optimizable.get_gradient()
            fmax = float(self._optimizer.optimizable.gradient_norm(gradient))
        if self.finished:
            return None
        if not np.isfinite(fmax):
            largest = float(np.abs(prediction.forces).max())
            return self.fail(
                f"the forces after step {taken} are too large to be followed: {largest:g} eV/Å"
            )
        self._last = self.atoms.positions.copy()
        self._forces = prediction.forces
        self._energies.append(prediction.energy)
        self._fmax.append(fmax)
        if self._writing is not None:
            self._optimizer.call_observers()
        self._converged = bool(self._optimizer.gradient_converged(gradient))
        if self._converged or taken >= self.settings.steps:
            return self._end()
        return self._step()

    def fail(self, reason: str) -> None:
        """End here, because the model cannot predict the current structure."""
        self._error = reason
        self._converged = False
        self._end()

    def result(self) -> Relaxed:
        """What the relaxation has left, once it is `finished`."""
        relaxed = self.initial.copy()
        relaxed.positions[:] = self._last
        return Relaxed(
            id=self.id,
            initial=self.initial,
            atoms=relaxed,
            energy=self._energies[-1] if self._energies else float("nan"),
            forces=self._forces,
            steps=max(len(self._energies) - 1, 0),
            converged=self._converged,
            energies=np.array(self._energies),
            fmax=np.array(self._fmax),
            error=self._error,
        )

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """An error of this structure's optimizer or constraints ends this relaxation only."""
        try:
            # What overflows is found afterwards, and said with the structure's id.
            with np.errstate(all="ignore"):
                yield
        except (OSError, MemoryError, NotInLockstepError):
            raise
        except Exception as error:
            self.fail(f"{what} ended in {type(error).__name__}: {error}")

    def _step(self) -> None:
        with self._guarded(f"step {self._optimizer.nsteps + 1} of the optimizer"):
            self._optimizer.step()
        if self.finished:
            return
        self._optimizer.nsteps += 1
        self._results.supply(None)
        if not np.isfinite(self.atoms.positions).all():
            self.fail(
                f"step {self._optimizer.nsteps} of the optimizer moved atoms to positions that "
                f"are not finite; the largest force before it was {self._fmax[-1]:g} eV/Å"
            )

    def _end(self) -> None:
        self.finished = True
        self._optimizer.close()
        if self._trajectory is None or self._writing is None or not self._writing.exists():
            return
        target = self._trajectory
        if self._error:
            # fairchem's script takes every trajectory beside it for a result.
            target = target.parent / FAILED / target.name
            target.parent.mkdir(exist_ok=True)
        self._writing.replace(target)
