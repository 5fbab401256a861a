"""The data set format ``oc22_lmdb``: total energies, and OC20 joined to them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from fairchem.core.common.registry import registry

from eqv2_plugin.data.lmdb.dataset import LmdbDataset
from eqv2_plugin.data.lmdb.records import Record
from eqv2_plugin.data.references.coefficients import load_coefficients, reference_energy
from eqv2_plugin.unpickling.restricted import restricted_loads

_KINDS = ("all", "adslabs", "slabs")


@registry.register_dataset("oc22_lmdb")
class OC22LmdbDataset(LmdbDataset):
    """OC22 with total energies; OC20 records among them become total, too.

    fairchem-core 1 read ``lin_ref`` and ``data2train`` but used neither for what comes out;
    here both do what its documentation says.

    Args:
        config: as for ``LmdbDataset``, and
            ``lin_ref``: element references (see `load_coefficients`) that are summed
            over the atoms and subtracted from the energies. Not together with
            ``element_references`` of a task, which subtract it as well. fairchem wants it
            in a split's options, not in those of the whole data set;
            ``train_on_oc20_total_energies``, ``oc20_ref``: records of OC20 (without
            ``oc22``) are admitted, and to their energies the reference energy is
            added that this pickle ({"random<sid>": eV}) holds;
            ``data2train``: "all", or only the "adslabs" or the "slabs" of a folder, by the
            lines of its ``*.txt`` (one per record; slabs have "clean" in them).

    Raises:
        FileNotFoundError, ValueError: as ``LmdbDataset``; also unusable references.
    """

    options = (
        *LmdbDataset.options,
        "lin_ref",
        "train_on_oc20_total_energies",
        "oc20_ref",
        "data2train",
    )

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        if bool(config.get("train_on_oc20_total_energies")) != bool(config.get("oc20_ref")):
            raise ValueError(
                "train_on_oc20_total_energies=true and oc20_ref=FILE are set together or not at all"
            )
        self.lin_ref = load_coefficients(config["lin_ref"]) if config.get("lin_ref") else None
        # Read now, so that a bad file shows before the workers start.
        _ = self._oc20_references

    def _selected(self) -> range | np.ndarray:
        kind = self.config.get("data2train", "all")
        if kind not in _KINDS:
            raise ValueError(f"data2train must be one of {', '.join(_KINDS)}, not {kind!r}")
        if kind == "all":
            return super()._selected()
        folder = Path(self.config["src"]).expanduser()
        lists = sorted(folder.glob("*.txt"))
        lines = [line for path in lists for line in path.read_text().splitlines()]
        if len(lines) != len(self.shards):
            raise ValueError(
                f"data2train={kind!r} needs a folder with *.txt files of one line per record; "
                f"{folder} has {len(lines)} lines for {len(self.shards)} records"
            )
        is_slab = np.array(["clean" in line for line in lines])
        return np.flatnonzero(is_slab == (kind == "slabs"))

    @cached_property
    def _oc20_references(self) -> dict[str, float]:
        """{"random<sid>": eV}."""
        path = self.config.get("oc20_ref")
        if not path:
            return {}
        try:
            references = restricted_loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"oc20_ref {path}: {error}") from error
        if not isinstance(references, dict):
            raise ValueError(f'oc20_ref {path} is no pickled dictionary {{"random<sid>": eV}}')
        return references

    def _converted(self, record: Record) -> Record:
        if not record.energies:  # without labels, for prediction
            return record
        if "oc22" not in record.counts:
            self._make_total(record)
        if self.lin_ref is not None:
            reference = reference_energy(self.lin_ref, record.numbers, "it")
            for name in record.energies:
                record.energies[name] -= reference
        return record

    def _make_total(self, record: Record) -> None:
        """Turn a record of OC20 into one like those of OC22."""
        if not self._oc20_references:
            raise ValueError(
                "it is of OC20 (without oc22), whose energies are not total: use format=lmdb, or "
                "set train_on_oc20_total_energies=true and oc20_ref=FILE"
            )
        name = f"random{record.sid}"
        if name not in self._oc20_references:
            raise ValueError(f"oc20_ref {self.config['oc20_ref']} has no {name!r}")
        reference = self._oc20_references[name]
        if type(reference) not in (int, float) or not np.isfinite(reference):
            raise ValueError(f"oc20_ref {self.config['oc20_ref']}: {name!r} is no energy")
        if "y_relaxed" in record.energies:
            # As in fairchem-core 1: IS2RE data of OC22 has neither.
            record.energies.pop("y_init", None)
            record.vectors.pop("forces", None)
        for energy in record.energies:
            record.energies[energy] += reference
        record.counts.update(nads=1, oc22=0)

    def __getstate__(self) -> dict[str, Any]:
        # Some hundred thousand energies: each worker reads them from the file.
        state = super().__getstate__()
        state.pop("_oc20_references", None)
        return state
