"""The points that the tests try: the windows in which results were lost or can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trial import Point

# {job: patterns of points}, as ``WHAT OPERATION PATH``; the first point that fits is taken.
_RUN = "job/results/"
SAMPLE: dict[str, tuple[str, ...]] = {
    "training": (
        rf"torn write {_RUN}.*history",
        r"after rename job/checkpoints/final/.metadata.tmp",
        rf"after \w+ {_RUN}.*metrics.json",
        rf"after open {_RUN}.*finished.json",
    ),
    "dens": (
        r"torn save job/checkpoints/step_4/inference_ckpt.pt",
        rf"after \w+ {_RUN}.*inference_ckpt.pt",
    ),
    "prediction": (
        rf"torn write {_RUN}parts/.*description.json",
        rf"torn write {_RUN}parts/ood_ads/.*npz",
        rf"after replace {_RUN}parts/ood_both/.*00001.npz",
        rf"after open {_RUN}.*submission.npz",
    ),
    "relaxation": (
        rf"torn write {_RUN}relaxed.0-of-1.jsonl",
        rf"after replace {_RUN}trajectories/ood_cat/",
        rf"after replace {_RUN}.*metrics.json",
    ),
    "adsorbml": (
        rf"torn write {_RUN}relaxed.0-of-1.jsonl",
        rf"after open {_RUN}systems/.*CO.json.gz",
        rf"after replace {_RUN}.*adsorbml_1-0.json.gz",
    ),
    "simulation": (
        rf"torn write {_RUN}frames.000.jsonl",
        rf"after replace {_RUN}trajectories/",
        rf"after replace {_RUN}.*metrics.json",
    ),
    "data_convert": (
        r"torn write out/.conversion/.*manifest.json",
        r"after commit out/.conversion/data.0001.aselmdb",
        r"after replace out/.conversion/data.0000.aselmdb -> out/data.0000.aselmdb",
        r"after replace out/.conversion/.*metadata.npz",
    ),
    "convert": (r"torn (save|write) .*new.pt", r"after replace .*new.pt"),
    "export": (r"torn (save|write) .*new.safetensors", r"after replace .*new.safetensors"),
}


def chosen(points: Sequence[Point], patterns: Sequence[str]) -> list[Point]:
    """The first point for each pattern.

    Raises:
        ValueError: a pattern fits no point: the job works otherwise now, choose another.
    """
    found = []
    for pattern in patterns:
        fits = [point for point in points if re.match(pattern, str(point))]
        if not fits:
            raise ValueError(f"no point fits {pattern!r}")
        found.append(fits[0])
    return found
