"""A run's results folder: what it was begun with, and which systems are finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eqv2_plugin.common.files import save_text
from eqv2_plugin.tasks.adsorbml.system_result import (
    SUFFIX,
    SYSTEMS,
    SystemResult,
    load_result,
    save_result,
)

MANIFEST = "adsorbml_run.json"


class ResultsFolder:
    """The folder of one run, whose systems may be shared out among several jobs.

    Args:
        path: of the folder.
        begun_with: what the results depend on, fit for JSON. A folder that was begun with
            something else is refused.

    Raises:
        ValueError: the folder holds results of another run.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, begun_with: Mapping[str, Any]) -> None:
        self.path = path
        (path / SYSTEMS).mkdir(parents=True, exist_ok=True)
        _compare(path / MANIFEST, json.loads(json.dumps(begun_with)))

    def file(self, system: str) -> Path:
        """Where the result of a system is, or will be."""
        return self.path / SYSTEMS / f"{file_name(system)}{SUFFIX}"

    def is_finished(self, system: str) -> bool:
        """Whether a system's result is there."""
        return self.file(system).is_file()

    def save(self, result: SystemResult) -> None:
        """Keep a result."""
        save_result(self.file(result.system), result)

    def load(self, system: str) -> SystemResult:
        """A finished system's result."""
        return load_result(self.file(system))


def file_name(system: str) -> str:
    """A system's id as a name for files; asterisks and the like are written out as %2A."""
    return quote(system, safe=" ()+=,")


def _compare(manifest: Path, begun_with: Mapping[str, Any]) -> None:
    if not manifest.is_file():
        save_text(manifest, json.dumps(begun_with, indent=1) + "\n")
        return
    try:
        before = json.loads(manifest.read_text())
    except ValueError as error:
        raise ValueError(
            f"{manifest} is damaged: remove {manifest.parent} and begin anew"
        ) from error
    for what in sorted(before.keys() | begun_with.keys()):
        if before.get(what) != begun_with.get(what):
            raise ValueError(
                f"{manifest.parent} holds results of another run, with another {what}: "
                f"{before.get(what)} then, {begun_with.get(what)} now. Give this run another name "
                "(run_name=NAME), or remove that folder"
            )
