"""`eqv2_plugin.unpickling`, under its name from when it read records alone."""

from eqv2_plugin.unpickling.restricted import restricted_loads
from eqv2_plugin.unpickling.whitelists import PickledObject

__all__ = ["PickledObject", "restricted_loads"]
