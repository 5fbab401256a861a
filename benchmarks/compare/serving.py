"""A process that holds one implementation and measures it on request.

Runs in both environments, so it imports nothing but the standard library, numpy and torch.
Requests and answers are JSON, one per line.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch


class Implementation(ABC):
    """EquiformerV2 of one package."""

    @abstractmethod
    def load(self, config: dict[str, Any], weights: Path) -> None:
        """Build the model of a fairchem-core 1 config; read its weights, or write random ones."""

    @abstractmethod
    def set_structures(self, arrays: dict[str, np.ndarray], device: str) -> None:
        """Build the batch: ``numbers``, ``positions`` [N, 3] Å, ``cells`` [B, 3, 3], ``natoms``."""

    @abstractmethod
    def forward(self) -> dict[str, torch.Tensor]:
        """Energies [B] and forces [N, 3] of the batch, as the network returns them."""

    def arithmetic(self, precision: str) -> dict[str, float]:
        """``flop`` of a forward pass and ``flop_per_second`` of large products."""
        raise NotImplementedError

    model: torch.nn.Module
    batch: Any = None
    device = "cpu"
    optimizer: torch.optim.Optimizer | None = None

    def release(self) -> None:
        """Give back what steps and structures took."""
        self.optimizer = None
        self.model.zero_grad(set_to_none=True)
        self.batch = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def inference(self, frozen: bool) -> dict[str, torch.Tensor]:
        """`forward` without gradients."""
        self.model.eval()
        self.optimizer = None
        trained = [p for p in self.model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(not frozen)
        with torch.no_grad():
            out = self.forward()
        for parameter in trained:
            parameter.requires_grad_(True)
        return out

    def training_step(self) -> dict[str, torch.Tensor]:
        """Forward, loss (mean absolute values), backward and AdamW."""
        self.model.train()
        if self.optimizer is None:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            # Weights stay as they are while time is taken. However small a rate is, AdamW's steps
            # are of its size in every weight: 21 steps of 1e-9 changed forces by 1e-3.
            self.optimizer = torch.optim.AdamW(trained, lr=0.0)
        out = self.forward()
        loss = out["energy"].abs().mean() + out["forces"].norm(dim=-1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}


def serve(implementation: Implementation) -> None:
    """Answer requests until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever the packages print
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(implementation, request)
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(implementation: Implementation, request: dict[str, Any]) -> dict[str, Any]:
    work = request.pop("do")
    if work == "load":
        torch.set_num_threads(request["threads"])
        implementation.load(request["config"], Path(request["weights"]))
        count = sum(p.numel() for p in implementation.model.parameters())
        return {"parameters": count, "versions": versions()}
    if work == "structures":
        arrays = dict(np.load(request["file"]))
        implementation.set_structures(arrays, request["device"])
        return {"memory": _memory(implementation.device)}
    if work == "release":
        implementation.release()
        return {}
    torch.backends.cuda.matmul.allow_tf32 = request["precision"] == "tf32"
    if work == "arithmetic":
        return implementation.arithmetic(request["precision"])
    bfloat16 = request["precision"] == "bf16"
    _reset_peak(implementation.device)
    wall, processor = time.perf_counter(), time.process_time()
    with torch.autocast(implementation.device, torch.bfloat16, enabled=bfloat16):
        if work == "inference":
            out = implementation.inference(request["frozen"])
        else:
            out = implementation.training_step()
    if implementation.device == "cuda":
        torch.cuda.synchronize()
    answer = {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "memory_peak": _peak(implementation.device),
    }
    if request.get("outputs"):
        np.savez(request["outputs"], **{k: v.detach().float().cpu() for k, v in out.items()})
    return answer


def versions() -> dict[str, str]:
    """Of Python and torch."""
    return {"python": sys.version.split()[0], "torch": torch.__version__}


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def _memory(device: str) -> float:
    """MB in use."""
    return torch.cuda.memory_allocated() / 2**20 if device == "cuda" else _status("VmRSS")


def _peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else _status("VmHWM")


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")
