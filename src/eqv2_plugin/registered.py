# ruff: noqa: F401
"""The classes that configs name by what they are registered as: importing this registers them."""

from eqv2_plugin.backbones.equiformer_v2.backbone import EquiformerV2Backbone
from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset
from eqv2_plugin.data.md17 import MD17Dataset
from eqv2_plugin.heads.conservative import ConservativeHead
from eqv2_plugin.heads.energy import EnergyHead
from eqv2_plugin.heads.forces import ForceHead
from eqv2_plugin.heads.stress import StressHead
from eqv2_plugin.models.hydra import EquiformerV2
