"""What all checks share: the model, its structures, their time, and how a number is judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.inference.predictor import Predict


class CannotRunError(Exception):
    """A check has nothing to work on, or too little time; the message says which."""


@dataclass(frozen=True)
class Limits:
    """Good up to ``good``, bad beyond ``bad``, something to look at between them."""

    good: float
    bad: float

    def judge(self, value: float) -> Verdict:
        """What is not a number is bad."""
        if value <= self.good:
            return Verdict.GOOD
        return Verdict.LOOK if value <= self.bad else Verdict.BAD


def spare_direct(verdict: Verdict, value: float, direct: bool) -> tuple[Verdict, str]:
    """The verdict on a property of gradients, and words behind it.

    Direct forces have it only as far as they learned it: what they lack is something to look at, as
    long as it is a number.
    """
    if not direct or verdict is not Verdict.BAD or not math.isfinite(value):
        return verdict, ""
    return Verdict.LOOK, "; direct forces are no gradient: not for runs at constant energy"


# What a check returns; the unit is the end of each number's name.
Outcome = tuple[Verdict, str, dict[str, float]]


# From structures and a seed: the noise of corrupted atoms, and as a model with DeNS predicts it,
# with encoded forces and without, [atoms, 3] each.
Denoise = Callable[[Sequence[Atoms], int], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Subject:
    """A model in the forms that the checks need."""

    predict: Predict  # in the precision that is used, float32
    predict_double: Predict | str  # in float64, or the reason why there is none
    calculator: Calculator  # ASE calculator for dynamics
    direct: bool  # whether forces come from a head of their own
    device: str  # "cpu" or "cuda"
    stress: bool = False  # whether it predicts stress
    denoise: Denoise | None = None  # of a model with DeNS


class Examination:
    """One subject on its way through the checks.

    ``seconds`` are for all checks together; those that need more do less, or say so. ``findings``
    are those of the checks so far, ``measured`` what is behind them, for pictures and later checks.
    """

    def __init__(
        self,
        subject: Subject,
        structures: Sequence[Atoms],
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.subject = subject
        self.structures = list(structures)
        self.smallest = min(structures, key=len)
        self.seconds = seconds
        self.clock = clock
        self.findings: list[Finding] = []
        self.measured: dict[str, Any] = {}

    def affordable(self, share: float, cost: float, wanted: int = 1, least: int = 1) -> int:
        """How often something that takes ``cost`` seconds can be done in a share of the time.

        Raises:
            CannotRunError: less than ``least`` times.
        """
        allowed = share * self.seconds
        count = min(wanted, int(allowed / cost))
        if count < least:
            raise CannotRunError(
                f"needs about {least * cost:.0f} s, but has {allowed:.1f} s: raise --seconds"
            )
        return count

    def cost(self, predict: Predict, structures: Sequence[Atoms]) -> float:
        """Seconds to predict each structure once."""
        predict([self.smallest])  # the first call prepares the model
        begin = self.clock()
        predict([self.smallest])
        per_atom = (self.clock() - begin) / len(self.smallest)
        return per_atom * sum(len(atoms) for atoms in structures)
