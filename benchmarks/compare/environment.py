"""The environment of the reference: fairchem-core 1.10 beside the torch that we use."""

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
    """The interpreter of the reference's environment, made once (5 to 10 minutes).

    Raises:
        RuntimeError: an installation failed.
    """
    python = folder / "bin" / "python"
    done = folder / "complete"
    if done.exists():
        return python
    print(f"making the reference's environment in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    version = torch.__version__.split("+")[0]
    _install(python, f"torch=={version}", *_FIRST)
    _install(python, *_PACKAGES)
    _install(python, "--no-deps", "fairchem-core==1.10.0")
    _install(python, "--no-deps", "--no-build-isolation", "torch-scatter")
    done.touch()
    return python


def _install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
