"""What stands in the files for EvalAI where a relaxation failed: the user's explicit choice."""

from __future__ import annotations

import dataclasses

from eqv2_plugin.inference.relaxed import Relaxed

REFUSE, LAST_FINITE, INITIAL = "refuse", "last_finite", "initial"
CHOICES = {
    REFUSE: "left out, and no submission is written without them",
    LAST_FINITE: "energy and positions of the last step whose prediction was finite",
    INITIAL: "the initial structure, with the model's energy there",
}


def check_choice(choice: object) -> None:
    """See that it is one.

    Raises:
        ValueError: it is not.
    """
    if choice not in CHOICES:
        raise ValueError(f"failed must be one of {', '.join(CHOICES)}, not {choice!r}")


def submitted(relaxed: Relaxed, choice: str) -> Relaxed | None:
    """What of a relaxation goes into the files.

    Args:
        relaxed: one that failed, or not.
        choice: key of `CHOICES`.

    Returns:
        A relaxation that succeeded as it is; of one that failed what stands in for it, or None
        if nothing does: always so where the model predicted nothing finite.
    """
    if not relaxed.failed:
        return relaxed
    if choice == REFUSE or not len(relaxed.energies):
        return None
    if choice == LAST_FINITE:
        return relaxed
    return dataclasses.replace(
        relaxed, atoms=relaxed.initial.copy(), energy=float(relaxed.energies[0])
    )
