"""fairchem's training runner, with words for finished and interrupted runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fairchem.core.common import distutils
from fairchem.core.components.train.train_runner import (
    TrainEvalRunner,
    get_most_recent_viable_checkpoint_path,
)
from omegaconf import OmegaConf

from eqv2_plugin.dens.checks import check_denoising_data
from eqv2_plugin.dens.unit import EquiformerV2DeNSUnit
from eqv2_plugin.training.checks import check_labels, check_tasks_match_heads
from eqv2_plugin.training.element_checks import check_frames_elements

RESUME_CONFIG = "resume.yaml"


class EquiformerV2TrainRunner(TrainEvalRunner):
    """Adds to `TrainEvalRunner` the checks before the first step and three messages.

    A run lives in ``run_dir/timestamp_id``. The same command again resumes it from its
    last checkpoint, or says that it is finished.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.finished = False
        unit = self.train_eval_unit
        model = getattr(unit.model, "module", unit.model)
        check_tasks_match_heads(model, unit.tasks)
        check_labels(self.train_dataloader.dataset, unit.tasks)
        check_labels(self.eval_dataloader.dataset, unit.tasks)
        most = model.backbone.config.max_num_elements
        check_frames_elements(self.train_dataloader.dataset, unit.tasks, most)
        check_frames_elements(self.eval_dataloader.dataset, unit.tasks, most)
        if isinstance(unit, EquiformerV2DeNSUnit):
            check_denoising_data(self.train_dataloader.dataset, unit.denoising)

    def load_state(self, checkpoint_location: str | None) -> None:
        """Resume from ``checkpoint_location``, or from the run folder's last checkpoint."""
        folder = Path(self.job_config.metadata.checkpoint_dir)
        if checkpoint_location is None and (folder / "final" / ".metadata").exists():
            self.finished = True
            return
        found = checkpoint_location or get_most_recent_viable_checkpoint_path(str(folder))
        if found:
            check_same_model(Path(found), self._model_options())
            _say(f"Resuming the run {folder.parent} from {Path(found).resolve().name}.")
        super().load_state(checkpoint_location)

    def _model_options(self) -> Any:
        """Of the model that is configured now; a fine-tuned one knows its own."""
        finetuned = self.train_eval_unit.get_finetune_model_config()
        if finetuned is not None:
            return finetuned
        return _saved_options(Path(self.job_config.metadata.config_path))

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """As fairchem's; on SIGTERM or Ctrl-C it would stumble over the folder it has just made."""
        location = Path(checkpoint_location)
        if is_preemption and location.is_dir() and not location.is_symlink():
            if any(location.iterdir()):
                return False
            location.rmdir()
        return super().save_state(checkpoint_location, is_preemption)

    def run(self) -> None:
        if self.finished:
            folder = Path(self.job_config.metadata.checkpoint_dir).parent
            _say(
                f"This run is finished: {folder}. Its results are in {folder / 'results'}. "
                f"For a new run give it another name (run_name=NAME), or delete that folder."
            )
            return
        super().run()


def check_same_model(checkpoint: Path, options: Any) -> None:
    """The checkpoint must belong to the model that is configured now.

    Facts are words about its numbers, of which newer versions write more: they may differ.

    Args:
        checkpoint: folder of a training checkpoint.
        options: config of the model.

    Raises:
        ValueError: the model's options differ.
    """
    saved = checkpoint / RESUME_CONFIG
    if not saved.exists():
        return
    before, now = _flattened(_saved_options(saved)), _flattened(options)
    changed = sorted(
        key
        for key in before.keys() | now.keys()
        if before.get(key) != now.get(key) and not key.startswith("facts.")
    )
    if changed:
        listed = ", ".join(f"{k}: {before.get(k)} -> {now.get(k)}" for k in changed[:5])
        raise ValueError(
            f"the run folder {checkpoint.parent.parent} holds a model with other options "
            f"({listed}): give the new run another name (run_name=NAME), or delete that folder"
        )


def _saved_options(config_path: Path) -> Any:
    return OmegaConf.load(config_path).runner.train_eval_unit.model


def _flattened(config: Any) -> dict[str, Any]:
    """Options with dotted keys."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            flat[prefix] = value

    walk("", OmegaConf.to_container(OmegaConf.create(config), resolve=True))
    return flat


def _say(message: str) -> None:
    if distutils.is_master():
        print(message, flush=True)
