"""Frames per second of the stages of `eqv2 data oc20`, beside ASE's reader and writer.

    OMP_NUM_THREADS=1 python benchmarks/data_conversion.py [--frames 1000] [--repeats 5]

The frames are a slab of 64 atoms with an adsorbate of 6, in the layout of the OC20 download. All
stages alternate in one run on one core; printed are medians, the range, and the median's ratio to
ASE's reader.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase_db_backends.aselmdb import LMDBDatabase

from eqv2_plugin.data.conversion.extxyz import read_lines, read_oc20_extxyz
from eqv2_plugin.data.conversion.frame import check_frame
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.raw_oc20 import RawPair, find_pairs
from eqv2_plugin.data.conversion.shard import Shard, write_shard


def make_download(folder: Path, frames: int) -> tuple[RawPair, RawPair]:
    """The same frames plain and packed."""
    random = np.random.default_rng(0)
    slab = fcc111("Cu", (4, 4, 4), vacuum=10, periodic=True)
    slab += Atoms("C2H3O", positions=random.normal((3, 3, 20), size=(6, 3)))
    slab.set_tags([0] * 32 + [1] * 32 + [2] * 6)
    slab.set_constraint(FixAtoms(range(32)))
    images = []
    for _ in range(frames):
        atoms = slab.copy()
        atoms.positions += 0.1 * random.normal(size=(70, 3))
        forces = random.normal(size=(70, 3))
        atoms.calc = SinglePointCalculator(atoms, energy=-200.0, forces=forces)
        images.append(atoms)
    ids = "".join(f"random{i // 100},frame{i % 100},-190.5\n" for i in range(frames))
    for name in ("plain", "packed"):
        (folder / name).mkdir()
    plain = folder / "plain" / "0.extxyz"
    ase.io.write(plain, images, columns=["symbols", "positions", "move_mask", "tags", "forces"])
    (folder / "plain/0.txt").write_text(ids)
    for path in (plain, folder / "plain/0.txt"):
        (folder / "packed" / f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
    (first,), (second,) = (find_pairs(folder / n, "referenced") for n in ("plain", "packed"))
    return first, second


def stages(plain: RawPair, packed: RawPair, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed; every call handles all frames once."""
    images = ase.io.read(plain.files[0], ":")

    def write_with_ase() -> None:
        with LMDBDatabase(folder / "ase.aselmdb", use_lock_file=False) as database:
            for atoms in images:
                database.write(atoms, data={"sid": "random1", "fid": 1})

    def read_pair(pair: RawPair) -> None:
        for frame in pair.frames(Counter()):
            check_frame(frame)

    def parse() -> None:
        for _ in read_oc20_extxyz(read_lines(plain.files[0]), plain.files[0]):
            pass

    (folder / "shard").mkdir(exist_ok=True)
    return {
        "ASE: read extxyz": lambda: ase.io.read(plain.files[0], ":"),
        "ASE: write atoms to aselmdb": write_with_ase,
        "lines of the file": lambda: sum(1 for _ in read_lines(plain.files[0])),
        "lines of the file, xz": lambda: sum(1 for _ in read_lines(packed.files[0])),
        "parse extxyz": parse,
        "parse, pair and check": lambda: read_pair(plain),
        "all: one shard": lambda: write_shard(
            Shard("data.0000", (plain,)), folder / "shard", lambda _: None
        ),
        "all: one shard, from xz": lambda: write_shard(
            Shard("data.0000", (packed,)), folder / "shard", lambda _: None
        ),
        "all: the whole command": lambda: convert([plain], folder / "out", {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain, packed = make_download(folder, options.frames)
        timed = stages(plain, packed, folder)
        for _ in range(options.repeats):
            for stage, run in timed.items():
                (folder / "ase.aselmdb").unlink(missing_ok=True)
                shutil.rmtree(folder / "out", ignore_errors=True)
                start = time.perf_counter()
                run()
                rate = options.frames / (time.perf_counter() - start)
                rates.setdefault(stage, []).append(rate)
    baseline = statistics.median(rates["ASE: read extxyz"])
    print("| stage | frames/s (70 atoms) | range | to ASE's reader |\n|---|---|---|---|")
    for stage, values in rates.items():
        median = statistics.median(values)
        spread = f"{min(values):,.0f} - {max(values):,.0f}"
        print(f"| {stage} | {median:,.0f} | {spread} | {median / baseline:.2f} |")


if __name__ == "__main__":
    main()
