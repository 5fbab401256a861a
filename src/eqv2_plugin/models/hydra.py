"""The model that fairchem trains: backbone, heads, and which parameters decay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HydraModel
from torch import nn

from eqv2_plugin.common.text import warn_once
from eqv2_plugin.graphs.kept import KeptEdges
from eqv2_plugin.graphs.static_batch import StaticBatch
from eqv2_plugin.heads.conservative import ConservativeHead, of_data_sets
from eqv2_plugin.models.compiled import Compiled
from eqv2_plugin.models.known_elements import (
    elements_with_references,
    mark_unfitted,
    refuse_without_reference,
)
from eqv2_plugin.models.metadata import ModelMetadata
from eqv2_plugin.models.region import CompiledRegion
from eqv2_plugin.models.static_calls import StaticCalls, capture_for

if TYPE_CHECKING:
    from ase import Atoms
    from fairchem.core.datasets.atomic_data import AtomicData
    from fairchem.core.units.mlip_unit.api.inference import InferenceSettings


# "bias", and "bias_1" where a layer has several.
_BIAS = re.compile(r"(.+_)?bias(_[0-9]+)?")


@registry.register_model("equiformer_v2_hydra")
class EquiformerV2(HydraModel):
    """fairchem's HydraModel with heads for several tasks, and with its own weight decay.

    fairchem looks for ``no_weight_decay`` on the whole model only, so the backbone's own
    would never be found.

    Args:
        facts: `ModelMetadata` as plain data; they travel in the checkpoint, and are said once when
            a calculator is made.
        **options: of HydraModel.
    """

    def __init__(self, *, facts: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.metadata = ModelMetadata.from_mapping(facts) if facts else None
        # {data set: which elements its tasks have references of}
        self._known_elements: dict[str, np.ndarray] = {}
        self._compiled: Compiled | None = None
        # Of training steps, where `eqv2_plugin.training.compiled` sets it, or of predictions, where
        # `eqv2_plugin.inference.compiled` does.
        self.region: CompiledRegion | None = None
        self._predicts = False
        self._static_calls: StaticCalls | None = None

    def setup_tasks(self, tasks_config: Sequence[Any]) -> None:
        """fairchem calls this where a calculator or predict unit is made."""
        super().setup_tasks(list(tasks_config))
        mark_unfitted(self.tasks.values())
        most = self.backbone.config.max_num_elements
        self._known_elements = {
            dataset: elements_with_references(tasks, most)
            for dataset, tasks in self.dataset_to_tasks.items()
        }
        if self.metadata is not None:
            warn_once(self.metadata.sentence())

    def validate_atoms_data(self, atoms: Atoms, task_name: str) -> None:
        """Check a structure before anything is computed; calculators and predictors ask it.

        Says once where a stress will be NaN.

        Raises:
            ValueError: an element that the model does not know, or that has no reference, or a
                bad cell.
        """
        super().validate_atoms_data(atoms, task_name)
        if task_name in self._known_elements:
            refuse_without_reference(atoms.numbers, self._known_elements[task_name])
        tasks = self.dataset_to_tasks.get(task_name, [])
        if any(task.property == "stress" for task in tasks) and not atoms.pbc.all():
            warn_once(
                "A structure that is not periodic in all three directions has no volume: its "
                "stress is NaN. Energy and forces are not affected (said once)."
            )

    def prepare_for_inference(self, data: AtomicData, settings: InferenceSettings) -> None:
        """fairchem calls this before its first prediction, with settings of its own.

        fairchem would compile this model wherever a preset asks for it. It is compiled here
        instead, once its device is known and only if that is better (`Backbone.better_uncompiled`).
        """
        super().prepare_for_inference(data, settings)
        self._compiled = Compiled(self._outputs) if settings.compile else None
        settings.compile = False
        self._predicts = True

    def forward(self, data: AtomicData) -> dict[str, dict[str, torch.Tensor]]:
        """Outputs per task: {task: {property: tensor}}.

        torch.compile is declined where the backbone does better without.
        """
        compiling = torch.compiler.is_compiling()
        if self.region is not None and self.region.serves(self):
            batch = self._static_batch(data, self.region.edges)
            found = self.region(self, batch)
            if found is not None or self.training:
                return found or self.outputs_on(batch)
        if not compiling and self._compiled is None:
            return self._outputs_or_replay(data)
        if self.backbone.better_uncompiled(data["pos"]):
            return self._uncompiled(data) if compiling else self._outputs_or_replay(data)
        if compiling:
            return self._outputs(data)
        # HydraModel notes it in its first call, and would be compiled again for that.
        self.device = data["pos"].device.type
        return self._compiled(data)

    @torch.compiler.disable
    def _uncompiled(self, data: AtomicData) -> dict[str, dict[str, torch.Tensor]]:
        return self._outputs(data)

    def _outputs_or_replay(self, data: AtomicData) -> dict[str, dict[str, torch.Tensor]]:
        """In predictions whose gradients nobody can ask for, a recorded pass where there is one."""
        if not self._predicts or self._may_differentiate(data):
            return self._outputs(data)
        if self._static_calls is None:
            capture = capture_for(data["pos"].device)
            if capture is None:
                return self._outputs(data)
            self._static_calls = StaticCalls(capture)
        return self._static_calls(self, self._static_batch(data))

    def _may_differentiate(self, data: AtomicData) -> bool:
        """Whether outputs may have to keep a graph.

        fairchem's predict unit leaves gradients on for conservative models, and hands over
        positions that require some, as leaves of its own: nothing of the caller's lies behind them.
        """
        if self.training or self.backbone.regress_config.hessian:
            return True
        if not torch.is_grad_enabled():
            return False
        trained = any(parameter.requires_grad for parameter in self.parameters())
        pos, cell = data["pos"], data["cell"]
        return trained or not (pos.requires_grad and pos.is_leaf and cell.is_leaf)

    def _outputs(self, data: AtomicData) -> dict[str, dict[str, torch.Tensor]]:
        if not self._heads_of_data_sets():
            return self._by_task(super().forward(data))
        # As HydraModel does.
        self.device = data["pos"].device.type
        belongs = self._head_of_structure(data)
        return self._by_task(self._of_heads(data, self.backbone(data), belongs))

    def _static_batch(self, data: AtomicData, kept: KeptEdges | None = None) -> StaticBatch:
        batch = self.backbone.static_batch(data, kept)
        if self._heads_of_data_sets():
            batch = batch._replace(head_of_structure=self._head_of_structure(data))
        return batch

    def outputs_on(self, batch: StaticBatch) -> dict[str, dict[str, torch.Tensor]]:
        """`forward` of a batch whose edges are known: a function of tensors of fixed shapes.

        What is conservative differentiates here; the caller's positions keep no trace of it.
        """
        data = batch._replace(pos=batch.pos.detach()).as_data()
        embedding = self.backbone.on_edges(data, batch.topology)
        return self._by_task(self._of_heads(data, embedding, batch.head_of_structure))

    def _of_heads(
        self, data: Any, embedding: dict[str, Any], belongs: torch.Tensor | None
    ) -> dict[str, Any]:
        """What each head returns; those of data sets together, see `of_data_sets`."""
        shared = self._heads_of_data_sets()
        outputs: dict[str, Any] = {}
        for name, head in self.output_heads.items():
            if head in shared:
                continue
            with torch.autocast(data["pos"].device.type, enabled=head.use_amp):
                found = head(data, embedding)
            outputs.update(found if self.pass_through_head_outputs else {name: found})
        if belongs is not None:
            outputs.update(of_data_sets(shared, data, embedding, belongs))
        return outputs

    def _heads_of_data_sets(self) -> list[ConservativeHead]:
        heads = (h for h in self.output_heads.values() if isinstance(h, ConservativeHead))
        return [head for head in heads if head.dataset is not None]

    @torch.compiler.disable
    def _head_of_structure(self, data: AtomicData) -> torch.Tensor:
        """[B] place of each structure's head among `_heads_of_data_sets`; -1 without one."""
        heads = self._heads_of_data_sets()
        places = {head.dataset: place for place, head in enumerate(heads)}
        names = data["dataset"]
        others = len(heads) < len(self.output_heads)
        if not others and (unknown := sorted(set(map(str, names)) - set(map(str, places)))):
            raise ValueError(
                f"the batch holds structures of the data set {unknown[0]!r}, but the model has "
                f"heads for {', '.join(map(str, places))}: name one of these"
            )
        indices = [places.get(name, -1) for name in names]
        return torch.tensor(indices, device=data["pos"].device)

    def _by_task(self, outputs: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
        """One head may serve the energy and its gradients."""
        for name, head in self.output_heads.items():
            if isinstance(head, ConservativeHead) and head.dataset is None and name in outputs:
                outputs.update(outputs.pop(name))
        return outputs

    @property
    def output_names(self) -> set[str]:
        """Names of the tasks that the heads serve."""
        names: set[str] = set()
        for name, head in self.output_heads.items():
            names |= head.output_names if isinstance(head, ConservativeHead) else {name}
        return names

    @property
    def gradient_names(self) -> set[str]:
        """Those of them that are gradients of the energy, without weights of their own."""
        conservative = (h for h in self.output_heads.values() if isinstance(h, ConservativeHead))
        return {name for head in conservative for name in head.gradient_names}

    def no_weight_decay(self) -> set[str]:
        """Biases, and all parameters of layers that say so (normalisations, learnable bases)."""
        last = {name: name.rpartition(".")[2] for name, _ in self.named_parameters()}
        names = {name for name, own in last.items() if _BIAS.fullmatch(own)}
        for path, module in self.named_modules():
            if isinstance(module, nn.LayerNorm) or not getattr(module, "weight_decay", True):
                names |= {f"{path}.{name}" for name, _ in module.named_parameters()}
        return names
