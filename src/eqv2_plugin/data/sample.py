"""The embedded samples of real data: as ASE atoms, and as datasets fairchem reads.

What is in them and where they come from: ``samples/README.md`` beside this file.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import lmdb
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase_db_backends.aselmdb import LMDBDatabase

from eqv2_plugin.common.files import building_folder

# Splits of each sample; its file is samples/<name>.npz.
SAMPLES = {
    "oc20_sample": ("train", "val_id", "val_ood"),
    "rmd17_ethanol": ("train", "val", "test"),
    "rmd17_aspirin": ("train", "val", "test"),
    "cualloy_sample": ("train", "val", "val_ood"),
}
# A source "embedded:SAMPLE/SPLIT", or a root "embedded:SAMPLE", names one of them.
EMBEDDED = "embedded:"
SAMPLE_FOLDER = Path(__file__).parent / "samples"

# Part of the cache folder's name: raise it when the database written from the same
# sample file changes, or old cache folders are taken for current ones.
_LAYOUT = 1


def load_sample(sample: str, split: str) -> list[Atoms]:
    """The frames of one split, grouped by system, each in relaxation order.

    Atoms carry positions and cell (Å), pbc, tags (0 fixed slab, 1 free slab, 2 adsorbate),
    ``FixAtoms``, and in a single-point calculator the referenced energy (eV) and raw forces
    (eV/Å). ``info`` has ``sid`` (str), ``fid`` (int) and ``ref_energy`` (eV: add it to get the
    VASP energy back).

    Raises:
        ValueError: there is no such sample or split.
    """
    with np.load(_file(sample, split), allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    ends = np.cumsum(arrays["natoms"])
    return [
        _frame(arrays, i, slice(ends[i] - arrays["natoms"][i], ends[i]))
        for i in np.flatnonzero(arrays["split"] == split)
    ]


def sample_directory(sample: str, split: str, cache_root: Path | None = None) -> Path:
    """The folder of one split in fairchem's ``ase_db`` form, built on first use.

    The folder holds one ``.aselmdb`` database with the frames of ``load_sample`` in the same order,
    and ``metadata.npz``. Its name contains a hash of the sample, so another version of the package
    builds its own. Building is atomic: several processes may ask at once, and what one that
    is killed leaves is hidden, and removed by the next.

    Args:
        cache_root: by default ``$EQV2_CACHE``, else ``$XDG_CACHE_HOME/eqv2_plugin``, else
            ``~/.cache/eqv2_plugin``.

    Raises:
        ValueError: there is no such sample or split.
        OSError: the cache folder cannot be written.
    """
    file = _file(sample, split)
    root = _default_cache_root() if cache_root is None else Path(cache_root)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    folder = root / f"{sample}-v{_LAYOUT}-{digest}-{split}"
    if folder.is_dir():
        return folder

    frames = load_sample(sample, split)
    try:
        # Another process may be faster: its folder holds the same.
        with suppress(FileExistsError), building_folder(folder) as building:
            write_ase_db(frames, building)
    except (OSError, lmdb.Error) as error:
        raise OSError(
            f"cannot write the sample to the cache folder {root} ({error}); "
            "set EQV2_CACHE to a folder that can be written"
        ) from error
    return folder


def _file(sample: str, split: str) -> Path:
    if sample not in SAMPLES:
        raise ValueError(
            f"unknown sample {sample!r}: give the folder of the data (data_root=FOLDER); embedded "
            f"are {', '.join(SAMPLES)}"
        )
    if split not in SAMPLES[sample]:
        raise ValueError(f"unknown split {split!r}; {sample} has {', '.join(SAMPLES[sample])}")
    return SAMPLE_FOLDER / f"{sample}.npz"


def _frame(sample: dict[str, np.ndarray], i: int, rows: slice) -> Atoms:
    """Return frame ``i``, whose atoms are ``rows`` of the per-atom arrays."""
    atoms = Atoms(
        numbers=sample["numbers"][rows],
        positions=sample["pos"][rows].astype(np.float64),
        cell=sample["cell"][i],
        pbc=sample["pbc"][i],
        tags=sample["tags"][rows],
        constraint=FixAtoms(mask=sample["fixed"][rows].astype(bool)),
        info={
            "sid": str(sample["sid"][i]),
            "fid": int(sample["fid"][i]),
            "ref_energy": float(sample["ref_energy"][i]),
        },
    )
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=float(sample["energy"][i]),
        forces=sample["forces"][rows].astype(np.float64),
    )
    return atoms


def _default_cache_root() -> Path:
    # An empty variable counts as unset, as the XDG specification asks.
    if chosen := os.environ.get("EQV2_CACHE"):
        return Path(chosen).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "eqv2_plugin"
    try:
        return Path.home() / ".cache" / "eqv2_plugin"
    except RuntimeError as error:  # a user id without home, usual in containers
        raise OSError(
            "no home folder to keep the sample in; set EQV2_CACHE to a folder that can be written"
        ) from error


def write_ase_db(frames: list[Atoms], folder: Path) -> None:
    """Write ``frames`` and their metadata into ``folder``, which must be empty."""
    path = folder / "sample.aselmdb"
    with LMDBDatabase(path, use_lock_file=False) as database:  # one transaction for all
        for atoms in frames:
            # The database keeps no atoms.info; fairchem fills it again from the row data.
            database.write(atoms, data=atoms.info)
    path.with_name(f"{path.name}-lock").unlink()  # only writers need LMDB's lock file
    np.savez(folder / "metadata.npz", natoms=np.array([len(a) for a in frames], np.int64))
