"""Building blocks of EquiformerV2: one concept of the paper per module."""
