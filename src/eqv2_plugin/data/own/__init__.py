"""Anybody's frames made ready for training: labels found, parts chosen, references fitted."""
