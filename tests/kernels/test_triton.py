"""Triton's kernels against the reference implementation, and whether they compile for a GPU.

Triton reads at its import whether to interpret kernels, so that the cases run in processes of their
own: on a GPU where there is one, else in the interpreter, on the CPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_inputs import activation, reduction, rotation

triton = pytest.importorskip("triton")

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("cases", ["test_fused.py", "cases_triton.py"])
def test_kernels_equal_the_reference(cases):
    interpret = "0" if torch.cuda.is_available() else "1"
    environment = {**os.environ, "TRITON_INTERPRET": interpret, "EQV2_TEST_KERNELS": "triton"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, HERE / cases], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "passed" in run.stdout


class DriverOfAGPU:
    """As much of Triton's driver as compiling needs; no other devices have these numbers."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_device(self):
        return 1000 + self.capability

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", self.capability, 32)


@pytest.fixture
def compiled(monkeypatch, tmp_path, capability):
    """Kernels that a launch compiles for a GPU instead of running them."""
    from eqv2_plugin.kernels import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(triton.runtime.driver, "_active", DriverOfAGPU(capability))
    kernels = {}

    def compile_only(kernel, grid, *tensors, warps=1, **constants):
        run = kernel.run(*tensors, grid=grid, warmup=True, num_warps=warps, **constants)
        kernels[kernel.fn.__name__] = run

    monkeypatch.setattr(triton_kernels, "launch", compile_only)
    return kernels


def spilled_registers(kernel, folder, architecture):
    """Bytes stored and loaded, as the assembler of Triton's wheel reports."""
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    (folder / "kernel.ptx").write_text(kernel.asm["ptx"])
    command = [assembler, f"-arch={architecture}", "-v", folder / "kernel.ptx", "-o", os.devnull]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return [int(size) for size in re.findall(r"(\d+) bytes spill", report)]


# Turing knows no bfloat16.
@pytest.mark.parametrize(
    ("capability", "architecture", "dtype"),
    [
        (90, "sm_90a", torch.float32),
        (90, "sm_90a", torch.bfloat16),
        *(
            pytest.param(*target, marks=pytest.mark.slow)
            for target in (
                (80, "sm_80", torch.float32),
                (80, "sm_80", torch.bfloat16),
                (75, "sm_75", torch.float32),
            )
        ),
    ],
)
def test_kernels_compile_for_a_gpu_and_fit_its_registers(dtype, architecture, compiled, tmp_path):
    from eqv2_plugin.kernels.triton_kernels import TritonKernels

    for operation, short in (
        (rotation(3, 2, 128, count=2), [False, True]),
        (reduction(3, 2, 8, 16, count=2), [True, False]),
        (activation(3, 2, 18, 64, count=2), [True]),
    ):
        pairs = zip(operation.tensors, short, strict=True)
        operation.gradients(TritonKernels(), [t.to(dtype) if s else t for t, s in pairs])
    spills = {
        name: spilled_registers(kernel, tmp_path, architecture) for name, kernel in compiled.items()
    }
    assert spills == {
        "rotation_forward": [0, 0],
        "rotation_backward_radial": [0, 0],
        "rotation_backward_nodes": [0, 0],
        "reduction_forward": [0, 0],
        "reduction_backward": [0, 0],
        "sphere_forward": [0, 0],
        "sphere_backward": [0, 0],
    }
