"""Normalisers and element references of a fine-tuning run, as values.

fairchem keeps the config of the tasks in every checkpoint and makes them anew when it is
loaded. So a config's resolvers write the numbers out, from the starting checkpoint or from a
file: a path would not travel with the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols

from eqv2_plugin.data.references.coefficients import load_coefficients
from eqv2_plugin.training.start_checkpoint import read_start

# In place of a file's name.
FROM_CHECKPOINT, NONE = "checkpoint", "none"


def start_normalizer(
    source: str, checkpoint: str, label: str, key: str, unsafe: bool = False
) -> float:
    """``mean`` or ``rmsd`` of a label's normaliser.

    Args:
        source: "checkpoint", or a file that ``eqv2 data fit-normalizer --out`` wrote.
        checkpoint: to start from.
        label: "energy", "forces" or "stress".
        key: "mean" or "rmsd".
        unsafe: see `read_start`.

    Raises:
        FileNotFoundError, ValueError: no such file, or no such normaliser in it.
    """
    if source == FROM_CHECKPOINT:
        task = read_start(checkpoint, unsafe).task(label)
        if task is None:
            raise ValueError(
                f"{checkpoint} predicts no {label}, so it has no normaliser for it: fit one with "
                "`eqv2 data fit-normalizer` and give normalizer=FILE.yaml"
            )
        values = task["normalizer"]
    else:
        values = _fitted(Path(source).expanduser()).get(_BLOCKS[label])
        if values is None:
            raise ValueError(
                f"{source} has no {_BLOCKS[label]}: for the checkpoint's give "
                f"{_BLOCKS[label]}.mean=0 and {_BLOCKS[label]}.rmsd=NUMBER"
            )
    try:
        return float(values[key])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the normaliser of {label} has no number {key!r} (from {source}): {values!r}"
        ) from error


def start_references(source: str, checkpoint: str, unsafe: bool = False) -> dict[str, Any] | None:
    """Config of the energy's element references.

    Args:
        source: "checkpoint", "none", a published name, or an ``.npz`` file that
            ``eqv2 data fit-references`` wrote.
        checkpoint: to start from.
        unsafe: see `read_start`.

    Raises:
        ValueError: an unknown name, or a file of another content.
    """
    if source == NONE:
        return None
    if source == FROM_CHECKPOINT:
        task = read_start(checkpoint, unsafe).task("energy")
        return task.get("element_references") if task else None
    coefficients = load_coefficients(source)
    values = {chemical_symbols[z]: float(e) for z, e in enumerate(coefficients) if e == e}
    return {"_target_": "eqv2_plugin.data.references.written_out_references", "values": values}


_BLOCKS = {
    "energy": "energy_normalizer",
    "forces": "force_normalizer",
    "stress": "stress_normalizer",
}


def _fitted(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"normalizer={path} is no file: give one that `eqv2 data fit-normalizer --out` wrote, "
            "or normalizer=checkpoint"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no normalisers")
    return content
