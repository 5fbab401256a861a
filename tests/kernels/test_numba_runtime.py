"""How CPU kernels are compiled and kept."""

from __future__ import annotations

import logging

import numba
import torch
from helpers import batch_of, flatten, slab, tiny_model

from eqv2_plugin.kernels import choice, numba_edges, numba_runtime, numba_sphere


def test_each_set_of_constants_has_a_cache_of_its_own():
    kernels = [
        numba_edges.rotation_forward(), numba_edges.rotation_backward(),
        numba_edges.reduction_forward(), numba_sphere.sphere_forward(9, 16, 4, 6, 1),
        numba_sphere.sphere_forward(9, 32, 4, 6, 1), numba_sphere.sphere_backward(9, 16, 4, 6, 1),
    ]  # fmt: skip
    names = {kernel._cache._impl.filename_base for kernel in kernels}
    assert len(names) == len(kernels)


def test_each_processor_has_a_cache_of_its_own(monkeypatch):
    names = []
    for processor in ("znver3", "znver4"):
        monkeypatch.setattr(numba_runtime, "get_host_cpu_name", lambda found=processor: found)
        kernel = numba_runtime.compile_kernel(lambda x: x, "same", 16)
        names.append(kernel._cache._impl.filename_base)
    assert names[0] != names[1]


def test_a_kernel_is_compiled_for_one_set_of_types(monkeypatch):
    monkeypatch.setattr(choice, "_SMALL", 0)
    model = tiny_model(sphere_channels=16).float()
    for batch in (
        batch_of(slab(), dtype=torch.float32),
        batch_of(slab(), slab(), dtype=torch.float32),
    ):
        flatten(model(batch))
    assert len(numba_edges.rotation_forward().signatures) == 1


def test_without_a_folder_for_the_cache_kernels_are_compiled_all_the_same(monkeypatch, caplog):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    numba_runtime._say_once.cache_clear()
    # Other tests may have left logging quiet.
    with caplog.at_level(logging.WARNING):
        double = numba_runtime.compile_kernel(lambda x: 2 * x, "double")
    assert double(21) == 42
    assert "set NUMBA_CACHE_DIR" in caplog.text
