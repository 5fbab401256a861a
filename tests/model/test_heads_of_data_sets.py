"""A model with a head for each data set gives each structure what its own data set's head does."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms
from helpers import CONSERVATIVE, batch_of, crystal, molecule, slab, tiny_model
from torch.utils import _pytree as pytree

from eqv2_plugin.graphs.padding import Sizes, pad, sizes_of, unpad
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.region import inputs_of, record

STRUCTURES = [crystal(), molecule(), slab(), Atoms("He2", [[0, 0, 0], [0, 0, 2.0]])]
SETS = ["dft", "hybrid", "dft", "hybrid"]
OPTIONS = {"direct_forces": False, "regress_stress": True, "alpha_drop": 0.0, "drop_path_rate": 0.0}
HEADS = {name: {**CONSERVATIVE, "dataset": name} for name in ("dft", "hybrid")}


def together() -> EquiformerV2:
    return tiny_model(HEADS, **OPTIONS)


def alone(model: EquiformerV2, name: str) -> EquiformerV2:
    """A model of one data set, with the weights of that one's head."""
    found = tiny_model({"gradient": CONSERVATIVE}, seed=1, **OPTIONS)
    head = f"output_heads.{name}."
    state = {
        key.replace(head, "output_heads.gradient."): value
        for key, value in model.state_dict().items()
        if key.startswith(("backbone.", head))
    }
    found.load_state_dict(state, strict=True)
    return found


def batch(structures=STRUCTURES, sets=SETS):
    data = batch_of(*structures)
    data.dataset = list(sets)
    return data


def rows(data, label: str, name: str) -> torch.Tensor:
    own = torch.tensor([one == name for one in data.dataset])
    return own[data.batch] if label == "forces" else own


def test_outputs_of_a_mixed_batch_are_those_of_models_of_their_own():
    model, data = together(), batch()
    found = model(data)
    assert set(found) == model.output_names
    for name in HEADS:
        expected = alone(model, name)(batch())
        for label, value in expected.items():
            own, output = rows(data, label, name), found[f"{name}_{label}"][label]
            torch.testing.assert_close(
                output[own], value[label][own], rtol=1e-12, atol=1e-12, equal_nan=True
            )
            assert not output[~own].any()


def test_gradients_of_one_data_set_reach_its_own_head_and_the_backbone():
    model, data = together().train(), batch()
    model(data)["dft_forces"]["forces"].square().sum().backward()
    single = alone(model, "dft").train()
    of_dft = batch(STRUCTURES[::2], SETS[::2])
    single(of_dft)["forces"]["forces"].square().sum().backward()
    for name, parameter in single.named_parameters():
        other = model.get_parameter(name.replace("gradient", "dft"))
        if parameter.grad is not None:
            torch.testing.assert_close(other.grad, parameter.grad, rtol=1e-9, atol=1e-10)
    others = [p.grad for p in model.output_heads["hybrid"].parameters() if p.requires_grad]
    # Data-parallel training accepts no parameter without a gradient, though it be zero.
    assert not any(grad.any() for grad in others if grad is not None)
    assert sum(grad is not None for grad in others) == sum(
        p.grad is not None for p in model.output_heads["dft"].parameters() if p.requires_grad
    )


def test_padded_batches_as_they_are_recorded_give_the_same():
    model, data = together(), batch()
    expected = model(batch())
    static = model._static_batch(data)
    own = sizes_of(static)
    sizes = Sizes(own.structures + 1, own.atoms + 5, own.edges + 9)
    for label, value in model.outputs_on(pad(static, sizes)).items():
        (found,), (wanted,) = value.values(), expected[label].values()
        torch.testing.assert_close(
            unpad(found, sizes, own), wanted, rtol=1e-10, atol=1e-10, equal_nan=True
        )


@pytest.mark.slow
def test_what_is_recorded_for_compiled_steps_tells_data_sets_apart():
    model = tiny_model(HEADS, num_layers=1, **OPTIONS).train()
    mixed, other = batch(), batch(sets=SETS[::-1])
    graph, form = record(model, model._static_batch(mixed))
    for data in (mixed, other):
        static = model._static_batch(data)
        outputs = pytree.tree_unflatten(graph(*inputs_of(model, static)), form)
        expected = model.outputs_on(static)
        for name, value in pytree.tree_leaves_with_path(expected):
            found = pytree.key_get(outputs, name)
            torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)


def test_a_data_set_without_a_head_is_named():
    with pytest.raises(ValueError, match=r"data set 'hse'.*heads for dft, hybrid"):
        together()(batch([molecule()], ["hse"]))
