"""Which parameters act, learn, and decay."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from fairchem.core.units.mlip_unit.mlip_unit import _get_optimizer_wd
from helpers import (
    DIRECT_HEADS,
    GATE,
    STRESS,
    activations,
    batch_of,
    conservative_model,
    crystal,
    flatten,
    largest,
    molecule,
    randn,
    slab,
    tiny_model,
)

VARIANTS = {
    "full_order": {},
    "truncated": {"lmax": 3, "mmax": 1},
    "no_order": {"mmax": 0},
    "shared_pairs": {"atom_edge_embedding": "shared", "use_m_share_rad": True},
    "no_pairs": {"atom_edge_embedding": "none", "distance_basis": "learnable_gaussian"},
    "no_renorm": {"use_attn_renorm": False, "norm_type": "layer_norm"},
    "rms_norm": {"norm_type": "rms_norm_sh", "num_layers": 1},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def gradients(model) -> dict[str, torch.Tensor | None]:
    """Of a loss in which every output takes part with a random weight."""
    outputs = flatten(model.train()(batch_of(slab(), crystal(), molecule())))
    loss = sum((v * randn(i, *v.shape)).sum() for i, v in enumerate(outputs.values()))
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_all_learn_unless_frozen(model) -> None:
    for name, gradient in gradients(model).items():
        assert (gradient is not None) == model.get_parameter(name).requires_grad, name
        assert gradient is None or largest(gradient) > 0, name


def calm(**options) -> dict:
    return {"alpha_drop": 0.0, "drop_path_rate": 0.0, **options}


@activations
@variants
def test_every_parameter_of_an_energy_and_force_model_learns_unless_frozen(options, variant):
    assert_all_learn_unless_frozen(tiny_model(**calm(**options, **variant)))


@activations
def test_every_parameter_of_a_conservative_model_gets_a_gradient_unless_frozen(options):
    """Distributed training waits for the gradient of every parameter, be it zero."""
    model = conservative_model(stress=False, **calm(**options))
    for name, gradient in gradients(model).items():
        assert (gradient is not None) == model.get_parameter(name).requires_grad, name


@pytest.mark.parametrize("decompose", [False, True])
def test_every_parameter_of_a_stress_head_learns(decompose):
    model = tiny_model({**DIRECT_HEADS, "stress": {**STRESS, "decompose": decompose}}, **calm())
    assert_all_learn_unless_frozen(model)


@activations
@variants
def test_frozen_parameters_have_no_effect(options, variant):
    model = tiny_model(**options, **variant)
    data = batch_of(slab(), crystal())
    before = model(data.clone())
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    with torch.no_grad():
        for i, parameter in enumerate(frozen.values()):
            parameter.add_(10 * randn(i, *parameter.shape))
    after = model(data.clone())
    for name in ("energy", "forces"):
        assert largest(after[name] - before[name]) < 1e-14


@activations
def test_only_heads_have_frozen_parameters(options):
    model = tiny_model(**options)
    assert all(parameter.requires_grad for parameter in model.backbone.parameters())
    frozen = {n for n, p in model.output_heads.named_parameters() if not p.requires_grad}
    assert "forces.vector_block.projection.bias" in frozen
    assert "forces.vector_block.so2_linear_2.order_weights.1" in frozen


@activations
@pytest.mark.parametrize("norm_type", ["layer_norm", "layer_norm_sh", "rms_norm_sh"])
@pytest.mark.parametrize("basis", ["gaussian", "learnable_gaussian"])
def test_exactly_biases_norms_and_the_learnable_basis_do_not_decay(options, norm_type, basis):
    heads = {**DIRECT_HEADS, "stress": STRESS}
    model = tiny_model(heads, norm_type=norm_type, distance_basis=basis, **options)

    def exempt(name: str) -> bool:
        parts = name.split(".")
        in_norm = any("norm" in part for part in parts)
        return parts[-1] == "bias" or in_norm or name.startswith("backbone.distance_basis.")

    names = {name for name, _ in model.named_parameters()}
    assert model.no_weight_decay() == {name for name in names if exempt(name)}
    decaying = names - model.no_weight_decay()
    assert {
        "backbone.atom_embedding.weight",
        "backbone.blocks.0.attention.alpha_dot",
        "backbone.blocks.1.attention.so2_linear_1.order_weights.0",
        "backbone.blocks.0.attention.atom_pairs.source.weight",
        "backbone.blocks.0.feed_forward.linear_1.weight",
    } <= decaying


def test_fairchem_puts_exactly_these_parameters_into_the_group_without_decay():
    model = tiny_model(distance_basis="learnable_gaussian", **GATE)
    optimizer = _get_optimizer_wd(partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.01), model)
    without, decaying = optimizer.param_groups
    assert (without["weight_decay"], decaying["weight_decay"]) == (0, 0.01)
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    found = {names[id(p)] for p in without["params"]}
    assert found == model.no_weight_decay() & set(names.values())
    assert found | {names[id(p)] for p in decaying["params"]} == set(names.values())
