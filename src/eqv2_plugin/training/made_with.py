"""What a run was made with: the same command goes on with it, another one is told to take a name.

It lies in ``made_with.json`` of the run's folder: the configuration as the launcher wrote it, what
was seen of the data and of the starting checkpoint, and a short hash of what decides the results.
How a run is done (processes, checkpoints, what is printed) may differ.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from omegaconf import OmegaConf

from eqv2_plugin.common.files import save_json, save_text
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.common.manifest import differences, read_manifest
from eqv2_plugin.common.text import say
from eqv2_plugin.data.datasets import evenly_spaced
from eqv2_plugin.earlier_paths import current_name
from eqv2_plugin.training.checkpoints import last_complete
from eqv2_plugin.training.results import are_complete
from eqv2_plugin.version import __version__

FILE = "made_with.json"
_FRAMES_HASHED = 16
_SHOWN = 5
_LABELS = ("energy", "forces", "stress")
# Keys, anywhere, that say how a run is done, or where its inputs lie (they are hashed).
_NO_MATTER = frozenset(
    {
        *("job_config", "facts", "closing_note", "with_baselines", "compare_with_start"),
        *("num_workers", "print_every", "checkpoint_every_n_steps", "max_saved_checkpoints"),
        *("refresh_seconds", "collate_fn", "label_guard", "logger", "how_to_get", "root", "src"),
        # The last: one operator of the optimizer that does what several did.
        *("checkpoint", "unsafe", "metrics", "fused"),
    }
)
# Objects that do, as a list of callbacks names them.
_NO_MATTER_OBJECTS = ("CompileSteps", "Checkpoint", "ProgressBar")
# What users call a key that has another name, or several places, in the whole configuration.
_NAMES = {
    "max_epochs": "epochs",
    "cosine_lr_scheduler_fn.epochs": "epochs",
    "batch_sampler_fn.batch_size": "batch_size",
    "batch_sampler_fn.seed": "seed",
    "callbacks.SeedEveryStep.seed": "seed",
    "optimizer_fn.lr": "learning_rate",
    "optimizer_fn.weight_decay": "weight_decay",
    "cosine_lr_scheduler_fn.warmup_epochs": "warmup_epochs",
}


def enter(config_path: Path, config: str, train: ConcatDataset, validation: ConcatDataset) -> None:
    """See that the run's folder holds a run of this command, or none, and say what it is.

    A folder in which nothing was saved holds none: the command before may have been refused.

    Args:
        config_path: where the launcher puts the configuration, in the run's folder.
        config: its text.
        train, validation: the data sets of the run.

    Raises:
        ValueError: see `check`.
    """
    folder = config_path.parent
    now = made_with(OmegaConf.to_container(OmegaConf.create(config)), train, validation)  # type: ignore[arg-type]
    saved = last_complete(folder / "checkpoints") is not None or are_complete(folder / "results")
    try:
        if saved:
            check(folder, now, folder.name)
    except ValueError:
        # The launcher has put this command's into the folder of another run.
        if (before := config_of(folder)) is not None:
            save_text(config_path, before)
        raise
    keep(folder, now, begins=not saved)
    say(f"Settings, data and checkpoint of this run: {now['hash']} ({FILE})")


def made_with(
    config: Mapping[str, Any], train: ConcatDataset, validation: ConcatDataset
) -> dict[str, Any]:
    """The file's content: ``version``, ``config``, ``data``, ``checkpoint`` and their ``hash``.

    Args:
        config: of the whole job, resolved, as plain data.
        train, validation: the data sets of the run.
    """
    model = config["runner"]["train_eval_unit"]["model"]
    start = Path(model["checkpoint"]).expanduser() if model.get("checkpoint") else None
    found: dict[str, Any] = {
        "version": __version__,
        "config": config,
        "data": {"training": _described(train), "validation": _described(validation)},
        "checkpoint": None if start is None else file_sha256(start),
    }
    text = json.dumps(_decisive(found), sort_keys=True, default=str)
    return found | {"hash": hashlib.sha256(text.encode()).hexdigest()[:8]}


def check(folder: Path, now: Mapping[str, Any], name: str) -> None:
    """Compare with the run in ``folder``; one that says nothing (of an earlier version) passes.

    Raises:
        ValueError: it was made with something else; the message says what, and the way on.
    """
    path = folder / FILE
    if not path.is_file():
        return
    before = read_manifest(path, folder)
    same_version = before.get("version") == now["version"]
    lines = _named(_decisive(before), _decisive(now), only_common=not same_version)
    if changed := list(dict.fromkeys(lines)):
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ValueError(
            f"{folder} holds a run with other settings ({'; '.join(changed[:_SHOWN])}{more}): give "
            f"this one a name of its own, such as run_name={name}-{now['hash']}, or remove that "
            "folder"
        )


def keep(folder: Path, now: Mapping[str, Any], begins: bool = True) -> None:
    """Write the file of a run that begins, or of one that an earlier version has begun."""
    if begins or not (folder / FILE).is_file():
        save_json(folder / FILE, now)


def config_of(folder: Path) -> str | None:
    """The configuration that a run was begun with, as the launcher writes it."""
    path = folder / FILE
    if not path.is_file():
        return None
    return OmegaConf.to_yaml(OmegaConf.create(read_manifest(path, folder)["config"]))


def _decisive(found: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the results, with lists as mappings and classes by their present names."""
    runner = dict(found["config"]["runner"])
    unit = runner.pop("train_eval_unit")
    inputs = {"data": found["data"], "starting checkpoint": found["checkpoint"]}
    return _plain({**runner, **unit}) | {"seed": found["config"]["job"]["seed"]} | inputs


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(inner) for k, inner in value.items() if k not in _NO_MATTER}
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        named = {str(one.get("name") or _class(one)): _plain(one) for one in value}
        return {k: v for k, v in named.items() if not any(word in k for word in _NO_MATTER_OBJECTS)}
    return current_name(value) if isinstance(value, str) else value


def _class(config: Mapping[str, Any]) -> str:
    return str(config.get("_target_", "")).rpartition(".")[2]


def _named(before: Any, now: Any, only_common: bool) -> Iterator[str]:
    """Differences as ``epochs: 4 -> 2``, each under the name that it is given by.

    Another version may have more options or fewer, which is no difference with ``only_common``.
    """
    for line in differences(before, now):
        key, _, change = line.partition(": ")
        if only_common and "None" in change.split(" -> "):
            continue
        leaf = next((name for end, name in _NAMES.items() if key.endswith(end)), key)
        yield f"{leaf}: {change}"


def _described(datasets: ConcatDataset) -> dict[str, Any]:
    """Of each split the number of frames, and a hash of some of them, wherever they lie."""
    return {
        name: {"frames": len(dataset), "hash of some": _hash(dataset)}
        for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True)
    }


def _hash(dataset: Any) -> str:
    digest = hashlib.sha256()
    # Those of several data sets are called after them; another property (scalar) is none of these.
    mapping = dataset.config.get("key_mapping") or {}
    renamed = {label: str(mapping.get(label, label)) for label in _LABELS}
    names = [name if name.endswith(label) else label for label, name in renamed.items()]
    for index, frame in evenly_spaced(dataset, _FRAMES_HASHED):
        digest.update(str(index).encode())
        labels = [label for label in names if label in frame]
        for key in ("atomic_numbers", "pos", "cell", "fixed", *labels):
            digest.update(frame[key].contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
