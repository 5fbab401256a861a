"""The published EquiformerV2 files: names, data sets, and what their energies are.

Names are those of fairchem-core 1's list of models; nothing here was read from the files.
"""

from __future__ import annotations

from dataclasses import dataclass

from eqv2_plugin.models.energy_kind import EnergyKind


@dataclass(frozen=True)
class DataSet:
    """A data set: name in tasks, name in words, which energy, functional."""

    task: str
    words: str
    energy_reference: EnergyKind
    functional: str


OC20 = DataSet("oc20", "OC20", EnergyKind.ADSORPTION, "RPBE")
OC22 = DataSet("oc22", "OC22", EnergyKind.TOTAL_LINEAR, "PBE+U")
ODAC = DataSet("odac", "ODAC23", EnergyKind.ADSORPTION, "PBE-D3")
OMAT = DataSet("omat", "OMat24", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U")
OMAT_MP_ALEX = DataSet(
    "omat", "OMat24, then MPtrj and sAlex", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U"
)
MPTRJ = DataSet("mptrj", "MPtrj", EnergyKind.TOTAL_LINEAR, "PBE and PBE+U")

PUBLISHED = {
    "eq2_83M_2M.pt": OC20,
    "eq2_31M_ec4_allmd.pt": OC20,
    "eq2_153M_ec4_allmd.pt": OC20,
    "eq2_121M_e4_f100_oc22_s2ef.pt": OC22,
    "eqv2_31M.pt": ODAC,
    "Equiformer_V2_Large.pt": ODAC,
    "Equiformer_V2_Direct.pt": ODAC,
    "eqV2_31M_omat.pt": OMAT,
    "eqV2_86M_omat.pt": OMAT,
    "eqV2_153M_omat.pt": OMAT,
    "eqV2_31M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_86M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_153M_omat_mp_salex.pt": OMAT_MP_ALEX,
    "eqV2_31M_mp.pt": MPTRJ,
    "eqV2_dens_31M_mp.pt": MPTRJ,
    "eqV2_dens_86M_mp.pt": MPTRJ,
    "eqV2_dens_153M_mp.pt": MPTRJ,
}
