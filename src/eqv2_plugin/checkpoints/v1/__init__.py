"""Checkpoints of fairchem-core 1."""
