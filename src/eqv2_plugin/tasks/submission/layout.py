"""The arrays that EvalAI reads, as fairchem-core 1 wrote them (``BaseTrainer.save_results``).

One file per split; `fairchem.core.scripts.make_submission_file` joins them. Ids are sorted as
text, as ``numpy.unique`` does, and unique; no array holds Python objects.

=======  ===========  =============================================================
S2EF     ids          [n] text "<sid>_<fid>"
         energy       [n] eV, float16 for OC20 and float32 for OC22
         forces       [free atoms, 3] eV/Å of all structures in a row, same type
         chunk_idx    [n-1] int64: ``numpy.split(forces, chunk_idx)`` has n parts
IS2RE    ids          [n] text "<sid>"
         energy       [n] float64 eV
IS2RS    ids          [n] text "<sid>"
         pos          [atoms, 3] float64 Å of all structures in a row, fixed atoms too
         chunk_idx    [n-1] int64, as above
=======  ===========  =============================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fairchem.core.scripts import make_submission_file
from numpy.typing import ArrayLike, DTypeLike

from eqv2_plugin.common.files import save_npz
from eqv2_plugin.common.text import listed

# {data set: its splits}.
SPLITS = {name.lower(): splits for name, splits in make_submission_file.SPLITS.items()}
S2EF_DTYPES: dict[str, type[np.floating]] = {"oc20": np.float16, "oc22": np.float32}


def check_dataset(name: str) -> None:
    """Raise a ValueError for a data set without splits at EvalAI."""
    if name not in SPLITS:
        raise ValueError(f"dataset must be one of {', '.join(SPLITS)}, not {name!r}")


def write_s2ef(
    path: str | Path,
    ids: Sequence[str],
    energies: ArrayLike,
    forces: Sequence[np.ndarray],
    free: Sequence[np.ndarray] | None,
    dtype: DTypeLike,
) -> None:
    """Write the S2EF predictions of one split.

    Args:
        path: of the npz file; it appears when it is complete.
        ids: [n] in any order, see `data.ids.s2ef_id`.
        energies: [n] eV.
        forces: n arrays [atoms, 3] eV/Å.
        free: n masks [atoms], True for atoms that are not fixed; None where ``forces`` has
            free atoms only.
        dtype: of the file, see `S2EF_DTYPES`.

    Raises:
        ValueError: duplicate ids, lengths that differ, or numbers that are not finite in
            ``dtype``; the ids are named.
    """
    if free is not None:
        _refuse_other_lengths(ids, energy=np.ravel(energies), forces=forces, free=free)
        for one, f, mask in zip(ids, forces, free, strict=True):
            if np.shape(f) != (len(mask), 3):
                raise ValueError(f"{one}: forces of shape {np.shape(f)} for {len(mask)} atoms")
        forces = [np.asarray(f)[np.asarray(m, bool)] for f, m in zip(forces, free, strict=True)]
    _write(path, ids, dtype, energies, "forces", forces)


def write_is2re(path: str | Path, ids: Sequence[str], energies: ArrayLike) -> None:
    """Write relaxed energies (eV) of one split, ids (`data.ids.system_id`) in any order."""
    _write(path, ids, np.float64, energies)


def write_is2rs(path: str | Path, ids: Sequence[str], positions: Sequence[np.ndarray]) -> None:
    """Write relaxed positions ([atoms, 3] Å, of fixed atoms too) of one split."""
    _write(path, ids, np.float64, None, "pos", positions)


def _write(
    path: str | Path,
    ids: Sequence[str],
    dtype: DTypeLike,
    energies: ArrayLike | None,
    name: str = "",
    vectors: Sequence[np.ndarray] = (),
) -> None:
    """Ids, energies where there are some, and vectors under their name, in the order of the ids."""
    energy = np.zeros(len(ids)) if energies is None else np.ravel(energies)
    _refuse_other_lengths(ids, energy=energy, **({name: vectors} if name else {}))
    bad = unwritable(energy, vectors, dtype)
    if bad.any():
        found = [ids[int(i)] for i in np.flatnonzero(bad)]
        raise ValueError(
            f"{len(found)} structure(s) have predictions that are {beyond(dtype)}: {listed(found)}"
        )
    text = np.asarray(ids, dtype=str)
    order = np.argsort(text, kind="stable")
    if twice := sorted(one for one, times in Counter(text.tolist()).items() if times > 1):
        raise ValueError(f"{len(twice)} id(s) occur more than once: {listed(twice)}")
    arrays = {"ids": text[order]}
    if energies is not None:
        arrays["energy"] = energy[order].astype(dtype)
    if name:
        rows = [np.asarray(vectors[i]).reshape(-1, 3) for i in order]
        arrays[name] = np.concatenate(rows).astype(dtype)
        # numpy.split needs no last index.
        arrays["chunk_idx"] = np.cumsum([len(one) for one in rows], dtype=np.int64)[:-1]
    save_npz(Path(path), arrays)


def unwritable(energies: ArrayLike, vectors: Sequence[np.ndarray], dtype: DTypeLike) -> np.ndarray:
    """[n] True where an energy, or a component of a vector, is not finite in ``dtype``."""
    largest = np.finfo(np.dtype(dtype)).max
    # NaN compares false, so that it is found as well.
    bad = ~(np.abs(np.asarray(energies, np.float64)) <= largest)
    for i, vector in enumerate(vectors):
        bad[i] |= not bool((np.abs(vector) <= largest).all())
    return bad


def beyond(dtype: DTypeLike) -> str:
    """What is wrong with such numbers, in words."""
    return (
        f"NaN, infinite or beyond {np.finfo(np.dtype(dtype)).max:g}, the largest {np.dtype(dtype)}"
    )


def _refuse_other_lengths(ids: Sequence[str], **values: Sequence[np.ndarray] | np.ndarray) -> None:
    if len(ids) == 0:
        raise ValueError("there are no predictions to write")
    for name, value in values.items():
        if len(value) != len(ids):
            raise ValueError(f"{len(ids)} ids, but {name} has {len(value)} entries")
