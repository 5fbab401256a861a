"""Single operations against fairchem-core 1.10, all in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from e3nn import o3
from reference_case import fixtures_folder

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import sphere_grid_matrices
from eqv2_plugin.geometry.wigner import (
    rotate_to_edge_frame,
    stretched_coupling,
    truncation_scale,
    wigner_rows,
)
from eqv2_plugin.kernels.interface import RadialWeights
from eqv2_plugin.kernels.reference import blocks_of_orders
from eqv2_plugin.layers.activations import smooth_leaky_relu
from eqv2_plugin.layers.norms import make_norm
from eqv2_plugin.layers.radial import GaussianBasis, RadialFunction
from eqv2_plugin.layers.so2_linear import SO2Linear

OPS = dict(np.load(fixtures_folder() / "ops" / "ops.npz"))
GRIDS = sorted({key.split("/")[1] for key in OPS if key.startswith("grid/")})
NORMS = sorted(
    {tuple(key.split("/")[1:3]) for key in OPS if key.startswith("norm/") and key[-2:] == "/y"}
)
LAYOUTS = sorted({key.split("/")[1] for key in OPS if key.startswith("mapping/")})
RADIAL_NAMES = {"0": "hidden_1", "1": "norm_1", "3": "hidden_2", "4": "norm_2", "6": "output"}


def stored(key: str) -> torch.Tensor:
    return torch.from_numpy(np.array(OPS[key]))


def assert_equal(ours, theirs, tolerance=1e-13):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)


def degrees_of(name: str) -> tuple[int, int]:
    lmax, mmax = name.split("_")[:2]
    return int(lmax[1:]), int(mmax[1:])


@pytest.mark.parametrize("name", GRIDS)
def test_sphere_grid_matrices_equal_the_reference(name):
    lmax, mmax = degrees_of(name)
    resolution = name.split("_r")[1]
    shape = None if resolution == "None" else int(resolution)
    to_grid, from_grid = sphere_grid_matrices(lmax, mmax, shape)
    assert_equal(to_grid, OPS[f"grid/{name}/to"].reshape(to_grid.shape))
    assert_equal(from_grid, OPS[f"grid/{name}/from"].reshape(to_grid.shape).T)


@pytest.mark.parametrize("name", LAYOUTS)
def test_order_major_rows_equal_the_reference(name):
    layout = EdgeLayout(*degrees_of(name))
    order = OPS[f"mapping/{name}/to_m_argmax"]
    degrees = OPS[f"mapping/{name}/l_harmonic"][order]
    orders = OPS[f"mapping/{name}/m_complex"][order]
    assert list(layout.rows) == list(zip(degrees.tolist(), orders.tolist(), strict=True))
    counts = [layout.num_degrees(m) for m in range(layout.mmax + 1)]
    assert counts == OPS[f"mapping/{name}/m_size"].tolist()


@pytest.mark.parametrize("name", LAYOUTS)
def test_truncated_degrees_are_rescaled_as_in_the_reference(name):
    lmax, mmax = degrees_of(name)
    scale = OPS[f"mapping/{name}/rotate_inv_rescale"]
    degrees = OPS[f"mapping/{name}/l_harmonic"]
    for degree in range(lmax + 1):
        block = scale[degree * degree : (degree + 1) ** 2][:, degrees == degree]
        assert_equal(block, np.full_like(block, truncation_scale(degree, mmax)))


def full_wigner(frames: torch.Tensor) -> list[torch.Tensor]:
    couplings = [torch.from_numpy(stretched_coupling(degree)) for degree in range(2, 7)]
    return wigner_rows(frames, EdgeLayout(6, 6), couplings)


def test_wigner_matrices_equal_the_reference():
    vectors = OPS["wigner/vec"]
    axial = np.hypot(vectors[:, 0], vectors[:, 2]) / np.linalg.norm(vectors, axis=1)
    # Next to a pole the reference loses digits in acos.
    near_pole = (axial > 0) & (axial < 1e-6)
    assert near_pole.sum() == 2
    for degree, ours in enumerate(full_wigner(stored("wigner/rot"))):
        rows = slice(degree * degree, (degree + 1) ** 2)
        theirs = OPS["wigner/D_l0to6"][:, rows, rows]
        assert_equal(ours[~near_pole], theirs[~near_pole])
        assert_equal(ours[near_pole], theirs[near_pole], 2e-8)


def test_features_turn_into_the_edge_frame_as_in_the_reference():
    harmonics = stored("sh/component_normalized_l0to6")
    layout = EdgeLayout(6, 6)
    blocks = full_wigner(stored("wigner/rot"))
    rotated = rotate_to_edge_frame((harmonics.unsqueeze(2),), blocks, layout).squeeze(2)
    theirs = stored("sh/D_times_Y")
    degree_major = [layout.row_index[l, m] for l in range(7) for m in range(-l, l + 1)]
    assert_equal(rotated[:13, degree_major], theirs[:13], 1e-12)
    assert_equal(rotated[13:, degree_major], theirs[13:], 2e-7)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("sh/component_normalized_l0to6", {"normalize": True, "normalization": "component"}),
        # As the stress head calls it.
        ("sh/integral_not_normalized_l0to6 (rank2 head)", {"normalize": False}),
    ],
)
def test_spherical_harmonics_have_the_convention_of_the_reference(key, options):
    assert_equal(o3.spherical_harmonics(list(range(7)), stored("sh/vec"), **options), OPS[key])


@pytest.mark.parametrize(("size", "norm_type"), NORMS)
def test_norms_equal_the_reference(size, norm_type):
    prefix, x = f"norm/{size}/{norm_type}/param/", stored(f"norm/{size}/x")
    names = {"affine_weight": "weight", "affine_bias": "bias"}
    state = {
        names.get(key, key.replace("norm_l0", "scalar_norm")): stored(prefix + key)
        for key in (k.removeprefix(prefix) for k in OPS if k.startswith(prefix))
    }
    norm = make_norm(norm_type, int(size[1:]), x.shape[2]).double()
    norm.load_state_dict(state, strict=True)
    assert_equal(norm(x).detach(), OPS[f"norm/{size}/{norm_type}/y"])


def test_gaussian_basis_equals_the_reference():
    centres = OPS["gaussian/offset"]
    basis = GaussianBasis(float(centres[-1]), len(centres)).double()
    assert_equal(basis.centres, centres)
    assert_equal(basis.exponent, OPS["gaussian/coeff"])
    assert_equal(basis(stored("gaussian/dist")), OPS["gaussian/out"])


def test_smooth_leaky_relu_equals_the_reference():
    assert_equal(smooth_leaky_relu(stored("act/x")), OPS["act/smooth_leaky_relu"])


def test_so2_linear_with_its_radial_function_equals_the_reference_convolution():
    lmax, mmax, _, out_channels, extra = OPS["so2conv/LMCout"].tolist()
    x, x_edge = stored("so2conv/x"), stored("so2conv/x_edge")
    layout = EdgeLayout(lmax, mmax)
    layer = SO2Linear(x.shape[2], out_channels, layout, extra).double()
    state = {f"linear_m0.{n}": stored(f"so2conv/param/fc_m0.{n}") for n in ("weight", "bias")}
    for order in range(mmax):
        state[f"order_weights.{order}"] = stored(f"so2conv/param/so2_m_conv.{order}.fc.weight")
    layer.load_state_dict(state, strict=True)

    prefix = "so2conv/param/rad_func.net."
    size = layout.radial_size(layer.in_channels, shared=False)
    radial = RadialFunction(x_edge.shape[1], 6, size, atom_pairs=False).double()
    names = [key.removeprefix(prefix) for key in OPS if key.startswith(prefix)]
    radial.load_state_dict(
        {f"{RADIAL_NAMES[n[0]]}{n[1:]}": stored(prefix + n) for n in names}, strict=True
    )

    to_order_major = OPS[f"mapping/l{lmax}_m{mmax}/to_m_argmax"]
    numbers = radial(x_edge, (None, None), None)
    weights = RadialWeights(lambda columns: numbers[:, columns], layout, layer.in_channels, False)
    blocks = enumerate(blocks_of_orders(x[:, to_order_major], layout))
    scaled = [tuple(part * weights.of_order(m) for part in block) for m, block in blocks]
    y, scalars = layer.from_blocks(scaled)
    assert_equal(y.detach(), OPS["so2conv/y"][:, to_order_major])
    assert_equal(scalars.detach(), OPS["so2conv/extra"])
