"""The measured chain as Markdown."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from emt_chain.surfaces import SURFACES, clean_slab
from eqv2_plugin.tasks.adsorbml.metrics import KS, is_success
from eqv2_plugin.tasks.adsorbml.results import SystemResult, load_results

if TYPE_CHECKING:
    from emt_chain.chain import Chain


def markdown(chain: Chain, picture: str) -> str:
    """Text of docs/adsorbml_emt.md.

    Args:
        chain: that has run.
        picture: file name of the plot.
    """
    settings, references = chain.settings, {r["system"]: r for r in chain.references()}
    results = load_results(chain.results)
    metrics = json.loads((chain.trained / "metrics.json").read_text())
    score = json.loads((chain.out / "score.json").read_text())
    return _TEXT.format(
        surfaces=len(SURFACES),
        atoms=", ".join(f"{name} ({len(clean_slab(name))})" for name in SURFACES),
        train_placements=settings.train_placements,
        val_placements=settings.val_placements,
        train_frames=_frames(chain, "train"),
        val_frames=_frames(chain, "val_id"),
        epochs=settings.epochs,
        steps=metrics["steps"],
        parameters=metrics["facts"]["parameters"],
        overrides=",\n  ".join(f"`{option}`" for option in settings.overrides),
        placements=settings.placements,
        relaxation_steps=settings.steps,
        errors=_errors(metrics),
        successes=_success_table(score["k"], list(references.values())),
        systems=_system_table(results, references),
        picture=picture,
        seconds=_seconds(chain.seconds()),
        versions=f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{platform.machine()}",
    )


def chance(energies: Sequence[float], minimum: float, k: int) -> float:
    """Probability that the best of k structures drawn at random is a success.

    Args:
        energies: of all that could be drawn, eV.
        minimum: of the reference, eV.
        k: if there are fewer, all are drawn.
    """
    bad = sum(not is_success(energy - minimum) for energy in energies)
    drawn = min(k, len(energies))
    return 1.0 - math.comb(bad, drawn) / math.comb(len(energies), drawn) if energies else 0.0


def _frames(chain: Chain, split: str) -> int:
    with np.load(chain.out / "data" / split / "metadata.npz") as file:
        return len(file["natoms"])


def _errors(metrics: dict[str, Any]) -> str:
    rows = ["| | energy MAE, meV | force MAE, meV/Å | force cosine |", "|---|---:|---:|---:|"]
    for name, splits in (("before training", "at_start"), ("after", "splits")):
        m = metrics[splits]["val_id"]
        rows.append(
            f"| {name} | {m['energy_mae_meV']:.1f} | {m['forces_mae_meV_per_A']:.1f} | "
            f"{m['forces_cosine']:.3f} |"
        )
    return "\n".join(rows)


def _success_table(rows: list[dict[str, Any]], references: list[dict[str, Any]]) -> str:
    lines = [
        "| k | success, % | much better, % | drawn at random instead of ranked, % | not relaxed, % "
        "| speed-up (EMT calls) |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    assert [row["k"] for row in rows] == list(KS)
    for row in rows:
        random, start = (
            np.mean([chance(r[kind], min(r["relaxed"]), row["k"]) for r in references])
            for kind in ("predicted", "unrelaxed")
        )
        lines.append(
            f"| {row['k']} | {100 * row['success_rate']:.0f} | {100 * row['much_better_rate']:.0f} "
            f"| {100 * random:.0f} | {100 * start:.0f} | {row['ionic_speedup']:.0f} |"
        )
    return "\n".join(lines)


def _system_table(results: Sequence[SystemResult], references: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| surface | EMT minimum, eV | local minima within 0.1 eV | highest, eV above | best of "
        "k = 1, meV above | of k = 5 | predicted energy of the best, error in meV | anomalies, "
        "model / EMT | converged | steps, median |",
        "|---" + 9 * "|---:" + "|",
    ]
    for result in results:
        reference, ranked = references[result.system], result.ranked()
        relaxed, predicted = reference["relaxed"], reference["predicted"]
        lowest = min(relaxed)
        near = sum(is_success(energy - lowest) for energy in relaxed)
        above = [f"{1000 * (min(predicted[:k]) - lowest):.0f}" for k in (1, 5)] if ranked else "--"
        error = f"{1000 * (ranked[0].energy - predicted[0]):+.0f}" if ranked else "-"
        count = len(result.candidates)
        lines.append(
            f"| {result.system.split('_')[0]} | {lowest:.3f} | {near} of {len(relaxed)} | "
            f"{max(relaxed) - lowest:.2f} | {above[0]} | {above[1]} | {error} | "
            f"{count - len(ranked)} / {count - len(relaxed)} | "
            f"{sum(c.converged for c in result.candidates)} of {count} | "
            f"{np.median([c.steps for c in result.candidates]):.0f} |"
        )
    return "\n".join(lines)


def _seconds(spent: dict[str, float]) -> str:
    named = {
        "frames": ("data/train", "data/val_id"),
        "training": ("model/results/inference_ckpt.pt",),
        "AdsorbML": ("adsorbml/default/results/report.html",),
        "EMT relaxations": ("references.json",),
    }
    parts = {name: sum(spent.get(k, 0.0) for k in keys) for name, keys in named.items()}
    parts["the rest"] = sum(spent.values()) - sum(parts.values())
    listed = ", ".join(f"{name} {value / 60:.1f}" for name, value in parts.items())
    return f"{sum(spent.values()) / 60:.0f} minutes: {listed}"


_TEXT = """\
# AdsorbML from data to success rates, measured

    pip install 'eqv2-plugin[catalysis]'
    python benchmarks/adsorbml_emt.py

makes frames, trains a model, runs [AdsorbML](adsorbml.md) with it and scores the results. ASE's
EMT, a potential that costs nothing, stands in for DFT everywhere, so that the truth is known. This
page is what it printed. It shows that the parts fit together and that a model that has learnt its
surfaces finds their minima; it says nothing about DFT or about surfaces that a model has not seen.

## What was done

- **Systems.** N on {surfaces} slabs (number of atoms):
  {atoms}.
  What is more than 1.7 Å below the highest atom is fixed. In Au2Pt111 every third row is Pt, in
  AgPd100 two of the nine surface atoms are Pd. Energies are adsorption energies: EMT energy minus
  relaxed clean slab minus isolated N atom.
- **Frames.** {train_placements} placements per surface for training ({train_frames} frames),
  {val_placements} others for validation ({val_frames} frames): from EMT relaxations, rattled, and
  from dynamics at 700 K. AdsorbML's placements come from a third seed.
- **Training.** `configs/eqv2_oc20.yml`, normalisers by `eqv2 data fit-normalizer`, {epochs}
  epochs, {steps:,} steps of 4 frames, {parameters:,} parameters. Options:
  {overrides}.
- **AdsorbML.** `configs/adsorbml_batched.yml`, {placements} placements
  (`random_site_heuristic_placement`) per surface, L-BFGS, 0.02 eV/Å or {relaxation_steps} steps.
- **Reference.** EMT relaxations of the same placements, with the same settings and the same
  anomaly detection. Speed-up is the number of their EMT calls over that of the single points.

## Errors on validation frames

{errors}

## Success rates

{successes}

A success is within 0.1 eV of the lowest EMT relaxation, or below it. For comparison: single points
on k of the model's relaxed structures drawn at random, and on k placements that nobody relaxed.

![Success rate against k]({picture})

{systems}

"Local minima" are the EMT relaxations without anomaly; those within 0.1 eV of the lowest are any
method's successes.

{seconds}. One thread, beside other work on the machine; {versions}.
"""
