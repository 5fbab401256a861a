"""How many operators a forward pass and a training step take, by the file that asks for them.

    python benchmarks/operators.py [--models 31M sample MD17 Equiformer]

Counted as a GPU would be asked for them, without one and without fused kernels: edges are made on
the CPU, the model runs on torch's meta device, which has shapes only. MD17, a conservative model,
whose forces go through the making of edges, runs on the CPU altogether. A training step is forward
and backward pass without loss and optimizer. Launches are operators that are no views; a GPU has a
kernel or more for each. An operator of the backward pass counts for the file that asked for the one
that it differentiates.
"""

from __future__ import annotations

import argparse
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from ase import Atoms
from ase.build import molecule
from compare.cases import MODELS, structures
from compare.report import table
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import eqv2_plugin
from eqv2_plugin.checkpoints.v1.config import backbone_options, normalise_model
from eqv2_plugin.graphs.build import Graph, build_graph
from eqv2_plugin.kernels.choice import use_fused_kernels
from eqv2_plugin.models.hydra import EquiformerV2

ROOT = Path(eqv2_plugin.__file__).parent
# They compute for whoever asks.
_DIRECT = {"energy": "EnergyHead", "forces": "ForceHead"}
TOOLS = ("kernels/linear", "kernels/segments", "kernels/gather", "kernels/fused",
         "kernels/layer_norm", "kernels/interface")  # fmt: skip
GRADIENTS = "(gradients kept)"
# Of a batch, by models whose edges are made.
_READ = ("pos", "atomic_numbers", "batch", "natoms")
_EQUIFORMER = {
    "model": "eqv2_plugin.backbones.equiformer_v1.backbone.EquiformerV1Backbone",
    "num_layers": 2,
    "irreps_feature": "512x0e+256x1e+128x2e",
    "force_encoding": True,
}


@dataclass(frozen=True)
class Case:
    """A model and its batch.

    Attributes:
        options, heads: of the model.
        batch: fairchem's.
        device: "meta" or "cpu".
        derivative: on the meta device, also of the energy with respect to the edges' vectors, of
            which conservative forces are made.
    """

    options: dict[str, Any]
    heads: dict[str, Any]
    batch: AtomicData
    device: str = "meta"
    derivative: bool = False


class Count(TorchDispatchMode):
    """Operators and launches by file.

    Attributes:
        operators, launches: {file: how many}.
        names: {(file, operator): how many}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.names: Counter[tuple[str, str]] = Counter()
        # Files by the number that autograd gives to the operator that it will differentiate.
        self._numbers: list[int] = []
        self._files: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        file = self._file()
        name = func.overloadpacket.__name__
        self.operators[file] += 1
        self.names[file, name] += 1
        self.launches[file] += not (func.is_view or name in _NO_LAUNCH)
        return func(*args, **(kwargs or {}))

    def _file(self) -> str:
        node = torch._C._current_autograd_node()
        if node is not None and "AccumulateGrad" in node.name():
            return GRADIENTS
        if node is None:
            file = _asking()
        else:
            # A node is made just before its operator runs.
            place = bisect_right(self._numbers, node._sequence_nr() + 1) - 1
            file = self._files[max(place, 0)]
        number = torch._C._autograd._get_sequence_nr()
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
            self._files.append(file)
        return file


_NO_LAUNCH = {
    "empty",
    "new_empty",
    "empty_like",
    "empty_strided",
    "detach",
    "_unsafe_view",
    "alias",
}


def _asking() -> str:
    """The innermost file of the package on the stack, but for tools."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT):
            name = str(path.relative_to(ROOT).with_suffix(""))
            if name not in TOOLS:
                return name
        frame = frame.f_back
    return "(other)"


