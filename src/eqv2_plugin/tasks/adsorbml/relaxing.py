"""The relaxations of many systems, in batches that reach across systems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.finished import read_finished
from eqv2_plugin.inference.lockstep import Relaxed, relax_many
from eqv2_plugin.inference.predictor import Predict
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.inference.store import (
    RelaxationStore,
    as_relaxed,
    store_path,
)
from eqv2_plugin.tasks.adsorbml.analysis import analyse, failed_system
from eqv2_plugin.tasks.adsorbml.input import System
from eqv2_plugin.tasks.adsorbml.placements import place
from eqv2_plugin.tasks.adsorbml.system_result import SystemResult
from eqv2_plugin.tasks.relaxation.progress import Progress

# Of the relaxation of a clean slab; placements have a mode's name.
_SLAB = "slab"


@dataclass(frozen=True)
class SystemRelaxer:
    """Places, relaxes and analyses systems; each finished relaxation is on disk at once.

    Attributes:
        predict: the model.
        settings: of the relaxations.
        batch: how many move at the same time.
        numbers: {mode: placements} of each system.
        seed: of the placements.
        adsorption_energy_model: see `BatchedAdsorbMLRunner`.
        place_on_relaxed_slab: see there.
        store_folder: for the files of finished relaxations; those of all jobs are read.
        share: (this job, number of jobs).
        description: what the relaxations depend on.
    """

    predict: Predict
    settings: RelaxationSettings
    batch: BatchLimit
    numbers: Mapping[str, int]
    seed: int
    adsorption_energy_model: bool
    place_on_relaxed_slab: bool
    store_folder: Path
    share: tuple[int, int]
    description: Mapping[str, Any]

    def run(self, systems: Sequence[System]) -> Iterator[SystemResult]:
        """Results in the order in which systems are finished.

        Args:
            systems: without those that are finished.

        Yields:
            Each system once; one whose adsorbate cannot be placed, or whose clean slab cannot be
            relaxed, with ``error`` set.

        Raises:
            ValueError: the folder holds relaxations made with something else.
            RuntimeError: another process works on the same share.
            OSError: the disk is full.
        """
        if not systems:
            return
        with RelaxationStore(store_path(self.store_folder, *self.share), self.description) as store:
            before = self._stored(systems)
            needs_slab = self.place_on_relaxed_slab or not self.adsorption_energy_model
            total = len(systems) * (sum(self.numbers.values()) + needs_slab)
            with Progress(total, 0) as bar:
                slabs = self._slabs(systems, store, before, bar) if needs_slab else {}
                yield from self._placements(systems, slabs, store, before, bar)

    def _slabs(
        self, systems: Sequence[System], store: RelaxationStore, before: dict, bar: Progress
    ) -> dict[str, Relaxed]:
        starts = ((_key(system.id, _SLAB), system.initial) for system in systems)
        relaxed = self._relax(starts, store, before, bar)
        return {slab.id.rsplit("/", 1)[0]: slab for slab in relaxed}

    def _placements(
        self,
        systems: Sequence[System],
        slabs: Mapping[str, Relaxed],
        store: RelaxationStore,
        before: dict,
        bar: Progress,
    ) -> Iterator[SystemResult]:
        placed: dict[str, list[tuple[str, Atoms]]] = {}
        done: dict[str, dict[str, Relaxed]] = {}
        broken: list[SystemResult] = []
        by_id = {system.id: system for system in systems}

        def starts() -> Iterator[tuple[str, Atoms]]:
            # Systems are placed one by one, when there is room in the batch.
            for system in systems:
                try:
                    placed[system.id] = self._place(system, slabs.get(system.id))
                except ValueError as error:
                    broken.append(failed_system(system, str(error)))
                    continue
                done[system.id] = {}
                for name, atoms in placed[system.id]:
                    yield _key(system.id, name), atoms

        for relaxed in self._relax(starts(), store, before, bar):
            identity, name = relaxed.id.rsplit("/", 1)
            done[identity][name] = relaxed
            if len(done[identity]) == len(placed[identity]):
                yield analyse(
                    by_id[identity],
                    placed.pop(identity),
                    done.pop(identity),
                    slabs.get(identity),
                    self.adsorption_energy_model,
                )
            while broken:
                yield broken.pop()
        yield from broken

    def _place(self, system: System, slab: Relaxed | None) -> list[tuple[str, Atoms]]:
        if slab is not None and slab.failed:
            raise ValueError(f"the clean slab cannot be relaxed ({slab.error})")
        clean = slab.atoms if slab is not None and self.place_on_relaxed_slab else system.initial
        return place(system.id, clean, system.adsorbates, self.numbers, self.seed)

    def _relax(
        self,
        starts: Iterable[tuple[str, Atoms]],
        store: RelaxationStore,
        before: dict[str, dict[str, Any]],
        bar: Progress,
    ) -> Iterator[Relaxed]:
        """Stored relaxations as they are, the others anew."""
        found: list[Relaxed] = []

        def missing() -> Iterator[tuple[str, Atoms]]:
            for identity, atoms in starts:
                if identity in before:
                    found.append(as_relaxed(before.pop(identity), atoms))
                else:
                    yield identity, atoms

        for relaxed in relax_many(
            missing(), self.predict, self.settings, batch=self.batch, on_step=bar.step
        ):
            store.append(relaxed)
            bar.finish()
            yield relaxed
            while found:
                bar.finish()
                yield found.pop()
        for relaxed in found:
            bar.finish()
            yield relaxed

    def _stored(self, systems: Sequence[System]) -> dict[str, dict[str, Any]]:
        """Relaxations of unfinished systems, of an earlier run with as many jobs or others."""
        wanted = {system.id for system in systems}
        finished = read_finished(
            self.store_folder, self.description, lambda one: one.rsplit("/", 1)[0] in wanted
        )
        if note := finished.note():
            print(note, flush=True)
        return finished.records


def _key(system: str, name: str) -> str:
    return f"{system}/{name}"
