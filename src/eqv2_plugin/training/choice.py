"""The weights that a run ends with: those of its last step, or of its best validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common import distutils
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TEvalUnit, TTrainUnit

from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.options import make_options
from eqv2_plugin.training.evaluation import evaluated_metrics

# In the folder of the run, beside its checkpoints.
FILE = "chosen_weights.pt"
_MILLI = 1e-3


@dataclass(frozen=True)
class ErrorWeights:
    """What an error counts in the score of a validation, the lowest of which is chosen."""

    energy: float  # of the energy MAE in eV
    forces: float  # of the force MAE in eV/Å

    def score(self, splits: Mapping[str, Mapping[str, float]]) -> float:
        """Mean over the validation splits of `evaluated_metrics`; without forces, of energies."""
        scores = [
            self.energy * split["energy_mae_meV"]
            + self.forces * split.get("forces_mae_meV_per_A", 0.0)
            for split in splits.values()
        ]
        return _MILLI * sum(scores) / len(scores)


class ChooseByValidation(Callback):
    """Ends a run with the evaluated weights of the validation that had the lowest score.

    They wait in a file of the run's folder, so that a resumed run chooses as an undisturbed one.
    Training goes on from its own weights; only what is evaluated and predicted with changes, before
    the last checkpoint is written. Place it before the callback that does that.

    Args:
        weights: options of `ErrorWeights`; None keeps the last weights.

    Attributes:
        chosen: ``step`` and ``score``, once the run has ended with them.

    Raises:
        ValueError: a missing or unknown option.
    """

    def __init__(self, weights: Mapping[str, Any] | None = None) -> None:
        self.weights = None if weights is None else make_options(ErrorWeights, weights, "choose_by")
        self.chosen: dict[str, float] | None = None
        self._file = Path()  # fairchem tells it
        self._lowest: float | None = None

    def set_runner_callbacks(self, save_callback, load_callback, checkpoint_dir: str) -> None:
        """fairchem's hook that tells callbacks the run folder."""
        self._file = Path(checkpoint_dir).parent / FILE

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        if self.weights is None:
            return
        if unit.train_progress.num_steps_completed == 0 and distutils.is_master():
            # Of a start that left no checkpoint.
            self._file.unlink(missing_ok=True)
        distutils.synchronize()
        self._lowest = self._read()["score"] if self._file.exists() else None

    def on_eval_epoch_end(self, state: State, unit: TEvalUnit) -> None:
        if self.weights is None:
            return
        score = self.weights.score(evaluated_metrics(unit))
        # After a kill the same validation may come again.
        if self._lowest is not None and not score < self._lowest:
            return
        self._lowest = score
        if distutils.is_master():
            step = unit.train_progress.num_steps_completed
            content = {"step": step, "score": score, **asdict(self.weights)}
            state_dict = unit.eval_unit.model.state_dict()
            with atomic_write(self._file) as building:
                torch.save({**content, "model": state_dict}, building)

    def on_train_end(self, state: State, unit: TTrainUnit) -> None:
        if self.weights is None:
            return
        distutils.synchronize()
        if not self._file.exists():
            return  # no validation
        found = self._read()
        unit.eval_unit.model.load_state_dict(found["model"])
        self.chosen = {"step": found["step"], "score": found["score"]}

    def _read(self) -> dict[str, Any]:
        found: dict[str, Any] = read_checkpoint(self._file)
        return found
