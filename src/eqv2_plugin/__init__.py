"""EquiformerV2 and DeNS for fairchem-core 2.

Importing the package registers its classes under the names that fairchem-core 1 used.
Configs and checkpoints name them by their full path, which works without an import.
"""

from eqv2_plugin.backbone import EquiformerV2Backbone
from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset
from eqv2_plugin.heads.conservative import ConservativeHead
from eqv2_plugin.heads.energy import EnergyHead
from eqv2_plugin.heads.forces import ForceHead
from eqv2_plugin.heads.stress import StressHead
from eqv2_plugin.model import EquiformerV2
from eqv2_plugin.version import __version__

__all__ = [
    "ConservativeHead",
    "EnergyHead",
    "EquiformerV2",
    "EquiformerV2Backbone",
    "ForceHead",
    "LmdbDataset",
    "OC22LmdbDataset",
    "StressHead",
    "__version__",
]
