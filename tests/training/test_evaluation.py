"""Errors of a split, as a whole and by kinds of atoms, and the pictures of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eqv2_plugin.training.breakdowns import force_errors
from eqv2_plugin.training.evaluation import SplitPredictions
from eqv2_plugin.training.plots import plot_force_errors, plot_learning_curve, plot_parity


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def split() -> SplitPredictions:
    """Two frames: CuO with errors of 0.1 and 0.3 eV/Å, and one Cu atom that has none."""
    target = np.zeros((2, 3)), np.array([[2.0, 0.0, 0.0]])
    errors = np.array([[0.1] * 3, [-0.3] * 3]), np.zeros((1, 3))
    return SplitPredictions(
        energy=[np.array([[1.0, 1.2]]), np.array([[-1.0, -1.1]])],
        forces=[np.stack((t, t + e), axis=1) for t, e in zip(target, errors, strict=True)],
        sids=["a", "b"],
        natoms=[2, 1],
        numbers=[np.array([29, 8]), np.array([29])],
    )


def test_metrics_are_of_structures_atoms_and_components(split):
    found = split.metrics()
    expected = {
        "energy_mae_meV": 150.0,
        "energy_rmse_meV": np.sqrt((200**2 + 100**2) / 2),
        "energy_mae_meV_per_atom": 100.0,
        "energy_rmse_meV_per_atom": 100.0,
        "forces_mae_meV_per_A": 400 / 3,
        "forces_rmse_meV_per_A": np.sqrt((100**2 + 300**2) / 3),
        "frames": 2,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_errors_of_forces_are_told_by_element_and_by_magnitude(split):
    found = force_errors(split)
    by_element = {row["element"]: row for row in found["by_element"]}
    assert list(by_element) == ["Cu", "O"]
    assert by_element["Cu"]["atoms"] == 2
    assert by_element["Cu"]["mae_meV_per_A"] == pytest.approx(50.0)
    assert by_element["Cu"]["mean_force_meV_per_A"] == pytest.approx(1000.0)
    assert by_element["O"]["rmse_meV_per_A"] == pytest.approx(300.0)
    sizes = {row["force_eV_per_A"]: row["mae_meV_per_A"] for row in found["by_magnitude"]}
    assert sizes == pytest.approx({"0 to 0.1": 200.0, "1 to 3": 0.0})


def test_a_model_without_forces_has_none_of_these(split, tmp_path):
    split.forces = []
    assert force_errors(split) == {}
    plot_parity({"val": split}, "energy", {"val": split.metrics()}, tmp_path / "energy.png")
    assert is_picture(tmp_path / "energy.png")


def test_pictures_are_drawn(split, tmp_path):
    metrics = {"val": split.metrics()}
    plot_parity({"val": split}, "forces", metrics, tmp_path / "forces.png")
    plot_force_errors({"val": force_errors(split), "test": {}}, tmp_path / "errors.png")
    history = [{"step": 0, "splits": metrics}, {"step": 9, "splits": metrics, "losses": {"a": 1.0}}]
    plot_learning_curve(history, [], {"val": 500.0}, tmp_path / "curve.png")
    assert all(is_picture(tmp_path / f"{name}.png") for name in ("forces", "errors", "curve"))
