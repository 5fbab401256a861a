"""The same neighbours from a smaller box: empty space that no edge crosses is taken out.

fairchem's search lays a grid over a structure. Far from the origin, or with wide gaps, the grid
takes gigabytes; it needs the positions only up to shifts that no edge notices.
"""

from __future__ import annotations

import torch

from eqv2_plugin.graphs.checks import WIDE, Geometry

_GAP = 1.5  # cutoffs of empty space that are left


@torch.no_grad()
def compact(
    geometry: Geometry, pbc: torch.Tensor, batch: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions for the search, one structure and one direction at a time.

    Args:
        geometry: of the batch.
        pbc: [B, 3].
        batch: [N].
        cutoff: Å.

    Returns:
        Positions [N, 3] in Å, moved; the periodic directions [B, 3] that are left, since none is
        where the atoms leave a gap of more than the cutoff in a wide cell; and the cells that each
        atom was moved by, [N, 3].
    """
    cells, spacing = geometry.cells, geometry.spacing
    pbc = pbc.clone()
    atom_pbc = pbc[batch]
    images = torch.where(atom_pbc, torch.floor(geometry.fractional), 0.0)
    heights = (geometry.fractional - images) * spacing[batch]
    for structure in range(len(pbc)):
        own = (batch == structure).nonzero().squeeze(1)
        for axis in range(3):
            height, order = heights[own, axis].sort()
            thick = float(spacing[structure, axis])
            if pbc[structure, axis]:
                gaps = torch.diff(height, append=height[:1] + thick)
                widest = int(gaps.argmax())
                if thick <= WIDE or float(gaps[widest]) <= cutoff * _GAP:
                    continue
                # Cut in the gap: the atoms above it go down by a cell.
                above = own[order[widest + 1 :]]
                heights[above, axis] -= thick
                images[above, axis] += 1
                pbc[structure, axis] = False
                height, order = heights[own, axis].sort()
            empty = (torch.diff(height, prepend=height[:1]) - cutoff * _GAP).clamp(min=0)
            heights[own[order], axis] = height - height[0] - empty.cumsum(0)
    units = (cells / spacing.unsqueeze(2))[batch]
    return torch.einsum("ni,nij->nj", heights, units), pbc, images
