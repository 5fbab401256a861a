"""AdsorbML with relaxations in batches, as a runner of fairchem."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.io.jsonio import encode

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.inference.batch_size import BatchLimit, find_limit
from eqv2_plugin.inference.energy_agreement import Compared, magnitudes_note
from eqv2_plugin.inference.job import InferenceRunner, Precision
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.models.metadata import metadata_of
from eqv2_plugin.tasks.adsorbml.analysis import check_energy_kind, gas_energy
from eqv2_plugin.tasks.adsorbml.input import read_input
from eqv2_plugin.tasks.adsorbml.placements import Protocol
from eqv2_plugin.tasks.adsorbml.relaxing import relax_systems
from eqv2_plugin.tasks.adsorbml.report import warning, write_adsorbml_report
from eqv2_plugin.tasks.adsorbml.results import ResultsFolder, SystemResult, load_results

REPORT = "report.html"
TARGETS = "DFT (min_dft_ads_energy of the input)"


class BatchedAdsorbMLRunner(InferenceRunner):
    """Does what fairchem's ``AdsorbMLRunner`` does with relaxations in batches, and resumably.

    Placements, anomalies and ranking are fairchem's, so that equal placements give equal results;
    overlapping and lost atoms (`find_anomalies`), which fairchem passes, are anomalies, too.
    Besides fairchem's table (``adsorbml_<jobs>-<job>.json.gz``), the results folder holds every
    relaxed placement (``systems/``) and, when all systems are done, ``report.html``. Array jobs
    and ranks share the systems.

    Args:
        checkpoint, task_name, precision, unsafe: see `InferenceRunner`.
        input_data_path: see `eqv2_plugin.tasks.adsorbml.input`.
        title: of the report.
        placements, seed, adsorption_energy_model, place_on_relaxed_slab: see `Protocol`.
        relaxation: fields of `RelaxationSettings`.
        batch: fields of `BatchLimit`; both None: as many atoms as memory allows.

    Raises:
        ValueError: no input, or an option out of range.
    """

    # Where fairchem's reducers look for tables.
    result_glob_pattern: ClassVar[str] = "adsorbml_*-*.json.gz"

    def __init__(
        self,
        checkpoint: str | None,
        input_data_path: str | None,
        title: str,
        placements: Mapping[str, int],
        relaxation: Mapping[str, Any],
        batch: Mapping[str, int | None],
        adsorption_energy_model: bool = True,
        place_on_relaxed_slab: bool = False,
        task_name: str | None = None,
        precision: Precision = "float32",
        seed: int = 0,
        unsafe: bool = False,
    ) -> None:
        super().__init__(checkpoint, precision, task_name, unsafe)
        if input_data_path is None:
            raise ValueError(
                "no input: make it with `eqv2 adsorbml input`, and set input=FILE.json"
            )
        self.precision = precision
        self.input = Path(input_data_path).expanduser()
        self.title = title
        self.protocol = Protocol(placements, seed, adsorption_energy_model, place_on_relaxed_slab)
        self.settings = RelaxationSettings.from_options(relaxation)
        self.batch = None if all(n is None for n in batch.values()) else BatchLimit(**batch)

    def work(self) -> None:
        """Relax the placements of this process's systems, without those finished before.

        Raises:
            ValueError: an input or a checkpoint that does not fit, or a results folder with
                results of something else.
            RuntimeError: the same job is running already.
        """
        share, shares = self.share()
        systems = read_input(self.input)
        predict = self.open_predictor()
        own_energies = self.protocol.adsorption_energy_model
        energies = check_energy_kind(metadata_of(predict.unit.model.module), own_energies)
        for system in () if own_energies else systems:
            gas_energy(system.adsorbates)
        made_with = {
            "checkpoint_sha256": file_sha256(self.checkpoint_file),
            "input_sha256": file_sha256(self.input),
            "task_name": predict.task_name,
            "precision": self.precision,
            "relaxation": asdict(self.settings),
            **asdict(self.protocol),
        }
        folder = ResultsFolder(self.results, made_with)
        mine = [systems[i] for i in np.array_split(np.arange(len(systems)), shares)[share]]
        waiting = [system for system in mine if not folder.is_finished(system.id)]
        print(
            f"{energies}\n{len(mine)} systems, {len(mine) - len(waiting)} of them finished before; "
            f"{sum(self.protocol.placements.values())} placements each",
            flush=True,
        )
        batch = self.batch or find_limit(predict, [s.initial for s in waiting], self.device)
        compared = _targets(folder.load(s.id) for s in mine if folder.is_finished(s.id))
        note = magnitudes_note(compared, TARGETS)
        for result in relax_systems(
            waiting, self.protocol, predict, self.settings, batch, folder.path, (share, shares),
            made_with,
        ):  # fmt: skip
            folder.save(result)
            compared += _targets([result])
            # Once, as soon as it shows: the user may want to stop here.
            if not note and (note := magnitudes_note(compared, TARGETS)):
                print(f"NOTE: {note}", flush=True)
        lines = [_table_line(folder.load(system.id)) for system in mine]
        _write_table(folder.path / f"adsorbml_{shares}-{share}.json.gz", lines)
        if all(folder.is_finished(system.id) for system in systems):
            self._report(energies)

    def _report(self, energies: str) -> None:
        results, report = load_results(self.results), self.results / REPORT
        note = magnitudes_note(_targets(results), TARGETS)
        notes = [f"NOTE: {note}"] if note else []
        write_adsorbml_report(report, results, title=self.title, note="\n".join([energies, *notes]))
        said = [warning(results), *notes, f"written: {report}"]
        print("\n".join(filter(None, said)), flush=True)


def _targets(results: Iterable[SystemResult]) -> list[Compared]:
    """Lowest energies beside DFT's, where both are known."""
    best = [(ranked[0], r.target) for r in results if (ranked := r.ranked())]
    return [
        Compared(lowest.relaxed.numbers, lowest.energy, target)
        for lowest, target in best
        if lowest.energy is not None and target is not None
    ]


def _table_line(result: SystemResult) -> dict[str, Any]:
    """As fairchem's runner has it; without a valid structure the energy is infinite."""
    if result.error:
        print(f"system {result.system} failed: {result.error}", flush=True)
    ranked = result.ranked()
    return {
        "sid": result.system,
        "energy_target": result.target,
        "energy": ranked[0].energy if ranked else math.inf,
        "anomaly_count": sum(result.anomaly_counts().values()),
        "atoms": encode(ranked[0].relaxed) if ranked else None,
    }


def _write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """As pandas writes a data frame: {column: {number: value}}, with null for what is infinite."""
    columns: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines):
        for name, value in line.items():
            columns.setdefault(name, {})[str(number)] = None if value == math.inf else value
    with atomic_write(path) as building:
        content = json.dumps(columns, allow_nan=False).encode()
        building.write_bytes(gzip.compress(content, mtime=0))
