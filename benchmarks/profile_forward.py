"""Where the time of a forward pass goes: operators, with fused kernels and without them.

    python benchmarks/profile_forward.py [--models 31M 83M] [--repeats 3] [--top 12]

One slab of 70 atoms, one thread, float32, random weights, torch's profiler. Shares are of the time
that an operator spends itself. Fused kernels are RotateAndScale (into the edge frame, times
radial weights), SampledSiLU (S2 activation; without kernels by products) and WeighRotateSum
(attention, rotation back, sum over neighbours); mkldnn::_linear_pointwise is a matrix product.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from compare.cases import MODELS, structures
from compare.plugin_worker import Plugin
from compare.report import processor
from torch.profiler import ProfilerActivity, profile

from eqv2_plugin.kernels.choice import use_fused_kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["31M", "83M"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--top", type=int, default=12)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"{processor()}, one thread, torch {torch.__version__}, 70 atoms, float32.\n")
    for name in options.models:
        plugin = _prepared(name)
        for fused in (False, True):
            with use_fused_kernels(fused):
                total, shares = _shares(plugin, options.repeats)
            kernels = "with" if fused else "without"
            print(f"#### {name}, {kernels} fused kernels: {total:.2f} s\n")
            print("| operator | share | calls |\n|---|---:|---:|")
            for operator, share, calls in shares[: options.top]:
                print(f"| {operator} | {100 * share:.1f} % | {calls} |")
            print(flush=True)


def _prepared(name: str) -> Plugin:
    plugin = Plugin(recompute=False)
    torch.manual_seed(0)
    plugin.load(MODELS[name], Path("no weights"))
    (atoms,) = structures("1 x 70 atoms")
    arrays = {"numbers": atoms.numbers, "positions": atoms.positions}
    plugin.set_structures(
        {**arrays, "cells": atoms.cell.array[None], "natoms": np.array([len(atoms)])}, "cpu"
    )
    return plugin


def _shares(plugin: Plugin, repeats: int) -> tuple[float, list[tuple[str, float, int]]]:
    """Seconds per call, and [(operator, share of them, calls)], the largest first."""
    plugin.inference(frozen=True)  # compiles
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(repeats):
            plugin.inference(frozen=True)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    found = [(e.key, e.self_cpu_time_total / total, e.count // repeats) for e in events]
    return total / 1e6 / repeats, sorted(found, key=lambda row: -row[1])


if __name__ == "__main__":
    main()