def cases() -> dict[str, Callable[[], Case]]:
    """The 31M model on a slab, the sample recipe's on four, the MD17 recipe's on four ethanols.

    And Equiformer (version 1) of the published size with DeNS, but two blocks, on four ethanols.
    """
    direct = {
        kind: {"module": f"eqv2_plugin.heads.{kind}.{name}"} for kind, name in _DIRECT.items()
    }
    conservative = {"head": {"module": "eqv2_plugin.heads.conservative.ConservativeHead"}}
    slabs, ethanols = structures("1 x 18 atoms") * 4, [molecule("CH3CH2OH")] * 4
    energy = {"energy": direct["energy"]}
    noise = {"noise_forces": {"module": "eqv2_plugin.heads.forces.NoiseHead"}}
    large = backbone_options(normalise_model({"model": MODELS["31M"]}).backbone)
    return {
        "31M": lambda: Case(large, direct, _batch(structures("1 x 70 atoms"))),
        "sample": lambda: Case(_recipe("sample"), direct, _batch(slabs)),
        "MD17": lambda: Case(
            {**_recipe("md17"), "direct_forces": False}, conservative, _batch(ethanols), "cpu"
        ),
        "Equiformer": lambda: Case(
            _EQUIFORMER, {**energy, **noise}, _batch(ethanols), "meta", True
        ),
    }


def counted(case: Case) -> tuple[Count, Count]:
    """Of a forward pass without gradients, and of a training step."""
    torch.manual_seed(0)
    backbone = {"model": "equiformer_v2_backbone", **case.options}
    if backbone["model"] == "equiformer_v2_backbone":
        backbone["edge_chunk_size"] = 10**9
    model = EquiformerV2(backbone=backbone, heads=case.heads).to(case.device)
    found = []
    for training in (False, True):
        model.train(training)
        batch = case.batch.clone()
        with torch.set_grad_enabled(training), use_fused_kernels(False), Count() as count:
            outputs = _outputs(model, batch, case)
            if training:
                torch.autograd.backward([out.sum() for out in outputs])
            model.zero_grad()
        found.append(count)
    return found[0], found[1]


def _outputs(model: EquiformerV2, batch: AtomicData, case: Case) -> list[torch.Tensor]:
    device = case.device
    if device == "cpu":
        return [value for task in model(batch).values() for value in task.values()]
    backbone = model.backbone
    with torch.no_grad():
        graph = build_graph(batch, backbone.config)
    with _disable_current_modes():
        graph = Graph(*(part.to(device) for part in graph))
        data = {name: batch[name].to(device) for name in _READ}
    # The meta device has no autocast.
    with patch.object(torch, "autocast", lambda *_, **__: nullcontext()):
        if not case.derivative:
            return _embedded(model, graph, data)
        with torch.enable_grad():
            vectors = graph.vectors.requires_grad_()
            outputs = _embedded(model, graph, data)
            create = model.training
            return [*outputs, *torch.autograd.grad(outputs[0].sum(), vectors, create_graph=create)]


def _embedded(
    model: EquiformerV2, graph: Graph, data: dict[str, torch.Tensor]
) -> list[torch.Tensor]:
    atoms = data["atomic_numbers"], data["batch"], len(data["natoms"])
    embedded = model.backbone.embed(graph, *atoms)
    return [v for head in model.output_heads.values() for v in head(data, embedded).values()]


def _recipe(scale: str) -> dict[str, Any]:
    """Options of a recipe's backbone, but for averages over its data."""
    config = OmegaConf.load(ROOT / "configs" / "scale" / f"{scale}.yaml")
    options = OmegaConf.to_container(config.model.backbone)
    return {name: value for name, value in options.items() if not name.startswith("avg_")}


def _batch(atoms: list[Atoms]) -> AtomicData:
    return atomicdata_list_to_batch([AtomicData.from_ase(one, task_name="oc20") for one in atoms])


def report(forward: Count, training: Count) -> list[str]:
    """A table of operators (launches), the file with most launches of a step first, and the sum."""
    files = sorted(training.operators, key=lambda file: -training.launches[file])
    rows = [
        (f, *(f"{c.operators[f]} ({c.launches[f]})" for c in (forward, training))) for f in files
    ]
    sums = [f"{c.operators.total()} ({c.launches.total()})" for c in (forward, training)]
    return table(("file", "forward pass", "training step"), [*rows, ("all", *sums)])


def main() -> None:
    known = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=known, default=list(known))
    options = parser.parse_args()
    for name in options.models:
        forward, training = counted(known[name]())
        print(f"#### {name}: operators (launches)\n")
        print("\n".join(report(forward, training)))
        print(flush=True)


if __name__ == "__main__":
    main()
