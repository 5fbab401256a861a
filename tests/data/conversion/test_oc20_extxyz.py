"""The fast reader of OC20's extxyz files reads what ASE's reads, or refuses."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from downloads import fixture, sample, write_pair

from eqv2_plugin.data.conversion.extxyz import read_lines, read_oc20_extxyz

ATOMS = b"""\
2
Lattice="5 0 0 1 6 0 0 0 7" Properties=species:S:1:pos:R:3:move_mask:L:1:tags:I:1:forces:R:3 \
energy=-1.5 free_energy=-1.6 pbc="T T F"
Cu 0.1 0.2 0.3 F 0 1.0 2.0 3.0
H -1.5 2.5e1 3.5 T 2 -4.0 5.0 6.0
"""


def read(text: bytes, path: str = "x.extxyz"):
    return list(read_oc20_extxyz(iter(text.splitlines(keepends=True)), Path(path)))


def assert_reads_like_ase(path: Path) -> None:
    frames = list(read_oc20_extxyz(read_lines(path), path))
    expected = ase.io.read(path, ":", format="extxyz")
    assert len(frames) == len(expected) > 0
    for frame, atoms in zip(frames, expected, strict=True):
        moves = np.ones(len(atoms), dtype=bool)
        for constraint in atoms.constraints:
            moves[constraint.index] = False
        np.testing.assert_array_equal(frame.numbers, atoms.numbers)
        np.testing.assert_array_equal(frame.positions, atoms.positions)
        np.testing.assert_array_equal(frame.cell, atoms.cell.array)
        np.testing.assert_array_equal(frame.pbc, atoms.pbc)
        np.testing.assert_array_equal(frame.tags, atoms.get_tags())
        np.testing.assert_array_equal(frame.fixed, ~moves)
        np.testing.assert_array_equal(frame.forces, atoms.calc.results["forces"])
        assert frame.energy == atoms.calc.results["energy"]


@pytest.mark.parametrize("name", ["0", "1"])
def test_the_reference_download_reads_as_by_ase(name):
    assert_reads_like_ase(fixture("s2ef_raw") / f"{name}.extxyz")


def test_the_embedded_sample_reads_as_by_ase(tmp_path):
    write_pair(tmp_path, "0", sample(30))
    assert_reads_like_ase(tmp_path / "0.extxyz")


def test_a_skew_cell_and_open_boundaries_read_as_by_ase(tmp_path):
    (tmp_path / "0.extxyz").write_bytes(ATOMS * 2)
    assert_reads_like_ase(tmp_path / "0.extxyz")


def test_columns_may_come_in_another_order():
    moved = ATOMS.replace(b":tags:I:1:forces:R:3", b":forces:R:3:tags:I:1")
    moved = moved.replace(b"F 0 1.0 2.0 3.0", b"F 1.0 2.0 3.0 0")
    moved = moved.replace(b"T 2 -4.0 5.0 6.0", b"T -4.0 5.0 6.0 2")
    for ours, expected in zip(read(moved)[0], read(ATOMS)[0], strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_blank_lines_at_the_end_are_no_frame():
    assert len(read(ATOMS + b"\n \n")) == 1


def test_no_lines_are_no_frames():
    assert read(b"") == []


BROKEN = {
    "count": (b"2\nLattice", b"two\nLattice", "'two' is not a number of atoms"),
    "no_atoms": (b"2\nLattice", b"0\nLattice", "'0' is not a number of atoms"),
    "symbol": (b"Cu 0.1", b"Xy 0.1", "'Xy'"),
    "unknown_atom": (b"Cu 0.1", b"X 0.1", "'X'"),
    "number": (b"0.2", b"0.2.1", "could not convert.*0.2.1"),
    "underscore": (b"25e1".replace(b"25", b"2.5"), b"2_5", "'_'"),
    "mask": (b" F 0", b" 1 0", "'1'"),
    "pbc_mark": (b'"T T F"', b'"T T 0"', "'0'"),
    "tag": (b"F 0 1.0", b"F 0.5 1.0", "invalid literal"),
    "value_lost": (b" 3.0\nH", b"\nH", "hold 17 values"),
    "value_moved": (b" 3.0\nH", b"\nH 9.0", "'9.0' is neither an element"),
    "line_lost": (b"Cu 0.1 0.2 0.3 F 0 1.0 2.0 3.0\n", b"", "ends within it"),
    "cut_in_the_last_number": (b" 6.0\n", b" 6.", "ends within it"),
    "header_lost": (ATOMS[2:], b"", "ends within it"),
    "lattice_lost": (b"Lattice", b"lattice", "no Lattice"),
    "lattice_short": (b'"5 0 0', b'"5 0', "Lattice has 8 values instead of 9"),
    "pbc_lost": (b"pbc", b"PBC", "no pbc"),
    "columns_lost": (b"Properties", b"properties", "no Properties"),
    "column_unknown": (b"tags:I:1", b"mark:I:1", "mark:I:1.*eqv2 data convert"),
    "column_extra": (b"forces:R:3", b"forces:R:3:q:R:1", "q:R:1"),
    "column_of_other_width": (b"forces:R:3", b"forces:R:2", "forces:R:2"),
    "column_kind_lost": (b"forces:R:3", b"forces:R", "forces:R"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_frame_is_refused_with_its_place(case):
    before, after, message = BROKEN[case]
    assert before in ATOMS
    with pytest.raises(ValueError, match=rf"x\.extxyz, frame \d \(line \d\): .*{message}"):
        read(ATOMS.replace(before, after))


def test_the_place_of_a_later_frame_is_named():
    with pytest.raises(ValueError, match=r"frame 2 \(line 9\)"):
        read(ATOMS + ATOMS + ATOMS.replace(b"Cu", b"Qq"))


def test_a_blank_line_between_frames_is_refused():
    with pytest.raises(ValueError, match=r"frame 1 \(line 5\): '' is not a number of atoms"):
        read(ATOMS + b"\n" + ATOMS)
