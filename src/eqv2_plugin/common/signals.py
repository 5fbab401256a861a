"""Ctrl-C and SIGTERM end a job with a line that says what is kept, and exit code 130 or 143."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from fairchem.core.common import distutils

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_Handler = Callable[[int, FrameType | None], None]


def end(number: int, kept: str) -> NoReturn:
    """Say what is kept (the first rank does), and exit as a shell expects it after a signal."""
    for one in SIGNALS:
        # Again, and the process ends at once.
        signal.signal(one, signal.SIG_DFL)
    tell(f"ended by {_NAMES[signal.Signals(number)]}: {kept}")
    raise SystemExit(128 + number)


def tell(text: str) -> None:
    """Write a line, on the first rank; ``print`` may not be called while it is running."""
    if distutils.is_master():
        os.write(2, f"\n{text}\n".encode())


@contextmanager
def ends_with(
    kept: Callable[[], str], put_off: Callable[[int], bool] = lambda number: False
) -> Iterator[None]:
    """While this lasts, the signals end the process with what ``kept`` says.

    Processes that are forked from this one are left to it. Elsewhere than in the main thread
    nothing is changed.

    Args:
        kept: called when a signal has come.
        put_off: called with its number first; whether the caller ends the process by itself, at a
            better moment. A second signal is not put off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _handler(kept, put_off)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            # Of another language than Python: there is no way to name it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def install(kept: Callable[[], str]) -> None:
    """The same, from now on."""
    for number in SIGNALS:
        signal.signal(number, _handler(kept, lambda number: False))


def _handler(kept: Callable[[], str], put_off: Callable[[int], bool]) -> _Handler:
    owner, came = os.getpid(), False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if os.getpid() != owner:
            # Ctrl-C reaches all; a worker that is terminated ends as it would without a handler.
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        first, came = not came, True
        if not (first and put_off(number)):
            end(number, kept())

    return handle
