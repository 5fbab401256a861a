"""Paths of depthwise tensor products, in the frame of an edge (Equiformer, section 4.2).

A path (l1, l2, l3) couples degree l1 of the features with degree l2 of the edge's spherical
harmonics to degree l3. In a frame whose polar axis is the edge, the harmonics vanish but for order
0, so that a path takes order m to order m (l1 + l2 + l3 even) or orders (-m, m) to (m, -m) (odd),
and one number per |m| is left of its Clebsch-Gordan coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from e3nn import o3

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels


@dataclass(frozen=True)
class Path:
    """One path.

    Attributes:
        source, edge, output: l1, l2, l3.
        couplings: by |m| = 0..min(l1, l3), with the normalisations of harmonics and output.
    """

    source: int
    edge: int
    output: int
    couplings: tuple[float, ...]

    @property
    def degrees(self) -> tuple[int, int, int]:
        """(l1, l2, l3)."""
        return self.source, self.edge, self.output

    @property
    def odd(self) -> bool:
        """Whether it exchanges the orders m and -m."""
        return (self.source + self.edge + self.output) % 2 == 1


@cache
def make_path(source: int, edge: int, output: int) -> Path:
    """The path with the coefficients of e3nn's ``wigner_3j``.

    Harmonics are component-normalised, and outputs multiplied by sqrt(2 l3 + 1).
    """
    with torch.device("cpu"):  # also where a model is built on the meta device
        coefficients = o3.wigner_3j(source, edge, output, dtype=torch.float64).numpy()
    at_pole = coefficients[:, edge] * ((2 * edge + 1) * (2 * output + 1)) ** 0.5  # [m1, m3]
    odd = (source + edge + output) % 2 == 1
    orders = range(min(source, output) + 1)
    couplings = [at_pole[source + (-m if odd else m), output + m] for m in orders]
    return Path(source, edge, output, tuple(float(value) for value in couplings))


def creation_order(lmax: int) -> list[tuple[int, int, int]]:
    """(l1, l2, l3) up to ``lmax`` in the order in which e3nn's weights lie."""
    return [
        (source, edge, output)
        for source in range(lmax + 1)
        for edge in range(lmax + 1)
        for output in range(abs(source - edge), min(source + edge, lmax) + 1)
    ]


def paths_to(output: int, lmax: int) -> list[Path]:
    """All paths to one degree, sorted so that those that reach an order are neighbours.

    Even ones by ascending l1, then odd ones by descending l1.
    """
    paths = [make_path(*degrees) for degrees in creation_order(lmax) if degrees[2] == output]
    return sorted(paths, key=lambda p: (p.odd, -p.source if p.odd else p.source, p.edge))


def paths_of_order(paths: list[Path], order: int) -> tuple[int, int]:
    """First and end of the paths that reach an order ``m >= 0``, see `paths_to`."""
    reached = [
        i for i, path in enumerate(paths) if (order <= path.source if order else not path.odd)
    ]
    return reached[0], reached[-1] + 1


def num_slots(paths: list[Path], channels: Channels) -> int:
    """Channels of the products of these paths, side by side."""
    return sum(channels[path.source] for path in paths)


def coupling_columns(paths: list[Path], channels: Channels, order: int) -> np.ndarray:
    """Couplings of an order, one for every slot."""
    return np.concatenate([np.full(channels[path.source], path.couplings[order]) for path in paths])
