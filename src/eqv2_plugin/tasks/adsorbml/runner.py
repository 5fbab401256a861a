"""AdsorbML with relaxations in batches, as a runner of fairchem."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase.io.jsonio import encode
from fairchem.core.components.runner import Runner
from fairchem.core.launchers.api import DeviceType

from eqv2_plugin.common.files import whole_file
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.energy_agreement import Compared, magnitudes_note
from eqv2_plugin.inference.memory import find_limit
from eqv2_plugin.inference.predictor import BatchPredictor, Device, choose_task, open_unit
from eqv2_plugin.inference.processes import job_share
from eqv2_plugin.inference.settings import RelaxationSettings
from eqv2_plugin.tasks.adsorbml.energy_kind import check_energy_kind, gas_energy
from eqv2_plugin.tasks.adsorbml.folder import ResultsFolder
from eqv2_plugin.tasks.adsorbml.input import System, read_input
from eqv2_plugin.tasks.adsorbml.placements import check_numbers
from eqv2_plugin.tasks.adsorbml.relaxing import SystemRelaxer
from eqv2_plugin.tasks.adsorbml.report import warning, write_adsorbml_report
from eqv2_plugin.tasks.adsorbml.system_result import SystemResult, load_results
from eqv2_plugin.tasks.relaxation.runner import Precision

REPORT = "report.html"
TARGETS = "DFT (min_dft_ads_energy of the input)"


class BatchedAdsorbMLRunner(Runner):
    """Does what fairchem's ``AdsorbMLRunner`` does with relaxations in batches, and resumably.

    Placements, anomalies and ranking are fairchem's, so that equal placements give equal results;
    overlapping and lost atoms (`find_anomalies`), which fairchem passes, are anomalies, too.
    Besides fairchem's table (``adsorbml_<jobs>-<job>.json.gz``), the results folder holds every
    relaxed placement (``systems/``) and, when all systems are done, ``report.html``. Array jobs
    and ranks share the systems. The same command again goes on where a killed one ended.

    Args:
        checkpoint: inference checkpoint or native file of an EquiformerV2.
        input_data_path: see `eqv2_plugin.tasks.adsorbml.input`.
        title: of the report.
        placements: {mode: number}, see `eqv2_plugin.tasks.adsorbml.placements.MODES`.
        relaxation: fields of `RelaxationSettings`.
        batch: fields of `BatchLimit`; both None: as many atoms as memory allows.
        adsorption_energy_model: the model's energies are adsorption energies, as of OC20. Else
            they are total energies, and those of the relaxed clean slab and of the gas phase are
            subtracted.
        place_on_relaxed_slab: relax the clean slab with the model, and place on that.
        task_name: data set of a model that knows several.
        precision: "float32" or "float64".
        seed: of the placements.
        unsafe: see `eqv2_plugin.checkpoints.door.open_model`.

    Raises:
        ValueError: no checkpoint, no input, or an option out of range.
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
        end_with_parent()
        if checkpoint is None:
            raise ValueError("no model: set checkpoint=FILE.pt")
        if input_data_path is None:
            raise ValueError(
                "no input: make it with `eqv2 adsorbml input`, and set input=FILE.json"
            )
        if precision not in ("float32", "float64"):
            raise ValueError(f"precision must be float32 or float64, got {precision!r}")
        self.checkpoint = Path(checkpoint).expanduser()
        self.input = Path(input_data_path).expanduser()
        self.title = title
        self.numbers = check_numbers(dict(placements))
        self.settings = RelaxationSettings.from_options(dict(relaxation))
        self.batch = None if all(n is None for n in batch.values()) else BatchLimit(**batch)
        self.adsorption_energy_model = adsorption_energy_model
        self.place_on_relaxed_slab = place_on_relaxed_slab
        self.task_name = task_name
        self.precision = precision
        self.seed = seed
        self.unsafe = unsafe

    def run(self) -> None:
        """Relax the placements of this process's systems, without those finished before.

        Raises:
            FileNotFoundError: no such input or checkpoint.
            ValueError: an input or a checkpoint that does not fit, or a results folder with
                results of something else.
            MissingCatalysisError: fairchem-data-oc is not installed.
            RuntimeError: the same job is running already.
            OSError: results cannot be written.
        """
        share, shares = job_share(self.job_config)
        systems = read_input(self.input)
        device: Device = "cuda" if self.job_config.device_type == DeviceType.CUDA else "cpu"
        unit = open_unit(self.checkpoint, device, getattr(torch, self.precision), self.unsafe)
        task = choose_task(unit, self.task_name, "task_name=NAME")
        facts = getattr(unit.model.module, "facts", None)
        note = check_energy_kind(facts, self.adsorption_energy_model)
        if not self.adsorption_energy_model:
            for system in systems:
                gas_energy(system.adsorbates)
        begun_with = self._begun_with(task)
        folder = ResultsFolder(Path(self.job_config.metadata.results_dir), begun_with)
        mine = [systems[i] for i in np.array_split(np.arange(len(systems)), shares)[share]]
        waiting = [system for system in mine if not folder.is_finished(system.id)]
        print(
            f"{note}\n{len(mine)} systems, {len(mine) - len(waiting)} of them finished before; "
            f"{sum(self.numbers.values())} placements each",
            flush=True,
        )
        predict = BatchPredictor(unit, task)
        relaxer = SystemRelaxer(
            predict=predict,
            settings=self.settings,
            batch=self.batch or find_limit(predict, [s.initial for s in waiting], device),
            numbers=self.numbers,
            seed=self.seed,
            adsorption_energy_model=self.adsorption_energy_model,
            place_on_relaxed_slab=self.place_on_relaxed_slab,
            store_folder=folder.path,
            share=(share, shares),
            description=begun_with,
        )
        before = [folder.load(system.id) for system in mine if folder.is_finished(system.id)]
        compared = [one for result in before for one in target_of(result)]
        said = magnitudes_note(compared, TARGETS)
        for result in relaxer.run(waiting):
            folder.save(result)
            compared += target_of(result)
            # Once, as soon as it shows: the user may want to stop here.
            if not said and (said := magnitudes_note(compared, TARGETS)):
                print(f"NOTE: {said}", flush=True)
        write_table(folder.path / f"adsorbml_{shares}-{share}.json.gz", self._lines(folder, mine))
        if all(folder.is_finished(system.id) for system in systems):
            report = folder.path / REPORT
            results = load_results(folder.path)
            found = magnitudes_note([one for r in results for one in target_of(r)], TARGETS)
            note = "\n".join(filter(None, (note, found and f"NOTE: {found}")))
            write_adsorbml_report(report, results, title=self.title, note=note)
            said_last = (warning(results), found and f"NOTE: {found}", f"written: {report}")
            print("\n".join(filter(None, said_last)), flush=True)

    def save_state(self, checkpoint_location: str, is_preemption: bool = False) -> bool:
        """Nothing is left to save: finished relaxations are on disk already."""
        return True

    def load_state(self, checkpoint_location: str | None) -> None:
        """Nothing to load: `run` looks for finished relaxations."""

    def _begun_with(self, task: str) -> dict[str, Any]:
        """What the results depend on; a folder that was begun with something else is refused."""
        return {
            "checkpoint_sha256": file_sha256(self.checkpoint),
            "input_sha256": file_sha256(self.input),
            "task_name": task,
            "precision": self.precision,
            "placements": self.numbers,
            "seed": self.seed,
            "relaxation": asdict(self.settings),
            "adsorption_energy_model": self.adsorption_energy_model,
            "place_on_relaxed_slab": self.place_on_relaxed_slab,
        }

    def _lines(self, folder: ResultsFolder, systems: Sequence[System]) -> list[dict[str, Any]]:
        lines = []
        for system in systems:
            result = folder.load(system.id)
            if result.error:
                print(f"system {result.system} failed: {result.error}", flush=True)
            lines.append(table_line(result))
        return lines


def target_of(result: SystemResult) -> list[Compared]:
    """The lowest energy beside DFT's; nothing where one of the two is not known."""
    ranked = result.ranked()
    if not ranked or ranked[0].energy is None or result.target is None:
        return []
    return [Compared(ranked[0].relaxed.numbers, ranked[0].energy, result.target)]


def table_line(result: SystemResult) -> dict[str, Any]:
    """As fairchem's runner has it; without a valid structure the energy is infinite."""
    ranked = result.ranked()
    return {
        "sid": result.system,
        "energy_target": result.target,
        "energy": ranked[0].energy if ranked else math.inf,
        "anomaly_count": sum(result.anomaly_counts().values()),
        "atoms": encode(ranked[0].relaxed) if ranked else None,
    }


def write_table(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines as pandas writes a data frame: {column: {number: value}}.

    Raises:
        OSError: the file cannot be written.
    """
    columns = {
        name: {str(i): _finite(line[name]) for i, line in enumerate(lines)}
        for name in (lines[0] if lines else ())
    }
    with whole_file(path) as building, gzip.open(building, "wt", encoding="utf-8") as file:
        json.dump(columns, file, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON knows no infinity; pandas writes null, too."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
