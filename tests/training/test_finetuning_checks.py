"""Frames and normalisers that do not fit get one clear error before the first step."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.data.references import normalizer, written_out_references
from eqv2_plugin.training.finetuning_runner import check_frames, check_gradient_scales


def frame(symbols: str, energy: float = -1.0, forces: bool = True) -> AtomicData:
    atoms = Atoms(symbols, np.arange(6.0).reshape(2, 3), cell=[9, 9, 9], pbc=True)
    labels = {"energy": energy} | ({"forces": np.ones((2, 3))} if forces else {})
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return AtomicData.from_ase(atoms, task_name="x", sid=f"run-{symbols}")


def run_check(frames: list[AtomicData], references: dict[str, float] | None = None) -> None:
    module = written_out_references(references) if references else None
    tasks = [
        SimpleNamespace(name="energy", datasets=["x"], element_references=module),
        SimpleNamespace(name="forces", datasets=["x"], element_references=None),
    ]
    check_frames(SimpleNamespace(dataset_names=["x.train"], datasets=[frames]), tasks, 84)


def test_frames_that_fit_pass():
    run_check([frame("CO"), frame("CuO")], {"C": -7.0, "O": -6.0, "Cu": -3.0})


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame("CoU"), r"x\.train, frame 1 \(run-CoU\) holds U, but .* up to Bi .*=84"),
        (frame("CuO"), r"no value for Cu, which x\.train, frame 1.*fit-references"),
        (frame("OC", forces=False), "no label 'forces'"),
        (frame("OC", energy=float("nan")), "'energy' that is not finite"),
    ],
    ids=["element", "reference", "missing label", "infinite label"],
)
def test_a_frame_that_does_not_fit_is_named(bad, message):
    with pytest.raises(ValueError, match=message):
        run_check([frame("CO"), bad], {"C": -7.0, "O": -6.0})


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_a_stress_without_volume_is_not_trained(pbc):
    layer = Atoms("CO", np.arange(6.0).reshape(2, 3), cell=[9, 9, 9], pbc=pbc)
    layer.calc = SinglePointCalculator(layer, energy=-1.0, stress=np.zeros(6))
    data = AtomicData.from_ase(layer, task_name="x", sid="layer")
    tasks = [SimpleNamespace(name="stress", datasets=["x"], element_references=None)]
    splits = SimpleNamespace(dataset_names=["x.train"], datasets=[[data]])
    with pytest.raises(ValueError, match=r"x\.train, frame 0 \(layer\) .* no volume"):
        check_frames(splits, tasks, 84)


def test_a_gradient_has_the_scale_of_its_energy():
    backbone = SimpleNamespace(config=SimpleNamespace(direct_forces=False))
    model = SimpleNamespace(backbone=backbone)

    def tasks(mean: float, rmsd: float) -> list[SimpleNamespace]:
        energy = SimpleNamespace(property="energy", normalizer=normalizer(0.0, 2.0))
        return [energy, SimpleNamespace(property="forces", normalizer=normalizer(mean, rmsd))]

    check_gradient_scales(model, tasks(0.0, 2.0))
    for wrong in ((0.0, 1.0), (0.1, 2.0)):
        with pytest.raises(ValueError, match=r"must have mean 0 and the energy's rmsd \(2\)"):
            check_gradient_scales(model, tasks(*wrong))
    backbone.config.direct_forces = True
    check_gradient_scales(model, tasks(0.0, 1.0))
