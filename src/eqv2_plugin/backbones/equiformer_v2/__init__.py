"""EquiformerV2."""
