"""Total energies of thousands of eV are trained, compared and predicted to the last digit."""

from __future__ import annotations

import hydra
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss, compute_metrics
from omegaconf import OmegaConf

from eqv2_plugin.checkpoints.record import task_config
from eqv2_plugin.checkpoints.task_config import read_task
from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.references.coefficients import exact_references_config
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import corrupt_batch, draw_corruption
from eqv2_plugin.training.checks import CheckedCollater

READER = {"format": "ase_db", "key_mapping": {"energy": "energy", "forces": "forces"}}
REFERENCES = {"C": -1035.123456789, "O": -2043.987654321, "H": -16.1234567}
# eV: what a label may lose, of 4,200 eV; float32 loses 2e-4.
SMALL = 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ethanol and methane with energies of all-electron codes."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(8):
        atoms = Atoms(["C2OH6", "CH4"][i % 2])
        atoms.positions = (
            1.5 * rng.normal(size=(len(atoms), 3)) + 2 * np.arange(len(atoms))[:, None]
        )
        total = sum(REFERENCES[s] for s in atoms.get_chemical_symbols()) + rng.normal()
        labels = {"energy": total, "forces": rng.normal(size=(len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["sid"] = str(i)
        frames.append(atoms)
    root = tmp_path_factory.mktemp("exact")
    (root / "train").mkdir()
    write_ase_db(frames, root / "train")
    return root, frames


def written(references=REFERENCES) -> dict:
    loss = "fairchem.core.modules.loss."
    normalizer = "eqv2_plugin.data.references.normalizer"
    return {
        "_target_": "fairchem.core.units.mlip_unit.mlip_unit.Task",
        "name": "energy", "level": "system", "property": "energy",
        "loss_fn": {"_target_": f"{loss}DDPMTLoss", "loss_fn": {"_target_": f"{loss}MAELoss"}},
        "out_spec": {"dim": [1], "dtype": "float64"},
        "normalizer": {"_target_": normalizer, "mean": 0.0, "rmsd": 2.0},
        "element_references": exact_references_config(references),
        "datasets": ["mine"], "metrics": ["mae"],
    }  # fmt: skip


def task(references=REFERENCES):
    return hydra.utils.instantiate(OmegaConf.create(written(references)))


def batch(root, made, dtype="float64"):
    reader = {**READER, "energy_dtype": dtype}
    data = create_datasets("mine", str(root), {"train": {"src": "train"}}, reader, "")
    made = CheckedCollater([made])([data[i] for i in range(len(data))])
    # As backbones name what their references are summed over.
    made.batch_full, made.atomic_numbers_full = made.batch, made.atomic_numbers
    return made


def labels(frames, data):
    by_sid = {atoms.info["sid"]: atoms.get_potential_energy() for atoms in frames}
    return np.array([by_sid[sid] for sid in data.sid])


def residuals(frames, data):
    counts = {a.info["sid"]: a.get_chemical_symbols() for a in frames}
    sums = [sum(REFERENCES[s] for s in counts[sid]) for sid in data.sid]
    return labels(frames, data) - np.array(sums)


def test_targets_and_metrics_keep_what_float32_loses(folder):
    root, frames = folder
    made = task()
    data = batch(root, made)
    np.testing.assert_array_equal(data.energy.numpy(), labels(frames, data))
    wanted = residuals(frames, data)
    target = made.element_references.apply_refs(data, data.energy)
    assert target.dtype == torch.float32
    np.testing.assert_allclose(target.numpy(), wanted, atol=SMALL)
    predicted = torch.tensor(wanted / 2.0 + 1e-4, dtype=torch.float32, requires_grad=True)
    outputs = {"energy": {"energy": predicted}}
    loss = compute_loss([made], outputs, data)["energy"]
    assert float(loss) == pytest.approx(1e-4, rel=1e-2)
    loss.backward()
    assert predicted.grad.dtype == torch.float32
    metric = compute_metrics(made, {"energy": {"energy": predicted.detach()}}, data)["mae"]
    assert metric.metric == pytest.approx(2e-4, rel=1e-2)
    # Of float32 labels the same errors cannot be seen.
    rounded = batch(root, made, "float32")
    assert rounded.energy.dtype == torch.float32
    assert np.abs(rounded.energy.double().numpy() - labels(frames, rounded)).max() > 2e-5


def test_energies_without_references_are_learned_in_float64(folder):
    made = task(references=None)
    data = batch(folder[0], made)
    predicted = (data.energy / 2).float().requires_grad_()
    compute_loss([made], {"energy": {"energy": predicted}}, data)["energy"].backward()
    assert torch.isfinite(predicted.grad).all()


def test_a_corrupted_batch_keeps_them(folder):
    data = batch(folder[0], task())
    config = DenoisingConfig(probability=1.0, corruption_ratio=1.0, sigma=0.1, coefficient=1.0)
    corruption = draw_corruption(config, data, torch.Generator().manual_seed(0))
    corrupted = corrupt_batch(data, corruption, config)
    assert corrupted.energy.dtype == data.energy.dtype == torch.float64
    torch.testing.assert_close(corrupted.energy, data.energy, rtol=0, atol=0)
    assert not torch.equal(corrupted.pos, data.pos)


def test_a_checkpoint_keeps_them_through_the_door():
    kept = task_config(*read_task(written(), "it"))
    made = hydra.utils.instantiate(OmegaConf.create(kept))
    values = made.element_references.element_references
    assert values.dtype == torch.float64
    assert float(values[8]) == REFERENCES["O"]


def test_another_dtype_is_refused(folder):
    with pytest.raises(ValueError, match="energy_dtype must be one of"):
        batch(folder[0], task(), "float16")
