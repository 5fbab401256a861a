"""Where a measured number starts to matter, and why there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Good up to ``good``, bad beyond ``bad``, something to look at between them."""

    good: float
    bad: float


# Largest change of a force under rotation, relative to the largest force. The S2 grids are exact
# up to their resolution only: with the paper's R the error stays below 2e-2 in
# docs/equivariance.md, and reaches 1e-1 for a grid that is too coarse (L = 4, R = 10).
ROTATION_FORCES = Limits(good=2e-2, bad=1e-1)
# The same of the stress. The direct stress head of published models changes by 0.5 to 1.7 at 90
# degrees; a stress that is the energy's derivative errs as the forces do.
ROTATION_STRESS = Limits(good=2e-2, bad=1e-1)
# Change of an energy, meV per atom. The best published models err by about 10 meV per atom on
# their own test sets: a tenth of it is not seen, and all of it spoils the model.
ENERGY_CHANGE = Limits(good=1.0, bad=10.0)
# Relative change of forces where only rounding should differ (permutation, batch). Measured on
# our models in float32: below 1e-6 (docs/doctor.md); 1e-2 is beyond any rounding.
ROUNDING = Limits(good=1e-4, bad=1e-2)
# The same for a translation with images, up to 100 Å away, where float32 positions are rounded to
# 4e-6 Å: 1e-4 measured.
TRANSLATION = Limits(good=1e-3, bad=1e-2)
# Same input twice. Nothing, or the rounding of a GPU's atomic additions.
REPEAT = Limits(good=0.0, bad=1e-4)
# |sum of forces| / atoms, relative to the mean |force|. Independent errors of 10 % on 20 atoms
# leave 2 %; 10 % left is an error that all atoms share, and pushes the structure as a whole.
NET_FORCE = Limits(good=2e-2, bad=1e-1)
# |J - J^T| / |J + J^T| of the force Jacobian; 0 for a gradient, 1 for a random matrix.
# For a gradient only the finite differences err; the limits for direct forces are ours: at 2 %
# a short NVE run does not show it, at 20 % the field is no gradient in any useful sense.
JACOBIAN_GRADIENT = Limits(good=1e-3, bad=1e-2)
JACOBIAN_DIRECT = Limits(good=2e-2, bad=2e-1)
# |F + dE/dx| / |F|. The same reasoning; at 1 forces and energy have nothing to do with each other.
GRADIENT = Limits(good=1e-3, bad=1e-2)
GRADIENT_DIRECT = Limits(good=5e-2, bad=1.0)
# meV per moving atom and ps. A harmonic solid holds 3 kT = 78 meV per atom at 300 K: 5 of it is
# 20 K per ps, 50 is 190 K per ps, which no thermostat hides.
NVE_DRIFT = Limits(good=5.0, bad=50.0)
