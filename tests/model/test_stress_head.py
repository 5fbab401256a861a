"""Direct stress heads.

They are fairchem-core 1's: an MLP acts on every tensor component by itself, so a general
rotation does not turn the tensor; only the isotropic part is exact. Rotations that merely
exchange the axes do turn it.
"""

from __future__ import annotations

import pytest
import torch
from helpers import (
    GATE,
    STRESS,
    crystal,
    largest,
    predict,
    random_rotation,
    relative_error,
    rotated,
    slab,
    tiny_model,
)

OPTIONS = {
    "plain": {},
    "edge_level": {"edge_level_mlp": True},
    "both_ends": {"use_source_target_embedding": True, "num_mlp_layers": 3},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def make(decompose: bool, **options):
    head = {**STRESS, "decompose": decompose, **options}
    return tiny_model({"stress": head}, lmax=3, mmax=2, **GATE)


@options
def test_full_stress_is_symmetric(options):
    stress = predict(make(False, **options), slab(), crystal())["stress"]
    assert stress.shape == (2, 9)
    assert largest(stress) > 0
    stress = stress.view(2, 3, 3)
    assert relative_error(stress.transpose(1, 2), stress) < 1e-13


@options
def test_full_stress_follows_a_cyclic_exchange_of_the_axes(options):
    cyclic = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=torch.float64)
    model = make(False, **options)
    before = predict(model, slab())["stress"].view(3, 3)
    after = predict(model, rotated(slab(), cyclic))["stress"].view(3, 3)
    assert relative_error(after, cyclic @ before @ cyclic.T) < 1e-9


@options
def test_isotropic_part_is_invariant_under_every_rotation(options):
    model = make(True, **options)
    outputs = predict(model, slab())
    assert outputs["stress_isotropic"].shape == (1, 1)
    assert outputs["stress_anisotropic"].shape == (1, 5)
    assert largest(outputs["stress_anisotropic"]) > 0
    rotated_outputs = predict(model, rotated(slab(), random_rotation(2)))
    assert relative_error(rotated_outputs["stress_isotropic"], outputs["stress_isotropic"]) < 1e-9


@options
@pytest.mark.parametrize("decompose", [False, True])
def test_stress_is_intensive_and_does_not_depend_on_order_position_or_batch(options, decompose):
    model = make(decompose, **options)
    alone = predict(model, crystal())
    moved = crystal()[[2, 0, 3, 1]]
    moved.positions += [1.3, -7.0, 2.2]
    for other in (moved, crystal().repeat((2, 1, 1))):
        for name, value in predict(model, other).items():
            assert relative_error(value, alone[name]) < 1e-9
    for name, value in predict(model, slab(), crystal()).items():
        assert relative_error(value[1:], alone[name]) < 1e-9


def test_an_extensive_decomposed_output_is_the_sum_over_atoms_over_their_average_number():
    mean = predict(make(True), crystal(), slab())
    summed = predict(make(True, extensive=True, avg_num_nodes=7.0), crystal(), slab())
    sizes = torch.tensor([[len(crystal())], [len(slab())]])
    for name, value in mean.items():
        assert relative_error(summed[name], value * sizes / 7.0) < 1e-13
