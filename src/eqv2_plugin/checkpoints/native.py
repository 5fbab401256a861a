"""The native form of a model: weights as safetensors, all else as JSON in the same file.

Reading it unpickles nothing. `write_native` and `read_native` are each other's inverse.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eqv2_plugin.checkpoints.record import (
    NativeHeader,
    NativeModel,
    check_weights,
    task_record,
)
from eqv2_plugin.checkpoints.whitelist import require, with_full_names
from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.text import listed

SUFFIX = ".safetensors"
FORMAT_VERSION = 1
_HEADER = "eqv2_plugin"  # key of the description in the file's metadata
_WEIGHT, _REFERENCES = "model.", "element_references."


def write_native(content: NativeModel, path: Path) -> None:
    """Write a native file; it appears under its name only when it is complete.

    Raises:
        ValueError: another suffix, or the file exists.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a native file's name ends with {SUFFIX}")
    if path.exists():
        raise ValueError(f"{path} exists; remove it or give another name")
    tensors = {_WEIGHT + name: value for name, value in content.weights.items()}
    tensors |= {_REFERENCES + name: value for name, value in content.references.items()}
    # safetensors wants every tensor in one piece of its own.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with atomic_write(path) as building:
        try:
            save_file(tensors, building, metadata={_HEADER: header_to_json(content.header)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_native(path: Path) -> NativeModel:
    """Read and check a native file.

    Raises:
        ValueError: no such file, truncated, of another kind or version, a class that is not
            allowed, or weights that do not fit the configuration.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
            if text is None:
                raise ValueError(
                    f"{path} was not written by `eqv2 export`: its metadata has no {_HEADER!r}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no complete safetensors file ({error}); download or export it again"
        ) from error
    try:
        header = header_from_json(text)
        weights, references = (
            {name.removeprefix(kind): t for name, t in tensors.items() if name.startswith(kind)}
            for kind in (_WEIGHT, _REFERENCES)
        )
        stated = {task.name for task in header.tasks if task.has_references}
        require(
            len(weights) + len(references) == len(tensors) and set(references) == stated,
            f"its element references must be of the tasks {sorted(stated)}, but it holds "
            f"{listed(sorted(set(tensors) - {_WEIGHT + name for name in weights}), 4) or 'none'}",
        )
        for name, values in references.items():
            require(
                values.ndim == 1 and values.is_floating_point(),
                f"the element references of task {name!r} must be a list of numbers, but have "
                f"shape {tuple(values.shape)} and type {values.dtype}",
            )
        check_weights(weights, header.model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return NativeModel(header, weights, references)


def header_to_json(header: NativeHeader) -> str:
    """One line of JSON."""
    tasks = [asdict(task) for task in header.tasks]
    content = {"version": FORMAT_VERSION, "model": header.model, "tasks": tasks}
    return json.dumps(content, allow_nan=False)


def header_from_json(text: str) -> NativeHeader:
    """Read and check what `header_to_json` wrote."""
    try:
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its description is no JSON: {error}") from error
    require(isinstance(content, dict), "its description must be a JSON object")
    version = content.get("version")
    require(
        version == FORMAT_VERSION and type(version) is int,
        f"it has format version {version!r}, but this eqv2_plugin reads version "
        f"{FORMAT_VERSION}; install the release of eqv2_plugin that wrote it",
    )
    keys = {"version", "model", "tasks"}
    require(
        set(content) == keys,
        f"its description must have the keys {', '.join(sorted(keys))}; "
        f"missing or unknown: {', '.join(sorted(set(content) ^ keys))}",
    )
    tasks = content["tasks"]
    require(
        isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks),
        "tasks must be a list of JSON objects",
    )
    return NativeHeader(with_full_names(content["model"]), tuple(map(task_record, tasks)))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")
