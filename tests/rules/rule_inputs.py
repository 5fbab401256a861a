"""Small data sets in which a rule shows, and configs whose data lie in one of them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixCartesian, FixScaled
from fairchem.core.datasets.atomic_data import AtomicData
from helpers import job_config
from native_checkpoints import write_checkpoint
from omegaconf import DictConfig
from recipes import composed
from relaxation_inputs import emt_once

from eqv2_plugin.cli import main
from eqv2_plugin.data.sample import write_ase_db

SYSTEMS, FRAMES, ATOMS, HELD = 2, 3, 9, 4
OWN, SEVERAL = "configs/eqv2_train.yml", "configs/eqv2_train_several.yml"
# Relaxations of one split, which is enough.
ONE_SPLIT = tuple(f"~is2re_data.splits.{name}" for name in ("ood_ads", "ood_cat", "ood_both"))
PARTLY = FixCartesian([8], (True, False, False))
# The same four atoms held, by one constraint or by several that add up; the last atom is held in
# one direction besides.
HOLDS: dict[str, Callable[[list[int]], list]] = {
    "FixAtoms": lambda held: [FixAtoms(held), PARTLY],
    "FixCartesian": lambda held: [*map(FixCartesian, held), PARTLY],
    "FixScaled": lambda held: [FixScaled(held), PARTLY],
    "in parts": lambda held: [
        FixCartesian([*held, 8], (True, False, False)),
        FixCartesian(held, (False, True, True)),
    ],
}


def frames(hold: str = "FixAtoms") -> list[Atoms]:
    """Frames of two systems: a copper slab with oxygen, its lower layer held; EMT's labels."""
    found = []
    for sid in range(1, SYSTEMS + 1):
        for fid in range(FRAMES):
            atoms = fcc111("Cu", (2, 2, 2), a=3.6 + 0.05 * sid, vacuum=6.0, periodic=True)
            add_adsorbate(atoms, "O", 1.3, "hcp")
            atoms.rattle(0.02, seed=10 * sid)
            atoms.positions[HELD:] += 0.02 * fid * np.random.default_rng(sid).normal(size=(5, 3))
            atoms.info = {"sid": str(sid), "fid": fid}
            label = emt_once(atoms)
            atoms.calc = SinglePointCalculator(atoms, energy=label.energy, forces=label.forces)
            atoms.set_constraint(HOLDS[hold](list(range(HELD))))
            found.append(atoms)
    return found


def with_info(**info: object) -> list[Atoms]:
    """`frames`, of which the last one has these entries besides."""
    found = frames()
    found[-1].info |= info
    return found


def write(folder: Path, atoms: Sequence[Atoms]) -> Path:
    """A data set as ASE and fairchem write it, by none of our rules."""
    folder.mkdir(parents=True)
    write_ase_db(list(atoms), folder)
    return folder


def model(folder: Path) -> Path:
    """A tiny checkpoint with random weights."""
    path = folder / "tiny.pt"
    return path if path.exists() else write_checkpoint(path, "direct")


def compose(name: str, *overrides: str) -> DictConfig:
    """A config by its path (`composed`)."""
    return composed(Path(name).stem, *overrides)


def training_data(name: str, data: Path) -> list:
    """The frames that a recipe trains on and evaluates with, every split from one data set."""
    root = data.parent / f"{Path(name).stem}_{data.name}"
    root.mkdir()
    config = compose(name, *start_of(name, data.parent, data))
    read = []
    for loader in (config.runner.train_dataloader, config.runner.eval_dataloader):
        if name in (OWN, SEVERAL):
            dataset = hydra.utils.instantiate(loader.dataset)
        else:
            for split in loader.dataset.splits.values():
                if not (root / split.src).exists():
                    (root / split.src).symlink_to(data)
            dataset = hydra.utils.instantiate(loader.dataset, root=str(root))
        read += [_of_first_set(dataset[i]) for i in range(len(dataset))]
    # The other data set is the same.
    return [frame for frame in read if not frame.dataset_name.startswith("other.")]


def _of_first_set(frame: AtomicData) -> AtomicData:
    """With labels by their own names, where they are called after a data set."""
    for label in ("energy", "forces"):
        if f"first_{label}" in frame:
            frame[label] = frame[f"first_{label}"]
    return frame


def start_of(name: str, folder: Path, data: Path) -> list[str]:
    """What a recipe needs: files, or a root and for fine-tuning the checkpoint to start with."""
    if name == OWN:
        return [f"train={data}", f"run_dir={folder / f'own_{data.name}'}"]
    if name == SEVERAL:
        sets = f"sets={{first: '{data}', other: '{data}'}}"
        return [sets, f"run_dir={folder / f'several_{data.name}'}"]
    return ["data_root=ROOT"] + [f"checkpoint={model(folder)}"] * ("finetune" in name)


def run_job(name: str, data: Path, *overrides: str) -> Path:
    """Run a prediction or relaxation config, every split from one data set; its results.

    A run that is finished already is not repeated.
    """
    root = data.parent / f"{Path(name).stem}_{data.name}"
    if (root / "runs").exists():
        return root / "runs" / "run" / "results"
    group = "is2re_data" if "relax" in name else "test_data"
    given = [f"checkpoint={model(data.parent)}", f"data_root={root}"]
    given += [f"{group}.reader.format=ase_db", *overrides]
    config = compose(name, *given)
    for split in config.runner.data.splits.values():
        (root / split.src).parent.mkdir(parents=True, exist_ok=True)
        if not (root / split.src).exists():
            (root / split.src).symlink_to(data)
    return run_in(config, root / "runs")


def relax_own(name: str, data: Path, *overrides: str) -> Path:
    """As `run_job`, of the config that takes any structures."""
    root = data.parent / f"{Path(name).stem}_{data.name}"
    given = [f"checkpoint={model(data.parent)}", f"structures={data}", f"run_dir={root}"]
    return run_in(compose(name, *given, "pictures=0", *overrides), root / "runs")


def run_in(config: DictConfig, folder: Path) -> Path:
    """Run a config's job; its results."""
    runner = hydra.utils.instantiate(config.runner)
    runner.job_config = job_config(folder)
    runner.load_state(None)
    runner.run()
    return Path(runner.job_config.metadata.results_dir)


def call(arguments: list[str]) -> tuple[int, str]:
    """Status of a command, and what it printed; errors where it failed."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = main(arguments)
    return status, out.getvalue() + (errors.getvalue() if status else "")


def done(*arguments: str | Path) -> str:
    """The output of a command; a refusal is raised again, as the runners raise theirs."""
    status, printed = call([str(one) for one in arguments])
    if status:
        raise ValueError(printed)
    return printed


def scores(results: Path) -> dict:
    """The numbers of a job, without the names of its files."""
    return {k: v for k, v in json.loads((results / "metrics.json").read_text()).items()
            if k != "facts"}  # fmt: skip
