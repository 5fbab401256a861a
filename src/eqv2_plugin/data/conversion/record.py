"""What is known of a finished shard, kept in a small file beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqv2_plugin.common import files


@dataclass(frozen=True)
class Record:
    """Contents of a shard, in the order of its frames.

    Attributes:
        natoms: int32 ``[n_frames]``.
        keys: uint64 ``[n_frames]``, of the ids (``frame.id_key``).
        counts: int64 ``[n_sources]``, frames of each source.
        labels: that every frame has.
        notes: how often what the user should know occurred.
    """

    natoms: np.ndarray
    keys: np.ndarray
    counts: np.ndarray
    labels: tuple[str, ...]
    notes: Counter[str]

    def save(self, path: Path) -> None:
        """Write the record; it appears under its name only when it is whole."""
        save_npz(
            path,
            natoms=self.natoms,
            keys=self.keys,
            counts=self.counts,
            labels=np.array(self.labels, dtype=str),
            notes=np.array(list(self.notes), dtype=str),
            note_counts=np.array(list(self.notes.values()), dtype=np.int64),
        )

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            file = files.read_npz(path)
            notes = zip(file["notes"].tolist(), file["note_counts"].tolist(), strict=True)
            return cls(
                file["natoms"],
                file["keys"],
                file["counts"],
                tuple(file["labels"].tolist()),
                Counter(dict(notes)),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): remove the folder and begin anew"
            ) from error


def save_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write an npz file that appears under its name only when it is whole.

    Raises:
        OSError: it cannot be written.
    """
    files.save_npz(path, arrays, compressed=False)
