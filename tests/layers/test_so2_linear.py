"""SO(2) linear layer: equivariance about the polar axis, and a loop that spells it out."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, node_wigner, randn, randomise

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.interface import RadialWeights
from eqv2_plugin.kernels.reference import blocks_of_orders
from eqv2_plugin.layers import so2_linear as module
from eqv2_plugin.layers.so2_linear import FourProducts, SO2Linear, ThreeProducts

LAYOUTS = [(1, 0), (2, 2), (4, 2), (4, 3), (6, 2)]
EXTRA = 5
layouts = pytest.mark.parametrize(("lmax", "mmax"), LAYOUTS)
radials = pytest.mark.parametrize("radial_kind", ["none", "per_order", "shared"])


@pytest.fixture(params=[3, 4], ids=["three_products", "four_products"], autouse=True)
def products(request, monkeypatch) -> int:
    """Every test with both ways of multiplying, whatever the layer's size."""
    monkeypatch.setattr(module, "_SMALL", 0 if request.param == 3 else 2**60)
    return request.param


def test_the_size_of_a_layer_decides_how_many_products_there_are(products):
    pairs = make(2, 2).matrices().pairs
    assert [type(pair) for pair in pairs] == [ThreeProducts if products == 3 else FourProducts] * 2


def make(lmax: int, mmax: int, extra: int = EXTRA) -> SO2Linear:
    return randomise(SO2Linear(3, 4, EdgeLayout(lmax, mmax), extra).double(), seed=1)


def inputs(layer: SO2Linear, radial_kind: str, num_edges: int = 6):
    features = randn(2, num_edges, layer.layout.size, layer.in_channels)
    if radial_kind == "none":
        return features, None
    shared = radial_kind == "shared"
    numbers = randn(3, num_edges, layer.layout.radial_size(layer.in_channels, shared))
    return features, RadialWeights(
        lambda columns: numbers[:, columns], layer.layout, layer.in_channels, shared
    )


def apply(layer: SO2Linear, features: torch.Tensor, radial: RadialWeights | None, degree=None):
    """The layer after radial weights, as the attention has it."""
    blocks = blocks_of_orders(features, layer.layout)
    if radial is not None:
        blocks = (
            tuple(part * radial.of_order(order) for part in block)
            for order, block in enumerate(blocks)
        )
    return layer.from_blocks(blocks, degree)


def about_polar_axis(angle: float, layout: EdgeLayout) -> torch.Tensor:
    """Wigner matrix of a rotation about y, in the rows of the edge layout."""
    cosine, sine = torch.tensor(angle).double().cos(), torch.tensor(angle).double().sin()
    rotation = torch.eye(3, dtype=torch.float64)
    rotation[0, 0] = rotation[2, 2] = cosine
    rotation[0, 2], rotation[2, 0] = sine, -sine
    index = [degree * degree + degree + order for degree, order in layout.rows]
    return node_wigner(rotation, layout.lmax)[index][:, index]


