"""fairchem's runner for simulations of a molecule, and what it keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.text import say
from eqv2_plugin.inference.compiled import compile_replicas
from eqv2_plugin.inference.job import InferenceRunner, Precision, Progress
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.inference.replicas import PredictReplicas, ReplicaPredictor
from eqv2_plugin.models.compile_mode import CompileMode, checked_mode
from eqv2_plugin.tasks.simulation.analysis import Reference
from eqv2_plugin.tasks.simulation.dynamics import Dynamics, Frame
from eqv2_plugin.tasks.simulation.frames import FrameFile, frames_path, last_frame
from eqv2_plugin.tasks.simulation.molecule import Molecule, open_molecule
from eqv2_plugin.tasks.simulation.results import write_results
from eqv2_plugin.tasks.simulation.settings import SimulationSettings


class SimulationRunner(InferenceRunner):
    """Simulates replicas of a molecule, and compares them with its DFT trajectory.

    Batches of replicas are shared by processes; each adds the frames of a batch to a file in
    ``results``, and the process that finishes last writes what `write_results` says. The same
    command goes on from the last frame with the same bits.

    Args:
        checkpoint, task_name, precision, unsafe: see `InferenceRunner`.
        data: see `open_molecule`.
        settings: see `SimulationSettings`.
        facts: about the job, for the report.
        compile_steps: true, false or "auto"; see `compile_replicas`.
    """

    def __init__(
        self,
        checkpoint: str | None,
        data: Mapping[str, Any],
        settings: Mapping[str, Any],
        facts: Mapping[str, str | None],
        task_name: str | None = None,
        precision: Precision = "float32",
        unsafe: bool = False,
        compile_steps: CompileMode = "auto",
    ) -> None:
        super().__init__(checkpoint, precision, task_name, unsafe)
        self.compile_steps = checked_mode(compile_steps)
        self.precision = precision
        self.data = data
        self.settings = SimulationSettings.from_options(settings)
        self.facts = dict(facts)

    def work(self) -> None:
        """Simulate the batches of this process to their end.

        Raises:
            FileNotFoundError, ValueError: model or data are missing, unfit or damaged, or the
                results folder holds frames made with something else.
            RuntimeError: the same job is running already.
            OSError: results cannot be written.
        """
        share, processes = self.share()
        molecule = open_molecule(self.data, self.settings)
        predict = self.open_predictor()
        model = _replicas_of(predict, molecule)
        # What refuses the molecule or its data does so before files are written.
        model(1)
        self._compile(predict, molecule)
        reference = Reference.of(molecule.reference_positions())
        made_with = self._made_with(predict, molecule)
        masses = torch.tensor(molecule.atoms.get_masses(), device=self.device)
        run = Dynamics(self.settings.make_thermostat(masses), model)
        batches = self.settings.batches()
        say(
            f"{molecule.name}: {self.settings.replicas} replicas of {len(molecule.atoms)} atoms in "
            f"{len(batches)} batch(es), {self.settings.picoseconds:g} ps each, "
            f"{self.settings.save_every} steps between frames"
        )
        for batch in batches[share::processes]:
            self._simulate(run, molecule, batch, made_with)
        if left := sum(not self._finished(batch, molecule) for batch in batches):
            say(f"{left} batch(es) of other processes are left; the last one writes the results")
            return
        written = write_results(
            self.results, molecule, reference, self.settings, made_with, self.facts
        )
        print(written, flush=True)

    def _compile(self, predict: BatchPredictor, molecule: Molecule) -> None:
        settings = self.settings
        largest = max(len(batch) for batch in settings.batches())
        steps = (settings.frames - 1) * settings.save_every
        compile_replicas(predict, molecule.atoms, largest, steps, self.compile_steps)

    def _made_with(self, predict: BatchPredictor, molecule: Molecule) -> dict[str, Any]:
        """What frames depend on; a simulation may become longer."""
        settings = dataclasses.asdict(self.settings)
        del settings["picoseconds"]
        return {
            "checkpoint_sha256": file_sha256(self.checkpoint_file),
            "task_name": predict.task_name,
            "precision": self.precision,
            "settings": settings,
            "molecule": molecule.name,
            "data": dict(molecule.fingerprints),
        }

    def _simulate(
        self, run: Dynamics, molecule: Molecule, batch: range, made_with: Mapping[str, Any]
    ) -> None:
        path = frames_path(self.results, batch.start)
        every, frames = self.settings.save_every, self.settings.frames
        with FrameFile(path, {**made_with, "first": batch.start}) as file:
            frame = last_frame(path, len(molecule.atoms))
            if frame is None:
                frame = self._start(run, molecule, batch)
                file.append(frame)
            done = frame.step // every + 1
            if done > frames:
                raise ValueError(
                    f"{path} holds {done:,} frames, and picoseconds={self.settings.picoseconds:g} "
                    f"asks for {frames:,}: a simulation can be made longer, not shorter"
                )
            with Progress(frames, done, "frame") as progress:
                while done < frames and len(frame.ended) < len(batch):
                    before, frame = frame, run.advance(frame, every)
                    file.append(frame)
                    progress.step(every * (len(batch) - len(before.ended)))
                    progress.finish()
                    done += 1
                    for index in frame.ended.keys() - before.ended.keys():
                        end = frame.ended[index]
                        tqdm.write(f"replica {batch[index]} ended at step {end.step}: {end.reason}")

    def _start(self, run: Dynamics, molecule: Molecule, batch: range) -> Frame:
        starts = [molecule.start(self.settings, number) for number in batch]
        return run.start(
            np.array([atoms.positions for atoms in starts]),
            np.array([atoms.get_momenta() for atoms in starts]),
        )

    def _finished(self, batch: range, molecule: Molecule) -> bool:
        frame = last_frame(frames_path(self.results, batch.start), len(molecule.atoms))
        if frame is None:
            return False
        all_ended = len(frame.ended) == len(batch)
        return all_ended or frame.step // self.settings.save_every + 1 >= self.settings.frames


def _replicas_of(predict: BatchPredictor, molecule: Molecule) -> Callable[[int], PredictReplicas]:
    """Predictors of so many replicas, each made once."""
    return cache(lambda count: ReplicaPredictor(predict, molecule.atoms, count))
