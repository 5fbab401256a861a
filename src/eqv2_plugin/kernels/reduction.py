"""Values of every edge times attention, turned back and summed over the neighbours."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.kernels.tables import edge_tables
from eqv2_plugin.kernels.threads import in_parts

# Targets that are worth a thread.
_TARGETS = 2


def weigh_rotate_sum(
    values: torch.Tensor,
    attention: torch.Tensor,
    wigner: torch.Tensor,
    offsets: torch.Tensor,
    layout: EdgeLayout,
) -> torch.Tensor:
    """Attention-weighted values in the global frame, summed at their targets, by Numba on a CPU.

    Args:
        values: [E, layout.size, C], order-major, edges sorted by target; float32.
        attention: [E, H]; head h weighs the channels h C/H to (h+1) C/H.
        wigner: [E, P] from `pack_wigner`; no gradient flows into it.
        offsets: [targets + 1] first edge of every target.
        layout: the edge layout.

    Returns:
        [targets, (lmax+1)^2, C], of the dtype of ``values``; zero without edges; differentiable
        once.
    """
    return _WeighRotateSum.apply(values, attention, wigner, offsets, layout)


class _WeighRotateSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, attention, wigner, offsets, layout):
        from eqv2_plugin.kernels.cpu_reduction import forward_kernel

        values, attention = values.contiguous(), attention.contiguous()
        ctx.save_for_backward(values, attention, wigner, offsets)
        ctx.layout = layout
        channels, heads = values.shape[2], attention.shape[1]
        out = values.new_empty(len(offsets) - 1, num_coefficients(layout.lmax), channels)
        arrays = _arrays(values, attention, wigner, offsets, layout)
        kernel, filled = forward_kernel(heads, channels // heads), out.numpy()

        def part(begin: int, end: int) -> None:
            kernel(begin, end, *arrays, values.new_empty(channels).numpy(), filled)

        in_parts(part, len(out), _TARGETS)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from eqv2_plugin.kernels.cpu_reduction import backward_kernel

        values, attention, wigner, offsets = ctx.saved_tensors
        channels, heads = values.shape[2], attention.shape[1]
        arrays = _arrays(values, attention, wigner, offsets, ctx.layout)
        of_values = torch.empty_like(values)
        # A sum over all rows and channels: in float32 it would round more than a product does.
        of_attention = torch.empty_like(attention, dtype=torch.float64)
        kernel, given = backward_kernel(heads, channels // heads), gradient.contiguous().numpy()
        filled = of_values.numpy(), of_attention.numpy()

        def part(begin: int, end: int) -> None:
            kernel(begin, end, *arrays, given, values.new_empty(channels).numpy(), *filled)

        in_parts(part, len(offsets) - 1, _TARGETS)
        return of_values, of_attention.to(attention.dtype), None, None, None


def _arrays(values, attention, wigner, offsets, layout):
    tables = edge_tables(layout)
    tensors = (values, attention, wigner, offsets)
    return (
        *(tensor.detach().numpy() for tensor in tensors),
        tables.row,
        tables.degree,
        tables.first,
        tables.scale,
    )
