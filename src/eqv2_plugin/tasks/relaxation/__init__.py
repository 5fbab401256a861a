"""Relaxing many structures at once, each with an optimizer of ASE."""
