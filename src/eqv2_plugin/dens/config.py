"""Settings of DeNS, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eqv2_plugin.common.options import make_options


@dataclass(frozen=True)
class DenoisingConfig:
    """Hyper-parameters of DeNS (DeNS paper, Algorithm 2; Tables 7 to 9)."""

    probability: float  # p_DeNS, of corrupting a structure
    # r_DeNS, probability of corrupting a free atom of such a structure; 1 corrupts all of them.
    corruption_ratio: float
    sigma: float  # standard deviation of the noise, Å; the upper end of a schedule
    coefficient: float  # lambda_DeNS
    # Lower end of a log-uniform schedule from which each structure draws its sigma; null for a
    # fixed one.
    sigma_low: float | None = None
    encode_forces: bool = True  # encode the forces of corrupted atoms (false is an ablation)
    # Predict the energy of corrupted structures (lambda_E = 0 for them otherwise, an ablation).
    energy_on_corrupted: bool = True
    # Linear decay of lambda_DeNS to zero over the training, if wanted: at every step, or, as in the
    # published MD17 code, from epoch to epoch.
    coefficient_decay: Literal["none", "linear", "linear_per_epoch"] = "none"
    # Names of training splits whose structures are never corrupted (the MD split of OC20).
    exclude_splits: tuple[str, ...] = ()
    # Structures with a larger force on a free atom, eV/Å, are never corrupted; null for no limit.
    max_force_norm: float | None = None
    max_mean_force_norm: float | None = None  # likewise for the mean over free atoms
    # At most this fraction of a structure's free atoms is corrupted; null for no limit.
    max_corrupted_fraction: float | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> DenoisingConfig:
        """Build from the keys of a config file.

        Raises:
            ValueError: an unknown or missing key, or a value out of range.
        """
        splits = options.get("exclude_splits") or ()
        return make_options(cls, {**options, "exclude_splits": splits}, "DeNS")

    def __post_init__(self) -> None:
        for name in ("probability", "corruption_ratio", "max_corrupted_fraction"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if not self.sigma > 0.0:
            raise ValueError(f"sigma must be positive (Å), got {self.sigma}")
        if self.sigma_low is not None and not 0.0 < self.sigma_low < self.sigma:
            raise ValueError(f"sigma_low must lie between 0 and sigma, got {self.sigma_low}")
        for name in ("coefficient", "max_force_norm", "max_mean_force_norm"):
            value = getattr(self, name)
            if value is not None and not value >= 0.0:
                raise ValueError(f"{name} must not be negative, got {value}")

    def coefficient_at(self, step: int, total: int, per_epoch: int) -> float:
        """lambda_DeNS at a step, counted from 0, of ``total``; an epoch has ``per_epoch``."""
        if self.coefficient_decay == "none":
            return self.coefficient
        if self.coefficient_decay == "linear_per_epoch":
            step -= step % per_epoch
        return self.coefficient * max(0.0, 1.0 - step / total)
