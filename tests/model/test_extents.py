"""Far from the origin, in vast boxes, in tiny cells: the same result, little memory, or a name."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData
from helpers import (
    GATE,
    batch_of,
    crystal,
    molecule,
    predict,
    relative_error,
    slab,
    tiny_config,
    tiny_model,
)

from eqv2_plugin.graphs import checks
from eqv2_plugin.graphs.build import build_graph
from eqv2_plugin.graphs.checks import geometry_of
from eqv2_plugin.graphs.compact import compact
from eqv2_plugin.inference.predictor import near_origin

FAR = np.array([3.0, -1.0, 2.0]) * 1e4


@pytest.fixture(scope="module")
def model():
    return tiny_model(**GATE)


def at(atoms: Atoms, offset: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += offset
    return moved


def two_parts(gap: np.ndarray) -> Atoms:
    return molecule(0) + at(molecule(5), gap)


def box(length: float, *skew: float) -> Atoms:
    """A molecule over the corner of a box, some of its atoms wrapped to each side."""
    atoms = at(molecule(), -molecule().positions.mean(0))
    cell = length * np.eye(3)
    cell[2, :2] = skew or (0.0, 0.0)
    atoms.set_cell(cell)
    atoms.pbc = True
    atoms.wrap()
    return atoms


def slab_at(height: float) -> Atoms:
    atoms = slab()
    atoms.pbc = [True, True, False]
    atoms.positions[:, 2] += height
    return atoms


FAR_OUT = {
    "molecule": (at(molecule(), FAR), molecule()),
    "two_parts": (two_parts(FAR), two_parts(np.array([50.0, 0, 0]))),
    "box": (box(2e4), molecule()),
    "skew_box": (box(2e4, 3e3, -8e3), molecule()),
    "slab_without_c": (slab_at(1e4), slab_at(0.0)),
}


@pytest.mark.parametrize("case", FAR_OUT)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_it_is_predicted_as_near_the_origin_beside_others_and_alone(case, version):
    model = tiny_model(radius_pbc_version=version, **GATE)
    far, near = FAR_OUT[case]
    wanted = predict(model, near)
    together = predict(model, slab(), far, crystal())
    parts = together["forces"].split([len(slab()), len(far), len(crystal())])
    assert relative_error(parts[1], wanted["forces"]) < 1e-7
    assert relative_error(together["energy"][1:2], wanted["energy"]) < 1e-7
    for part, other in ((parts[0], slab()), (parts[2], crystal())):
        assert relative_error(part, predict(model, other)["forces"]) < 1e-10


@pytest.mark.parametrize("case", FAR_OUT)
def test_the_search_sees_small_coordinates_only(case):
    far, _ = FAR_OUT[case]
    data = batch_of(slab(), far)
    near, _, _ = compact(geometry_of(data), data.pbc, data.batch, 4.0)
    assert float(near.abs().max()) < 60


def test_ordinary_structures_are_searched_where_they_are(monkeypatch):
    def not_asked(*_):
        raise AssertionError

    monkeypatch.setattr("eqv2_plugin.graphs.build.compact", not_asked)
    build_graph(batch_of(slab(), molecule(), crystal()), tiny_config())


@pytest.mark.parametrize("size", [0.05, 1e-3])
@pytest.mark.parametrize("thin", [1, 3])
def test_a_cell_with_too_many_images_is_named(model, size, thin):
    cell = np.diag([size if i < thin else 0.03 for i in range(3)])
    data = batch_of(slab(), Atoms("Cu", [[0, 0, 0]], cell=cell, pbc=True))
    data.sid = ["", "thin"]
    pattern = re.escape("structure 1 ('thin') is so thin")
    with pytest.raises(ValueError, match=pattern):
        model(data)


def test_small_and_skew_cells_are_no_matter(model):
    primitive = Atoms("Cu", [[0, 0, 0]], cell=np.diag([0.9, 0.9, 0.9]), pbc=True)
    assert predict(model, primitive)["energy"].isfinite().all()
    skewed = crystal()
    skewed.set_cell(np.array([[1, 0, 0], [7, 1, 0], [0, -9, 1]]) @ np.array(skewed.cell))
    found = predict(model, skewed)
    assert relative_error(found["forces"], predict(model, crystal())["forces"]) < 1e-10


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.diag([5.0, np.nan, 5.0]), True, "the cell is not finite"),
        ([[4.0, 0, 0], [8.0, 0, 0], [0, 0, 5]], True, r"zero or parallel"),
        ([[4.0, 0, 0], [0, 4, 0], [1, 1, 0]], True, r"zero or parallel"),
        ([[4.0, 0, 0], [8.0, 0, 0], [0, 0, 5]], [True, True, False], r"zero or parallel"),
    ],
)
def test_the_calculator_check_names_a_bad_cell(model, cell, pbc, message):
    """Before fairchem wraps positions into it, which says "Singular matrix"."""
    with pytest.raises(ValueError, match=message):
        model.backbone.validate_atoms_data(Atoms("CuO", cell=cell, pbc=pbc), "oc20")


def test_a_cell_that_is_not_finite_is_named_before_the_positions_it_spoilt(model):
    data = batch_of(crystal())
    data.cell[0, 1, 1] = float("nan")
    data.pos[:] = float("nan")
    with pytest.raises(ValueError, match="cell of structure 0 is not finite"):
        model(data)


@pytest.mark.parametrize("pbc", [[0, 0, 0], [1, 1, 0], [1, 0, 0]])
def test_positions_far_out_are_centred_before_they_are_rounded(pbc):
    atoms = crystal()
    atoms.pbc = pbc
    periodic = np.array(atoms.cell)[np.array(pbc, bool)]
    away = FAR * 10 + 0.3
    if len(periodic):
        away = away - np.linalg.pinv(periodic) @ periodic @ away
    model = tiny_model(dtype=torch.float32, **GATE)

    def forces(structure: Atoms) -> torch.Tensor:
        data = AtomicData.from_ase(structure, task_name="oc20", target_dtype=torch.float32)
        return model(data)["forces"].detach()

    found = forces(near_origin(at(atoms, away)))
    assert relative_error(found, forces(atoms)) < 1e-4


@pytest.mark.parametrize("atoms", [molecule(), slab(), at(slab(), FAR), at(molecule(), [90, 0, 0])])
def test_other_structures_are_not_touched(atoms):
    assert near_origin(atoms) is atoms


def test_coarse_positions_are_said_once(caplog, monkeypatch):
    monkeypatch.delattr(checks._warn_coarse, "said", raising=False)
    model = tiny_model(dtype=torch.float32, **GATE)
    with caplog.at_level(logging.WARNING):
        predict(model, molecule(), at(molecule(), FAR))
        predict(model, at(molecule(), FAR))
    said = [r.message for r in caplog.records if "rounds positions" in r.message]
    assert len(said) == 1
    assert "up to 3e+04 Å from the origin, where float32" in said[0]
