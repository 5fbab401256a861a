"""The Triton kernels against their plain twins, and whether they compile for a GPU.

Triton reads at its import whether to interpret kernels, so that the cases in ``cases_triton_*.py``
run in a process of their own: on a GPU where there is one, else in the interpreter, on the CPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.kernels.sphere import factorise
from eqv2_plugin.kernels.tables import edge_tables

triton = pytest.importorskip("triton")

HERE = Path(__file__).parent


@pytest.mark.parametrize("cases", ["rotation", "reduction", "sphere", "model"])
def test_kernels_equal_their_plain_twins(cases):
    environment = {**os.environ, "TRITON_INTERPRET": "0" if torch.cuda.is_available() else "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, HERE / f"cases_triton_{cases}.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout
    assert "skipped" not in run.stdout


class DriverOfAnH100:
    """As much of Triton's driver as compiling needs; no other device has this number."""

    def get_current_device(self):
        return 1000

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", 90, 32)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Kernels that a launch compiles for an H100 instead of running them."""
    from eqv2_plugin.kernels import triton_reduction, triton_rotation, triton_sphere

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", DriverOfAnH100())
    kernels = {}

    def compile_only(kernel, grid, *tensors, warps=1, **constants):
        name = f"{kernel.fn.__module__.rpartition('_')[2]} {kernel.fn.__name__}"
        run = kernel.run(*tensors, grid=grid, warmup=True, num_warps=warps, **constants)
        kernels[name] = run

    for module in (triton_rotation, triton_reduction, triton_sphere):
        monkeypatch.setattr(module, "launch", compile_only)
    return kernels


def spilled_registers(kernel, folder):
    """Bytes stored and loaded, as the assembler of Triton's wheel reports."""
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    (folder / "kernel.ptx").write_text(kernel.asm["ptx"])
    command = [assembler, "-arch=sm_90a", "-v", folder / "kernel.ptx", "-o", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return [int(size) for size in re.findall(r"(\d+) bytes spill", report)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_compile_for_a_gpu_and_fit_its_registers(dtype, compiled, tmp_path):
    from eqv2_plugin.kernels.triton_reduction import WeighRotateSum
    from eqv2_plugin.kernels.triton_rotation import RotateAndScale
    from eqv2_plugin.kernels.triton_sphere import SampledSiLU

    layout = EdgeLayout(3, 2)
    ends = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int64)
    wigner = torch.zeros(2, edge_tables(layout).packed_size)
    nodes = torch.zeros(2, 16, 128, requires_grad=True)
    weights = torch.zeros(2, 9 * 256, dtype=dtype, requires_grad=True)
    RotateAndScale.apply(nodes, weights, *ends, wigner, layout).sum().backward()

    values = torch.zeros(2, layout.size, 128, dtype=dtype, requires_grad=True)
    attention, offsets = torch.zeros(2, 8, requires_grad=True), torch.tensor([0, 1, 2])
    WeighRotateSum.apply(values, attention, wigner, offsets, layout).sum().backward()

    features = torch.zeros(2, layout.size, 64, dtype=dtype, requires_grad=True)
    orders = [order for _, order in layout.rows]
    longitudes = grid_shape(3, 2, 18)[1]
    factors = factorise(*edge_grid_matrices(layout, 18), orders, longitudes)
    SampledSiLU.apply(features, factors, 1).sum().backward()

    spills = {name: spilled_registers(kernel, tmp_path) for name, kernel in compiled.items()}
    assert spills == {
        "rotation _forward": [0, 0],
        "rotation _backward_radial": [0, 0],
        "rotation _backward_nodes": [0, 0],
        "reduction _forward": [0, 0],
        "reduction _backward": [0, 0],
        "sphere _forward": [0, 0],
        "sphere _backward": [0, 0],
    }
