"""Labels that belong to a checkpoint, and labels that do not, before it is fine-tuned."""
