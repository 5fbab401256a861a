"""Frames of an experiment: the package's samples, or a folder with rMD17 arrays."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqv2_plugin.data.sample import load_sample, write_ase_db
from gain.plan import Experiment


def subset_folder(experiment: Experiment, seed: int, out: Path) -> Path:
    """The frames of a seed: ``train`` and ``val`` drawn without overlap, and the test splits.

    All arms of a seed share them. The draw depends on the seed and the experiment's sizes only.

    Raises:
        ValueError: the experiment asks for more frames than there are.
    """
    name = f"{experiment.sample}-{experiment.train_frames}-{seed}"
    folder = out / "data" / name
    if folder.is_dir():
        return folder
    # The arrays have one training file, of which validation frames are drawn, too.
    splits = experiment.pool if experiment.arrays is None else ("train",)
    pool = [f for split in splits for f in _frames(experiment, split)]
    drawn = np.random.default_rng([seed, experiment.train_frames]).permutation(len(pool))
    stop = experiment.train_frames + experiment.val_frames
    if stop > len(pool):
        raise ValueError(f"{experiment.name} needs {stop} frames, there are {len(pool)}")
    parts = {
        "train": [pool[i] for i in sorted(drawn[: experiment.train_frames])],
        "val": [pool[i] for i in sorted(drawn[experiment.train_frames : stop])],
    }
    parts |= {split: _frames(experiment, split) for split in experiment.test_splits}
    building = folder.with_name(f".{name}-{os.getpid()}-{time.monotonic_ns()}")
    for split, frames in parts.items():
        (building / split).mkdir(parents=True)
        write_ase_db(frames, building / split)
    try:
        building.rename(folder)
    except OSError:  # another run of the same seed was faster
        shutil.rmtree(building)
        if not folder.is_dir():
            raise
    return folder


def _frames(experiment: Experiment, split: str) -> list[Atoms]:
    if experiment.arrays is None:
        return load_sample(experiment.sample, split)
    molecule = experiment.sample.removeprefix("rmd17_")
    with np.load(experiment.arrays / f"{molecule}_train.npz") as file:
        train = {key: file[key] for key in ("numbers", "pos", "energy", "forces")}
    reference = train["energy"].mean()
    if split == "test":
        with np.load(experiment.arrays / f"{molecule}_test.npz") as file:
            arrays = {key: file[key] for key in ("numbers", "pos", "energy", "forces")}
    else:
        arrays = train
    frames = []
    for i in range(len(arrays["pos"])):
        info = {"sid": molecule, "fid": i}
        atoms = Atoms(arrays["numbers"], arrays["pos"][i].astype(float), info=info)
        energy = float(arrays["energy"][i] - reference)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=arrays["forces"][i])
        frames.append(atoms)
    return frames
