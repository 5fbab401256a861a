"""A user's structures as a data set of systems: each frame of a file is one of its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eqv2_plugin.data.conversion.frame import Frame, frame_of_atoms
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.sources import FileSource, find_sources
from eqv2_plugin.data.labels import drop_info_labels
from eqv2_plugin.data.own.given import given_paths, patterns


@dataclass(frozen=True)
class StartSource(FileSource):
    """A file whose frames are systems: "slabs-0", "slabs-1" of slabs.extxyz."""

    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """As `FileSource`, without labels."""
        for index, (where, atoms) in enumerate(self.stored()):
            atoms.calc = None
            drop_info_labels(atoms.info)
            atoms.info.pop("fid", None)
            atoms.info["sid"] = f"{self.system}-{index}"
            yield frame_of_atoms(atoms, self.system, index, where, notes)


@cache
def write_starts(folder: str, structures: str | tuple[str, ...]) -> str:
    """Write structures below a folder as ASE databases, once; the same call again finds them.

    Args:
        structures: files, folders or globs: what `find_sources` reads, and what else ASE reads.

    Returns:
        The name of the folder with the databases, in ``folder``.

    Raises:
        FileNotFoundError: a file is missing, or nothing fits a glob.
        ValueError: a file cannot be read.
    """
    found = find_sources(given_paths(patterns(structures), "structures"), others=True)
    files = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for s in found
             for f in s.files]  # fmt: skip
    # Changed files get another folder; finished relaxations, which know theirs, refuse it.
    out = Path(folder) / f"structures-{hashlib.sha256(str(files).encode()).hexdigest()[:8]}"
    made = convert([StartSource(s.files, s.system) for s in found], out, {})
    for note, times in sorted(made.notes.items()):
        print(f"  {note} ({times:,})", flush=True)
    return out.name
