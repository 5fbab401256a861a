"""What all trials need, done once before they are forked: imports, and caches of parsers and fonts.

Nothing here may start a thread: a forked process would wait for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import SimpleNamespace

import torch


def warm() -> None:
    """Prepare this process."""
    torch.set_num_threads(1)
    import fairchem.core._cli
    import fairchem.core.launchers.slurm_launch
    import matplotlib.pyplot as plt

    import eqv2_plugin

    for module in pkgutil.walk_packages(eqv2_plugin.__path__, "eqv2_plugin."):
        if ".triton" not in module.name:
            importlib.import_module(module.name)
    config = Path(__file__).parents[2] / "configs" / "eqv2_oc20.yml"
    place = ["run_dir=/nowhere", "job.device_type=CPU"]
    fairchem.core._cli.get_hydra_config_from_yaml(str(config), place)
    figure = plt.figure()
    figure.text(0.5, 0.5, "a $x$")
    figure.canvas.draw()
    plt.close(figure)


def quicken() -> None:
    """Leave out what takes seconds and makes no result: facts about the host, and waiting."""
    import fairchem.core.common.distutils as distributed
    import fairchem.core.launchers.slurm_launch as launcher

    launcher.write_environment_report = lambda **_: None
    distributed.time = SimpleNamespace(sleep=lambda _: None)
