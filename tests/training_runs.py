"""Whole training runs in processes of their own, and reading what they leave."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from launches import Done, launch, launch_and_kill

# A tiny model on 24 frames, with dropout: 6 batches of 4, four epochs.
TINY = [
    "model.backbone.sphere_channels=8", "model.backbone.attn_hidden_channels=8",
    "model.backbone.attn_alpha_channels=4", "model.backbone.attn_value_channels=4",
    "model.backbone.ffn_hidden_channels=8", "model.backbone.edge_channels=8",
    "model.backbone.num_layers=1", "model.backbone.lmax=2", "model.backbone.max_neighbors=8",
    "model.backbone.alpha_drop=0.1", "model.backbone.drop_path_rate=0.1",
    "+data.train_splits.train.first_n=24", "+data.val_splits.val_id.first_n=8",
    "+data.val_splits.val_ood.first_n=8", "data.train_repeats=1", "epochs=4",
    "checkpoint_every_n_steps=7",
]  # fmt: skip
# Fine-tuning takes its model from a checkpoint: 12 frames, 3 batches of 4, four epochs.
TINY_FINETUNING = [
    "+data.train_splits.train.first_n=12", "+data.val_splits.val.first_n=4",
    "+data.val_splits.val_ood.first_n=4", "epochs=4", "checkpoint_every_n_steps=5",
]  # fmt: skip


def overrides(folder: Path, *more: str, config: str) -> list[str]:
    """Of a tiny run that goes to ``folder/sample``."""
    tiny = TINY_FINETUNING if config == "eqv2_finetune" else TINY
    return [f"run_dir={folder}", "run_name=sample", "job.device_type=CPU", *tiny, *more]


def attempt(folder: Path, cache: Path, *more: str, config: str = "eqv2_oc20") -> Done:
    """Run to the end, whatever that is."""
    return launch(config, overrides(folder, *more, config=config), EQV2_CACHE=cache)


def run(folder: Path, cache: Path, *more: str, config: str = "eqv2_oc20") -> str:
    """Run to a good end; returns what was printed."""
    done = attempt(folder, cache, *more, config=config)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "results" / "inference_ckpt.pt"
    # Our own file, written a moment ago; it holds fairchem's checkpoint class.
    checkpoint = torch.load(path, weights_only=False)
    parts = {"model": checkpoint.model_state_dict, "ema": checkpoint.ema_state_dict}
    return {f"{p}.{k}": torch.as_tensor(v) for p, d in parts.items() for k, v in d.items()}


def assert_same_weights(first: Path, second: Path) -> None:
    """Of the results in two run folders, bit for bit, EMA weights included."""
    expected, found = weights(first), weights(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def history(folder: Path) -> list[dict]:
    lines = (folder / "results" / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def run_and_kill(folder: Path, cache: Path, *more: str, config: str, step: int) -> None:
    """Start a run and kill it (SIGKILL) once the checkpoint of ``step`` is complete."""
    checkpoint = folder / "sample" / "checkpoints" / f"step_{step}" / "inference_ckpt.pt"
    settings = overrides(folder, *more, config=config)
    launch_and_kill(config, settings, checkpoint.exists, EQV2_CACHE=cache)
    assert checkpoint.exists()
    assert not (folder / "sample" / "results" / "metrics.json").exists()
