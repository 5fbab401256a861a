"""The trained model as a whole, and what is known about it."""
