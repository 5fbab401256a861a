"""Files that torch, safetensors and LMDB write by themselves: each call is one operation."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import lmdb
import safetensors.torch
import torch
from safetensors import SafetensorError

from .operations import Operation, Operations, everywhere


def install_compiled(operations: Operations) -> None:
    """Take the place of their functions, for the rest of this process."""

    def saving(real: Callable[..., Any], at: int, fail: Callable[[], Any]) -> Callable[..., Any]:
        def replacement(*args, **options):
            target = args[at]
            inside = operations.relative(target) if isinstance(target, str | os.PathLike) else None
            if inside is None:
                return real(*args, **options)

            def act() -> Any:
                return real(*args, **options)

            def half() -> None:
                act()
                with io.FileIO(target, "r+") as file:
                    io.FileIO.truncate(file, os.path.getsize(target) // 2)

            return operations.do(Operation("save", inside), act, half, fail)

        return replacement

    everywhere("save", torch.save, saving(torch.save, 1, _torch_fails))
    save_file = safetensors.torch.save_file
    everywhere("save_file", save_file, saving(save_file, 1, _safetensors_fails))
    real = lmdb.open

    def opened(path, *args, **options):
        environment = real(path, *args, **options)
        inside = operations.relative(path)
        if inside is None or options.get("readonly"):
            return environment
        return _Environment(environment, operations, inside)

    everywhere("open", real, opened)


class _Environment:
    """An LMDB environment whose commits count."""

    def __init__(self, real: Any, operations: Operations, path: str) -> None:
        self._real, self._operations, self._path = real, operations, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def begin(self, *args: Any, **options: Any) -> Any:
        real = self._real.begin(*args, **options)
        writes = options.get("write", False)
        return _Transaction(real, self._operations, self._path) if writes else real


class _Transaction:
    def __init__(self, real: Any, operations: Operations, path: str) -> None:
        self._real, self._operations, self._path = real, operations, path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def commit(self) -> None:
        def full() -> None:
            self._real.abort()
            _lmdb_fails()

        operation = Operation("commit", self._path)
        self._operations.do(operation, self._real.commit, None, full)


def _torch_fails() -> None:
    raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


def _safetensors_fails() -> None:
    raise SafetensorError("Error while serializing: I/O error: Os { code: 28, kind: StorageFull }")


def _lmdb_fails() -> None:
    raise lmdb.DiskError("mdb_txn_commit: No space left on device")
