"""Labels are read from one place, and what contradicts them is refused by name."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from eqv2_plugin.data.labels import drop_info_labels, look_at_labels, looks_like_label, read_labels

RNG = np.random.default_rng(0)
FORCES = RNG.normal(size=(4, 3))
STRESS = np.array([0.01, -0.02, 0.03, 0.004, 0.005, -0.006])
FULL = np.array([[0.01, -0.006, 0.005], [-0.006, -0.02, 0.004], [0.005, 0.004, 0.03]])


def labelled(info=None, **results) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat((2, 1, 1))
    atoms.set_constraint(FixAtoms([0]))
    atoms.info = dict(info or {})
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def test_labels_are_the_calculators_raw_results():
    atoms = labelled(energy=-3.0, forces=FORCES, stress=STRESS)
    labels = read_labels(atoms, "it")
    assert labels.energy == -3.0
    assert np.array_equal(labels.forces, FORCES)
    assert np.array_equal(labels.stress, FULL)
    none = read_labels(labelled(), "it")
    assert none.energy is none.forces is none.stress is None


@pytest.mark.parametrize("stress", [STRESS, FULL, FULL.ravel(), FULL[None].tolist()])
def test_every_form_of_stress_is_one_tensor(stress):
    atoms = labelled()
    atoms.calc = SinglePointCalculator(atoms, stress=stress)
    assert np.array_equal(read_labels(atoms, "it").stress, FULL)


SAME = {
    "energy": -58.123456,
    "energy, as float32": np.float32(-58.123456),
    "energy, in an array": np.array([-58.123456]),
    "forces": FORCES,
    "forces, in a list": FORCES.tolist(),
    "forces, in six decimals": FORCES.round(6),
    "forces, as float32": FORCES.astype(np.float32),
    "stress": FULL,
    "stress, six numbers": STRESS,
}


@pytest.mark.parametrize("name", SAME)
def test_equal_numbers_in_info_are_doubles(name):
    key = name.partition(",")[0]
    atoms = labelled({key: SAME[name]}, energy=-58.123456, forces=FORCES, stress=STRESS)
    labels = read_labels(atoms, "it")
    assert labels.doubles == (key,)
    drop_info_labels(atoms.info)
    assert atoms.info == {}


OTHER = {
    "energy": -0.45,
    "energy, one in a million": -58.123456 * (1 + 1e-6),
    "energy, not a number": float("nan"),
    "energy, in words": "adsorption",
    "forces": 2 * FORCES,
    "forces, one component": FORCES + 1e-3 * np.eye(4, 3),
    "forces, of other atoms": FORCES[:2],
    "stress": -FULL,
    "stress, in GPa": 160.2 * STRESS,
}


@pytest.mark.parametrize("name", OTHER)
def test_other_numbers_in_info_are_refused_by_name(name):
    key = name.partition(",")[0]
    atoms = labelled({key: OTHER[name]}, energy=-58.123456, forces=FORCES, stress=STRESS)
    with pytest.raises(ValueError, match=rf"frame 7: atoms\.info .* holds '{key}'.*remove"):
        read_labels(atoms, "frame 7")
    assert len(look_at_labels(atoms, "frame 7").conflicts) == 1


def test_the_refusal_shows_both_numbers():
    with pytest.raises(ValueError, match=r"\(-0\.45\) beside the calculator's \(-58\)"):
        read_labels(labelled({"energy": -0.45}, energy=-58.0), "it")


@pytest.mark.parametrize("results", [{}, {"forces": FORCES}])
def test_a_label_in_info_alone_is_refused(results):
    atoms = labelled({"energy": -0.45}, **results)
    with pytest.raises(ValueError, match=r"'energy' \(-0\.45\), the calculator none"):
        read_labels(atoms, "it")


def test_none_in_info_is_no_label():
    atoms = labelled({"energy": None}, energy=-58.0)
    assert read_labels(atoms, "it").doubles == ()


@pytest.mark.parametrize(
    "results",
    [{"forces": FORCES[:3]}, {"energy": np.zeros(2)}, {"stress": np.zeros(5)}, {"energy": "low"}],
)
def test_a_label_of_a_wrong_shape_is_refused(results):
    atoms = labelled()
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results = results
    with pytest.raises(ValueError, match=f"frame 7: its {next(iter(results))} "):
        read_labels(atoms, "frame 7")


def test_what_looks_like_a_label_is_named():
    atoms = labelled({"REF_energy": -1.0, "virial": FULL, "ref_energy": 0.0}, free_energy=-3.0)
    atoms.arrays["REF_forces"] = FORCES
    atoms.arrays["forces"] = FORCES
    assert read_labels(atoms, "it").unread == (
        "REF_energy", "REF_forces", "forces", "free_energy", "virial",
    )  # fmt: skip
    assert read_labels(labelled(energy=-3.0, free_energy=-3.0), "it").unread == ()


def test_names_of_labels_and_of_other_numbers_are_told_apart():
    for name in ("dft_energy", "DFT_forces", "energy_dft", "total_energy", "force", "REF_stress"):
        assert looks_like_label(name), name
    for name in (
        "energy",
        "ref_energy",
        "y_relaxed",
        "homo_energy",
        "nl_energy",
        "energies",
        "sid",
    ):
        assert not looks_like_label(name), name
