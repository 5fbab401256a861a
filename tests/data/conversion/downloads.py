"""Downloads in OC20's form, made from the embedded sample, and what databases hold."""

from __future__ import annotations

import lzma
import os
from functools import cache
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_db_backends.aselmdb import LMDBDatabase
from fairchem.core.datasets import create_dataset

from eqv2_plugin.data.conversion.job import Summary, convert
from eqv2_plugin.data.conversion.raw_oc20 import find_pairs
from eqv2_plugin.data.sample import load_sample

COLUMNS = ["symbols", "positions", "move_mask", "tags", "forces"]
FIXTURES = Path(__file__).parents[2] / "fixtures"


def fixture(name: str) -> Path:
    """A file or folder of the reference data, those of $EQV2_FIXTURES first."""
    folders = [FIXTURES / "data_oc_raw", FIXTURES / "data_oc"]
    if chosen := os.environ.get("EQV2_FIXTURES"):
        folders.insert(0, Path(chosen) / "data_oc")
    return next(folder / name for folder in folders if (folder / name).exists())


@cache
def sample(number: int) -> tuple[Atoms, ...]:
    """Frames of several systems of the embedded sample, with referenced energies."""
    frames = load_sample("oc20_sample", "train")
    return tuple(frames[i] for i in np.linspace(0, len(frames) - 1, number).astype(int))


def with_total_energy(atoms: Atoms) -> Atoms:
    """As the download has them."""
    total = atoms.copy()
    results = dict(atoms.calc.results)
    results["energy"] += atoms.info["ref_energy"]
    total.calc = SinglePointCalculator(total, **results)
    total.info = {}
    return total


def id_line(atoms: Atoms) -> str:
    return f"{atoms.info['sid']},frame{atoms.info['fid']},{atoms.info['ref_energy']!r}\n"


def write_pair(folder: Path, stem: str, frames: tuple[Atoms, ...], packed: bool = False) -> None:
    """Write ``<stem>.extxyz`` and ``<stem>.txt``, packed by xz or not."""
    folder.mkdir(parents=True, exist_ok=True)
    totals = [with_total_energy(atoms) for atoms in frames]
    ase.io.write(folder / f"{stem}.extxyz", totals, columns=COLUMNS)
    (folder / f"{stem}.txt").write_text("".join(id_line(atoms) for atoms in frames))
    if packed:
        for path in (folder / f"{stem}.extxyz", folder / f"{stem}.txt"):
            path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
            path.unlink()


def download(folder: Path, pairs: int = 3, frames: int = 4) -> Path:
    """A download of some pairs, with numbers that sort differently as text."""
    images = sample(pairs * frames)
    for i in range(pairs):
        write_pair(folder, str(i + 9), images[i * frames : (i + 1) * frames])
    return folder


def convert_raw(raw: Path, out: Path, energy: str = "referenced", workers: int = 1) -> Summary:
    """As ``eqv2 data oc20`` does."""
    return convert(find_pairs(raw, energy), out, {"energy": energy}, workers)


def contents(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every row of every database of a folder, without the times of writing."""
    rows = []
    for path in sorted(folder.glob("*.aselmdb")):
        database = LMDBDatabase(path, readonly=True, use_lock_file=False)
        for row in database.select():
            entries = {k: v for k, v in row.__dict__.items() if k not in ("ctime", "mtime")}
            plain = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in entries.items()}
            rows.append((path.name, plain))
        database.close()
    return rows


def read_by_fairchem(folder: Path):
    """fairchem's own reader of the folder, in the order of the frames."""
    config = {"format": "ase_db", "splits": {"train": {"src": str(folder)}}, "no_shuffle": True}
    return create_dataset(config, "train")
