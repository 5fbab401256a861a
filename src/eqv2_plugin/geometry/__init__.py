"""Pure functions: irreps layouts, edge frames, Wigner D matrices, sphere grids."""
