"""DeNS: denoising non-equilibrium structures as an auxiliary task."""
