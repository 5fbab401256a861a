"""Environments of packages that cannot live beside fairchem-core 2, with the torch we use."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import torch

# fairchem-core 1.10 asks for torch 2.4; both sides run on the same torch here, so that only the
# models differ. torch-scatter is compiled against it.
_FIRST = ("setuptools", "wheel", "numpy")
_PACKAGES = (
    "ase",
    "e3nn==0.5.6",
    "huggingface_hub",
    "hydra-core",
    "lmdb",
    "numba",
    "pymatgen",
    "pyyaml",
    "submitit",
    "tensorboard",
    "torch_geometric",
    "tqdm",
    "wandb",
)


def reference_python(folder: Path) -> Path:
    """The interpreter of fairchem-core 1.10's environment, made once (5 to 10 minutes).

    Raises:
        RuntimeError: an installation failed.
    """
    return _environment(
        folder,
        _FIRST,
        _PACKAGES,
        ("--no-deps", "fairchem-core==1.10.0"),
        ("--no-deps", "--no-build-isolation", "torch-scatter"),
    )


def mace_python(folder: Path) -> Path:
    """The interpreter of MACE's environment (it needs an older e3nn than fairchem 2).

    Raises:
        RuntimeError: an installation failed.
    """
    return _environment(folder, (), ("mace-torch==0.3.16", "ase"))


def _environment(folder: Path, *installations: tuple[str, ...]) -> Path:
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.exists():
        return python
    print(f"making an environment in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    # Asked for first, and by its version: another build may bring gigabytes of CUDA packages.
    _install(python, f"torch=={torch.__version__.split('+')[0]}")
    for packages in installations:
        if packages:
            _install(python, *packages)
    done.touch()
    return python


def _install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
