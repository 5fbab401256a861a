"""What has to be equal: devices, calls, batches and single structures, padding, kernels."""

from __future__ import annotations

import copy
from functools import cache, partial
from typing import Any

import torch
from ase import Atoms
from session.models import batch_of, conservative, differences, outputs, plugin, slabs, timed
from session.setting import Jobs, Setting

from eqv2_plugin.graphs.padding import bucket, pad, sizes_of, unpad
from eqv2_plugin.kernels.choice import use_fused_kernels
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.static_calls import StaticCalls, capture_for

_TYPES = {"float32": torch.float32, "float64": torch.float64}


def jobs(setting: Setting) -> Jobs:
    """Largest differences over the largest value, unless a row says otherwise."""
    on = _On(setting)
    yield "float64, this device against the CPU", on.device_against_cpu
    for kind, training in (("inference", False), ("training", True)):
        yield f"twice the same bits, {kind}", partial(on.twice, training)
    yield "float32, kernels against torch operators", on.kernels_against_operators
    yield "float32 against float64", on.against_float64
    for dtype in _TYPES:
        yield f"{dtype}, padded against unpadded", partial(on.padded, dtype)
    for kind in ("direct", "conservative"):
        for dtype in _TYPES:
            yield f"{dtype}, {kind}, replayed against a pass", partial(on.replayed, kind, dtype)
    for size in (2,) if setting.tiny else (2, 4, 8, 16, 32, 64):
        yield f"float32, batches of {size} against alone", partial(on.batched, "float32", size)
    if not setting.tiny:
        yield "float64, batches of 8 against alone", partial(on.batched, "float64", 8)
        yield (
            "float32, batches of 8 against alone, torch operators",
            partial(on.batched, "float32", 8, kernels=False),
        )


class _On:
    """A model and its structures on a device."""

    def __init__(self, setting: Setting) -> None:
        self.device = setting.device
        self.name, self.atoms = ("tiny", 18) if setting.tiny else ("31M", 70)
        self.count = 2 if setting.tiny else 64

    @cache  # noqa: B019 lives as long as the process
    def model(self, dtype: str, device: str) -> EquiformerV2:
        made = plugin(self.name, device, slabs(1, self.atoms)).model
        return made.to(_TYPES[dtype]).eval()

    @cache  # noqa: B019
    def alone(self, dtype: str, count: int, kernels: bool) -> dict[str, torch.Tensor]:
        """Outputs of so many slabs, one by one."""
        found = [self.predict([atoms], dtype, kernels) for atoms in slabs(count, self.atoms)]
        return {name: torch.cat([each[name] for each in found]) for name in found[0]}

    def predict(
        self, structures: list[Atoms], dtype: str, kernels: bool = True, device: str | None = None
    ) -> dict[str, torch.Tensor]:
        device = device or self.device
        with use_fused_kernels(kernels):
            return outputs(self.model(dtype, device), batch_of(structures, device, _TYPES[dtype]))

    def device_against_cpu(self) -> dict[str, Any]:
        structures = slabs(2, self.atoms)
        here = self.predict(structures, "float64")
        return differences(here, self.predict(structures, "float64", device="cpu"))

    def twice(self, training: bool) -> dict[str, Any]:
        """Outputs, or gradients of all parameters, with dropout drawn from the same seed."""
        model = copy.deepcopy(self.model("float32", self.device)).train(training)
        batch = batch_of(slabs(2, self.atoms), self.device, torch.float32)
        found = []
        for _ in range(2):
            torch.manual_seed(0)
            model.zero_grad()
            with torch.set_grad_enabled(training):
                out = model(batch.clone())
            tensors = [out["energy"]["energy"], out["forces"]["forces"]]
            if training:
                sum(tensor.square().sum() for tensor in tensors).backward()
                tensors = [p.grad for p in model.parameters() if p.grad is not None]
            found.append([tensor.detach().clone() for tensor in tensors])
        same = all(torch.equal(one, other) for one, other in zip(*found, strict=True))
        return {"same bits": same, "tensors": len(found[0])}

    def kernels_against_operators(self) -> dict[str, Any]:
        structures = slabs(2, self.atoms)
        with_kernels, without = (self.predict(structures, "float32", on) for on in (True, False))
        return differences(with_kernels, without)

    def against_float64(self) -> dict[str, Any]:
        structures = slabs(2, self.atoms)
        return differences(*(self.predict(structures, dtype) for dtype in _TYPES))

    def padded(self, dtype: str) -> dict[str, Any]:
        model = self.model(dtype, self.device)
        data = batch_of(slabs(2, self.atoms), self.device, _TYPES[dtype])
        batch = model.backbone.static_batch(data)
        own, found = sizes_of(batch), []
        for sizes in (bucket(own, 1.5), own):
            with torch.no_grad():
                out = model.outputs_on(pad(batch, sizes))
            real = {name: unpad(out[name][name], sizes, own) for name in ("energy", "forces")}
            found.append({name: value.double().cpu() for name, value in real.items()})
        return differences(*found)

    def replayed(self, kind: str, dtype: str) -> dict[str, Any]:
        """Recorded forward passes beside the same padding without, and what they take."""
        model = self.model(dtype, self.device)
        if kind == "conservative":
            model = conservative(self.name, self.device, _TYPES[dtype])
        # Nothing is recorded on a CPU: the same function runs again on the buffers.
        calls = StaticCalls(capture_for(torch.device(self.device)) or (lambda function: function))
        same = []
        for seed in range(5):
            data = batch_of(slabs(1, self.atoms, first=seed), self.device, _TYPES[dtype])
            batch = model.backbone.static_batch(data)
            own = sizes_of(batch)
            sizes = calls.bucket(own)
            found = calls(model, batch)
            with torch.no_grad():
                expected = model.outputs_on(pad(batch, sizes))
            for name in ("energy", "forces"):
                same.append(torch.equal(found[name][name], unpad(expected[name][name], sizes, own)))
        row: dict[str, Any] = {"same bits": all(same), "recorded": calls.recorded}
        row["ms replayed"] = 1e3 * timed(lambda: calls(model, batch), self.device)
        with torch.no_grad():
            model.outputs_on(batch)
            row["ms eager"] = 1e3 * timed(lambda: model.outputs_on(batch), self.device)
        return row

    def batched(self, dtype: str, size: int, kernels: bool = True) -> dict[str, Any]:
        count = max(size, min(self.count, 16))
        structures = slabs(count, self.atoms)
        parts = [
            self.predict(structures[i : i + size], dtype, kernels) for i in range(0, count, size)
        ]
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return differences(found, self.alone(dtype, count, kernels))
