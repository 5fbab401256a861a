"""Starting whole training runs in processes of their own, and reading what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

CONFIGS = Path(__file__).parents[1] / "configs"
# A tiny model on 24 frames, with dropout: 6 batches of 4, ten epochs.
TINY = [
    "model.backbone.sphere_channels=8", "model.backbone.attn_hidden_channels=8",
    "model.backbone.attn_alpha_channels=4", "model.backbone.attn_value_channels=4",
    "model.backbone.ffn_hidden_channels=8", "model.backbone.edge_channels=8",
    "model.backbone.num_layers=1", "model.backbone.max_neighbors=8",
    "model.backbone.alpha_drop=0.1", "model.backbone.drop_path_rate=0.1",
    "+data.train_splits.train.first_n=24", "+data.val_splits.val_id.first_n=8",
    "+data.val_splits.val_ood.first_n=8", "data.train_repeats=1", "epochs=10",
    "checkpoint_every_n_steps=7", "job.device_type=CPU",
]  # fmt: skip
# Fine-tuning takes its model from a checkpoint: 12 frames, 3 batches of 4, ten epochs.
TINY_FINETUNING = [
    "+data.train_splits.train.first_n=12", "+data.val_splits.val.first_n=4",
    "+data.val_splits.val_ood.first_n=4", "epochs=10", "checkpoint_every_n_steps=5",
    "job.device_type=CPU",
]  # fmt: skip


def command(folder: Path, *overrides: str, config: str = "eqv2_oc20") -> list[str]:
    """The command line; the run goes to ``folder/sample``."""
    fairchem = "from fairchem.core._cli import main; main()"
    start = [sys.executable, "-c", fairchem, "-c", str(CONFIGS / f"{config}.yml")]
    tiny = TINY_FINETUNING if config == "eqv2_finetune" else TINY
    return [*start, f"run_dir={folder}", "run_name=sample", *tiny, *overrides]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "EQV2_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def run(folder: Path, cache: Path, *overrides: str, config: str = "eqv2_oc20") -> str:
    """Run to the end; returns what was printed."""
    done = subprocess.run(
        command(folder, *overrides, config=config),
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "results" / "inference_ckpt.pt"
    # Our own file, written a moment ago; it holds fairchem's checkpoint class.
    checkpoint = torch.load(path, weights_only=False)
    parts = {"model": checkpoint.model_state_dict, "ema": checkpoint.ema_state_dict}
    return {f"{p}.{k}": torch.as_tensor(v) for p, d in parts.items() for k, v in d.items()}


def history(folder: Path) -> list[dict]:
    lines = (folder / "results" / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def numbers(value) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    return [float(value)]


def run_and_kill(folder: Path, cache: Path, *overrides: str, config: str, step: int) -> None:
    """Start a run and kill it (SIGKILL) once the checkpoint of ``step`` is complete."""
    process = subprocess.Popen(
        command(folder, *overrides, config=config),
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoint = folder / "sample" / "checkpoints" / f"step_{step}" / "inference_ckpt.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    assert not (folder / "sample" / "results" / "metrics.json").exists()
