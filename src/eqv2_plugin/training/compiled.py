"""Training steps of small models, compiled where the run is long enough to earn it."""

from __future__ import annotations

import logging

from fairchem.core.common import distutils
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TTrainUnit

from eqv2_plugin.data.datasets import evenly_spaced
from eqv2_plugin.models.compile_mode import CompileMode, checked_mode, pays
from eqv2_plugin.models.region import CompiledRegion

# Steps from which compiling pays even on a busy machine, where it takes 360 s for each size of
# batches and saves 0.16 s a step (docs/speed.md): of one size, and of up to three.
_LONG_OF_ONE_SIZE, _LONG = 2500, 5000
# Frames whose numbers of atoms are compared.
_FRAMES = 50


class CompileSteps(Callback):
    """Compiles forward and backward passes at the first step; see `CompiledRegion`.

    On a CPU, in float32, with one rank; the log says why not elsewhere. Checkpoints and validation
    are those of the model itself.

    Args:
        mode: true, false, or "auto": if forces are gradients of the energy, the model is small, and
            the run has 5,000 steps or more, or 2,500 of frames that have as many atoms each.
    """

    def __init__(self, mode: CompileMode = "auto") -> None:
        self.mode = checked_mode(mode)

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        if self.mode is False:
            return
        model = getattr(unit.model, "module", unit.model)
        reason = self._reason_against(state, unit, model)
        if reason is None:
            model.region = CompiledRegion()
        elif self.mode is True:
            logging.getLogger(__name__).warning("steps are not compiled: %s", reason)

    def _reason_against(self, state: State, unit: TTrainUnit, model) -> str | None:
        if next(model.parameters()).device.type != "cpu":
            return "only those on a CPU are"
        if distutils.get_world_size() > 1:
            return "only those of a single rank are"
        if unit.autocast_enabled:
            return "those in bfloat16 are not"
        if self.mode == "auto":
            train = state.train_state
            steps = train.max_steps or train.max_epochs * len(train.dataloader)
            if not pays(model, steps, _LONG_OF_ONE_SIZE):
                return "it would not pay"
            if steps < _LONG and not _of_one_size(train.dataloader.dataset):
                return "it would not pay"
        return None


def _of_one_size(datasets: ConcatDataset) -> bool:
    """Whether training frames, of which some are read, have as many atoms each."""
    counts = {
        len(frame.atomic_numbers)
        for split in datasets.datasets
        for _, frame in evenly_spaced(split, _FRAMES)
    }
    return len(counts) == 1
