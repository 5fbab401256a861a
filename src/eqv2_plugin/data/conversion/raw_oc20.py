"""The S2EF download of OC20: pairs of ``<n>.extxyz[.xz]`` and ``<n>.txt[.xz]``.

The extxyz file has the frames with total energies (eV) and forces (eV/Å); line k of the text file,
"random<sid>,frame<fid>,<reference energy>", belongs to frame k.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ase.constraints import FixAtoms

from eqv2_plugin.data.conversion.extxyz import (
    ExtxyzFrame,
    is_blank_to_the_end,
    read_lines,
    read_oc20_extxyz,
)
from eqv2_plugin.data.conversion.frame import Frame, Source

# "referenced" is the adsorption energy, total minus reference; "none" is for test data.
Energy = Literal["referenced", "total", "none"]

_FILE = re.compile(r"(.+)\.(extxyz|txt)(\.xz)?")
_LINE = re.compile(rb"(random\d+),frame(\d+)(?:,([^,\s]+))?")
LABELS_LEFT_OUT = "frames had labels, which --test-data leaves out"


class _Id(NamedTuple):
    sid: str
    fid: int
    reference: float | None  # eV


@dataclass(frozen=True)
class RawPair(Source):
    """An extxyz and a text file of the download that belong together."""

    energy: Energy

    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """Stream the frames; ``info`` has sid ("random<sid>"), fid and perhaps ref_energy (eV)."""
        extxyz, txt = self.files
        ids = self._ids(txt)
        number = 0
        for frame in read_oc20_extxyz(read_lines(extxyz), extxyz):
            line = next(ids, None)
            if line is None:
                raise self._unequal(f"has only {number} lines, and the other more frames")
            where = f"{extxyz}, frame {number}"
            yield Frame(*self._entries(frame, line, where, notes), where)
            number += 1
        if next(ids, None) is not None:
            raise self._unequal(f"has more lines than the other has frames, {number}")

    def _unequal(self, difference: str) -> ValueError:
        extxyz, txt = self.files
        return ValueError(
            f"{txt} {difference} ({extxyz}): one of them is not whole, download both again"
        )

    def _ids(self, txt: Path) -> Iterator[_Id]:
        lines = read_lines(txt)
        for number in count(1):
            line = next(lines, None)
            if line is None or is_blank_to_the_end(line, lines):
                return
            found = _LINE.fullmatch(line.strip())
            if found is None or (found[3] is None and self.energy != "none"):
                raise ValueError(
                    f"{txt}, line {number}: {line.strip()[:100].decode(errors='replace')!r} "
                    "is not random<sid>,frame<fid>,<reference energy>. Download the file again; "
                    "for test data, which has no reference energies, give --test-data"
                )
            where = f"{txt}, line {number}"
            reference = None if self.energy == "none" else _reference(found[3], where)
            yield _Id(found[1].decode(), int(found[2]), reference)

    def _entries(
        self, frame: ExtxyzFrame, line: _Id, where: str, notes: Counter[str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The row and the info of one frame."""
        row: dict[str, Any] = {
            "numbers": frame.numbers,
            "positions": frame.positions,
            "cell": frame.cell,
            "pbc": frame.pbc,
            "tags": frame.tags,
        }
        if frame.fixed.any():
            row["constraints"] = [FixAtoms(mask=frame.fixed).todict()]
        info: dict[str, Any] = {"sid": line.sid, "fid": line.fid}
        if line.reference is None:
            notes[LABELS_LEFT_OUT] += frame.energy is not None or frame.forces is not None
            return row, info
        if frame.energy is None or frame.forces is None:
            missing = "energy" if frame.energy is None else "forces"
            raise ValueError(f"{where}: it has no {missing}. For test data give --test-data")
        row["forces"] = frame.forces
        row["energy"] = frame.energy
        if self.energy == "referenced":
            row["energy"] = frame.energy - line.reference
            info["ref_energy"] = line.reference
        return row, info


def _reference(text: bytes, where: str) -> float:
    try:
        reference = float(text)
    except ValueError:
        reference = math.nan
    if not math.isfinite(reference):
        raise ValueError(
            f"{where}: the reference energy {text.decode(errors='replace')!r} is not a finite "
            "number. Download the file again"
        )
    return reference


def find_pairs(folder: Path, energy: Energy) -> list[RawPair]:
    """The pairs of a download's folder, in the order of their numbers.

    Text files without a number, such as a README.txt, are no part of the download; a file that
    lacks its partner, or is there both packed and unpacked, is refused.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Unpack the downloaded .tar first")
    found: dict[str, dict[str, Path]] = {"extxyz": {}, "txt": {}}
    for path in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(path.name):
            stem, kind = match[1], match[2]
            if stem in found[kind]:
                raise ValueError(
                    f"{folder} has {path.name} and {found[kind][stem].name}, which are the same: "
                    "keep one of them"
                )
            found[kind][stem] = path
    if not found["extxyz"]:
        below = sorted({p.parent.name for p in folder.glob("*/*.extxyz*")})
        hint = f"; there are some in its folder(s) {', '.join(below)}" if below else ""
        raise FileNotFoundError(f"no file <n>.extxyz or <n>.extxyz.xz in {folder}{hint}")
    expected = found["extxyz"].keys() | {stem for stem in found["txt"] if stem.isdigit()}
    for stem in sorted(expected, key=_in_number_order):
        if stem in found["extxyz"] and stem in found["txt"]:
            continue
        there = "extxyz" if stem in found["extxyz"] else "txt"
        other = "txt" if there == "extxyz" else "extxyz"
        raise ValueError(
            f"{found[there][stem]} has no partner {stem}.{other} or {stem}.{other}.xz beside it: "
            "download it again"
        )
    return [
        RawPair((found["extxyz"][stem], found["txt"][stem]), energy)
        for stem in sorted(found["extxyz"], key=_in_number_order)
    ]


def _in_number_order(stem: str) -> tuple[bool, int, str]:
    return (not stem.isdigit(), int(stem) if stem.isdigit() else 0, stem)
