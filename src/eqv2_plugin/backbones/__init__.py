"""Backbones: what turns a batch of structures into node embeddings."""
