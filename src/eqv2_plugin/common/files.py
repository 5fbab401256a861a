"""Files that appear under their name only when they are complete (atomic writes)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np

# Arrays of equal numbers compress well; a megabyte that becomes a gigabyte was made for that.
_EXPANSION, _SMALL = 200, 256 * 2**20
_FILE, _FOLDER = os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDONLY | os.O_DIRECTORY
_BUILDING = re.compile(r"\.[0-9a-f]{32}\.")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A name to write to; the file appears as ``path`` when the block ends without error.

    It is on the disk before it has its name. What a killed process left of the same file is
    removed, and nothing is left behind by an error.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        building, handle = _new(path, _FILE)
        try:
            yield building
            _sync(building)
            os.replace(building, path)
        finally:
            os.close(handle)
            building.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(
            f"cannot write {path}: {error}. Make room or choose another folder, and run the same "
            "command again"
        ) from error


@contextmanager
def building_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to; it appears as ``folder`` when the block ends without error.

    What a killed process left of the same folder is removed, and nothing is left by an error.

    Raises:
        FileExistsError: there is such a folder by then, with something in it; it stays as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    building, handle = _new(folder, _FOLDER)
    try:
        yield building
        try:
            os.rename(building, folder)
        except OSError as error:
            if folder.is_dir():
                raise FileExistsError(f"{folder} exists") from error
            raise
        _sync_folder(folder.parent)
    finally:
        os.close(handle)
        shutil.rmtree(building, ignore_errors=True)


def save_text(path: Path, text: str) -> None:
    """Write a text file that appears under its name only when it is complete."""
    with atomic_write(path) as building:
        building.write_text(text, encoding="utf-8")


def save_json(path: Path, value: Any) -> None:
    """Write ``value`` as a JSON file that appears under its name only when it is complete."""
    save_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> None:
    """Write a file that appears when it is complete; equal arrays always make equal bytes."""
    save = np.savez_compressed if compressed else np.savez
    with atomic_write(path) as building, building.open("wb") as file:
        save(file, **arrays)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file; objects are not unpickled.

    Raises:
        ValueError: not a complete npz file, one with object arrays, or one that would take far
            more memory than its size lets expect.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        _refuse_bomb(path)
        with np.load(path, allow_pickle=False) as file:
            # A single array (.npy) has no names.
            names = file.files
            return {name: file[name] for name in names}
    except (BadZipFile, EOFError, OSError, AttributeError, ValueError, zlib.error) as error:
        reason = str(error) or type(error).__name__
        what = "holds Python objects" if "allow_pickle" in reason else "is no complete npz file"
        raise ValueError(f"{path} {what} ({reason}): make it again") from error


def _refuse_bomb(path: Path) -> None:
    if not is_zipfile(path):
        return
    with ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    most = max(_SMALL, _EXPANSION * path.stat().st_size)
    if size > most:
        raise ValueError(f"it would grow to {size:,} bytes, more than {most:,}")


def _new(path: Path, flags: int) -> tuple[Path, int]:
    """A hidden file or folder beside ``path``, and its locked handle.

    The lock tells others that the writer lives; a killed one's is gone with it.
    """
    while True:
        building = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
        if flags & os.O_DIRECTORY:
            building.mkdir()
        handle = os.open(building, flags | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # there are file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if building.exists():
            return building, handle
        os.close(handle)  # another writer of the same thing took it for a leftover


def _remove_leftovers(path: Path) -> None:
    """Of writers of the same file or folder that were killed; those that live hold a lock."""
    with os.scandir(path.parent) as entries:
        found = [
            (entry.path, entry.is_dir())
            for entry in entries
            if (match := _BUILDING.match(entry.name)) and entry.name[match.end() :] == path.name
        ]
    for leftover, is_folder in found:
        with suppress(OSError):
            handle = os.open(leftover, (_FOLDER if is_folder else os.O_RDWR) | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_folder:
                    shutil.rmtree(leftover)
                else:
                    os.unlink(leftover)
            finally:
                os.close(handle)


def _sync(path: Path) -> None:
    # By its name: some writers put a new file in its place.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    # Not every file system lets a folder be opened for this.
    with suppress(OSError):
        _sync(folder)
