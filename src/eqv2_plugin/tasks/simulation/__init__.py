"""Molecular dynamics of small molecules, many replicas at once, and what tells of their quality."""
