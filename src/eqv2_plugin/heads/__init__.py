"""Output heads: energy, direct forces, stress, and gradients of the energy."""
