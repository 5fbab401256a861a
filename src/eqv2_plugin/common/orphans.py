"""Processes that end when the one that started them has ended, however it did."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from multiprocessing.process import BaseProcess

_POLL_SECONDS = 0.3


def end_with_parent() -> None:
    """End this process once its parent is gone, if it is a child of `multiprocessing`.

    Without this, ranks (and a pool's workers) go on for minutes when their launcher is killed,
    and write where the next run writes, too. Elsewhere, nothing happens.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        # Behind a fork server, this is not the parent's child.
        ours = os.getppid() == parent.pid
        threading.Thread(target=_watch, args=(parent, ours), daemon=True).start()


def _watch(parent: BaseProcess, ours: bool) -> None:
    # Processes forked after ours keep its parent alive in the eyes of multiprocessing.
    while os.getppid() == parent.pid if ours else parent.is_alive():
        time.sleep(_POLL_SECONDS)
    os._exit(1)
