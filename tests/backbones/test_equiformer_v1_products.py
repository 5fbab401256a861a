"""The operators of Equiformer against e3nn's, and what checkpoints rely on."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from helpers import largest, randn, random_rotation, randomise, relative_error

from eqv2_plugin.backbones.equiformer_v1.edges import Rotations
from eqv2_plugin.backbones.equiformer_v1.irreps import join_degrees, split_degrees
from eqv2_plugin.backbones.equiformer_v1.linear import DegreeLinear
from eqv2_plugin.backbones.equiformer_v1.norm import DegreeNorm
from eqv2_plugin.backbones.equiformer_v1.paths import creation_order, make_path, paths_to
from eqv2_plugin.backbones.equiformer_v1.products import EdgeProduct, FrameFeatures

CHANNELS = {1: (5, 3), 2: (5, 3, 4), 3: (5, 3, 4, 2)}
degrees = pytest.mark.parametrize("lmax", [1, 2, 3])


def e3nn_layout(blocks: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([block.transpose(1, 2).flatten(1) for block in blocks], dim=1)


def e3nn_product(channels: tuple[int, ...]) -> o3.TensorProduct:
    """Depthwise, each path with weights and a slot of its own, sorted by output degree."""
    lmax = len(channels) - 1
    inputs = [(count, (degree, 1)) for degree, count in enumerate(channels)]
    paths = sorted(creation_order(lmax), key=lambda path: path[2])
    slots = [(channels[path[0]], (path[2], 1)) for path in paths]
    instructions = [(p[0], p[1], i, "uvu", True, 1.0) for i, p in enumerate(paths)]
    return o3.TensorProduct(
        inputs,
        o3.Irreps.spherical_harmonics(lmax, p=1),
        slots,
        instructions,
        irrep_normalization="component",
        path_normalization="none",
        internal_weights=False,
        shared_weights=False,
    ).double()


@pytest.fixture
def exact_tables():
    """e3nn keeps its tables in the default dtype of the moment."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@degrees
@pytest.mark.usefixtures("exact_tables")
@pytest.mark.parametrize("shared", [False, True], ids=["scales by edge", "shared scales"])
def test_a_product_in_the_frame_of_the_edge_is_that_of_e3nn(lmax, shared):
    channels, out = CHANNELS[lmax], tuple(count + 1 for count in CHANNELS[lmax])
    vectors = randn(0, 7, 3)
    vectors[:2] = torch.tensor([[0, 1.3, 0], [0, -0.7, 0]])
    blocks = [randn(1 + l, 7, 2 * l + 1, count) for l, count in enumerate(channels)]
    ours = randomise(EdgeProduct(channels, out).double(), 3)
    scales = randn(4, *([] if shared else [7]), sum(ours.num_slots))

    rotations = Rotations(lmax).double()(vectors)
    rotated = [torch.bmm(r, block) for r, block in zip(rotations, blocks, strict=True)]
    found = ours(FrameFeatures.of_rows(rotated), scales)
    for degree, rows in enumerate(found):
        # [E, 2l + 1, C] back in the global frame.
        back = rotations[degree][:, : 2 * degree + 1].transpose(1, 2)
        found[degree] = torch.bmm(back, torch.cat(rows, dim=1))

    # e3nn's weights lie in the order in which its instructions do, by output degree.
    parts = iter(scales.expand(7, -1).split([channels[p.source] for p in all_paths(lmax)], dim=1))
    by_path = {path.degrees: part for path, part in zip(all_paths(lmax), parts, strict=True)}
    order = sorted(creation_order(lmax), key=lambda path: path[2])
    harmonics = o3.spherical_harmonics(
        list(range(lmax + 1)), vectors, normalize=True, normalization="component"
    )
    weights = torch.cat([by_path[path] for path in order], dim=1)
    slots = e3nn_product(channels)(e3nn_layout(blocks), harmonics, weights)
    start = 0
    for degree in range(lmax + 1):
        sources = [path[0] for path in order if path[2] == degree]
        pieces = {}
        for path in (path for path in order if path[2] == degree):
            size = channels[path[0]] * (2 * degree + 1)
            piece = slots[:, start : start + size].unflatten(1, (channels[path[0]], -1))
            pieces[path] = piece.transpose(1, 2)
            start += size
        assert len(pieces) == len(sources)
        joined = torch.cat([pieces[path.degrees] for path in paths_to(degree, lmax)], dim=2)
        wanted = joined @ ours.weight[degree].T
        assert largest(wanted) > 0
        assert relative_error(found[degree], wanted) < 1e-12


