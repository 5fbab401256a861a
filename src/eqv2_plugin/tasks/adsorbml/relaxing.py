"""The relaxations of many systems, in batches that reach across systems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.job import Progress
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import Predict
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.inference.store import RelaxationStore, as_relaxed, read_finished, store_path
from eqv2_plugin.tasks.adsorbml.analysis import analyse
from eqv2_plugin.tasks.adsorbml.input import System
from eqv2_plugin.tasks.adsorbml.placements import Protocol, place
from eqv2_plugin.tasks.adsorbml.results import SystemResult

# Of the relaxation of a clean slab; placements have a mode's name.
_SLAB = "slab"


def relax_systems(
    systems: Sequence[System],
    protocol: Protocol,
    predict: Predict,
    settings: RelaxationSettings,
    batch: BatchLimit,
    folder: Path,
    share: tuple[int, int],
    made_with: Mapping[str, Any],
) -> Iterator[SystemResult]:
    """Place, relax and analyse systems; each finished relaxation is on disk at once.

    Args:
        predict, settings, batch: see `relax_many`.
        folder: for the files of finished relaxations; those of all jobs are read.
        share: (this job, number of jobs).
        made_with: what the relaxations depend on.

    Yields:
        Each system once, in the order in which they finish; one whose adsorbate cannot be placed,
        or whose clean slab cannot be relaxed, with ``error`` set.

    Raises:
        ValueError: the folder holds relaxations made with something else.
        RuntimeError: another process works on the same share.
    """
    if not systems:
        return
    needs_slab = protocol.place_on_relaxed_slab or not protocol.adsorption_energy_model
    with (
        RelaxationStore(store_path(folder, *share), made_with) as store,
        Progress(len(systems) * (sum(protocol.placements.values()) + needs_slab), 0) as bar,
    ):
        by_id = {system.id: system for system in systems}
        # Of an earlier run with as many jobs or others.
        finished = read_finished(folder, made_with, lambda one: one.rpartition("/")[0] in by_id)
        if note := finished.note():
            print(note, flush=True)
        done: dict[str, Relaxed] = {}

        def missing(structures: Iterable[tuple[str, Atoms]]) -> Iterator[tuple[str, Atoms]]:
            for key, atoms in structures:
                if key in finished.records:
                    done[key] = as_relaxed(finished.records.pop(key), atoms)
                    bar.finish()
                else:
                    yield key, atoms

        def relax(structures: Iterable[tuple[str, Atoms]]) -> Iterator[None]:
            """Put relaxations into ``done``; yields after each that was made, and at the end."""
            for relaxed in relax_many(
                missing(structures), predict, settings, batch=batch, on_step=bar.step
            ):
                store.append(relaxed)
                bar.finish()
                done[relaxed.id] = relaxed
                yield
            yield

        if needs_slab:
            for _ in relax((f"{system.id}/{_SLAB}", system.initial) for system in systems):
                pass
        placed: dict[str, list[tuple[str, Atoms]]] = {}
        errors: dict[str, str] = {}

        def placements() -> Iterator[tuple[str, Atoms]]:
            # Systems are placed one by one, when there is room in the batch.
            for system in systems:
                try:
                    atoms = _place(system, protocol, done.get(f"{system.id}/{_SLAB}"))
                except ValueError as error:
                    atoms, errors[system.id] = [], str(error)
                placed[system.id] = atoms
                yield from ((f"{system.id}/{name}", one) for name, one in atoms)

        for _ in relax(placements()):
            for key, atoms in list(placed.items()):
                if all(f"{key}/{name}" in done for name, _ in atoms):
                    del placed[key]
                    yield analyse(
                        by_id[key],
                        atoms,
                        {name: done.pop(f"{key}/{name}") for name, _ in atoms},
                        done.pop(f"{key}/{_SLAB}", None),
                        protocol.adsorption_energy_model,
                        errors.get(key, ""),
                    )


def _place(system: System, protocol: Protocol, slab: Relaxed | None) -> list[tuple[str, Atoms]]:
    if slab is not None and slab.failed:
        raise ValueError(f"the clean slab cannot be relaxed ({slab.error})")
    clean = slab.atoms if slab is not None and protocol.place_on_relaxed_slab else system.initial
    return place(system.id, clean, system.adsorbates, protocol.placements, protocol.seed)