def loop_twin(layer: SO2Linear, features: torch.Tensor, radial: RadialWeights | None):
    """Edge by edge and pair by pair; orders +m and -m as one complex number."""
    layout, c_in, c_out = layer.layout, layer.in_channels, layer.out_channels
    row = layout.row_index
    output = torch.zeros(len(features), layout.size, c_out, dtype=torch.float64)
    extra = torch.zeros(len(features), layer.extra_scalars, dtype=torch.float64)

    def factor(edge: int, order: int, degree: int) -> torch.Tensor | float:
        if radial is None:
            return 1.0
        before = 0
        if not radial.shared:
            before = sum(layout.num_degrees(m) for m in range(order)) - order
        start = (before + degree) * c_in
        return radial.whole()[edge, start : start + c_in]

    weight, bias = layer.linear_m0.weight, layer.linear_m0.bias
    for edge in range(len(features)):
        scalars = [features[edge, row[l, 0]] * factor(edge, 0, l) for l in range(layout.lmax + 1)]
        mixed = weight @ torch.cat(scalars) + bias
        extra[edge] = mixed[: layer.extra_scalars]
        for l in range(layout.lmax + 1):
            start = layer.extra_scalars + l * c_out
            output[edge, row[l, 0]] = mixed[start : start + c_out]
        for m in range(1, layout.mmax + 1):
            real, imaginary = layer.order_weights[m - 1].chunk(2)
            for l_out in range(m, layout.lmax + 1):
                total = torch.zeros(c_out, dtype=torch.complex128)
                for l_in in range(m, layout.lmax + 1):
                    plus, minus = features[edge, row[l_in, m]], features[edge, row[l_in, -m]]
                    number = torch.complex(plus, minus) * factor(edge, m, l_in)
                    block = (
                        slice((l_out - m) * c_out, (l_out - m + 1) * c_out),
                        slice((l_in - m) * c_in, (l_in - m + 1) * c_in),
                    )
                    total = total + torch.complex(real[block], imaginary[block]) @ number
                output[edge, row[l_out, m]] = total.real
                output[edge, row[l_out, -m]] = total.imag
    return output, extra


@layouts
@radials
@pytest.mark.parametrize("derivative", [True, False])
def test_layer_equals_a_loop_over_edges_orders_and_degrees(lmax, mmax, radial_kind, derivative):
    layer = make(lmax, mmax)
    features, radial = inputs(layer, radial_kind, num_edges=2)
    with torch.set_grad_enabled(derivative):
        output, extra = apply(layer, features, radial)
    assert output.requires_grad == derivative
    with torch.no_grad():
        slow_output, slow_extra = loop_twin(layer, features, radial)
    assert largest(output - slow_output) < 1e-12
    assert largest(extra - slow_extra) < 1e-12


@layouts
@radials
@pytest.mark.parametrize("angle", [0.4, 2.0, -1.3])
def test_a_rotation_about_the_polar_axis_passes_through_the_layer(lmax, mmax, radial_kind, angle):
    layer = make(lmax, mmax)
    features, radial = inputs(layer, radial_kind)
    turn = about_polar_axis(angle, layer.layout)
    output, extra = apply(layer, features, radial)
    turned_output, turned_extra = apply(layer, turn @ features, radial)
    assert largest(turned_output - turn @ output) < 1e-12
    assert largest(turned_extra - extra) < 1e-12


@layouts
@radials
@pytest.mark.parametrize("extra", [0, EXTRA])
def test_one_degree_alone_equals_its_rows_of_the_full_output(lmax, mmax, radial_kind, extra):
    layer = make(lmax, mmax, extra)
    features, radial = inputs(layer, radial_kind)
    output, scalars = apply(layer, features, radial)
    assert scalars.shape == (len(features), extra)
    for degree in range(lmax + 1):
        rows, same_scalars = apply(layer, features, radial, degree)
        wanted = output[:, layer.layout.rows_within_degree(degree)]
        assert rows.shape == wanted.shape
        assert largest(rows - wanted) < 1e-13
        assert torch.allclose(same_scalars, scalars, rtol=0, atol=1e-13)


@layouts
def test_orders_do_not_mix(lmax, mmax):
    layer = make(lmax, mmax)
    features, _ = inputs(layer, "none")
    before, _ = layer(features)
    for order in range(mmax + 1):
        part = layer.layout.order_slice(order)
        changed = features.clone()
        changed[:, part] += 1.0
        moved = (layer(changed)[0] - before).abs().amax(dim=(0, 2))
        others = torch.ones(layer.layout.size, dtype=torch.bool)
        others[part] = False
        assert float(moved[part].min()) > 1e-3
        assert not moved[others].any()


@layouts
def test_features_without_radial_weights_are_cut_into_orders(lmax, mmax):
    layer = make(lmax, mmax)
    features, _ = inputs(layer, "none")
    for ours, wanted in zip(layer(features), apply(layer, features, None), strict=True):
        assert torch.equal(ours, wanted)
