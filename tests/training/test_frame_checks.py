"""Frames that do not fit are named before the first step, or before they enter a batch."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.modules.normalization.element_references import ElementReferences
from fairchem.core.units.mlip_unit.mlip_unit import OutputSpec, Task, mt_collater_adapter
from torch.utils.data import DataLoader

from eqv2_plugin.data.references import element_references, normalizer, written_out_references
from eqv2_plugin.training.checks import CheckedCollater, check_frames, check_gradient_scales

# As fairchem-core 1 kept them: 0.0 where the fit had no data.
ZEROS = torch.zeros(100)
ZEROS[6], ZEROS[8] = -7.0, -6.0
LACKING_COPPER = {
    "NaN": written_out_references({"C": -7.0, "O": -6.0}),
    "0.0": ElementReferences(ZEROS),
}


def frame(symbols: str, energy: float = -1.0, forces: bool = True) -> AtomicData:
    atoms = Atoms(symbols, np.arange(6.0).reshape(2, 3), cell=[9, 9, 9], pbc=True)
    labels = {"energy": energy} | ({"forces": np.ones((2, 3))} if forces else {})
    atoms.calc = SinglePointCalculator(atoms, **labels)
    data = AtomicData.from_ase(atoms, task_name="x", sid=f"run-{symbols}")
    data.dataset = "x"  # as the data sets of training set it
    return data


def energy_task(references: ElementReferences | None) -> Task:
    return Task(
        name="energy",
        level="system",
        property="energy",
        loss_fn=torch.nn.L1Loss(),
        out_spec=OutputSpec(dim=[1], dtype="float32"),
        normalizer=normalizer(0.0, 1.0),
        element_references=references,
        datasets=["x"],
    )


def plain_task(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, datasets=["x"], element_references=None)


def check(frames: list[AtomicData], *tasks, every: bool = False) -> None:
    datasets = SimpleNamespace(dataset_names=["x.train"], datasets=[frames])
    check_frames(datasets, tasks, 84, every)


@pytest.mark.parametrize("references", LACKING_COPPER.values(), ids=LACKING_COPPER)
def test_a_frame_with_such_an_element_is_named_before_the_first_step(references):
    check([frame("CO")] * 5, energy_task(references))
    with pytest.raises(ValueError, match=r"no value for Cu, which x\.train, frame 4 \(run-CuO\)"):
        check([frame("CO")] * 4 + [frame("CuO")], energy_task(references))


def test_large_splits_are_read_in_part_and_to_their_end():
    read = []

    class Large:
        def __len__(self):
            return 1_000_000

        def __getitem__(self, index):
            read.append(index)
            return frame("CuO" if index == 999_999 else "CO")

    with pytest.raises(ValueError, match="no value for Cu"):
        check(Large(), energy_task(LACKING_COPPER["NaN"]))
    assert len(read) == 1000


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame("CoU"), r"x\.train, frame 1 \(run-CoU\) holds U, but .* up to Bi .*=84"),
        (frame("OC", forces=False), "no label 'forces'"),
        (frame("OC", energy=float("nan")), "'energy' that is not finite"),
    ],
    ids=["element", "missing label", "infinite label"],
)
def test_fine_tuning_reads_every_frame(bad, message):
    tasks = (
        energy_task(written_out_references({"C": -7.0, "O": -6.0, "Co": -3.0})),
        plain_task("forces"),
    )
    check([frame("CO"), frame("OC")], *tasks, every=True)
    with pytest.raises(ValueError, match=message):
        check([frame("CO"), bad], *tasks, every=True)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_a_stress_without_volume_is_not_trained(pbc):
    layer = Atoms("CO", np.arange(6.0).reshape(2, 3), cell=[9, 9, 9], pbc=pbc)
    layer.calc = SinglePointCalculator(layer, energy=-1.0, stress=np.zeros(6))
    data = AtomicData.from_ase(layer, task_name="x", sid="layer")
    with pytest.raises(ValueError, match=r"x\.train, frame 0 \(layer\) .* no volume"):
        check([data], plain_task("stress"))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("references", LACKING_COPPER.values(), ids=LACKING_COPPER)
def test_a_batch_with_such_an_element_never_arrives(references, workers):
    frames = [frame("CO"), frame("CO"), frame("CO"), frame("CuO")]
    options = {"batch_size": 2, "num_workers": workers}
    batches = iter(
        DataLoader(frames, collate_fn=CheckedCollater([energy_task(references)]), **options)
    )
    assert next(batches).natoms.tolist() == [2, 2]
    with pytest.raises(ValueError, match=r"no value for Cu, which frame run-CuO holds"):
        next(batches)


def test_batches_are_fairchems_also_from_spawned_workers():
    """Ranks are spawned, and with them what their loaders work with."""
    tasks = [energy_task(element_references("oc22_linear"))]
    collate = pickle.loads(pickle.dumps(CheckedCollater(tasks)))
    frames = [frame("CO"), frame("CuO")]
    ours, theirs = collate(frames), mt_collater_adapter(tasks)(frames)
    assert set(ours.keys()) == set(theirs.keys())
    for key, value in theirs:
        if torch.is_tensor(value):
            assert torch.equal(ours[key], value)


def test_a_gradient_has_the_scale_of_its_energy():
    backbone = SimpleNamespace(config=SimpleNamespace(direct_forces=False))
    model = SimpleNamespace(backbone=backbone)

    def tasks(mean: float, rmsd: float) -> list[SimpleNamespace]:
        scales = {"energy": normalizer(0.0, 2.0), "forces": normalizer(mean, rmsd)}
        return [
            SimpleNamespace(name=label, property=label, normalizer=scale, datasets=["x"])
            for label, scale in scales.items()
        ]

    check_gradient_scales(model, tasks(0.0, 2.0))
    for wrong in ((0.0, 1.0), (0.1, 2.0)):
        with pytest.raises(ValueError, match=r"must have mean 0 and the energy's rmsd \(2\)"):
            check_gradient_scales(model, tasks(*wrong))
    backbone.config.direct_forces = True
    check_gradient_scales(model, tasks(0.0, 1.0))
