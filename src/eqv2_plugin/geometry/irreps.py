"""Index layouts of irreps features (EquiformerV2, sections 2.1 and 2.3).

Node features are *degree-major*: the coefficient of degree ``l`` and order ``m``
lies at ``l*l + l + m``, so degree ``l`` owns the rows ``l*l .. (l+1)**2``.

Features in the frame of an edge keep only orders ``|m| <= mmax`` and are
*order-major*: first ``m = 0`` for ``l = 0..lmax``; then for every ``m > 0`` the
coefficients ``+m`` for ``l = m..lmax`` followed by ``-m``. Each order is then one
contiguous block, which is what an SO(2) linear layer multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass, field


def num_coefficients(lmax: int) -> int:
    """Number of rows of a node feature with degrees ``0..lmax``."""
    return (lmax + 1) ** 2


def degree_slice(degree: int) -> slice:
    """Rows of degree ``degree`` in a degree-major feature."""
    return slice(degree * degree, (degree + 1) ** 2)


def degree_of_row(lmax: int) -> list[int]:
    """Degree of every row of a degree-major feature with degrees ``0..lmax``."""
    return [degree for degree in range(lmax + 1) for _ in range(2 * degree + 1)]


@dataclass(frozen=True)
class EdgeLayout:
    """Order-major layout of features in the edge frame.

    Args:
        lmax: maximum degree.
        mmax: maximum order kept, at most ``lmax``.

    Raises:
        ValueError: ``lmax < 0`` or ``mmax`` outside ``0..lmax``.

    Attributes:
        size: number of rows of an edge feature.
        rows: ``(degree, order)`` of every row, in order.
        row_index: row of a ``(degree, order)`` pair.
    """

    lmax: int
    mmax: int
    size: int = field(init=False, compare=False)
    rows: tuple[tuple[int, int], ...] = field(init=False, compare=False, repr=False)
    row_index: dict[tuple[int, int], int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.lmax < 0:
            raise ValueError(f"lmax must be at least 0, got {self.lmax}")
        if not 0 <= self.mmax <= self.lmax:
            raise ValueError(
                f"mmax must lie between 0 and lmax={self.lmax}, got {self.mmax}: "
                "a feature of degree l has no order m > l"
            )
        rows = [(degree, 0) for degree in range(self.lmax + 1)]
        for order in range(1, self.mmax + 1):
            for sign in (1, -1):
                rows += [(degree, sign * order) for degree in range(order, self.lmax + 1)]
        # Plain attributes: torch.compile cannot trace a cached_property.
        object.__setattr__(self, "size", len(rows))
        object.__setattr__(self, "rows", tuple(rows))
        object.__setattr__(self, "row_index", {pair: row for row, pair in enumerate(rows)})

    def num_degrees(self, order: int) -> int:
        """How many degrees have a component of this order."""
        return self.lmax + 1 - abs(order)

    def num_rows(self, order: int) -> int:
        """How many rows ``m = 0`` has, or ``+m`` and ``-m`` together."""
        return self.num_degrees(order) * (2 if order else 1)

    def order_slice(self, order: int) -> slice:
        """Rows of the block ``m = 0``, or of ``+m`` and ``-m`` together."""
        if order == 0:
            return slice(0, self.lmax + 1)
        start = self.lmax + 1 + sum(2 * self.num_degrees(m) for m in range(1, order))
        return slice(start, start + 2 * self.num_degrees(order))

    def rows_within_degree(self, degree: int) -> list[int]:
        """Edge-layout rows of one degree, orders ascending ``-k..k``, ``k = min(l, mmax)``."""
        kept = min(degree, self.mmax)
        return [self.row_index[degree, order] for order in range(-kept, kept + 1)]

    def radial_columns(self, order: int, channels: int, shared: bool) -> slice:
        """Where the radial weights of an order ``m >= 0`` lie, degrees ascending.

        Args:
            order: m.
            channels: weights per (order, degree).
            shared: all orders of a degree share theirs (``use_m_share_rad``).
        """
        sizes = [self.num_degrees(m) * channels for m in range(order + 1)]
        if shared:
            return slice(sizes[0] - sizes[order], sizes[0])
        return slice(sum(sizes[:order]), sum(sizes))

    def radial_size(self, channels: int, shared: bool) -> int:
        """Number of radial weights per edge, see `radial_columns`."""
        return self.radial_columns(0 if shared else self.mmax, channels, shared).stop
