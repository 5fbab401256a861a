"""LMDB data sets made for a test: any attributes, any vintage, any damage."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import lmdb
import numpy as np
import torch
from ase import Atoms
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset

from eqv2_plugin.data.datasets import create_datasets

LABELS = {"energy": "energy", "forces": "forces"}
READER = {"format": "lmdb", "key_mapping": LABELS}
EMBEDDED = Path(__file__).parents[2] / "fixtures" / "data_oc"
_DATA = b"ctorch_geometric.data.data\nData\n)\x81"
_STORAGE = b"ctorch_geometric.data.storage\nGlobalStorage\n)\x81"


def pyg1(attributes: dict) -> bytes:
    """``Data`` as PyTorch Geometric 1 pickles it: an object with these attributes."""
    # Opcodes: make the object, push the dictionary, set it as the state.
    return b"\x80\x04" + _DATA + pickle.dumps(attributes, 4)[2:-1] + b"b."


def pyg2(attributes: dict) -> bytes:
    """``Data`` as PyTorch Geometric 2 pickles it: attributes in a storage object."""
    mapping = pickle.dumps({"_mapping": attributes}, 4)[2:-1]
    return b"\x80\x04" + _DATA + b"}\x8c\x06_store" + _STORAGE + mapping + b"bsb."


def attributes(seed: int = 0, n: int = 3, **changes) -> dict:
    """Attributes of an S2EF record; a change to None leaves one out."""
    rng = np.random.default_rng(seed)
    made = {
        "pos": torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32)),
        "cell": 9 * torch.eye(3)[None],
        "atomic_numbers": torch.tensor([8.0, 6.0, *[29.0] * (n - 2)][:n]),
        "natoms": n,
        "tags": torch.tensor([2, 2, *[1] * (n - 2)][:n]),
        "fixed": torch.tensor([0.0, 0.0, *[1.0] * (n - 2)][:n]),
        "sid": 100 + seed,
        "fid": seed,
        "y": float(rng.normal()),
        "force": torch.from_numpy(rng.normal(size=(n, 3)).astype(np.float32)),
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def stored(atoms: Atoms) -> dict:
    """Attributes of the record that fairchem-core 1's preprocessing made of labelled atoms."""
    fixed = np.zeros(len(atoms), np.float32)
    for constraint in atoms.constraints:
        fixed[constraint.index] = 1
    return {
        "pos": torch.from_numpy(atoms.positions.astype(np.float32)),
        "cell": torch.from_numpy(atoms.cell.array.astype(np.float32))[None],
        "atomic_numbers": torch.from_numpy(atoms.numbers.astype(np.float32)),
        "natoms": len(atoms),
        "tags": torch.from_numpy(atoms.get_tags()),
        "fixed": torch.from_numpy(fixed),
        "sid": atoms.info["sid"],
        "fid": atoms.info["fid"],
        "y": atoms.calc.results["energy"],
        "force": torch.from_numpy(atoms.calc.results["forces"].astype(np.float32)),
    }


def write_lmdb(
    path: Path, records: Sequence[bytes], length: object = True, keys: Sequence[str] = ()
) -> Path:
    """Write pickled records; ``length`` True for the right one, None for none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(path), subdir=False, map_size=1 << 26, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            for key, record in zip(keys or map(str, range(len(records))), records, strict=True):
                transaction.put(key.encode(), record)
            if length is not None:
                stored = len(records) if length is True else length
                transaction.put(b"length", pickle.dumps(stored))
        pages = environment.info()["last_pgno"] + 1
        size = pages * environment.stat()["psize"]
    with path.open("r+b") as file:
        file.truncate(size)
    return path


def write_frames(path: Path, count: int, first: int = 0) -> Path:
    """A file of different S2EF records, number i with sid 100 + i, fid i and 3 + i % 4 atoms."""
    numbers = range(first, first + count)
    return write_lmdb(path, [pyg2(attributes(i, n=3 + i % 4)) for i in numbers])


def splits(root: Path, reader: dict = READER, **sources: str) -> ConcatDataset:
    """The splits of a data set below ``root`` as the recipes make them."""
    options = {name: {"src": source} for name, source in sources.items()}
    return create_datasets("oc20", str(root), options, reader, "Fetch it")
