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
from numpy.typing import ArrayLike, DTypeLike

from eqv2_plugin.common.files import save_npz

S2EF_DTYPES: dict[str, type[np.floating]] = {"oc20": np.float16, "oc22": np.float32}
_SHOWN = 5


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
        ids: [n] in any order, see `ids.s2ef_id`.
        energies: [n] eV.
        forces: n arrays [atoms, 3] eV/Å.
        free: n masks [atoms], True for atoms that are not fixed; None where ``forces`` has
            free atoms only.
        dtype: of the file, see `S2EF_DTYPES`.

    Raises:
        ValueError: duplicate ids, lengths that differ, or numbers that are not finite in
            ``dtype``; the ids are named.
        OSError: it cannot be written.
    """
    energy = np.asarray(energies).reshape(-1)
    masks = [np.ones(len(f), bool) for f in forces] if free is None else free
    _same_length(ids, energy=energy, forces=forces, free=masks)
    for one, f, mask in zip(ids, forces, masks, strict=True):
        if np.shape(f) != (len(mask), 3):
            raise ValueError(f"{one}: forces of shape {np.shape(f)} for {len(mask)} atoms")
    kept = [np.asarray(f)[np.asarray(mask, bool)] for f, mask in zip(forces, masks, strict=True)]
    refuse_unwritable(ids, energy, kept, dtype)
    order = _order(ids)
    save_npz(
        Path(path),
        {
            "ids": _text(ids, order),
            "energy": energy[order].astype(dtype),
            "forces": _in_a_row(kept, order).astype(dtype),
            "chunk_idx": _chunk_idx(kept, order),
        },
    )


def write_is2re(path: str | Path, ids: Sequence[str], energies: Sequence[float]) -> None:
    """Write relaxed energies of one split.

    Args:
        path: as for `write_s2ef`.
        ids: [n] in any order, see `ids.system_id`.
        energies: [n] eV.

    Raises:
        ValueError, OSError: as `write_s2ef`.
    """
    energy = np.asarray(energies, np.float64).reshape(-1)
    _same_length(ids, energy=energy)
    refuse_unwritable(ids, energy, [], np.float64)
    order = _order(ids)
    save_npz(Path(path), {"ids": _text(ids, order), "energy": energy[order]})


def write_is2rs(path: str | Path, ids: Sequence[str], positions: Sequence[np.ndarray]) -> None:
    """Write relaxed positions of one split.

    Args:
        path: as for `write_s2ef`.
        ids: [n] in any order, see `ids.system_id`.
        positions: n arrays [atoms, 3] Å, of fixed atoms too.

    Raises:
        ValueError, OSError: as `write_s2ef`.
    """
    _same_length(ids, pos=positions)
    refuse_unwritable(ids, np.zeros(len(ids)), positions, np.float64)
    order = _order(ids)
    arrays = {
        "ids": _text(ids, order),
        "pos": _in_a_row(positions, order).astype(np.float64),
        "chunk_idx": _chunk_idx(positions, order),
    }
    save_npz(Path(path), arrays)


def refuse_unwritable(
    ids: Sequence[str], energies: ArrayLike, vectors: Sequence[np.ndarray], dtype: DTypeLike
) -> None:
    """See that every number stays finite in ``dtype``.

    Raises:
        ValueError: one does not; the ids are named.
    """
    bad = unwritable(energies, vectors, dtype)
    if bad.any():
        found = [ids[int(i)] for i in np.flatnonzero(bad)]
        raise ValueError(
            f"{len(found)} structure(s) have predictions that are {beyond(dtype)}: {_listed(found)}"
        )


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


def _order(ids: Sequence[str]) -> np.ndarray:
    """Positions of the ids in sorted order."""
    array = np.asarray(ids, dtype=str)
    order = np.argsort(array, kind="stable")
    if (array[order][1:] == array[order][:-1]).any():
        twice = [one for one, times in Counter(array.tolist()).items() if times > 1]
        raise ValueError(f"{len(twice)} id(s) occur more than once: {_listed(sorted(twice))}")
    return order


def _same_length(ids: Sequence[str], **values: Sequence[np.ndarray] | np.ndarray) -> None:
    if len(ids) == 0:
        raise ValueError("there are no predictions to write")
    for name, value in values.items():
        if len(value) != len(ids):
            raise ValueError(f"{len(ids)} ids, but {name} has {len(value)} entries")


def _text(ids: Sequence[str], order: np.ndarray) -> np.ndarray:
    return np.asarray(ids, dtype=str)[order]


def _in_a_row(vectors: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(vectors[i]).reshape(-1, 3) for i in order])


def _chunk_idx(vectors: Sequence[np.ndarray], order: np.ndarray) -> np.ndarray:
    # numpy.split needs no last index.
    return np.cumsum([len(vectors[i]) for i in order], dtype=np.int64)[:-1]


def _listed(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more
