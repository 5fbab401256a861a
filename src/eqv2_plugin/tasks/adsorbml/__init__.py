"""AdsorbML: the lowest adsorption energy from many placements (Lan et al. 2023)."""
