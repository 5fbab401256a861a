"""Files that are whole or not there."""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to; the file appears as ``path`` when the block ends without error.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    building = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield building
        os.replace(building, path)
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error}. Make room or choose another folder, and run the same "
            "command again"
        ) from error
    finally:
        with suppress(OSError):
            building.unlink(missing_ok=True)


def save_text(path: Path, text: str) -> None:
    """Write a text file that appears under its name only when it is complete.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    with whole_file(path) as building:
        building.write_text(text, encoding="utf-8")


def save_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> None:
    """Write a file that appears under its name only when it is complete.

    The same arrays always make the same bytes.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    save = np.savez_compressed if compressed else np.savez
    with whole_file(path) as building, building.open("wb") as file:
        save(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; objects are not unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a complete npz file, or one with object arrays.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            # A single array (.npy) has no names.
            names = file.files
            return {name: file[name] for name in names}
    except (BadZipFile, EOFError, OSError, AttributeError, ValueError, zlib.error) as error:
        reason = str(error) or type(error).__name__
        what = "holds Python objects" if "allow_pickle" in reason else "is no complete npz file"
        raise ValueError(f"{path} {what} ({reason}): make it anew") from error
