"""What ranks and array jobs share."""

from __future__ import annotations

from typing import Any

from fairchem.core.common import distutils
from fairchem.core.launchers.api import SchedulerType


def job_share(job_config: Any) -> tuple[int, int]:
    """Which of how many processes this is, over ranks and array jobs.

    Raises:
        ValueError: array jobs with fairchem's local launcher, which runs the first one only.
    """
    scheduler = job_config.scheduler
    jobs, ranks = scheduler.num_array_jobs, distutils.get_world_size()
    if jobs > 1 and scheduler.mode == SchedulerType.LOCAL:
        raise ValueError(
            f"job.scheduler.num_array_jobs={jobs} needs job.scheduler.mode=SLURM: fairchem's "
            "local launcher runs the first job only. Use job.scheduler.ranks_per_node here"
        )
    return job_config.metadata.array_job_num * ranks + distutils.get_rank(), jobs * ranks


def say(message: str) -> None:
    """Print once per job."""
    if distutils.is_master():
        print(message, flush=True)
