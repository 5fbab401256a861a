"""What fairchem asks of a backbone (settings, checks of tasks and atoms): alike for all of ours."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from fairchem.core.common import gp_utils
from fairchem.core.models.base import BackboneInterface
from torch import nn

from eqv2_plugin.backbones.options import BackboneOptions
from eqv2_plugin.common.naming import element_name
from eqv2_plugin.graphs.checks import check_cell

if TYPE_CHECKING:
    from ase import Atoms
    from fairchem.core.datasets.atomic_data import AtomicData
    from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
    from fairchem.core.units.mlip_unit.mlip_unit import Task

# Å, of the edges that ``FAIRChemCalculator`` brings along with external_graph_gen.
EXTERNAL_CUTOFF = 6.0


class FairchemBackbone(nn.Module, BackboneInterface):
    """fairchem's side of `eqv2_plugin.backbones.protocol.Backbone`."""

    Options: ClassVar[type[BackboneOptions]]
    config: BackboneOptions

    @property
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @classmethod
    def build_inference_settings(cls, settings: InferenceSettings) -> dict:
        """Options that fairchem's inference settings override."""
        overrides: dict[str, Any] = {
            "otf_graph": not settings.external_graph_gen,
            "radius_pbc_version": settings.internal_graph_gen_version,
            "activation_checkpointing": settings.activation_checkpointing,
        }
        if settings.edge_chunk_size is not None:
            overrides["edge_chunk_size"] = settings.edge_chunk_size
        known = {field.name for field in dataclasses.fields(cls.Options)}
        return {name: value for name, value in overrides.items() if name in known}

    def get_default_untrained_tasks(
        self, checkpoint_tasks: dict[str, Task], inference_settings: InferenceSettings
    ) -> list[Task]:
        """None: a stress that nobody asked for would cost a gradient per call.

        Raises:
            ValueError: see `refuse_short_graph`; fairchem calls this when a calculator is made.
        """
        refuse_short_graph(self.config.cutoff, inference_settings)
        return []

    def validate_tasks(self, dataset_to_tasks: dict[str, list]) -> None:
        """Any data set will do; a gradient must not be shifted by its normaliser.

        fairchem copies the energy's normaliser for derivative tasks that it adds.

        Raises:
            ValueError: forces or stress of a conservative model whose normaliser has a mean.
        """
        if self.regress_config.direct_forces:
            return
        for tasks in dataset_to_tasks.values():
            for task in tasks:
                mean = float(torch.as_tensor(task.normalizer.mean).abs().max())
                if task.property in ("forces", "stress", "hessian") and mean > 0.0:
                    raise ValueError(
                        f"the normaliser of task {task.name!r} has the mean {mean:g}, but "
                        f"{task.property} are a gradient of the energy and must not be shifted. "
                        "Train conservative models with energy_normalizer.mean=0"
                    )

    def prepare_for_inference(self, data: AtomicData, settings: InferenceSettings) -> Self:
        """Only `refuse_short_graph`."""
        refuse_short_graph(self.config.cutoff, settings)
        return self

    def on_predict_check(self, data: AtomicData) -> None:
        """Structures are checked when the graph is built."""

    def validate_atoms_data(self, atoms: Atoms, task_name: str) -> None:
        """Check elements and cell before anything is computed.

        Raises:
            ValueError: an element that the model does not know, or a cell that is not finite, or
                without a vector for a periodic direction.
        """
        most = self.config.max_num_elements - 1
        unknown = {i: int(z) for i, z in enumerate(atoms.numbers) if not 1 <= z <= most}
        if unknown:
            symbols = ", ".join(element_name(z) for z in sorted(set(unknown.values())))
            raise ValueError(
                f"the model knows atomic numbers 1..{most}, but the structure contains {symbols} "
                f"(first: atom {min(unknown)})"
            )
        check_cell(atoms)


def refuse_graph_parallel() -> None:
    """fairchem would otherwise train on with gradients multiplied by the group size.

    Raises:
        RuntimeError: graph parallelism is on.
    """
    if gp_utils.initialized():
        raise RuntimeError(
            "eqv2-plugin does not support graph parallelism; set "
            "job.graph_parallel.group_size=1 and use more data-parallel ranks instead"
        )


def refuse_short_graph(cutoff: float, settings: InferenceSettings) -> None:
    """fairchem's calculator searches neighbours within 6 Å, whatever the model's cutoff in Å.

    Raises:
        ValueError: the model's own graph reaches farther.
    """
    if settings.external_graph_gen and cutoff > EXTERNAL_CUTOFF:
        raise ValueError(
            f"external_graph_gen: fairchem searches neighbours within {EXTERNAL_CUTOFF:g} Å, "
            f"but this model was trained with a cutoff of {cutoff:g} Å, and its forces would be "
            "wrong: leave external_graph_gen=False"
        )
