"""Reading checkpoint files without running what they hold.

A ``.pt`` file is a pickle, which can name any function to be called. ``weights_only=True``
admits torch's tensors and plain containers; a list (`unpickling.restricted`) adds the exact classes
that checkpoints of fairchem hold besides. Any other name is refused before it is imported.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from eqv2_plugin.unpickling.restricted import checkpoint_classes

# What a refusal says last; one sentence, whoever opens the file.
UNSAFE_HINT = (
    "If you trust the file as you would trust a program, `--unsafe` (in a config: unsafe=true) "
    "reads it all the same"
)


def read_checkpoint(path: Path, unsafe: bool = False) -> Any:
    """Load a ``.pt`` file on the CPU; tensors stay in the file until they are used.

    Args:
        unsafe: full unpickling, which lets the file import any module and run any code.

    Raises:
        ValueError: truncated, no checkpoint, or a class that is not admitted.
    """
    zipped = _check_form(path)
    options: dict[str, Any] = {"map_location": "cpu", "mmap": zipped}
    try:
        if unsafe:
            return torch.load(path, weights_only=False, **options)
        with torch.serialization.safe_globals(checkpoint_classes()):
            return torch.load(path, weights_only=True, **options)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} holds an object of a package that is not installed: {error}"
        ) from error
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise ValueError(f"{path} is damaged: {_first_line(error)}") from error
        raise ValueError(
            f"{path} asks for {named.group(1)}, which no checkpoint of EquiformerV2 needs and "
            f"which could run code; it is refused. {UNSAFE_HINT}"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"{path} is damaged or truncated: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _check_form(path: Path) -> bool:
    """Whether the file is a zip archive, torch's form since 1.6; the older form is a pickle."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if zipfile.is_zipfile(path):
        _check_archive(path)
        return True
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        raise ValueError(
            f"{path} is truncated ({path.stat().st_size:,} bytes): the archive's directory at its "
            "end is missing. Download or copy it again"
        )
    if start[:1] != b"\x80":
        raise ValueError(f"{path} is no checkpoint: it starts with {start!r}, not as torch's files")
    return False


def _check_archive(path: Path) -> None:
    """Compare the archive with its checksums, which torch writes but does not read."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(
                        f"{path}: {entry.filename} is compressed, as torch never writes it, and "
                        f"would grow to {entry.file_size:,} bytes; it is refused"
                    )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or truncated: {_first_line(error)}") from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of {damaged} is wrong. Download or copy it again"
        )
