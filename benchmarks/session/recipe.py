"""The sample recipe of DeNS: how many steps per second; its checkpoint serves later parts."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from session.setting import Jobs, Setting

_CONFIG = Path(__file__).parents[2] / "configs" / "eqv2_dens_oc20.yml"
_STRUCTURES = 4  # of a step, see src/eqv2_plugin/configs/scale/sample.yaml
_FEW = [
    "+data.train_splits.train.first_n=8", "+data.val_splits.val_id.first_n=2",
    "+data.val_splits.val_ood.first_n=2", "data.train_repeats=1", "epochs=1",
    "model.backbone.num_layers=1", "model.backbone.sphere_channels=8",
]  # fmt: skip


def jobs(setting: Setting) -> Jobs:
    """One row: the whole job, and its training loop."""
    yield "configs/eqv2_dens_oc20.yml", partial(train, setting)


def train(setting: Setting) -> dict[str, Any]:
    """Seconds of the whole process and of the steps (validations and start left out).

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    code = "from fairchem.core._cli import main; main()"
    device = "CUDA" if setting.device == "cuda" else "CPU"
    command = [sys.executable, "-c", code, "-c", str(_CONFIG), f"job.device_type={device}"]
    command += [f"run_dir={setting.folder / 'recipe'}", "run_name=sample"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, *(_FEW if setting.tiny else [])], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-600:])
    found = {"seconds in all": time.perf_counter() - start}
    results = setting.recipe_checkpoint.parent
    metrics = json.loads((results / "metrics.json").read_text())
    found["steps"] = metrics["steps"]
    return found | steps_per_second(done.stdout + done.stderr, _STRUCTURES)


def steps_per_second(text: str, structures: int) -> dict[str, float]:
    """From the lines of progress (`training.callbacks`): in the loop, and with validations.

    Args:
        text: what the job said.
        structures: of a step.
    """
    rates = [float(rate) for rate in re.findall(r"samples/s=([\d.]+)", text)]
    ends = re.findall(r"(\d+)/\1 \[(?:(\d+):)?(\d+):(\d+)<", text)
    found = {}
    if rates:
        found["steps per second"] = statistics.median(rates) / structures
    if ends:
        steps, hours, minutes, seconds = (int(part or 0) for part in ends[-1])
        spent = max(3600 * hours + 60 * minutes + seconds, 1)
        found["with validations"] = steps / spent
    return found
