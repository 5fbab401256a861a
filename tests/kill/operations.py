"""Every file operation below a folder, counted; at one the process dies, or the disk is full.

A process that is killed leaves on disk what its operations up to then have made. So being killed
before an operation is being killed after the one before it, and a flush is the write that it makes;
``fsync`` changes nothing that a killed process leaves. Besides, a write may end halfway.

Files that Python opens get a raw file that counts what really reaches the system, below Python's
own buffers. torch, safetensors and LMDB write by themselves: their calls are counted as a whole.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# What needs room on the disk; the rest works on a full one.
GROWING = {"write", "save", "commit", "mkdir"}
TORN = {"write", "save"}


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        name: of the function, or "save" for files that compiled code writes.
        path: within the folder.
        to: new path of a rename.
        failed: it changed nothing, as making a folder that is there.
    """

    name: str
    path: str
    to: str = ""
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.path}" + (f" -> {self.to}" if self.to else "")


class Operations:
    """Counts, and ends the process at one operation.

    Args:
        folder: whose files count, with all below it.
        number: of the operation at which something happens, from 0; None: nothing does.
        what: "after" (killed when it is done), "torn" (killed in its middle), or "full" (from it
            on, nothing more fits on the disk).
    """

    def __init__(self, folder: Path, number: int | None = None, what: str = "after") -> None:
        self.folder = os.path.realpath(folder)
        self.number = number
        self.what = what
        self.seen: list[Operation] = []

    def counts(self, path: Any) -> bool:
        """Whether the path is in the folder."""
        return self.relative(path) is not None

    def relative(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The path within the folder; None outside."""
        try:
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            path = os.fsdecode(path)
            if dir_fd is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        except (TypeError, OSError):
            return None
        parent, name = os.path.split(os.path.abspath(path))
        path = os.path.join(os.path.realpath(parent), name)
        if path != self.folder and not path.startswith(self.folder + os.sep):
            return None
        return os.path.relpath(path, self.folder)

    def do(
        self,
        operation: Operation,
        act: Callable[[], Any],
        half: Callable[[], Any] | None = None,
        full: Callable[[], Any] | None = None,
    ) -> Any:
        """Do it, unless its number has come.

        Args:
            operation: what it is.
            act: does it.
            half: does a part of it.
            full: fails as it would on a full disk; by default ENOSPC.
        """
        number = len(self.seen)
        self.seen.append(operation)
        if self.number is not None and self.what == "full":
            if number >= self.number and operation.name in GROWING:
                if number == self.number and half is not None:
                    half()
                (full or _no_room)()
            return act()
        if number == self.number and self.what == "torn":
            if half is not None:
                half()
            _die()
        try:
            result = act()
        except OSError:
            self.seen[number] = replace(operation, failed=True)
            raise
        if number == self.number:
            _die()
        return result

    def install(self) -> None:
        """Take the place of Python's functions, for the rest of this process."""
        self._open = io.open
        everywhere("open", io.open, self.open)
        # It would copy past Python's files.
        shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]
        for name in ("unlink", "remove", "rmdir", "mkdir", "truncate", "ftruncate"):
            real = getattr(os, name)
            everywhere(name, real, self._of_path(name, real))
        for name in ("rename", "replace", "link", "symlink"):
            real = getattr(os, name)
            everywhere(name, real, self._of_two(name, real))
        everywhere("open", os.open, self._os_open(os.open))
        everywhere("write", os.write, self._os_write(os.write))
        # Not before: it needs this module.
        from .compiled import install_compiled

        install_compiled(self)

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
             closefd=True, opener=None):  # fmt: skip
        """As `open`, with a raw file that counts."""
        path = None if set(mode) <= set("rbtU") else self.relative(file)
        if path is None:
            return self._open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        text = "b" not in mode

        def act() -> Any:
            raw = _Raw(self, path, file, mode.replace("b", "").replace("t", ""), closefd, opener)
            if buffering == 0:
                return raw
            size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
            buffer = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw, size)
            if not text:
                return buffer
            wrapper = io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)
            wrapper.mode = mode
            return wrapper

        return self.do(Operation("open", path), act)

    def _of_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(path, *args, **options):
            inside = self.relative(path, options.get("dir_fd"))
            if inside is None:
                return real(path, *args, **options)
            return self.do(Operation(name, inside), lambda: real(path, *args, **options))

        return replacement

    def _of_two(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(source, target, **options):
            inside = self.relative(target, options.get("dst_dir_fd"))
            if inside is None:
                return real(source, target, **options)
            of = self.relative(source, options.get("src_dir_fd")) or "elsewhere"
            return self.do(Operation(name, of, inside), lambda: real(source, target, **options))

        return replacement

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def replacement(path, flags, mode=0o777, *, dir_fd=None):
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            inside = self.relative(path, dir_fd) if writing else None
            if inside is None:
                return real(path, flags, mode, dir_fd=dir_fd)
            operation = Operation("open", inside)
            return self.do(operation, lambda: real(path, flags, mode, dir_fd=dir_fd))

        return replacement

    def _os_write(self, real: Callable[..., int]) -> Callable[..., int]:
        def replacement(fd, data):
            # Of the descriptors, only files have a place.
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            inside = self.relative(fd) if regular else None
            if inside is None:
                return real(fd, data)
            half = bytes(data)[: len(data) // 2]
            act = Operation("write", inside), lambda: real(fd, data), lambda: real(fd, half)
            return self.do(*act)

        return replacement


class _Raw(io.FileIO):
    """A file of the system below Python's buffers."""

    def __init__(self, operations: Operations, path: str, *args: Any) -> None:
        super().__init__(*args)
        self._operations, self._path = operations, path

    def write(self, data: Any) -> int:
        real, half = super().write, bytes(data)[: len(data) // 2]
        operation = Operation("write", self._path)
        return self._operations.do(operation, lambda: real(data), lambda: real(half))

    def truncate(self, size: int | None = None) -> int:
        real = super().truncate
        return self._operations.do(Operation("truncate", self._path), lambda: real(size))


def everywhere(name: str, real: Any, replacement: Any) -> None:
    """Also where a module has imported the function by its name."""
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get(name) is real:
            setattr(module, name, replacement)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _no_room() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
