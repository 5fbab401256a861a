"""The relaxations of many systems, in batches that reach across systems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from eqv2_plugin.tasks.adsorbml.placements import check_numbers, place
from eqv2_plugin.tasks.adsorbml.results import SystemResult

# Of the relaxation of a clean slab; placements have a mode's name.
_SLAB = "slab"


@dataclass(frozen=True)
class Protocol:
    """What is done with each system.

    Attributes:
        placements: {mode: number}, see `eqv2_plugin.tasks.adsorbml.placements.MODES`.
        seed: of the placements.
        adsorption_energy_model: the model's energies are adsorption energies, as of OC20. Else
            they are total energies, and those of the relaxed clean slab and of the gas phase are
            subtracted.
        place_on_relaxed_slab: relax the clean slab with the model, and place on that.

    Raises:
        ValueError: see `check_numbers`.
    """

    placements: Mapping[str, int]
    seed: int = 0
    adsorption_energy_model: bool = True
    place_on_relaxed_slab: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", check_numbers(self.placements))

    @property
    def needs_slab(self) -> bool:
        """Whether clean slabs are relaxed, too."""
        return self.place_on_relaxed_slab or not self.adsorption_energy_model

    @property
    def relaxations(self) -> int:
        """Of each system."""
        return sum(self.placements.values()) + self.needs_slab


@dataclass
class _StoredRelaxer:
    """Relaxations that are in the store as they are there; the others are made, and put there."""

    predict: Predict
    settings: RelaxationSettings
    batch: BatchLimit
    store: RelaxationStore
    records: dict[str, dict[str, Any]]
    bar: Progress
    _found: list[Relaxed] = field(default_factory=list)

    def __call__(self, structures: Iterable[tuple[str, Atoms]]) -> Iterator[Relaxed]:
        for relaxed in relax_many(
            self._missing(structures),
            self.predict,
            self.settings,
            batch=self.batch,
            on_step=self.bar.step,
        ):
            self.store.append(relaxed)
            self.bar.finish()
            yield relaxed
            yield from self._stored()
        yield from self._stored()

    def _missing(self, structures: Iterable[tuple[str, Atoms]]) -> Iterator[tuple[str, Atoms]]:
        for identity, atoms in structures:
            if identity in self.records:
                self._found.append(as_relaxed(self.records.pop(identity), atoms))
            else:
                yield identity, atoms

    def _stored(self) -> Iterator[Relaxed]:
        while self._found:
            self.bar.finish()
            yield self._found.pop()


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
        systems: without those that are finished.
        protocol: what is done with each.
        predict: the model.
        settings: of the relaxations.
        batch: how many move at the same time.
        folder: for the files of finished relaxations; those of all jobs are read.
        share: (this job, number of jobs).
        made_with: what the relaxations depend on.

    Yields:
        Each system once, in the order in which they finish; one whose adsorbate cannot be placed,
        or whose clean slab cannot be relaxed, with ``error`` set.

    Raises:
        ValueError: the folder holds relaxations made with something else.
        RuntimeError: another process works on the same share.
        OSError: the disk is full.
    """
    if not systems:
        return
    with (
        RelaxationStore(store_path(folder, *share), made_with) as store,
        Progress(len(systems) * protocol.relaxations, 0) as bar,
    ):
        ids = {system.id for system in systems}
        # Of an earlier run with as many jobs or others.
        finished = read_finished(folder, made_with, lambda one: one.rpartition("/")[0] in ids)
        if note := finished.note():
            print(note, flush=True)
        relax = _StoredRelaxer(predict, settings, batch, store, finished.records, bar)
        slabs = {}
        if protocol.needs_slab:
            relaxed = relax((f"{system.id}/{_SLAB}", system.initial) for system in systems)
            slabs = {slab.id.rpartition("/")[0]: slab for slab in relaxed}
        yield from _relax_placements(systems, protocol, slabs, relax)


def _relax_placements(
    systems: Sequence[System],
    protocol: Protocol,
    slabs: Mapping[str, Relaxed],
    relax: _StoredRelaxer,
) -> Iterator[SystemResult]:
    by_id = {system.id: system for system in systems}
    placed: dict[str, list[tuple[str, Atoms]]] = {}
    done: dict[str, dict[str, Relaxed]] = {system.id: {} for system in systems}
    errors: dict[str, str] = {}

    def initial() -> Iterator[tuple[str, Atoms]]:
        # Systems are placed one by one, when there is room in the batch.
        for system in systems:
            try:
                placed[system.id] = _place(system, protocol, slabs.get(system.id))
            except ValueError as error:
                errors[system.id] = str(error)
                continue
            for name, atoms in placed[system.id]:
                yield f"{system.id}/{name}", atoms

    def result(identity: str, error: str = "") -> SystemResult:
        return analyse(
            by_id[identity],
            placed.pop(identity, []),
            done.pop(identity),
            slabs.get(identity),
            protocol.adsorption_energy_model,
            error,
        )

    for relaxed in relax(initial()):
        identity, _, name = relaxed.id.rpartition("/")
        done[identity][name] = relaxed
        if len(done[identity]) == len(placed[identity]):
            yield result(identity)
    for identity, error in errors.items():
        yield result(identity, error)


def _place(system: System, protocol: Protocol, slab: Relaxed | None) -> list[tuple[str, Atoms]]:
    if slab is not None and slab.failed:
        raise ValueError(f"the clean slab cannot be relaxed ({slab.error})")
    clean = slab.atoms if slab is not None and protocol.place_on_relaxed_slab else system.initial
    return place(system.id, clean, system.adsorbates, protocol.placements, protocol.seed)
