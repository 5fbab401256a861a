"""Running averages of training batches, kept with each checkpoint.

The history has means since the validation before. A resumed run takes up the sums where its
checkpoint was written, so that it writes the same history as one that was not disturbed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from fairchem.core.common import distutils

from eqv2_plugin.common.files import save_text

AVERAGES = "averages.json"


class Sums(Protocol):
    """What adds up figures of training steps on one rank."""

    def state(self) -> dict[str, float]:
        """The sums so far."""

    def restore(self, ranks: list[dict[str, float]], rank: int, count: int) -> None:
        """Go on from the `state` of every rank, as the ``rank``-th of ``count``."""


def save_averages(checkpoint: Path, sums: dict[str, Sums]) -> None:
    """Write the sums of all ranks into a checkpoint's folder; call it on each of them.

    Args:
        checkpoint: the folder.
        sums: by name.

    Raises:
        OSError: they cannot be written.
    """
    ranks = distutils.gather_objects({name: value.state() for name, value in sums.items()})
    if distutils.is_master():
        save_text(checkpoint / AVERAGES, json.dumps(ranks) + "\n")


def load_averages(checkpoint: Path, sums: dict[str, Sums]) -> None:
    """Give each of ``sums`` what `save_averages` wrote; call it on all ranks.

    A checkpoint of an older version has none, which is said.

    Raises:
        ValueError: the file is damaged.
    """
    path = checkpoint / AVERAGES
    if not path.is_file():
        if distutils.is_master():
            print(
                f"{checkpoint} holds no averages: training losses of the next validation are means "
                "since this resume.",
                flush=True,
            )
        return
    rank, count = distutils.get_rank(), distutils.get_world_size()
    try:
        saved: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for name, value in sums.items():
            value.restore([one[name] for one in saved], rank, count)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): remove it, and run the same command again"
        ) from error
