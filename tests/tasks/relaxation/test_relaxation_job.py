"""Whole jobs through `fairchem -c`, and fairchem's own relaxation runner."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from fairchem.core.scripts import make_submission_file
from helpers import job_config
from launches import launch
from native_checkpoints import write_checkpoint
from relaxation_inputs import surfaces, write_data

from eqv2_plugin.common.files import read_npz

pytestmark = pytest.mark.slow
SPLITS = ("id", "ood_ads", "ood_cat", "ood_both")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "tiny.pt", "direct")


@pytest.fixture(scope="module")
def overrides(model, tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("data")
    for split in SPLITS:
        write_data(root / f"val_{split}.db", 2, prefix="random")
    sources = [f"is2re_data.splits.{split}.src=val_{split}.db" for split in SPLITS]
    return [f"checkpoint={model}", "is2re_data=oc20_val", f"data_root={root}",
            "is2re_data.reader.format=ase_db", "settings.steps=6", "settings.fmax=0.001",
            "batch.structures=1", "trajectories=true", "pictures=0", *sources]  # fmt: skip


@pytest.fixture(scope="module")
def finished(overrides, tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("finished")
    place = [f"run_dir={folder}", "run_name=job", "job.device_type=CPU"]
    done = launch("relax_is2re_oc20", [*place, *overrides])
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "job" / "results", done.stdout


def test_a_job_says_what_it_does_and_fairchems_script_takes_its_files(finished, tmp_path):
    results, out = finished
    assert "8 structures; of this process 8, 0 of them finished before" in out
    for said in ("Energies: ", "at most 1 structures", "ADwT", "is2rs_submission", "report.html",
                 "NOTHING CONVERGED"):  # fmt: skip
        assert said in out
    assert "NOT FIT" not in out
    for kind in ("is2re", "is2rs"):
        files = [f"--{s.replace('_', '-')}={results / kind / f'{s}.npz'}" for s in SPLITS]
        joined = joined_by_fairchem(tmp_path / f"{kind}.npz", *files)
        ours = read_npz(results / f"{kind}_submission.npz")
        assert joined.keys() == ours.keys()
        for key, value in joined.items():
            np.testing.assert_array_equal(value, ours[key])
    # Energies of trajectories, which fairchem's script reads, too.
    folders = [f"--{s.replace('_', '-')}={results / 'trajectories' / s}" for s in SPLITS]
    joined = joined_by_fairchem(tmp_path / "traj.npz", "--is2re-relaxations", *folders)
    for split in SPLITS:
        order = np.argsort(joined[f"{split}_ids"])
        ours = read_npz(results / "is2re" / f"{split}.npz")
        np.testing.assert_array_equal(joined[f"{split}_ids"][order], ours["ids"])
        np.testing.assert_array_equal(joined[f"{split}_energy"][order], ours["energy"])


def joined_by_fairchem(out: Path, *arguments: str) -> dict[str, np.ndarray]:
    import runpy

    kept = sys.argv
    sys.argv = ["make_submission_file", *arguments, f"--out-path={out}"]
    try:
        runpy.run_path(make_submission_file.__file__, run_name="__main__")
    finally:
        sys.argv = kept
    return read_npz(out)


def test_fairchems_own_runner_relaxes_with_our_checkpoint(model, tmp_path):
    pandas = pytest.importorskip("pandas")
    from fairchem.core.components.calculate import RelaxationRunner

    structures = []
    for sid, atoms in surfaces(2):
        atoms.info["sid"] = sid
        structures.append(atoms)
    calculator = FAIRChemCalculator.from_model_checkpoint(
        str(model), device="cpu", inference_settings="batch"
    )
    runner = RelaxationRunner(calculator, structures, optimizer_cls=LBFGS, fmax=0.05, steps=4)
    runner.job_config = job_config(tmp_path)
    runner.load_state(None)
    runner.run()
    (path,) = (tmp_path / "run" / "results").glob("relaxation_*.json.gz")
    found = pandas.read_json(path)
    assert found["errors"].tolist() == ["", ""]
    for row, (_, atoms) in zip(found.itertuples(), surfaces(2), strict=True):
        atoms.calc = calculator
        LBFGS(atoms, logfile=None).run(fmax=0.05, steps=4)
        assert row.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-4)
        assert row.opt_nsteps == 4