def all_paths(lmax: int):
    return [path for degree in range(lmax + 1) for path in paths_to(degree, lmax)]


def test_couplings_have_the_signs_that_trained_weights_know():
    """Checkpoints would change their energies with another sign convention of e3nn's."""
    found = {p.degrees: p.couplings[-1] for p in all_paths(3)}
    negative = {degrees for degrees, value in found.items() if value < 0}
    assert all(abs(value) > 1e-3 for value in found.values())
    assert negative == {
        (1, 2, 1), (1, 3, 2), (2, 2, 2), (2, 3, 1), (2, 3, 2), (2, 3, 3), (3, 2, 3), (3, 3, 2),
        (3, 3, 3),
    }  # fmt: skip
    assert abs(make_path(1, 2, 2).couplings[1] - 2.5**0.5) < 1e-12


def test_rotations_take_edges_to_the_polar_axis_and_odd_rows_follow_the_even_ones():
    vectors = randn(5, 6, 3)
    blocks = Rotations(3).double()(vectors)
    harmonics = o3.spherical_harmonics([1, 2, 3], vectors, True, "component")
    for degree, y in zip((1, 2, 3), harmonics.split([3, 5, 7], dim=1), strict=True):
        rows = torch.bmm(blocks[degree], y.unsqueeze(2)).squeeze(2)
        at_pole = torch.zeros_like(rows)
        at_pole[:, 0] = (2 * degree + 1) ** 0.5
        assert largest(rows - at_pole) < 1e-12
        even, odd = blocks[degree][:, 1 : 2 * degree + 1], blocks[degree][:, 2 * degree + 1 :]
        turned = torch.stack((-even[:, 1::2], even[:, 0::2]), dim=2).flatten(1, 2)
        assert torch.equal(odd, turned)


@degrees
def test_the_norm_has_statistics_of_its_own_for_every_degree(lmax):
    channels = CHANNELS[lmax]
    norm = DegreeNorm(channels).double()
    blocks = [10.0**l * randn(l, 4, 2 * l + 1, count) for l, count in enumerate(channels)]
    found = split_degrees(norm(join_degrees(blocks)), channels)
    for degree, block in enumerate(found):
        assert largest(block.square().mean((1, 2)) - 1.0) < 1e-4
        if degree == 0:
            assert largest(block.mean(2)) < 1e-12
        else:
            along = torch.nn.functional.cosine_similarity(
                block.flatten(1), blocks[degree].flatten(1)
            )
            assert largest(along - 1.0) < 1e-12
    rotation = o3.Irreps("1x2e").D_from_matrix(random_rotation(0)) if lmax > 1 else None
    if rotation is not None:
        turned = [
            *blocks[:2],
            torch.einsum("ij,njc->nic", rotation.double(), blocks[2]),
            *blocks[3:],
        ]
        again = split_degrees(norm(join_degrees(turned)), channels)[2]
        wanted = torch.einsum("ij,njc->nic", rotation.double(), found[2])
        assert relative_error(again, wanted) < 1e-12


def test_a_linear_layer_computes_and_trains_the_degrees_that_are_asked_for():
    layer = randomise(DegreeLinear((4, 3, 2), (5, 2, 3)).double(), 0)
    part = DegreeLinear((4, 3, 2), (5, 2, 3), degrees=range(1, 2)).double()
    part.load_state_dict(layer.state_dict())
    blocks = [randn(l, 6, 2 * l + 1, count) for l, count in enumerate((4, 3, 2))]
    whole = split_degrees(layer(join_degrees(blocks)), (5, 2, 3))
    assert torch.equal(part(blocks[1].flatten(1)), whole[1].flatten(1))
    assert {n for n, p in part.named_parameters() if p.requires_grad} == {"weight.1"}
    assert relative_error(whole[0][:, 0], blocks[0][:, 0] @ layer.weight[0].T + layer.bias) < 1e-14
