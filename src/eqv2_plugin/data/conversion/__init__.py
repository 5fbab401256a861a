"""Downloads and other data files, made into the folders that fairchem reads as ``ase_db``."""
