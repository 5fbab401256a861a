"""`eqv2_plugin.unpickling.arrays`, under its name from when it read records alone."""

from eqv2_plugin.unpickling.arrays import NumpyArray, read_storage, rebuild_tensor

__all__ = ["NumpyArray", "read_storage", "rebuild_tensor"]
