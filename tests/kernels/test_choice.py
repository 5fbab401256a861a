"""When fused kernels run, and that a model's results do not depend on it."""

from __future__ import annotations

import dataclasses
import logging
import sys

import pytest
import torch
from helpers import batch_of, conservative_model, flatten, relative_error, slab, tiny_model
from kernel_inputs import outputs_and_gradients, relative_errors

import eqv2_plugin.kernels
from eqv2_plugin.kernels import choice, fused, numba_runtime
from eqv2_plugin.kernels.numba_kernels import NumbaKernels
from eqv2_plugin.kernels.reference import REFERENCE

CHANNELS = {
    "sphere_channels": 16,
    "attn_hidden_channels": 16,
    "num_heads": 2,
    "attn_value_channels": 16,
    "ffn_hidden_channels": 16,
}


@pytest.fixture
def any_size(monkeypatch):
    """Small systems on fused kernels, too."""
    monkeypatch.setattr(choice, "_SMALL", 0)


@pytest.fixture
def calls(monkeypatch):
    """Names of the kernels that ran."""
    seen = []
    for name in ("RotateAndScale", "WeighRotateSum", "SampledSiLU"):
        function = getattr(fused, name)

        class Counted(function):
            @staticmethod
            def forward(ctx, *arguments, _name=name, _forward=function.forward):
                seen.append(_name)
                return _forward(ctx, *arguments)

        monkeypatch.setattr(fused, name, Counted)
    return seen


def chosen(dtype, features=2**20, channels=16):
    return choice.choose_kernels(torch.zeros(1, dtype=dtype), features, channels)


