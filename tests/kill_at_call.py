"""A job in a forked process that is killed at a certain call of a function."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable

from tqdm import tqdm


def own_progress_bar() -> None:
    """tqdm's lock is shared with forked processes: one that is killed would keep it for ever."""
    tqdm.set_lock(threading.RLock())


def kill_at_call(
    module: object, name: str, calls: int, job: Callable[..., object], *arguments: object
) -> None:
    """Run ``job`` with these arguments until ``module.name`` is called that often."""

    def run() -> None:
        function, remaining = getattr(module, name), [calls]

        def deadly(*given, **options):
            remaining[0] -= 1
            if remaining[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **options)

        setattr(module, name, deadly)
        own_progress_bar()
        job(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
