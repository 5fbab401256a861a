"""The decomposed stress as one tensor."""

from __future__ import annotations

import numpy as np
import torch
from helpers import crystal, predict, slab, tiny_model

from eqv2_plugin.heads.joined_stress import symmetric_tensor_basis

PARTS = {"module": "eqv2_plugin.heads.stress.StressHead", "decompose": True}
JOINED = {
    "module": "eqv2_plugin.heads.joined_stress.JoinedStressHead",
    "isotropic": {"mean": -0.3, "rmsd": 0.5},
    "anisotropic": {"mean": 0.0, "rmsd": 2.0},
}


def test_the_basis_is_orthonormal_symmetric_and_traceless_from_degree_2_on():
    basis = symmetric_tensor_basis()
    np.testing.assert_allclose(basis @ basis.T, np.eye(6), atol=1e-14)
    tensors = basis.reshape(6, 3, 3)
    np.testing.assert_array_equal(tensors, tensors.transpose(0, 2, 1))
    np.testing.assert_allclose(np.trace(tensors[1:], axis1=1, axis2=2), 0, atol=1e-14)


def test_trace_and_norm_are_those_of_the_parts():
    parts = predict(tiny_model({"stress": PARTS}, seed=5), crystal(), slab())
    joined = predict(tiny_model({"stress": JOINED}, seed=5), crystal(), slab())["stress"]
    assert joined.shape == (2, 9)
    isotropic = parts["stress_isotropic"][:, 0] * 0.5 - 0.3
    anisotropic = parts["stress_anisotropic"] * 2.0
    tensor = joined.reshape(2, 3, 3)
    trace = tensor.diagonal(dim1=1, dim2=2).sum(1)
    assert torch.allclose(trace, isotropic * 3**0.5, atol=1e-12)
    norm = isotropic**2 + (anisotropic**2).sum(1)
    assert torch.allclose((joined**2).sum(1), norm, atol=1e-12)
    assert float(anisotropic.abs().max()) > 1e-3


def test_components_of_degree_2_are_ordered_as_the_published_targets():
    basis = symmetric_tensor_basis()[1:].reshape(5, 3, 3)
    stress = np.array([[1.0, 2.0, 3.0], [2.0, 5.0, 7.0], [3.0, 7.0, -4.0]])
    components = np.einsum("kij,ij->k", basis, stress)
    xz, xy, yz = 3.0, 2.0, 7.0
    expected = [
        2**0.5 * xz,
        2**0.5 * xy,
        (2 * 5.0 - 1.0 + 4.0) / 6**0.5,
        2**0.5 * yz,
        (-4.0 - 1.0) / 2**0.5,
    ]
    np.testing.assert_allclose(components, expected, atol=1e-12)
