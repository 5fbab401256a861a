"""Readers of the LMDB data sets of fairchem-core 1 (OC20, OC22), for fairchem-core 2."""

from eqv2_plugin.data.lmdb.dataset import LmdbDataset, lmdb_frames
from eqv2_plugin.data.lmdb.oc22 import OC22LmdbDataset

__all__ = ["LmdbDataset", "OC22LmdbDataset", "lmdb_frames"]
