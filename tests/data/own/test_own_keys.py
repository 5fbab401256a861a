"""Labels are found under the names that people give them, or the names are asked for."""

from __future__ import annotations

import numpy as np
import pytest
from own_frames import labelled

from eqv2_plugin.data.own.keys import KeyCount, LabelKeys


def counted(*frames):
    count = KeyCount()
    for atoms in frames:
        count.add(atoms)
    return count


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
    keys = counted(*frames).choose(None, None)
    assert keys == LabelKeys(energy or "energy", forces or "forces")
    copy = keys.labelled(frames[0])
    stored = frames[0].info.get(energy) if energy else frames[0].calc.results["energy"]
    assert copy.calc.results["energy"] == stored
    assert np.isfinite(copy.calc.results["forces"]).all()
    assert not {energy, forces} & (copy.info.keys() | copy.arrays.keys())
    assert copy.info["charge"] == 1


def test_any_name_can_be_given():
    frame = labelled("H2O", "E", "F")
    keys = counted(frame).choose("E", "F")
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
        counted(frame).choose(*given)


def test_equal_labels_under_two_names_are_no_question():
    frame = labelled("H2O")
    frame.info["REF_energy"] = frame.calc.results["energy"]
    assert counted(frame).choose(None, None).energy == "energy"


def test_a_frame_without_the_labels_has_none():
    assert LabelKeys("REF_energy", "REF_forces").labelled(labelled("H2O")) is None
