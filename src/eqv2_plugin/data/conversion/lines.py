"""Lines of a text file that may be packed with xz, without holding the file in memory."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import cast

_BUFFER_BYTES = 1 << 20


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, each with its newline; ``.xz`` is unpacked on the way.

    Raises:
        ValueError: the xz file is cut short or damaged.
        OSError: the file cannot be read.
    """
    if path.suffix != ".xz":
        with path.open("rb", buffering=_BUFFER_BYTES) as stream:
            yield from stream
        return
    # LZMAFile yields lines slowly; the buffer does it in C.
    with lzma.open(path) as packed, BufferedReader(cast(lzma.LZMAFile, packed)) as stream:  # type: ignore[type-var]
        try:
            yield from stream
        except (EOFError, lzma.LZMAError) as error:
            raise ValueError(
                f"{path} is cut short or damaged ({error}): download it again"
            ) from error


def is_blank_to_the_end(line: bytes, rest: Iterator[bytes]) -> bool:
    """Whether this line and all after it are blank; reads on only if the line is."""
    return not line.strip() and not any(further.strip() for further in rest)
