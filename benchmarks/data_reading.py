"""Frames per second of the LMDB reader and of fairchem's ase_db reader, on the same frames.

    python benchmarks/data_reading.py [--frames 2000] [--repeats 5] [--batch 16] [--folder FOLDER]

The embedded sample's frames, repeated, are written to a temporary folder in both forms, as several
files. Each repeat reads all of them with each reader, directly and through a DataLoader (shuffled,
fairchem's collater) with 0, 1 and 2 workers, the readers in turn; everything is in the page cache.
Frames go through fairchem's `create_concat_dataset` in both cases. Printed are medians and spreads,
and the growth of the process's own memory over random reads of an index of a million records.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.geometry import wrap_positions
from ase_db_backends.aselmdb import LMDBDatabase
from compare.report import spread
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from torch.utils.data import DataLoader

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.lmdb.records import read_record
from eqv2_plugin.data.lmdb.shards import Shards
from eqv2_plugin.data.sample import load_sample

FILES = 4
MILLION = 1_000_000
STATUS = Path("/proc/self/status")


def as_pickled_data(atoms: Atoms, sid: int, fid: int) -> bytes:
    """What fairchem-core 1's preprocessing stores of a frame."""
    fixed = torch.zeros(len(atoms), dtype=torch.int32)
    fixed[atoms.constraints[0].index] = 1
    positions = wrap_positions(atoms.positions, atoms.cell, atoms.pbc, eps=0)
    attributes = {
        "pos": torch.tensor(positions, dtype=torch.float32),
        "cell": torch.tensor(np.array(atoms.cell), dtype=torch.float32)[None],
        "atomic_numbers": torch.tensor(atoms.numbers, dtype=torch.uint8),
        "natoms": len(atoms),
        "tags": torch.tensor(atoms.get_tags()),
        "energy": np.float64(atoms.calc.results["energy"]),
        "forces": torch.tensor(atoms.calc.results["forces"], dtype=torch.float32),
        "fixed": fixed,
        "sid": sid,
        "fid": fid,
    }
    # The pickle of an object of this class with these attributes, without the class at hand.
    start = b"\x80\x04ctorch_geometric.data.data\nData\n)\x81"
    return start + pickle.dumps(attributes, 4)[2:-1] + b"b."


def write(frames: list[Atoms], count: int, root: Path) -> None:
    """Write ``count`` frames as root/lmdb and root/ase_db, ``FILES`` files each."""
    for name in ("lmdb", "ase_db"):
        (root / name).mkdir(parents=True)
    for number, part in enumerate(np.array_split(np.arange(count), FILES)):
        path = root / "lmdb" / f"data.{number:04d}.lmdb"
        with (
            lmdb.open(str(path), subdir=False, map_size=1 << 32, lock=False) as environment,
            environment.begin(write=True) as transaction,
        ):
            for key, i in enumerate(part):
                record = as_pickled_data(frames[i % len(frames)], int(i), 0)
                transaction.put(str(key).encode(), record)
            transaction.put(b"length", pickle.dumps(len(part)))
        path = root / "ase_db" / f"data.{number:04d}.aselmdb"
        with LMDBDatabase(path, use_lock_file=False) as database:
            for i in part:
                database.write(frames[i % len(frames)], data={"sid": str(i), "fid": 0})
        path.with_name(f"{path.name}-lock").unlink()
    natoms = np.array([len(frames[i % len(frames)]) for i in range(count)])
    for name in ("lmdb", "ase_db"):
        np.savez(root / name / "metadata.npz", natoms=natoms)


def opened(root: Path, form: str) -> ConcatDataset:
    reader = {"format": form, "key_mapping": {"energy": "energy", "forces": "forces"}}
    return create_datasets("oc20", str(root), {"train": {"src": form}}, reader, "")


def read_directly(data: ConcatDataset) -> None:
    for i in torch.randperm(len(data)).tolist():
        data[i]


def read_batches(data: ConcatDataset, batch: int, workers: int) -> None:
    # fork: workers inherit the data set, as under fairchem on Linux.
    options = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    for _ in DataLoader(data, batch, shuffle=True, collate_fn=atomicdata_list_to_batch, **options):
        pass


def own_memory() -> float:
    """MB that the process does not share with the page cache."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def print_memory(path: Path, reads: int) -> None:
    """Random reads of an index of a million records (one file under a thousand places)."""
    records = len(Shards.at(path))
    files = MILLION // records
    shards = Shards([str(path)] * files, [records] * files)
    picked = np.random.default_rng(0).integers(len(shards), size=reads)
    memory = [own_memory()]
    for part in np.array_split(picked, 4):
        for i in part:
            read_record(shards.read(int(i)))
        memory.append(own_memory())
    sizes = ", ".join(f"{size:.1f}" for size in memory)
    print(f"\nindex of {len(shards):,} records: {len(pickle.dumps(shards)):,} bytes pickled;")
    print(f"own memory before and after each of four times {reads // 4:,} random reads: {sizes} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--folder", help="where to write; by default the system's temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        frames = load_sample("oc20_sample", "train")
        write(frames, options.frames, root)
        data = {form: opened(root, form) for form in ("lmdb", "ase_db")}
        ways: dict[str, Callable[[ConcatDataset], None]] = {"frame by frame": read_directly}
        for workers in (0, 1, 2):
            ways[f"DataLoader, {workers} workers"] = partial(
                read_batches, batch=options.batch, workers=workers
            )
        rates: dict[tuple[str, str], list[float]] = {(w, f): [] for w in ways for f in data}
        for repeat in range(options.repeats + 1):
            for way, read in ways.items():
                for form, frames_of_form in data.items():
                    start = time.perf_counter()
                    read(frames_of_form)
                    if repeat:  # the first round warms up
                        elapsed = time.perf_counter() - start
                        rates[way, form].append(options.frames / elapsed)
        atoms = np.mean([len(frames[i % len(frames)]) for i in range(options.frames)])
        print(f"{options.frames} frames of {atoms:.0f} atoms on average, {FILES} files, batches of")
        print(f"{options.batch}; frames per second: median (smallest to largest)\n")
        print("| way | lmdb | ase_db | ratio |")
        print("|---|---|---|---|")
        for way in ways:
            ours, theirs = rates[way, "lmdb"], rates[way, "ase_db"]
            ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
            print(f"| {way} | {spread(ours, 0)} | {spread(theirs, 0)} | {ratio:.2f} |")
        if STATUS.exists():
            print_memory(root / "lmdb" / "data.0000.lmdb", 20_000)


if __name__ == "__main__":
    main()
