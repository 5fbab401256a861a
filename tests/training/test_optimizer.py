"""The recipes' optimizer: one operator, the same numbers, and old runs go on."""

from __future__ import annotations

import copy

import hydra
import pytest
import torch
from helpers import largest, randn
from recipes import composed
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict


def optimizer_of(model: torch.nn.Module, **changes) -> torch.optim.Optimizer:
    """That of a recipe; ``fused=None`` as before there was a choice."""
    options = composed("eqv2_dens_oc20").runner.train_eval_unit.optimizer_fn
    return hydra.utils.instantiate(options, **changes)(model.parameters())


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    model(randn(seed, 9, 5).float()).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("before", [None, True], ids=["an old run", "a run of now"])
def test_a_run_goes_on_with_the_numbers_of_an_undisturbed_one(before):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    optimizer = optimizer_of(model, fused=before)
    resumed = copy.deepcopy(model)
    for seed in range(3):
        step(model, optimizer, seed)
    saved = copy.deepcopy(get_state_dict(model, optimizer))
    step(model, optimizer, 3)
    again = optimizer_of(resumed)
    assert again.param_groups[0]["fused"]
    weights, state = saved
    set_state_dict(resumed, again, model_state_dict=weights, optim_state_dict=state)
    step(resumed, again, 3)
    for one, other in zip(resumed.parameters(), model.parameters(), strict=True):
        assert largest((one - other).detach()) < 1e-6 * largest(other.detach())
        assert largest((one - weights_of(saved, one, resumed)).detach()) > 1e-5


def weights_of(saved, parameter: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    name = next(name for name, own in model.named_parameters() if own is parameter)
    return saved[0][name]
