"""Many relaxations side by side: one model call per step for all that still move."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ase import Atoms

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.predictor import Predict
from eqv2_plugin.inference.relaxation import Relaxation, Relaxed
from eqv2_plugin.inference.resilient import SafePredictor
from eqv2_plugin.inference.settings import RelaxationSettings


def relax_many(
    structures: Iterable[tuple[str, Atoms]],
    predict: Predict,
    settings: RelaxationSettings,
    *,
    batch: BatchLimit,
    trajectory_of: Callable[[str], Path] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Relaxed]:
    """Relax structures in batches, each as ASE's optimizer alone would relax it.

    Each structure has an optimizer of its own. Those that have finished are replaced by waiting
    ones, which are taken from ``structures`` only then. Constraints are ASE's matter.

    Args:
        structures: ids and structures; a calculator on them is ignored.
        batch: how many move at the same time.
        trajectory_of: file for the trajectory of an id (ASE's ``.traj``); it appears when the
            structure has finished.
        on_step: called after each model call with the number of structures in it.

    Yields:
        Each structure once, as it finishes; those whose prediction is not finite, or that the
        model refuses, with ``error`` set.
    """
    safe = SafePredictor(predict)
    waiting = _distinct(structures)
    upcoming = next(waiting, None)
    moving: list[Relaxation] = []
    while moving or upcoming is not None:
        while upcoming is not None and batch.fits([r.atoms for r in moving], upcoming[1]):
            identity, atoms = upcoming
            path = None if trajectory_of is None else trajectory_of(identity)
            moving.append(Relaxation(identity, atoms, settings, path))
            upcoming = next(waiting, None)
        predictions = safe([relaxation.atoms for relaxation in moving])
        if on_step is not None:
            on_step(len(moving))
        for relaxation, prediction in zip(moving, predictions, strict=True):
            if isinstance(prediction, str):
                relaxation.fail(prediction)
            else:
                relaxation.receive(prediction)
        finished = [relaxation for relaxation in moving if relaxation.finished]
        moving = [relaxation for relaxation in moving if not relaxation.finished]
        for relaxation in finished:
            yield relaxation.result()


def _distinct(structures: Iterable[tuple[str, Atoms]]) -> Iterator[tuple[str, Atoms]]:
    seen: set[str] = set()
    for identity, atoms in structures:
        if identity in seen:
            raise ValueError(f"the structure {identity!r} occurs twice; ids must be unique")
        seen.add(identity)
        yield identity, atoms
