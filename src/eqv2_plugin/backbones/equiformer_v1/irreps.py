"""Node features of Equiformer: every degree has a number of channels of its own.

A feature is one row per atom or edge: degree after degree, and within a degree the orders -l..l
after each other, each with all its channels. (e3nn keeps channels slowest within a degree.)
"""

from __future__ import annotations

import torch
from e3nn import o3

# C_l, by degree.
Channels = tuple[int, ...]
_LARGEST_DEGREE = 6
_MOST_CHANNELS = 16_384


def parse_channels(text: str, name: str) -> Channels:
    """C_l of irreps such as "128x0e+64x1e+32x2e".

    Args:
        text: in e3nn's notation; degrees ascend from 0, each of even parity ("e"): the published
            models keep rotations only.
        name: of the option, for errors.

    Raises:
        ValueError: other irreps, or none.
    """
    try:
        irreps = list(o3.Irreps(text))
    except ValueError as error:
        raise ValueError(f"{name}={text!r} are no irreps such as '128x0e+64x1e'") from error
    if not irreps or any(ir.l != degree or ir.p != 1 for degree, (_, ir) in enumerate(irreps)):
        raise ValueError(
            f"{name}={text!r} must name every degree from 0 once, in order, with parity e, such as "
            "'128x0e+64x1e+32x2e'"
        )
    channels = tuple(mul for mul, _ in irreps)
    if not all(0 < mul <= _MOST_CHANNELS for mul in channels) or len(channels) > _LARGEST_DEGREE:
        raise ValueError(
            f"{name}={text!r} must have 1 to {_MOST_CHANNELS} channels per degree, below degree "
            f"{_LARGEST_DEGREE}"
        )
    return channels


def width(channels: Channels) -> int:
    """Numbers per row of a feature."""
    return sum((2 * degree + 1) * count for degree, count in enumerate(channels))


def split_degrees(
    features: torch.Tensor, channels: Channels, degrees: range | None = None
) -> list[torch.Tensor]:
    """Views [N, 2l+1, C_l] of a feature [N, ...] of these degrees, by default of all."""
    degrees = range(len(channels)) if degrees is None else degrees
    blocks = features.split([(2 * l + 1) * channels[l] for l in degrees], dim=1)
    pairs = zip(blocks, degrees, strict=True)
    return [block.unflatten(1, (2 * l + 1, channels[l])) for block, l in pairs]


def join_degrees(blocks: list[torch.Tensor]) -> torch.Tensor:
    """The feature of which `split_degrees` returns these blocks."""
    return torch.cat([block.flatten(1) for block in blocks], dim=1)