@pytest.mark.parametrize("activation", ["sep_s2", "s2", "gate"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_model_returns_the_same_outputs_and_gradients(
    activation, shared, any_size, calls, monkeypatch
):
    options = {
        **CHANNELS, "lmax": 3, "mmax": 2, "activation": activation, "alpha_drop": 0.0,
        "drop_path_rate": 0.0, "use_m_share_rad": shared, "use_grid_mlp": activation != "gate",
    }  # fmt: skip
    model = tiny_model(**options)
    exact = outputs_and_gradients(model.double(), slab())
    with monkeypatch.context() as context:
        context.setattr(choice, "numba_works", lambda: False)
        plain = outputs_and_gradients(model.float(), slab())
    assert not calls
    found = outputs_and_gradients(model, slab())
    expected = {"RotateAndScale", "WeighRotateSum"}
    assert set(calls) == expected | (set() if activation == "gate" else {"SampledSiLU"})
    # float32 has errors of its own; those with kernels must be of the same size.
    assert max(relative_errors(found, exact)) < 2 * max(relative_errors(plain, exact)) + 1e-6


def test_chunks_change_nothing(any_size, calls):
    model = tiny_model(**CHANNELS).float().eval()
    batch = batch_of(slab(), dtype=torch.float32)
    with torch.no_grad():
        whole = flatten(model(batch.clone()))
        config = model.backbone.config
        model.backbone.config = dataclasses.replace(config, edge_chunk_size=7)
        count = len(calls)
        pieces = flatten(model(batch.clone()))
    assert len(calls) > 2 * count
    for name, value in whole.items():
        assert relative_error(pieces[name].double(), value.double()) < 1e-5


def test_conservative_models_keep_to_operators_with_all_derivatives(any_size, calls):
    model = conservative_model(stress=False, **CHANNELS).float()
    flatten(model(batch_of(slab(), dtype=torch.float32)))
    assert not calls


def test_small_systems_and_odd_channels_keep_to_torch(calls):
    for options in (CHANNELS, {**CHANNELS, "sphere_channels": 12}):
        with torch.no_grad():
            tiny_model(**options).float()(batch_of(slab(), dtype=torch.float32))
    assert not calls


def test_the_log_says_which_kernels_run(caplog):
    choice.numba_works.cache_clear()
    with caplog.at_level(logging.INFO):
        assert choice.numba_works()
    assert "attention kernels on the CPU: compiled by Numba" in caplog.text


def test_without_a_working_compiler_torch_does_the_job(monkeypatch, caplog, any_size, calls):
    def broken(**options):
        raise RuntimeError("no LLVM here")

    monkeypatch.setattr(numba_runtime, "njit", broken)
    choice.numba_works.cache_clear()
    try:
        with caplog.at_level(logging.INFO), torch.no_grad():
            tiny_model(**CHANNELS).float()(batch_of(slab(), dtype=torch.float32))
    finally:
        choice.numba_works.cache_clear()
    assert not calls
    assert "torch operators (Numba fails: no LLVM here)" in caplog.text


@pytest.mark.parametrize(
    ("options", "small", "reason"),
    [
        ({}, True, "a small system"),
        ({"sphere_channels": 12}, False, "channels that are no multiple of 16"),
        ({"grid_resolution": None}, False, "S2 grid: an odd number of longitudes"),
    ],
)
def test_the_log_says_why_kernels_do_not_run(options, small, reason, monkeypatch, caplog):
    if not small:
        monkeypatch.setattr(choice, "_SMALL", 1)
    fused.decline.cache_clear()
    model, batch = (
        tiny_model(**{**CHANNELS, **options}).float(),
        batch_of(slab(), dtype=torch.float32),
    )
    with caplog.at_level(logging.INFO), torch.no_grad():
        model(batch.clone())
        model(batch.clone())
    assert caplog.text.count(f"attention kernels on the CPU: torch operators ({reason})") == 1


@pytest.mark.parametrize(
    ("device", "dtype", "channels", "declined"),
    [
        ("cpu", torch.float32, 16, True),
        ("cpu", torch.float32, 12, False),
        ("cpu", torch.float64, 16, False),
        ("cuda", torch.float32, 16, True),
        ("cuda", torch.float32, 12, True),
        ("cuda", torch.float64, 16, True),
        ("mps", torch.float32, 16, False),
    ],
)
def test_torch_compile_is_declined_where_our_own_path_is_better(device, dtype, channels, declined):
    where = torch.device(device), dtype, channels
    assert choice.better_uncompiled(*where) == declined
    with choice.use_fused_kernels(False):
        assert not choice.better_uncompiled(*where)


def test_torch_compile_is_not_declined_without_kernels_or_for_gradients(monkeypatch):
    positions = torch.zeros(3, 3)
    assert tiny_model(**CHANNELS).backbone.better_uncompiled(positions)
    assert not conservative_model(**CHANNELS).backbone.better_uncompiled(positions)
    monkeypatch.setattr(choice, "numba_works", lambda: False)
    assert not tiny_model(**CHANNELS).backbone.better_uncompiled(positions)


def test_kernels_can_be_switched_off_for_a_while_or_for_good(any_size, calls):
    model = tiny_model(**CHANNELS).float()
    batch = batch_of(slab(), dtype=torch.float32)
    with torch.no_grad():
        with choice.use_fused_kernels(False):
            with choice.use_fused_kernels(True):
                assert isinstance(chosen(torch.float32), NumbaKernels)
            model(batch.clone())
            assert chosen(torch.float32) is REFERENCE
        assert not calls
        model(batch.clone())
        count = len(calls)
        assert count > 0
        later = choice.use_fused_kernels(False)
        model(batch.clone())
        assert len(calls) == count
        later.close()
        model(batch.clone())
        assert len(calls) == 2 * count


def test_each_device_has_its_compiler():
    compilers = {"cpu": "numba", "cuda": "triton", "mps": None}
    assert {name: choice.compiler_of(torch.device(name)) for name in compilers} == compilers


def test_triton_takes_small_tensors_of_float32_and_bfloat16_under_autocast(monkeypatch):
    kind = pytest.importorskip("eqv2_plugin.kernels.triton_kernels").TritonKernels
    monkeypatch.setattr(choice, "compiler_of", lambda device: "triton")
    monkeypatch.setattr(choice, "triton_works", lambda device: True)
    assert isinstance(chosen(torch.float32, features=1, channels=3), kind)
    # Without a GPU torch ignores its autocast.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.bfloat16)
    assert isinstance(chosen(torch.float32), kind)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device: torch.float16)
    assert chosen(torch.float32) is REFERENCE
    monkeypatch.undo()
    monkeypatch.setattr(choice, "compiler_of", lambda device: "triton")
    monkeypatch.setattr(choice, "triton_works", lambda device: True)
    assert chosen(torch.float64) is REFERENCE
    monkeypatch.setattr(choice, "triton_works", lambda device: False)
    assert chosen(torch.float32) is REFERENCE


def test_without_triton_torch_does_the_job(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "eqv2_plugin.kernels.triton_kernels", raising=False)
    monkeypatch.delattr(eqv2_plugin.kernels, "triton_kernels", raising=False)
    monkeypatch.setattr(choice, "compiler_of", lambda device: "triton")
    choice.triton_works.cache_clear()
    try:
        with caplog.at_level(logging.INFO):
            assert chosen(torch.float32) is REFERENCE
            assert chosen(torch.float32) is REFERENCE
    finally:
        choice.triton_works.cache_clear()
    assert caplog.text.count("attention kernels on the GPU: torch operators (Triton fails: ") == 1
