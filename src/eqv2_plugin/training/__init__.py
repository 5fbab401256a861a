"""What a training run adds to fairchem's: checks, messages, progress and a report."""
