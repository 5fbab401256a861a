"""The checkpoints in a run's folder: which are complete, which comes last, and sums kept with them.

The history has means since the validation before. A resumed run takes up the sums where its
checkpoint was written, so that it writes the same history as one that was not disturbed.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any, Protocol

from fairchem.core.common import distutils
from torch.distributed.checkpoint import FileSystemReader

from eqv2_plugin.common.files import save_text
from eqv2_plugin.common.text import say

FINAL = "final"
METADATA = ".metadata"
AVERAGES = "averages.json"
_STEP = re.compile(r"step_(\d+)")


def is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint and every file that it names are there, each as long as it must be.

    ``.metadata`` comes last when a checkpoint is written, but remains while an old one is removed.
    """
    try:
        stored = FileSystemReader(checkpoint).read_metadata().storage_data or {}
        ends: dict[str, int] = {}
        for place in stored.values():
            end = place.offset + place.length
            ends[place.relative_path] = max(end, ends.get(place.relative_path, 0))
        return all((checkpoint / name).stat().st_size >= end for name, end in ends.items())
    except FileNotFoundError:
        return False
    except OSError:
        raise
    except Exception:
        # Whatever a damaged pickle raises.
        return False


def last_complete(folder: Path) -> Path | None:
    """The complete checkpoint of the latest step; None if there is none.

    Not the one that was changed last, as fairchem takes it: removing an old one changes it, too.
    """
    found = [p for p in folder.glob("*") if p.is_dir() and not p.is_symlink()]
    found.sort(key=lambda path: (_step(path), path.stat().st_mtime), reverse=True)
    return next((path for path in found if is_complete(path)), None)


def remove_unfinished(folder: Path) -> list[str]:
    """Remove what a killed run, or a full disk, left without ``.metadata``; returns the names."""
    broken = [
        path
        for path in folder.glob("*")
        if _step(path) >= 0 and path.is_dir() and not (path / METADATA).exists()
    ]
    for path in broken:
        shutil.rmtree(path, ignore_errors=True)
    return sorted(path.name for path in broken)


class Sums(Protocol):
    """What adds up figures of training steps on one rank."""

    def state(self) -> dict[str, float]:
        """The sums so far."""

    def restore(self, ranks: list[dict[str, float]], rank: int, count: int) -> None:
        """Go on from the `state` of every rank, as the ``rank``-th of ``count``."""


def save_averages(checkpoint: Path, sums: dict[str, Sums]) -> None:
    """Write the sums of all ranks into a checkpoint's folder; call it on each of them."""
    ranks = distutils.gather_objects({name: value.state() for name, value in sums.items()})
    if distutils.is_master():
        save_text(checkpoint / AVERAGES, json.dumps(ranks) + "\n")


def load_averages(checkpoint: Path, sums: dict[str, Sums]) -> None:
    """Give each of ``sums`` what `save_averages` wrote; call it on all ranks.

    A checkpoint of an older version has none, which is said.
    """
    path = checkpoint / AVERAGES
    if not path.is_file():
        say(
            f"{checkpoint} holds no averages: training losses of the next validation are means "
            "since this resume."
        )
        return
    rank, count = distutils.get_rank(), distutils.get_world_size()
    try:
        saved: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for name, value in sums.items():
            # Figures that a version before did not keep begin anew.
            if name in saved[0]:
                value.restore([one[name] for one in saved], rank, count)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): remove it, and run the same command again"
        ) from error


def _step(checkpoint: Path) -> float:
    if checkpoint.name == FINAL:
        return math.inf
    match = _STEP.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1
