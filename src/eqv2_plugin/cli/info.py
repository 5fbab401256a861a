"""``eqv2 info``: what a checkpoint file or a config of ours is."""

from __future__ import annotations

import argparse
import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqv2_plugin.cli.unsafe import add_unsafe


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info",
        help="what a checkpoint or a config is",
        description="Of a checkpoint (ours, or of fairchem-core 1): architecture, parameters, "
        "tasks, units, energy reference, training data and hashes. Of a config (--config): "
        "model and training settings.",
    )
    parser.add_argument(
        "--config", metavar="YML", help="a file of configs/, instead of a checkpoint"
    )
    parser.add_argument("--json", action="store_true", help="the same of a checkpoint as JSON")
    add_unsafe(parser)
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar="FILE|OVERRIDE",
        help="one checkpoint, or with --config overrides as for fairchem -c (scale=oc20_2m)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what the file or the config is."""
    if options.config is not None:
        if options.json or options.unsafe:
            raise ValueError("--json and --unsafe are for checkpoint files, not for --config")
        return config_info(options.config, options.arguments)
    if len(options.arguments) != 1:
        raise ValueError(
            "info needs one checkpoint file, or --config FILE.yml with overrides; got "
            f"{len(options.arguments)} files"
        )
    from eqv2_plugin.checkpoints.describe import describe_file

    described = describe_file(Path(options.arguments[0]), options.unsafe)
    if options.json:
        print(json.dumps(described, indent=2, ensure_ascii=False))
    else:
        print_description(described)
    return 0


# What the words of files are called here.
_SHOWN_AS = {"basis": "provenance", "ema": "EMA", "raw": "non-EMA"}


def print_lines(lines: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
    """Lines "what: value"."""
    for name, value in (*lines.items(), *(("note", note) for note in notes)):
        print(f"{name:>18}: {value}")


def print_description(described: Mapping[str, Any]) -> None:
    """What `describe_file` returned."""
    metadata = {**described["facts"], "energy_kind": described["energy_kind"]}
    for shown_elsewhere in ("units", "weights_sha256"):
        metadata.pop(shown_elsewhere, None)
    architecture = described["architecture"]
    scale = described["force_scale"]
    encoded = {} if scale is None else {"encoded forces": f"in units of {scale:g} eV/Å (DeNS)"}
    lines = {
        "file": described["file"],
        "form": described["form"],
        "parameters": f"{described['parameters']:,}",
        **{_SHOWN_AS.get(k, k.replace("_", " ")): _SHOWN_AS.get(v, v) for k, v in metadata.items()},
        "SHA-256 of file": described["file_sha256"],
        "SHA-256 of weights": described["weights_sha256"],
        "backbone": _options(architecture["backbone"]),
        **encoded,
        **{f"head {name}": _options(head) for name, head in architecture["heads"].items()},
    }
    for task in described["tasks"]:
        added = _elements(task["element_references"])
        scale = f"mean {task['mean']}, rmsd {task['rmsd']}"
        where = f" (task_name {', '.join(task['datasets'])})" if task["datasets"] else ""
        lines[f"task {task['name']}"] = f"{task['unit']}, {scale}{added}{where}"
    print_lines(lines, described["notes"])


def _elements(references: Mapping[str, Any] | None) -> str:
    """Of a task: how many elements have a reference, and which if they are few."""
    if references is None:
        return ""
    from ase.data import chemical_symbols

    symbols = [chemical_symbols[int(z)] for z in references]
    named = f" ({', '.join(symbols)})" if 0 < len(symbols) <= 20 else ""
    return f", element references of {len(references)} elements{named}"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(options.items()))


def config_info(config_path: str, overrides: Sequence[str]) -> int:
    """Print model size and training settings of a config; reads no data."""
    # These imports take seconds; `eqv2 --help` should not.
    import hydra
    import torch
    from fairchem.core._cli import get_hydra_config_from_yaml

    logging.getLogger().setLevel(logging.ERROR)
    config = get_hydra_config_from_yaml(config_path, list(overrides))
    with torch.device("meta"):
        model = hydra.utils.instantiate(config.runner.train_eval_unit.model)
    parts: dict[str, int] = defaultdict(int)
    for name, parameter in model.named_parameters():
        parts[".".join(name.split(".")[:2])] += parameter.numel()
    unit, runner = config.runner.train_eval_unit, config.runner
    print_lines({**runner.callbacks[-1].facts, "parameters": f"{sum(parts.values()):,}"})
    for name, count in sorted(parts.items()):
        print(f"{'':>20}{name}: {count:,}")
    optimizer, tasks = unit.optimizer_fn, {}
    for task in unit.tasks:
        scale = f"mean {task.normalizer.mean}, rmsd {task.normalizer.rmsd}"
        tasks[f"task {task.name}"] = f"loss coefficient {task.loss_fn.coefficient}, {scale}"
    print_lines(
        {
            "backbone": _options({k: v for k, v in unit.model.backbone.items() if k != "model"}),
            "batch size": runner.train_dataloader.batch_sampler_fn.batch_size,
            "epochs": runner.max_epochs,
            "optimizer": f"AdamW, lr {optimizer.lr}, weight decay {optimizer.weight_decay}",
            **tasks,
        }
    )
    return 0
