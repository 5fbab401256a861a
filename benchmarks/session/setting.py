"""Where a session runs, and with what."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Rows of a part, by name, each measured when its function is called.
Jobs = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


@dataclass(frozen=True)
class Setting:
    """Of one session.

    Attributes:
        out: folder of all results.
        device: "cpu" or "cuda".
        tiny: the smallest form, to see that everything runs.
        reference: command of a Python that has fairchem-core 1.10, or None.
    """

    out: str
    device: str
    tiny: bool
    reference: str | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setting:
        return cls(**json.loads(text))

    @property
    def folder(self) -> Path:
        return Path(self.out)

    @property
    def reference_command(self) -> list[str] | None:
        return None if self.reference is None else shlex.split(self.reference)

    @property
    def recipe_checkpoint(self) -> Path:
        """What the sample recipe of this session leaves: the trained model at hand."""
        return self.folder / "recipe" / "sample" / "results" / "inference_ckpt.pt"
