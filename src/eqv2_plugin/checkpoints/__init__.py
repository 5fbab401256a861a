"""Bridges from the layouts of published checkpoints."""
