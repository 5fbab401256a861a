"""How structures are relaxed: ASE's optimizer, its options, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ase import Atoms
from ase.optimize import BFGS, FIRE, LBFGS
from ase.optimize.optimize import Optimizer

from eqv2_plugin.common.options import make_options

# ASE's optimizer and which of the options below it has.
OPTIMIZERS: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {
    "lbfgs": (LBFGS, ("maxstep", "memory", "damping", "alpha")),
    "bfgs": (BFGS, ("maxstep", "alpha")),
    "fire": (FIRE, ("maxstep",)),
}


@dataclass(frozen=True)
class RelaxationSettings:
    """Of one relaxation. An option that is None has ASE's default.

    ``fmax`` and ``steps`` are the EquiformerV2 paper's for IS2RE and IS2RS (section D.3; 300
    steps for AdsorbML).
    """

    optimizer: str = "lbfgs"  # "lbfgs", "bfgs" or "fire"
    fmax: float = 0.02  # eV/Å; a relaxation has converged when no free atom's force is that large
    steps: int = 200  # of the optimizer, at most
    maxstep: float | None = None  # Å that an atom may move in a step
    memory: int | None = None  # steps that L-BFGS remembers
    damping: float | None = None  # factor on L-BFGS steps
    alpha: float | None = None  # eV/Å^2, initial guess of the curvature (L-BFGS, BFGS)

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"there is no optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}"
            )
        known = OPTIMIZERS[self.optimizer][1]
        for name in ("fmax", "steps", "maxstep", "memory", "damping", "alpha"):
            value = getattr(self, name)
            if value is None and name not in ("fmax", "steps"):
                continue
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value!r}")
            if name not in ("fmax", "steps", *known):
                raise ValueError(
                    f"the optimizer {self.optimizer} has no option {name!r}, but {', '.join(known)}"
                )
        if self.maxstep is not None and self.maxstep > 1.0:
            raise ValueError(f"maxstep must be at most 1 Å, as ASE asks, got {self.maxstep}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> RelaxationSettings:
        """From a config.

        Raises:
            ValueError: an unknown option, or a value of the wrong type or out of range.
        """
        return make_options(cls, options, "a relaxation")

    def make_optimizer(self, atoms: Atoms, trajectory: str | None = None) -> Optimizer:
        """ASE's optimizer of atoms with a calculator, with ``fmax`` set, silent."""
        optimizer_class, names = OPTIMIZERS[self.optimizer]
        given = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        optimizer: Any = optimizer_class(atoms, logfile=None, trajectory=trajectory, **given)
        optimizer.fmax = self.fmax
        optimizer.max_steps = self.steps
        return optimizer
