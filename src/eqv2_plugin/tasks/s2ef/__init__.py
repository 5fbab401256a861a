"""Energies and forces of whole data sets (S2EF), written as EvalAI files."""
