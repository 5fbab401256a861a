"""The checkpoints in a run's folder: which are whole, and which comes last."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

from torch.distributed.checkpoint import FileSystemReader

FINAL = "final"
METADATA = ".metadata"
_STEP = re.compile(r"step_(\d+)")


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint and every file that it names are there, each as long as it must be.

    ``.metadata`` comes last when a checkpoint is written, but remains while an old one is removed.

    Raises:
        OSError: it cannot be read.
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


def last_whole(folder: Path) -> Path | None:
    """The whole checkpoint of the latest step; None if there is none.

    Not the one that was changed last, as fairchem takes it: removing an old one changes it, too.
    """
    found = [p for p in folder.glob("*") if p.is_dir() and not p.is_symlink()]
    found.sort(key=lambda path: (_step(path), path.stat().st_mtime), reverse=True)
    return next((path for path in found if is_whole(path)), None)


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


def _step(checkpoint: Path) -> float:
    if checkpoint.name == FINAL:
        return math.inf
    match = _STEP.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1
