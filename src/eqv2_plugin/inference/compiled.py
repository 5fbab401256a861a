"""Predictions of small systems, compiled for long simulations on a CPU; see `CompiledRegion`."""

from __future__ import annotations

import logging

from ase import Atoms
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.graphs.padding import bucket_of_copies
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.models.compile_mode import CompileMode, pays
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.region import CompiledRegion

# Steps from which compiling pays even on a busy machine (docs/speed.md).
_LONG = 20_000


def compile_predictions(predictor: MLIPPredictUnit, most: int = 3) -> None:
    """Compile what a predict unit does from now on, once for each size of its batches.

    For molecular dynamics of small systems on a CPU with fairchem's calculator, whose predict unit
    is ``calculator.predictor``. Results are detached: nothing can be differentiated beyond what the
    model predicts. Where a compiler is missing or fails, the log says so, and predictions go on
    without.

    Args:
        predictor: of a model of this package, on a CPU.
        most: sizes that are compiled; batches of further ones run as before.

    Raises:
        ValueError: another model, or another device.
    """
    model = getattr(predictor.model, "module", None)
    if not isinstance(model, EquiformerV2):
        raise ValueError("compile_predictions is for predict units of models of this package")
    if predictor.device != "cpu":
        raise ValueError(f"predictions are compiled on a CPU only, not on {predictor.device}")
    model.region = CompiledRegion(most, predicts=True)


def compile_replicas(
    predict: BatchPredictor, molecule: Atoms, replicas: int, steps: int, mode: CompileMode
) -> None:
    """Compile predictions of up to so many replicas of a molecule; the log says why not.

    All numbers of replicas are padded to one size, which holds all pairs of atoms, so that one
    compilation serves the whole simulation, and its bits do not depend on where it was interrupted.

    Args:
        predict: of the model.
        molecule: not periodic.
        replicas: at most.
        steps: of the whole simulation.
        mode: true, false or "auto": if forces are gradients of the energy, the model is small, and
            there are 20,000 steps or more.
    """
    unit = predict.unit
    model = unit.model.module
    if mode is False or (mode == "auto" and not pays(model, steps, _LONG)):
        return
    if unit.device != "cpu":
        if mode is True:
            logging.getLogger(__name__).warning(
                "predictions are not compiled: only those on a CPU are"
            )
        return
    atoms = len(molecule)
    edges = atoms * min(atoms - 1, model.backbone.config.max_neighbors)
    sizes = bucket_of_copies(replicas, atoms, edges)
    model.region = CompiledRegion(predicts=True, sizes=sizes)
