"""Held in all three directions by whatever constraint is fixed, in every command and runner."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import FixAtoms
from ase.io import read
from ase.io import write as write_file
from fairchem.core.datasets.ase_datasets import AseDBDataset
from registry import Rule
from rule_inputs import (
    ATOMS,
    FRAMES,
    HELD,
    HOLDS,
    ONE_SPLIT,
    SYSTEMS,
    call,
    frames,
    relax_own,
    run_job,
    scores,
    training_data,
    write,
)

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, fixed_mask, partly_fixed

RULE = Rule("fixed atoms")
COUNT = SYSTEMS * FRAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data set for each way to hold atoms, with a trajectory file beside."""
    found = tmp_path_factory.mktemp("fixed")
    for hold in HOLDS:
        write(found / hold, frames(hold))
        write_file(found / f"{hold}.traj", frames(hold))
    return found


@RULE.behaviour("eqv2 data convert")
def converts(folder: Path, hold: str) -> None:
    out = folder / f"converted_{hold}"
    status, printed = call(["data", "convert", str(folder / f"{hold}.traj"), "--out", str(out)])
    assert status == 0
    assert f"{COUNT} {PARTLY_FIXED}" in printed
    data = AseDBDataset({"src": str(out)})  # fairchem's own, which knows FixAtoms alone
    assert [int(data[i].fixed.sum()) for i in range(len(data))] == [HELD] * COUNT
    # What is held in part is still held, and labels of held atoms are kept.
    stored = [data.get_atoms(i) for i in range(len(data))]
    assert all(len(atoms.constraints) == 2 for atoms in stored)
    for atoms, given in zip(stored, frames(hold), strict=True):
        assert np.allclose(atoms.calc.results["forces"], given.calc.results["forces"])


@RULE.behaviour("eqv2 data split")
def parts(folder: Path, hold: str) -> None:
    out = folder / f"parts_{hold}"
    status, printed = call(["data", "split", str(folder / f"{hold}.traj"), "--out", str(out)])
    assert status == 0, printed
    found = [atoms for part in ("train", "val") for atoms in read(out / f"{part}.extxyz", ":")]
    assert len(found) == COUNT
    for atoms in found:
        assert fixed_mask(atoms).nonzero()[0].tolist() == list(range(HELD))
        assert partly_fixed(atoms) == 1


@RULE.behaviour("eqv2 data check")
def checks(folder: Path, hold: str) -> None:
    _, printed = call(["data", "check", str(folder / hold)])
    lines = {line[:18].strip(): line for line in printed.splitlines()}
    assert lines["fixed atoms"].endswith("in every frame")
    assert f"{COUNT} {PARTLY_FIXED}" in printed
    assert "in 4 pairs of consecutive frames" in lines["fixed atoms stay"]


@RULE.behaviour("eqv2 data fit-normalizer")
def fits_normalizer(folder: Path, hold: str) -> None:
    _, printed = call(["data", "fit-normalizer", str(folder / hold)])
    assert f"# {COUNT} frames, {COUNT * (ATOMS - HELD)} free atoms" in printed


@RULE.behaviour(
    *(f"configs/eqv2_{name}.yml" for name in ("oc20", "oc22", "md17", "finetune", "train")),
    "configs/eqv2_train_several.yml",
    *(f"configs/eqv2_dens_{name}.yml" for name in ("oc20", "oc22", "md17")),
    *(f"configs/equiformer_v1_{name}.yml" for name in ("md17", "dens_md17")),
)
def trains_on(folder: Path, hold: str, name: str) -> None:
    read = training_data(name, folder / hold)
    assert read
    assert all(frame.fixed.tolist() == [1] * HELD + [0] * (ATOMS - HELD) for frame in read)


@RULE.behaviour("configs/predict_s2ef_oc20.yml", "configs/predict_s2ef_oc22.yml")
def predicts(folder: Path, hold: str, name: str) -> None:
    results = run_job(name, folder / hold, "num_workers=0", "task_name=null")
    file = read_npz(results / "id.npz")
    assert len(file["forces"]) == COUNT * (ATOMS - HELD)


