"""Models of the Equiformer authors' own code."""
