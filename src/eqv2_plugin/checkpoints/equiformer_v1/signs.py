"""Which signs of Clebsch-Gordan coefficients weights were trained with.

e3nn changed the sign of ``wigner_3j`` for degrees (1, 2, 2) and (1, 3, 3), in any order, with
version 0.5. Its products kept tables of the coefficients in the state dict, which tell.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Literal, cast

import torch
from e3nn import o3

Convention = Literal["e3nn_0.4", "e3nn_0.5"]
# Degrees (l1, l2, l3) of the paths that changed.
TURNED = frozenset(
    order for degrees in ((1, 2, 2), (1, 3, 3)) for order in itertools.permutations(degrees)
)
_TABLE = re.compile(r".*_w3j_(\d+)_(\d+)_(\d+)")


def stored_convention(state: Mapping[str, torch.Tensor]) -> Convention | None:
    """The convention of the tables among the weights; None where no table tells.

    Raises:
        ValueError: a table that is neither, or tables of both.
    """
    found = set()
    for key, table in state.items():
        match = _TABLE.fullmatch(key)
        degrees = tuple(map(int, match.groups())) if match else ()
        if degrees not in TURNED:
            continue
        ours = o3.wigner_3j(*degrees, dtype=torch.float64)
        table = table.detach().double().cpu()
        sign = float((table * ours).sum()) if table.shape == ours.shape else 0.0
        if not abs(abs(sign) - 1.0) < 1e-4:
            raise ValueError(f"{key!r} is no table of Clebsch-Gordan coefficients known here")
        found.add("e3nn_0.5" if sign > 0 else "e3nn_0.4")
    if len(found) > 1:
        raise ValueError(
            "the tables '_w3j_...' among the weights have the signs of two conventions"
        )
    return cast("Convention", found.pop()) if found else None
