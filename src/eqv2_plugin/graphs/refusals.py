"""Ways of running fairchem that would give wrong numbers without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairchem.core.common import gp_utils

if TYPE_CHECKING:
    from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

# Å, of the edges that ``FAIRChemCalculator`` brings along with external_graph_gen.
EXTERNAL_CUTOFF = 6.0


def refuse_graph_parallel() -> None:
    """fairchem would otherwise train on with gradients multiplied by the group size.

    Raises:
        RuntimeError: graph parallelism is on.
    """
    if gp_utils.initialized():
        raise RuntimeError(
            "EquiformerV2 does not support graph parallelism; set "
            "job.graph_parallel.group_size=1 and use more data-parallel ranks instead"
        )


def refuse_short_graph(cutoff: float, settings: InferenceSettings) -> None:
    """fairchem's calculator searches neighbours within 6 Å, whatever the model's cutoff.

    Args:
        cutoff: of the model, Å.
        settings: how a calculator is to run.

    Raises:
        ValueError: the model's own graph reaches farther.
    """
    if settings.external_graph_gen and cutoff > EXTERNAL_CUTOFF:
        raise ValueError(
            f"external_graph_gen: fairchem searches neighbours within {EXTERNAL_CUTOFF:g} Å, "
            f"but this model was trained with a cutoff of {cutoff:g} Å, and its forces would be "
            "wrong: leave external_graph_gen=False"
        )
