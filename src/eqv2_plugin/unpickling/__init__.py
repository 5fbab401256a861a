"""Unpickling that runs nothing: the one place, with three whitelists.

A pickle names the functions that it wants called. Of checkpoints (`restricted.checkpoint_classes`)
torch's own restricted unpickler makes tensors and a few classes of fairchem and OmegaConf; of
records of LMDB data sets (`restricted.RECORDS`) and of AdsorbML's input (`restricted.SLABS`) each
admitted name leads to code of our own, which holds data. Any other name is refused before it is
imported.
"""
