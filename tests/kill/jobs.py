"""The jobs, as small as they can be, and the inputs that they share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ase.io
import numpy as np
from adsorbml_inputs import write_slab_input
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from native_checkpoints import write_checkpoint
from relaxation_inputs import emt_once, write_data

from eqv2_plugin.data.sample import write_ase_db

from .warm import quicken

ROOT = Path(__file__).parents[2]
OLD_CHECKPOINT = ROOT / "tests" / "fixtures" / "ckpt_ocp1_oc22_linref" / "checkpoint.pt"
SPLITS = ("id", "ood_ads", "ood_cat", "ood_both")


@dataclass(frozen=True)
class Job:
    """One job.

    Attributes:
        name: of the job.
        run: runs it in this process, into an empty or killed folder; inputs and folder are given.
        results: what it leaves for its user, relative to the folder.
        refuses: whether it refuses to write a file that is there already.
    """

    name: str
    run: Callable[[Path, Path], None]
    results: str
    refuses: bool = False


def fairchem(config: str, overrides: Callable[[Path], Sequence[str]], inputs: Path, folder: Path):
    """As ``fairchem -c configs/CONFIG.yml``; the run goes to ``folder/job``."""
    from fairchem.core._cli import main

    quicken()
    place = [f"run_dir={folder}", "run_name=job", "job.device_type=CPU"]
    path = ROOT / "configs" / f"{config}.yml"
    main(argparse.Namespace(config=str(path)), [*place, *overrides(inputs)])


def eqv2(arguments: Callable[[Path, Path], Sequence[str]], inputs: Path, folder: Path) -> None:
    """As the command."""
    from eqv2_plugin.cli import main

    status = main([str(argument) for argument in arguments(inputs, folder)])
    if status:
        raise SystemExit(status)


# Five steps of two structures: two epochs and a checkpoint at every second step.
_TRAINING = (
    "model.backbone.sphere_channels=8", "model.backbone.attn_hidden_channels=8",
    "model.backbone.attn_alpha_channels=4", "model.backbone.attn_value_channels=4",
    "model.backbone.ffn_hidden_channels=8", "model.backbone.edge_channels=8",
    "model.backbone.num_layers=1", "model.backbone.lmax=1", "model.backbone.mmax=1",
    "model.backbone.max_neighbors=6", "model.backbone.cutoff=4.0",
    "model.backbone.alpha_drop=0.1", "model.backbone.drop_path_rate=0.1",
    "data.train_repeats=1", "epochs=2", "batch_size=2", "checkpoint_every_n_steps=2",
)  # fmt: skip


def _training(inputs: Path) -> list[str]:
    return [f"data_root={inputs / 'frames'}", *_TRAINING]


def _prediction(inputs: Path) -> list[str]:
    return [f"checkpoint={inputs / 'model.pt'}", "test_data=oc20_sample", "num_workers=0",
            f"data_root={inputs / 'frames'}", "structures_per_part=2"]  # fmt: skip


def _relaxation(inputs: Path) -> list[str]:
    sources = [f"is2re_data.splits.{split}.src=val_{split}.db" for split in SPLITS]
    return [f"checkpoint={inputs / 'model.pt'}", "is2re_data=oc20_val",
            f"data_root={inputs / 'is2re'}", "is2re_data.reader.format=ase_db",
            "settings.steps=2", "settings.fmax=0.001", "batch.structures=1",
            "trajectories=true", "pictures=1", *sources]  # fmt: skip


def _adsorbml(inputs: Path) -> list[str]:
    return [f"checkpoint={inputs / 'model.pt'}", f"input={inputs / 'slabs.pkl'}",
            "placements.random_site_heuristic_placement=2", "relaxation.steps=2",
            "batch.structures=1"]  # fmt: skip


def _simulation(inputs: Path) -> list[str]:
    return [f"checkpoint={inputs / 'model.pt'}", "settings.picoseconds=0.003",
            "settings.save_every=2", "settings.replicas=2",
            "settings.replicas_per_batch=1"]  # fmt: skip


def _data_convert(inputs: Path, folder: Path) -> list:
    sources = [inputs / "first.extxyz", inputs / "second.extxyz"]
    return ["data", "convert", *sources, "--out", folder / "out"]


def _convert(inputs: Path, folder: Path) -> list:
    return ["convert", OLD_CHECKPOINT, folder / "new.pt"]


def _export(inputs: Path, folder: Path) -> list:
    return ["export", inputs / "model.pt", folder / "new.safetensors"]


JOBS = {
    job.name: job
    for job in (
        Job("training", partial(fairchem, "eqv2_oc20", _training), "job/results"),
        Job("dens", partial(fairchem, "eqv2_dens_oc20", _training), "job/results"),
        Job("prediction", partial(fairchem, "predict_s2ef_oc20", _prediction), "job/results"),
        Job("relaxation", partial(fairchem, "relax_is2re_oc20", _relaxation), "job/results"),
        Job("adsorbml", partial(fairchem, "adsorbml_batched", _adsorbml), "job/results"),
        Job("simulation", partial(fairchem, "md17_simulation", _simulation), "job/results"),
        Job("data_convert", partial(eqv2, _data_convert), "out"),
        Job("convert", partial(eqv2, _convert), ".", refuses=True),
        Job("export", partial(eqv2, _export), ".", refuses=True),
    )
}


def write_inputs(folder: Path) -> Path:
    """Data and models of all jobs."""
    folder.mkdir(parents=True)
    for split, seed in (("train", 0), ("val_id", 10), ("val_ood", 20)):
        place = folder / "frames" / split
        place.mkdir(parents=True)
        write_ase_db(frames(seed, 6 if split == "train" else 3), place)
    ase.io.write(folder / "first.extxyz", frames(30, 3))
    ase.io.write(folder / "second.extxyz", frames(40, 3))
    write_checkpoint(folder / "model.pt", "direct")
    for split in SPLITS:
        write_data(folder / "is2re" / f"val_{split}.db", 1)
    write_slab_input(folder / "slabs.pkl", ("*O", "*CO"))
    return folder


def frames(seed: int, count: int) -> list[Atoms]:
    """Labelled frames: CO on one layer of copper that is fixed."""
    made = []
    for number in range(count):
        atoms = fcc111("Cu", (2, 2, 1), vacuum=4.0, periodic=True)
        atoms.set_constraint(FixAtoms(range(4)))
        adsorbate = molecule("CO")
        adsorbate.positions += atoms.positions[0] + np.array([0.2, 0.1, 2.4])
        atoms += adsorbate
        atoms.rattle(0.1, seed=seed + number)
        atoms.set_tags([1, 1, 1, 1, 2, 2])
        atoms.info = {"sid": f"s{seed + number}", "fid": number}
        found = emt_once(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=found.energy, forces=found.forces)
        made.append(atoms)
    return made
