"""Files of VASP: the energy that belongs to the forces is read, and doubtful frames are not."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from vasp_files import LIMIT, SMEARING, WRITERS, steps, write_ml_ab, write_outcar, write_vasprun

from eqv2_plugin.common.text import warn_once
from eqv2_plugin.data.conversion.frame import OTHER_ENERGY
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.sources import find_sources
from eqv2_plugin.data.fixed_atoms import fixed_mask

# Å and eV/Å: an OUTCAR has five and six decimals.
CLOSE = {"vasprun.xml": 1e-8, "OUTCAR": 1e-5, "ML_ABN": 1e-12}


def read(path: Path) -> list[Atoms]:
    return [atoms for source in find_sources([path]) for _, atoms in source.stored()]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_every_kind_gives_the_energy_of_its_forces(tmp_path, kind, packed):
    wanted = steps(3)
    path = WRITERS[kind](tmp_path / kind, wanted)
    if packed:
        path = path.with_name(f"{kind}.gz")
        path.write_bytes(gzip.compress((tmp_path / kind).read_bytes()))
    found = read(path)
    assert len(found) == 3
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.symbols.get_chemical_formula("reduce") == "Cu3O"
        assert ours.pbc.all()
        close = {"rtol": 0, "atol": CLOSE[kind]}
        np.testing.assert_allclose(ours.positions, theirs.positions, **close)
        np.testing.assert_allclose(ours.cell.array, theirs.cell.array, **close)
        for label in ("energy", "forces", "stress"):
            np.testing.assert_allclose(
                ours.calc.results[label], theirs.calc.results[label], **close, err_msg=label
            )


def test_free_energy_is_said_and_systems_are_named_after_folders(tmp_path):
    for number, name in enumerate(("clean", "with_O")):
        (tmp_path / name).mkdir()
        write_vasprun(tmp_path / name / "vasprun.xml", steps(2, seed=number), fixed=1)
    sources = find_sources(sorted(tmp_path.glob("*/vasprun.xml")))
    summary = convert(sources, tmp_path / "out", {})
    assert summary.labels == ("energy", "forces", "stress")
    assert any("the free energy (TOTEN)" in note for note in summary.notes)
    frames = [frame for source in sources for frame in source.frames(Counter())]
    assert [f.info["sid"] for f in frames[::2]] == ["clean-vasprun.xml", "with_O-vasprun.xml"]
    assert [fixed_mask(a).tolist() for _, a in sources[0].stored()] == [[True] + [False] * 3] * 2


@pytest.mark.parametrize("write", [write_vasprun, write_outcar])
def test_steps_without_self_consistency_are_left_out(tmp_path, caplog, write):
    name = "vasprun.xml" if write is write_vasprun else "OUTCAR"
    wanted = steps(4)
    path = write(tmp_path / name, wanted, electronic=[5, LIMIT, LIMIT - 1, 4])
    # Commands that ran before in this process may have silenced warnings.
    with caplog.at_level(logging.WARNING, logger="eqv2_plugin"):
        found = read(path)
    energies = [atoms.get_potential_energy() for atoms in found]
    expected = [wanted[i].get_potential_energy() for i in (0, 2, 3)]
    assert energies == pytest.approx(expected, abs=SMEARING / 10)
    assert f"1 of 4 ionic steps took all {LIMIT} electronic steps" in caplog.text


@pytest.mark.parametrize("kind", ["vasprun.xml", "OUTCAR"])
def test_of_a_run_that_was_stopped_the_whole_steps_are_read(tmp_path, kind):
    text = WRITERS[kind](tmp_path / kind, steps(3)).read_text()
    (tmp_path / kind).write_text(text[: int(0.9 * len(text))])
    assert len(read(tmp_path / kind)) == 2


def learning(path: Path) -> Path:
    write_outcar(path, steps(2))
    path.write_text(f"   ML_LMLFF =      T    machine learning\n{path.read_text()}")
    return path


def cut(path: Path) -> Path:
    text = write_ml_ab(path, steps(3)).read_text()
    path.write_text(text[: text.rindex("Forces")])
    return path


def run_folder(path: Path) -> Path:
    for name in ("vasprun.xml", "ML_AB"):
        WRITERS.get(name, write_ml_ab)(path.parent / name, steps(1))
    return path.parent


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (learning, "OUTCAR", r"OUTCAR, frame 0 .*learned a force field.*give the file ML_ABN"),
        (cut, "ML_AB", r"ML_AB, frame 2 .*configuration 3 of 3 has no section 'Forces"),
        (run_folder, "any", r"holds ML_AB and vasprun\.xml, which may hold the same frames"),
        (lambda path: path.parents[1], "any", r"some below: '.*/\*/vasprun\.xml'"),
    ],
    ids=["learning", "cut", "two kinds", "folder above"],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, make, name, message):
    folder = tmp_path / "run"
    folder.mkdir()
    write_vasprun(folder / "vasprun.xml", steps(1))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read(make(folder / name))


def test_of_a_run_s_folder_the_more_precise_file_is_read(tmp_path, caplog):
    warn_once.cache_clear()
    write_vasprun(tmp_path / "vasprun.xml", steps(2))
    write_outcar(tmp_path / "OUTCAR", steps(2))
    with caplog.at_level(logging.WARNING, logger="eqv2_plugin"):
        assert [source.files[0].name for source in find_sources([tmp_path])] == ["vasprun.xml"]
    assert "OUTCAR is of the same run" in caplog.text


def test_another_program_s_free_energy_is_named(tmp_path):
    """A trajectory of ASE's own calculators holds both, and its energy stays the label."""
    frames = steps(2)
    frames[0].calc.results["free_energy"] = frames[0].calc.results["energy"] - SMEARING
    frames[1].calc.results["free_energy"] = frames[1].calc.results["energy"]
    write(tmp_path / "a.traj", frames)
    summary = convert(find_sources([tmp_path / "a.traj"]), tmp_path / "out", {})
    assert summary.notes[OTHER_ENERGY] == 1
