"""``eqv2 export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.unsafe import add_unsafe


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``eqv2``."""
    export = commands.add_parser(
        "export", help="checkpoint to one safetensors file that loads without pickle"
    )
    export.add_argument("checkpoint", type=Path, help="fairchem inference checkpoint (.pt)")
    export.add_argument("out", type=Path, help="new file, ending with .safetensors")
    export.add_argument(
        "--task", metavar="NAME", help="of a model of several data sets this one's part alone"
    )
    add_unsafe(export)
    export.set_defaults(run=run_export)


def run_export(options: argparse.Namespace) -> int:
    """Write the file, and print what is in it."""
    # These imports take seconds; `eqv2 --help` should not.
    from eqv2_plugin.checkpoints.door import export_native

    content = export_native(options.checkpoint, options.out, options.unsafe, options.task)
    count = sum(weight.numel() for weight in content.weights.values())
    tasks = ", ".join(task.name for task in content.header.tasks)
    print(f"{options.out}: {count:,} EMA weights; tasks {tasks}")
    print(f'load it with eqv2_plugin.load("{options.out}")')
    return 0
