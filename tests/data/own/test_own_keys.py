"""Labels are found under the names that people give them, or the names are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from ase.stress import voigt_6_to_full_3x3_stress
from own_frames import labelled

from eqv2_plugin.data.own.keys import KeyCount, LabelKeys


def counted(*frames):
    count = KeyCount()
    for atoms in frames:
        count.add(atoms)
    return count


def chosen(count, energy=None, forces=None):
    return LabelKeys(count.energy(energy), count.forces(forces, wanted=False))


@pytest.mark.parametrize(
    ("energy", "forces"),
    [
        (None, None),
        ("REF_energy", "REF_forces"),
        ("dft_energy", "dft_force"),
        ("energy_dft", "forces_vasp"),
        (None, "true_forces"),
    ],
)
def test_likely_names_are_found(energy, forces):
    frames = [labelled("H2O", energy, forces, seed=s, charge=1, step=s) for s in range(3)]
    keys = chosen(counted(*frames))
    assert keys == LabelKeys(energy or "energy", forces or "forces")
    copy = keys.labelled(frames[0])
    stored = frames[0].info.get(energy) if energy else frames[0].calc.results["energy"]
    assert copy.calc.results["energy"] == stored
    assert np.isfinite(copy.calc.results["forces"]).all()
    assert not {energy, forces} & (copy.info.keys() | copy.arrays.keys())
    assert copy.info["charge"] == 1


def test_any_name_can_be_given():
    frame = labelled("H2O", "E", "F")
    keys = chosen(counted(frame), "E", "F")
    assert keys.labelled(frame).calc.results["energy"] == frame.info["E"]


@pytest.mark.parametrize(
    ("frame", "given", "message"),
    [
        (
            labelled("H2O", "E", "F", step=3),
            (None, None),
            "are E, step.*energy_key=NAME",
        ),
        (
            labelled("H2O", None, "F"),
            (None, None),
            "vectors of every atom .* are F",
        ),
        (labelled("H2O"), ("REF_energy", None), "REF_energy: no frame stores that"),
        (
            labelled("H2O", REF_energy=-1.0),
            (None, None),
            "and they differ: say which",
        ),
    ],
    ids=["no energy", "no forces", "not there", "ambiguous"],
)
def test_what_is_not_clear_is_asked_for(frame, given, message):
    with pytest.raises(ValueError, match=message):
        chosen(counted(frame), *given)


def test_equal_labels_under_two_names_are_no_question():
    frame = labelled("H2O")
    frame.info["REF_energy"] = frame.calc.results["energy"]
    assert chosen(counted(frame)).energy == "energy"


@pytest.mark.parametrize("key", ["stress", "REF_stress", "dft_stress"])
def test_stress_is_found_as_six_or_nine_numbers(key):
    frame = labelled("Cu4", seed=1, stress_key=key, cell=7.0, virial_stress=np.ones((3, 3)))
    count = counted(frame)
    assert count.stress(None, wanted=False) == key
    copy = LabelKeys("energy", "forces", key).labelled(frame)
    found = voigt_6_to_full_3x3_stress(copy.calc.results["stress"])
    expected = frame.info.get(key)
    if expected is None:
        expected = voigt_6_to_full_3x3_stress(frame.calc.results["stress"])
    np.testing.assert_allclose(found, expected)
    assert key not in copy.info


def test_without_vectors_energies_are_alone():
    frame = labelled("H2O")
    del frame.calc.results["forces"]
    assert counted(frame).forces(None, wanted=False) is None
    with pytest.raises(ValueError, match="no frame has forces that could be learned"):
        counted(frame).forces(None, wanted=True)


def test_a_frame_without_the_labels_has_none():
    assert LabelKeys("REF_energy", "REF_forces").labelled(labelled("H2O")) is None
