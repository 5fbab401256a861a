"""Whole models on Triton kernels against torch operators; run by test_triton.py."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from ase.build import molecule
from helpers import batch_of, flatten, relative_error, tiny_model
from triton_device import DEVICE

from eqv2_plugin.kernels import choice, triton_reduction, triton_rotation, triton_sphere

SMALL = {
    "lmax": 2,
    "mmax": 1,
    "grid_resolution": 6,
    "num_layers": 1,
    "alpha_drop": 0.0,
    "drop_path_rate": 0.0,
}


@pytest.fixture(autouse=True)
def triton_chosen(monkeypatch):
    """The interpreter runs on a CPU, where Numba would be chosen."""
    monkeypatch.setattr(choice, "compiler_of", lambda device: "triton")


@pytest.fixture
def calls(monkeypatch):
    """Kernels that ran."""
    seen = []
    for module in (triton_rotation, triton_reduction, triton_sphere):

        def counted(kernel, *arguments, _module=module, _launch=module.launch, **options):
            seen.append((_module, kernel.__name__))
            _launch(kernel, *arguments, **options)

        monkeypatch.setattr(module, "launch", counted)
    return seen


def water(dtype=torch.float32):
    return batch_of(molecule("H2O"), dtype=dtype).to(DEVICE)


def outputs_and_gradients(model, dtype):
    model.train().to(DEVICE)
    outputs = flatten(model(water(dtype)))
    loss = sum(value.double().square().sum() for value in outputs.values())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()))
    found = {**outputs, **dict(zip(trained, gradients, strict=True))}
    return {name: value.detach().cpu() for name, value in found.items()}


def mean_error(found, exact):
    errors = [relative_error(found[n].double(), v) for n, v in exact.items() if v.any()]
    return sum(errors) / len(errors)


@pytest.mark.parametrize("shared", [False, True])
def test_a_model_returns_the_same_outputs_and_gradients(shared, calls):
    model = tiny_model(**SMALL, use_m_share_rad=shared)
    exact = outputs_and_gradients(model.double(), torch.float64)
    with choice.use_compiled_kernels(False):
        plain = outputs_and_gradients(model.float(), torch.float32)
    assert not calls
    found = outputs_and_gradients(model, torch.float32)
    assert set(calls) == {
        (triton_rotation, "_forward"),
        (triton_rotation, "_backward_radial"),
        (triton_rotation, "_backward_nodes"),
        (triton_reduction, "_forward"),
        (triton_reduction, "_backward"),
        (triton_sphere, "_forward"),
        (triton_sphere, "_backward"),
    }
    # float32 has errors of its own; those with kernels must be of the same size.
    assert mean_error(found, exact) < 2 * mean_error(plain, exact) < 1e-5


def test_bfloat16_under_autocast_is_as_exact_as_torch(calls):
    model = tiny_model(**SMALL)
    exact = outputs_and_gradients(model.double(), torch.float64)
    model.float()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        found = outputs_and_gradients(model, torch.float32)
        count = len(calls)
        with choice.use_compiled_kernels(False):
            plain = outputs_and_gradients(model, torch.float32)
    assert count == len(calls) > 0
    assert mean_error(found, exact) < 1.5 * mean_error(plain, exact) < 0.1


def test_chunks_change_nothing(calls):
    model = tiny_model(**SMALL).float().to(DEVICE)
    with torch.no_grad():
        whole = flatten(model(water()))
        count = len(calls)
        config = model.backbone.config
        model.backbone.config = dataclasses.replace(config, edge_chunk_size=2)
        pieces = flatten(model(water()))
    assert len(calls) == 4 * count
    for name, value in whole.items():
        assert relative_error(pieces[name].double(), value.double()) < 1e-5


def test_the_log_says_which_kernels_run(caplog):
    choice.triton_works.cache_clear()
    with caplog.at_level(logging.INFO):
        assert choice.triton_works(DEVICE)
        assert choice.triton_works(DEVICE)
    assert caplog.text.count("attention kernels on the GPU: compiled by Triton") == 1
