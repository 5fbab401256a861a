"""Hydra groups that the recipes of Equiformer (version 1) have beside the others, or instead."""
