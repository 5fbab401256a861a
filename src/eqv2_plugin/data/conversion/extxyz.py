"""Text of frames: lines of packed files, and a fast reader of the extxyz of the OC20 downloads.

ASE's reader knows every layout and takes most of a conversion's time. This one knows the
columns below, reads them into the same numbers, and refuses all else.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from functools import lru_cache
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from ase.data import atomic_numbers

_BUFFER_BYTES = 1 << 20
# Column: (type letter and number of values, must be there).
_COLUMNS = {
    "species": ("S:1", True),
    "pos": ("R:3", True),
    "move_mask": ("L:1", True),
    "tags": ("I:1", True),
    "forces": ("R:3", False),
}
_NUMBER_OF = {symbol.encode(): z for symbol, z in atomic_numbers.items() if z > 0}
_IS_FIXED = {b"F": True, b"T": False}  # the mask tells which atoms may move
_HEADER_ENTRY = re.compile(rb'(\w+)=(?:"([^"]*)"|(\S+))')


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, each with its newline; ``.xz`` is unpacked on the way."""
    if path.suffix != ".xz":
        with path.open("rb", buffering=_BUFFER_BYTES) as stream:
            yield from stream
        return
    # LZMAFile yields lines slowly; the buffer does it in C.
    with lzma.open(path) as packed, BufferedReader(cast(lzma.LZMAFile, packed)) as stream:  # type: ignore[type-var]
        try:
            yield from stream
        except (EOFError, lzma.LZMAError) as error:
            raise ValueError(
                f"{path} is cut short or damaged ({error}): download it again"
            ) from error


def is_blank_to_the_end(line: bytes, rest: Iterator[bytes]) -> bool:
    """Whether this line and all after it are blank; reads on only if the line is."""
    return not line.strip() and not any(further.strip() for further in rest)


def cut_frames(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number of atoms, header line and atoms' lines of each frame of an extxyz file."""
    for head in lines:
        if is_blank_to_the_end(head, lines):
            return
        if not head.strip().isdigit() or int(head) == 0:
            raise ValueError(f"{_shown(head)} is not a number of atoms")
        header, block = next(lines, b""), b"".join(islice(lines, int(head)))
        # A number cut short is still a number: only the newline shows that it is whole.
        if block.count(b"\n") < int(head):
            raise ValueError("the file ends within it; it is cut short, download or make it again")
        yield int(head), header, block


class ExtxyzFrame(NamedTuple):
    """One frame: the columns of its atoms, and what its header holds."""

    numbers: np.ndarray  # [n_atoms]
    positions: np.ndarray  # [n_atoms, 3], Å
    fixed: np.ndarray  # [n_atoms], bool
    tags: np.ndarray  # [n_atoms]
    forces: np.ndarray | None  # [n_atoms, 3], eV/Å
    cell: np.ndarray  # [3, 3], Å
    pbc: np.ndarray  # [3], bool
    energy: float | None  # eV


def read_oc20_extxyz(lines: Iterator[bytes], path: Path) -> Iterator[ExtxyzFrame]:
    """Yield the frames of an extxyz file of the OC20 download, ``path``.

    Columns: species, pos, move_mask, tags and, unless it is test data, forces; the header has
    Lattice and pbc, and energy likewise. A ValueError says in which frame, and from which line
    on, the file has another layout, is cut short or damaged.
    """
    index, first_line = 0, 1
    try:
        for number_of_atoms, header, block in cut_frames(lines):
            yield _frame(number_of_atoms, header, block)
            index, first_line = index + 1, first_line + number_of_atoms + 2
    except ValueError as error:
        raise ValueError(f"{path}, frame {index} (line {first_line}): {error}") from error


def _frame(number_of_atoms: int, header: bytes, block: bytes) -> ExtxyzFrame:
    entries = {name: quoted or bare for name, quoted, bare in _HEADER_ENTRY.findall(header)}
    start, width = _layout(_entry(entries, b"Properties"))
    tokens = block.split()
    if len(tokens) != number_of_atoms * width:
        raise ValueError(
            f"its {number_of_atoms} lines of {width} columns hold {len(tokens)} values"
        )
    if b"_" in block:  # Python takes 1_0 for a number
        raise ValueError("there is a '_' among its numbers")
    try:
        # A line too long and another too short would put an element's symbol among the numbers.
        return ExtxyzFrame(
            numbers=np.array([_NUMBER_OF[symbol] for symbol in tokens[start["species"] :: width]]),
            positions=_vectors(tokens, start["pos"], width),
            fixed=np.array([_IS_FIXED[mark] for mark in tokens[start["move_mask"] :: width]]),
            tags=np.array([int(tag) for tag in tokens[start["tags"] :: width]]),
            forces=_vectors(tokens, start["forces"], width) if "forces" in start else None,
            cell=np.array([float(x) for x in _values(entries, b"Lattice", 9)]).reshape(3, 3),
            pbc=np.array([not _IS_FIXED[mark] for mark in _values(entries, b"pbc", 3)]),
            energy=float(entries[b"energy"]) if b"energy" in entries else None,
        )
    except KeyError as error:
        raise ValueError(
            f"{_shown(error.args[0])} is neither an element nor T or F where one is due"
        ) from error


@lru_cache(maxsize=16)
def _layout(properties: bytes) -> tuple[dict[str, int], int]:
    """First value of each column within a line, and the number of values of a line."""
    parts = properties.decode(errors="replace").split(":")
    kinds = {name: ":".join(kind) for name, *kind in zip(*[iter(parts)] * 3, strict=False)}
    known = {name: kind for name, (kind, _) in _COLUMNS.items() if name in kinds}
    missing = [name for name, (_, needed) in _COLUMNS.items() if needed and name not in kinds]
    if kinds != known or missing or len(parts) != 3 * len(kinds):
        expected = ":".join(f"{name}:{kind}" for name, (kind, _) in _COLUMNS.items())
        raise ValueError(
            f"its columns are {_shown(properties)}, those of OC20 are {expected}. For other files "
            "use eqv2 data convert"
        )
    widths = [int(kind.split(":")[1]) for kind in kinds.values()]
    starts = [sum(widths[:i]) for i in range(len(widths))]
    return dict(zip(kinds, starts, strict=True)), sum(widths)


def _vectors(tokens: list[bytes], start: int, width: int) -> np.ndarray:
    return np.array([list(map(float, tokens[start + i :: width])) for i in range(3)]).T


def _entry(entries: dict[bytes, bytes], name: bytes) -> bytes:
    if name not in entries:
        raise ValueError(f"its header has no {name.decode()}")
    return entries[name]


def _values(entries: dict[bytes, bytes], name: bytes, number: int) -> list[bytes]:
    values = _entry(entries, name).split()
    if len(values) != number:
        raise ValueError(f"{name.decode()} has {len(values)} values instead of {number}")
    return values


def _shown(text: bytes) -> str:
    return repr(text.strip()[:100].decode(errors="replace"))
