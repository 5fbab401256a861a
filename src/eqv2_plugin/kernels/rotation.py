"""Node features of both ends of every edge, in the edge's frame, times radial weights."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels import choice
from eqv2_plugin.kernels.tables import edge_tables, radial_blocks
from eqv2_plugin.kernels.threads import in_parts

# Edges that are worth a thread.
_EDGES = 32


def rotate_and_scale(
    nodes: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    wigner: torch.Tensor,
    radial: torch.Tensor,
    layout: EdgeLayout,
) -> torch.Tensor:
    """`rotate_to_edge_frame` of sources and targets, times radial weights.

    By Numba on a CPU, by Triton on a GPU; see `choice.can_compile` for what either takes.

    Args:
        nodes: [N, (lmax+1)^2, C]; float32, C a multiple of 16 on a CPU.
        source, target: [E].
        wigner: [E, P] from `pack_wigner`; no gradient flows into it.
        radial: [E, n 2C] for n blocks: one per (order m >= 0, degree), or one per degree.
        layout: the edge layout.

    Returns:
        [E, layout.size, 2C], order-major, sources before targets, of the dtype of ``radial``;
        differentiable once.

    Raises:
        ValueError: the radial weights fit neither way of sharing.
    """
    if choice.compiler_of(nodes.device) == "triton":
        from eqv2_plugin.kernels.triton_rotation import RotateAndScale

        return RotateAndScale.apply(nodes, radial, source, target, wigner, layout)
    return _RotateAndScale.apply(nodes, radial, source, target, wigner, layout)


def pack_wigner(blocks: list[torch.Tensor]) -> torch.Tensor:
    """The blocks of `wigner_rows`, [E, rows, 2l+1] per degree, as one matrix [E, P]."""
    return torch.cat([block.flatten(1) for block in blocks], dim=1).contiguous()


class _RotateAndScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes, radial, source, target, wigner, layout):
        from eqv2_plugin.kernels.cpu_rotation import forward_kernel

        nodes, radial = nodes.contiguous(), radial.contiguous()
        ctx.save_for_backward(nodes, radial, source, target, wigner)
        ctx.layout = layout
        channels = nodes.shape[2]
        out = nodes.new_empty(len(source), layout.size, 2 * channels)
        arrays = _arrays(nodes, source, target, wigner, radial, layout)
        kernel, filled = forward_kernel(channels), out.numpy()
        in_parts(lambda begin, end: kernel(begin, end, *arrays, filled), len(source), _EDGES)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from eqv2_plugin.kernels.cpu_rotation import backward_kernel

        nodes, radial, source, target, wigner = ctx.saved_tensors
        channels = nodes.shape[2]
        arrays = _arrays(nodes, source, target, wigner, radial, ctx.layout)
        of_radial = torch.empty_like(radial)
        kernel = backward_kernel(channels)
        given, of_weights = gradient.contiguous().numpy(), of_radial.numpy()

        def part(begin: int, end: int) -> torch.Tensor:
            # Each thread adds to nodes of its own; two edges may share a source.
            of_nodes = torch.zeros_like(nodes)
            scratch = nodes.new_empty(2, channels).numpy()
            kernel(begin, end, *arrays, given, scratch, of_nodes.numpy(), of_weights)
            return of_nodes

        parts = in_parts(part, len(source), _EDGES)
        return sum(parts[1:], parts[0]), of_radial, None, None, None, None


def _arrays(nodes, source, target, wigner, radial, layout):
    tables = edge_tables(layout)
    tensors = (nodes, source, target, wigner, radial)
    return (
        *(tensor.detach().numpy() for tensor in tensors),
        tables.row,
        tables.degree,
        tables.first,
        radial_blocks(layout, radial.shape[1], nodes.shape[2]),
    )
