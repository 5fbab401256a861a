"""``eqv2``: the few jobs that ``fairchem -c`` cannot express."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import defaultdict
from collections.abc import Sequence

from eqv2_plugin.data.commands import add_parsers as add_data_parsers


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="eqv2", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="what model and training a config describes")
    info.add_argument("--config", required=True, help="a file of configs/")
    info.add_argument("overrides", nargs="*", help="as for fairchem -c, e.g. scale=oc20_2m")
    info.set_defaults(run=lambda options: config_info(options.config, options.overrides))
    data = commands.add_parser("data", help="data sets: convert, fit references, check")
    add_data_parsers(data.add_subparsers(dest="data_command", required=True))
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except Exception as error:
        print(f"eqv2: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eqv2: interrupted", file=sys.stderr)
        return 130


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
    for fact, value in runner.callbacks[-1].facts.items():
        print(f"{fact:>18}: {value}")
    print(f"{'parameters':>18}: {sum(parts.values()):,}")
    for name, count in sorted(parts.items()):
        print(f"{'':>20}{name}: {count:,}")
    backbone = unit.model.backbone
    shown = {key: value for key, value in backbone.items() if key != "model"}
    print(f"{'backbone':>18}: {', '.join(f'{k}={v}' for k, v in sorted(shown.items()))}")
    print(f"{'batch size':>18}: {runner.train_dataloader.batch_sampler_fn.batch_size}")
    print(f"{'epochs':>18}: {runner.max_epochs}")
    optimizer = unit.optimizer_fn
    print(f"{'optimizer':>18}: AdamW, lr {optimizer.lr}, weight decay {optimizer.weight_decay}")
    for task in unit.tasks:
        scale = f"mean {task.normalizer.mean}, rmsd {task.normalizer.rmsd}"
        coefficient = task.loss_fn.coefficient
        print(f"{'task ' + task.name:>18}: loss coefficient {coefficient}, {scale}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
