"""The same bits again, copies, lower precision, and autocast."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from helpers import (
    BACKBONES,
    DIRECT_HEADS,
    STRESS,
    WITHOUT_STRESS_HEAD,
    backbones,
    batch_of,
    boxed_molecule,
    conservative_model,
    crystal,
    flatten,
    largest,
    relative_error,
    slab,
    tiny_model,
)

HEADS = {**DIRECT_HEADS, "stress": STRESS}
CALM = {"alpha_drop": 0.0, "drop_path_rate": 0.0}


def direct(kind: str):
    options = BACKBONES[kind]
    if kind == "toy":
        return lambda: tiny_model(**options)
    heads = DIRECT_HEADS if options["backbone"] in WITHOUT_STRESS_HEAD else HEADS
    return lambda: tiny_model(heads, **CALM, **options)


def conservative(kind: str):
    options = BACKBONES[kind] | ({} if kind == "toy" else CALM)
    return lambda: conservative_model(stress=False, **options)


MODELS = {kind: direct(kind) for kind in ("gate", "s2_grid_mlp", "sep_s2_grid_mlp", "v1", "toy")}
MODELS |= {f"conservative_{k}": conservative(k) for k in ("gate", "s2_grid_mlp", "v1", "toy")}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def data(dtype: torch.dtype = torch.float32):
    return batch_of(slab(), boxed_molecule(), crystal(), dtype=dtype)


def bits(model, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    return [value.detach() for value in flatten(model(data(dtype))).values()]


def assert_same_bits(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert len(first) == len(second) > 0
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@models
def test_two_calls_give_the_same_bits(make):
    model = make().float()
    assert_same_bits(bits(model), bits(model))


@models
def test_a_call_leaves_its_input_as_it_was(make):
    model, batch = make().float(), data()
    before = {key: value.clone() for key, value in batch if torch.is_tensor(value)}
    first = [value.detach() for value in flatten(model(batch)).values()]
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert_same_bits([v.detach() for v in flatten(model(batch)).values()], first)


@models
def test_a_deep_copy_gives_the_same_bits_and_is_independent(make):
    model = make().float()
    reference = bits(model)
    twin = copy.deepcopy(model)
    assert_same_bits(bits(twin), reference)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(0.1)
    assert_same_bits(bits(model), reference)
    assert largest(bits(twin)[0] - reference[0]) > 0


@models
def test_a_fresh_model_with_the_saved_state_gives_the_same_bits(make):
    model, fresh = make().float(), make().float()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_same_bits(bits(fresh), bits(model))


@models
def test_gradients_of_the_parameters_have_the_same_bits_on_two_passes(make):
    # In training a conservative model keeps the graph of its forces.
    model = make().float().train()
    passes = []
    for _ in range(2):
        model.zero_grad()
        sum(value.square().sum() for value in flatten(model(data())).values()).backward()
        passes.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert_same_bits(*passes)


@backbones
def test_float32_is_close_to_float64(options):
    single, double = tiny_model(**options).float(), tiny_model(**options)
    for ours, reference in zip(bits(single), bits(double, torch.float64), strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours.double(), reference) < 1e-4


@models
@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_autocast_is_close_to_float32_and_returns_float32(make, training):
    model = make().float().train(training)
    reference = flatten(model(data()))
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
        outputs = flatten(model(data()))
    for name, value in reference.items():
        assert outputs[name].dtype == torch.float32
        # bfloat16 has 8 bits; the random weights of the test model amplify its rounding.
        assert 0 < relative_error(outputs[name], value) < 0.15, name


@models
def test_bfloat16_autocast_trains_with_gradients_close_to_float32(make):
    model = make().float().train()
    found = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            outputs = flatten(model(data()))
            loss = outputs["energy"].sum() + outputs["forces"].square().sum()
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    reference, lowered = found
    assert reference.keys() == lowered.keys()
    assert all(gradient.dtype == torch.float32 for gradient in lowered.values())
    flat = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in found]
    assert float(torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0)) > 0.98
