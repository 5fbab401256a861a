"""Which tasks, labels and splits belong to which of the data sets that a run trains on.

fairchem gives each data set tasks of its own ("dft_energy", "dft_forces"), whose labels its reader
renames (``key_mapping``), or lets data sets share one. A batch then holds every label, infinite for
structures of data sets that the task is not of.
"""

from __future__ import annotations

from collections.abc import Sequence

from fairchem.core.units.mlip_unit.mlip_unit import Task


def data_sets_of(tasks: Sequence[Task]) -> list[str]:
    """Names of the data sets that tasks are trained on, sorted."""
    return sorted({name for task in tasks for name in task.datasets})


def tasks_of(tasks: Sequence[Task], dataset: str) -> dict[str, Task]:
    """{property: task} of one data set."""
    return {task.property: task for task in tasks if dataset in task.datasets}


def data_set_of(split: str) -> str:
    """Whose split it is: "dft" of "dft.val"."""
    return split.partition(".")[0]


def shown_split(split: str, tasks: Sequence[Task]) -> str:
    """What reports call a split: "val" of "oc20.val", and its full name among several data sets."""
    return split if len(data_sets_of(tasks)) > 1 else split.partition(".")[2]
