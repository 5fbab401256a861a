"""What all trials need, done once before they are forked: imports, and caches of parsers and fonts.

Nothing here may start a thread: a forked process would wait for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import torch


def warm(inputs: Path) -> None:
    """Prepare this process."""
    torch.set_num_threads(1)
    import fairchem.core._cli
    import fairchem.core.launchers.slurm_launch
    import matplotlib.pyplot as plt

    import eqv2_plugin

    for module in pkgutil.walk_packages(eqv2_plugin.__path__, "eqv2_plugin."):
        if ".triton" not in module.name:
            importlib.import_module(module.name)
    from .jobs import JOBS

    for job in JOBS.values():
        if job.run.func.__name__ == "fairchem":
            config, overrides = job.run.args
            path = Path(__file__).parents[2] / "configs" / f"{config}.yml"
            fairchem.core._cli.get_hydra_config_from_yaml(
                str(path), ["run_dir=/nowhere", "job.device_type=CPU", *overrides(inputs)]
            )
    figure = plt.figure()
    figure.text(0.5, 0.5, "a $x$")
    figure.canvas.draw()
    plt.close(figure)