@RULE.behaviour("eqv2 submission check")
def checks_submission(folder: Path, hold: str) -> None:
    predict = "configs/predict_s2ef_oc20.yml"
    results = run_job(predict, folder / "FixAtoms", "num_workers=0", "task_name=null")
    data = f"id={folder / hold}"
    status, printed = call(
        ["submission", "check", str(results / "id.npz"), "--dataset", "oc20", "--split-data", data]
    )
    assert status == 0, printed


@RULE.behaviour("configs/relax_is2re_oc20.yml")
def relaxes(folder: Path, hold: str, name: str) -> None:
    few = ("settings.steps=2", "pictures=0", "precision=float64", *ONE_SPLIT)
    found, wanted = (scores(run_job(name, folder / h, *few)) for h in (hold, "FixAtoms"))
    assert found == wanted


@RULE.behaviour("configs/relax.yml")
def relaxes_own(folder: Path, hold: str, name: str) -> None:
    few = ("settings.steps=2", "precision=float64")
    found, wanted = (
        read(relax_own(name, folder / h, *few) / "relaxed.extxyz", ":") for h in (hold, "FixAtoms")
    )
    assert len(found) == COUNT
    for atoms, other in zip(found, wanted, strict=True):
        assert fixed_mask(atoms).nonzero()[0].tolist() == list(range(HELD))
        assert np.array_equal(atoms.positions, other.positions)


@RULE.behaviour("eqv2 doctor")
def doctor_holds(folder: Path, hold: str) -> None:
    from eqv2_plugin.data.fixed_atoms import fixed_mask
    from eqv2_plugin.doctor.structures import choose_structures

    chosen, _ = choose_structures(folder / f"{hold}.traj", "oc20", {8, 29}, 6.0)
    assert all(fixed_mask(atoms).nonzero()[0].tolist() == list(range(HELD)) for atoms in chosen)


@RULE.behaviour("eqv2 adsorbml input")
def prepares_slabs(folder: Path, hold: str) -> None:
    pytest.importorskip("fairchem.data.oc")
    from eqv2_plugin.tasks.adsorbml.slabs import prepare_slab

    def prepared(constraints: list) -> Atoms:
        slab = fcc111("Cu", (4, 4, 3), vacuum=8.0, periodic=True)
        slab.set_tags((slab.get_tags() == 1).astype(int))  # surface 1, below 0
        slab.set_constraint(constraints)
        return prepare_slab(slab, "Cu111").atoms

    held = [i for c in prepared(HOLDS[hold](list(range(8)))).constraints if isinstance(c, FixAtoms)
            for i in c.index]  # fmt: skip
    assert held == list(range(8))  # as the file says, not all that lies below the surface


RULE.does_not_concern(
    "reads no structures",
    "eqv2 info", "eqv2 convert", "eqv2 export", "eqv2 adsorbml score", "eqv2 config",
)  # fmt: skip
RULE.does_not_concern("energies only, of all atoms", "eqv2 data fit-references", "eqv2 predict")
RULE.does_not_concern("refuses molecules with fixed atoms", "configs/md17_simulation.yml")
RULE.does_not_concern("single points move no atom", "eqv2 adsorbml single-points")
RULE.does_not_concern("the download has a column of fixed atoms", "eqv2 data oc20")
RULE.does_not_concern(
    "ASE applies whatever holds the slabs of the input, and none is counted",
    "configs/adsorbml.yml", "configs/adsorbml_batched.yml",
)  # fmt: skip


def test_every_command_and_config_has_a_behaviour_or_a_reason():
    RULE.check_complete()


# Every way to hold atoms once in each behaviour; the other configs of a behaviour get the hardest.
FIRST = {behaviour: name for name, behaviour in reversed(RULE.behaviours.items())}
CASES = [
    (name, hold)
    for name, behaviour in RULE.behaviours.items()
    for hold in (HOLDS if FIRST[behaviour] == name else ("in parts",))
]


@pytest.mark.parametrize(("name", "hold"), CASES)
def test_held_atoms_are_fixed(name, hold, folder):
    behaviour = RULE.behaviours[name]
    behaviour(folder, hold) if name.startswith("eqv2") else behaviour(folder, hold, name)
