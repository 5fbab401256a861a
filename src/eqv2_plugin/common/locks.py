"""Locks of files and folders that the operating system frees when their holder ends, however.

A lock lies in a file beside what it guards. It is the kernel's: a killed process leaves none.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
import warnings
import weakref
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

# Some file systems of clusters have none.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
LOCK_FILE = ".lock"
# Until the kernel has noticed that the processes of a killed run are gone.
_WAIT_SECONDS = 5.0


class InUseError(RuntimeError):
    """Somebody else holds the lock."""


class FileLock:
    """An exclusive lock, held from when it is made until `release` or the end of the process.

    Where the file system has no locks, a warning says so.

    Args:
        path: of the lock file, which stays, empty when nobody holds it.
        wait: seconds to wait for another holder.
        children_hold: processes that this one forks hold it, too, until they end; for those that
            write what is locked.

    Raises:
        InUseError: another process (or another lock of this one) holds it; the message says
            which, as far as it is known.
    """

    def __init__(self, path: Path, wait: float = 0.0, *, children_hold: bool = False) -> None:
        self.path = path
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._handle: int | None = handle
        try:
            self._take(handle, time.monotonic() + wait)
        except BaseException:
            self._close()
            raise
        if not children_hold:
            _not_for_children.add(self)

    def _take(self, handle: int, end: float) -> None:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= end:
                    raise InUseError(_holder(handle)) from error
                time.sleep(0.05)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"the file system of {self.path.parent} has no locks ({error.strerror}): see "
                    "to it yourself that no two runs write there at once",
                    stacklevel=4,
                )
                break
        who = {
            "process": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        }
        os.ftruncate(handle, 0)
        # A full disk must not keep anybody from the lock.
        with suppress(OSError):
            os.pwrite(handle, json.dumps(who).encode(), 0)

    def release(self) -> None:
        """Give the lock back; again is no error."""
        if self._handle is not None:
            os.ftruncate(self._handle, 0)
        self._close()

    def _close(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def folder_lock(
    folder: Path,
    wait: float = _WAIT_SECONDS,
    name: str = LOCK_FILE,
    *,
    children_hold: bool = False,
) -> FileLock:
    """Lock a folder, which is made where it is missing, for one run at a time.

    Args:
        wait: seconds to wait for the processes of a run that was just killed.
        name: of the lock file.
        children_hold: as for `FileLock`.

    Raises:
        InUseError: another run has it; the message says who, and what to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / name, wait, children_hold=children_hold)
    except InUseError as error:
        raise InUseError(
            f"another run is writing to {folder}: {error}. Let it finish or end it, or give this "
            "one another folder"
        ) from error


def _holder(handle: int) -> str:
    try:
        who = json.loads(os.pread(handle, 1000, 0))
        return f"process {who['process']} on {who['host']}, since {who['since']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "it is not known which process"


# A forked worker would keep the lock of a killed run.
_not_for_children: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _close_in_child() -> None:
    for lock in list(_not_for_children):
        lock._close()


os.register_at_fork(after_in_child=_close_in_child)
