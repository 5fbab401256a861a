"""Small predictions, the files made of them, and a reader that knows the layout by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fairchem.core.scripts.make_submission_file import SPLITS

from eqv2_plugin.tasks.submission.layout import write_is2re, write_is2rs, write_s2ef

WRITERS = {
    "s2ef": lambda path, made: write_s2ef(path, **made, dtype=np.float16),
    "is2re": lambda path, made: write_is2re(path, made["ids"], made["energies"]),
    "is2rs": lambda path, made: write_is2rs(path, made["ids"], made["forces"]),
}


def predictions(seed: int, count: int = 4) -> dict:
    """Structures of 2 to 5 atoms, some fixed, ids in no order."""
    rng = np.random.default_rng(seed)
    sizes = [2 + i % 4 for i in range(count)]
    free = [rng.random(n) < 0.6 for n in sizes]
    for mask in free:
        mask[0] = True
    return {
        "ids": [f"{s}_{i}" for i, s in enumerate(rng.permutation(count) + 10 * seed + 5)],
        "energies": rng.normal(size=count),
        "forces": [rng.normal(size=(n, 3)) for n in sizes],
        "free": free,
    }


def write_splits(folder: Path, dataset: str, dtype: type) -> dict[str, Path]:
    files = {}
    for seed, split in enumerate(SPLITS[dataset]):
        files[split] = folder / f"{split}.npz"
        write_s2ef(files[split], **predictions(seed), dtype=dtype)
    return files


def write_good(path: Path, task: str) -> Path:
    """A file of one split without fault."""
    made = predictions(1)
    if task != "s2ef":
        made["ids"] = [one.split("_")[0] for one in made["ids"]]
    WRITERS[task](path, made)
    return path


def read_independently(path: Path) -> dict[str, tuple[float, np.ndarray]]:
    """{id: (energy, forces)} as a grader would read the file."""
    with np.load(path, allow_pickle=False) as file:
        ids, energy = file["ids"].tolist(), file["energy"].tolist()
        forces = np.split(file["forces"], file["chunk_idx"])
    assert len(ids) == len(energy) == len(forces)
    return {one: (e, f) for one, e, f in zip(ids, energy, forces, strict=True)}
