"""Equiformer (version 1)."""
