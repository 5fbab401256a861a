"""Whether operators are being recorded, so that only torch's own may be called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_recording = False


def is_traced() -> bool:
    """Inside torch.compile, or inside `recording`."""
    return _recording or torch.compiler.is_compiling()


def is_recorded() -> bool:
    """Inside `recording`: what is recorded may hold operators of our own."""
    return _recording


@contextmanager
def recording() -> Iterator[None]:
    """For ``make_fx``, of which torch.compile knows nothing."""
    global _recording
    before, _recording = _recording, True
    try:
        yield
    finally:
        _recording = before
