"""Options that every backbone has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from eqv2_plugin.common.options import make_options
from eqv2_plugin.graphs.options import GraphOptions


@dataclass(frozen=True)
class BackboneOptions(GraphOptions):
    """Options of any backbone; a backbone's own are fields of a dataclass derived from this one.

    Attributes:
        avg_num_nodes: atoms per structure of the training set, by which energies are divided.
        direct_forces: forces from a head; otherwise from the energy's gradient.
        regress_forces, regress_stress: gradients that the conservative head computes.
        force_encoding: embed the forces of corrupted atoms (DeNS).
        force_scale: eV/Å by which these forces are divided before they are embedded; the
            published OC20 and OC22 weights, and all older files, have 1.
        sigma_encoding: embed the noise's standard deviation, too (DeNS with a schedule).
    """

    # Of the backbone, for errors; numbers that may be 0; what fine-tuning may change.
    NAME: ClassVar[str] = ""
    MAY_BE_ZERO: ClassVar[frozenset[str]] = frozenset()
    CHANGEABLE: ClassVar[frozenset[str]] = frozenset(
        {"force_encoding", "force_scale", "regress_stress"}
    )

    avg_num_nodes: float = 77.81317
    direct_forces: bool = True
    regress_forces: bool = True
    regress_stress: bool = False
    force_encoding: bool = False
    force_scale: float = 1.0
    sigma_encoding: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Build from the keywords of a config file.

        Raises:
            ValueError: a key that does not exist, or a value of the wrong type or range.
        """
        return make_options(cls, options, f"the {cls.NAME} backbone".replace("  ", " "))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_encoding and not self.force_encoding:
            raise ValueError("sigma_encoding=true needs force_encoding=true")
        if not 0.0 < self.force_scale < math.inf:
            raise ValueError(
                f"force_scale must be a positive number of eV/Å, got {self.force_scale}"
            )
        if self.force_scale != 1.0 and not self.force_encoding:
            raise ValueError(f"force_scale={self.force_scale:g} needs force_encoding=true")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and not (value > 0 or (value == 0 and field.name in self.MAY_BE_ZERO)):
                raise ValueError(f"{field.name} must be positive, got {value}")
            if is_number and value == math.inf:
                raise ValueError(f"{field.name} must be finite, got {value}")
