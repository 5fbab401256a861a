"""fairchem's AdsorbML runner, with its input read here and the model's kind of energy compared.

fairchem itself would unpickle nearly anything, and take any energy for an adsorption energy.
"""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

from fairchem.core import FAIRChemCalculator
from fairchem.core.components.calculate import AdsorbMLRunner

from eqv2_plugin.common.signals import ends_with
from eqv2_plugin.common.text import say
from eqv2_plugin.models.metadata import metadata_of
from eqv2_plugin.tasks.adsorbml.analysis import check_energy_kind
from eqv2_plugin.tasks.adsorbml.input import read_content


class CheckedAdsorbMLRunner(AdsorbMLRunner):
    """fairchem's ``AdsorbMLRunner``, unchanged but for what is checked before.

    Args:
        calculator: fairchem's, of one of our models.
        input_data_path: see `eqv2_plugin.tasks.adsorbml.input`; JSON, too.
        adsorption_energy_model: whether the model predicts adsorption energies.
        **options: of fairchem's runner.

    Raises:
        ValueError: a checkpoint that says that its energies are of another kind, or a bad input.
    """

    def __init__(
        self,
        *,
        calculator: FAIRChemCalculator,
        input_data_path: str,
        adsorption_energy_model: bool,
        **options: Any,
    ) -> None:
        metadata = metadata_of(calculator.predictor.model.module)
        say(check_energy_kind(metadata, adsorption_energy_model))
        content = read_content(Path(input_data_path).expanduser())
        options |= {"calculator": calculator, "adsorption_energy_model": adsorption_energy_model}
        # fairchem opens the file by name; what it finds is what was made here.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "input.pkl"
            path.write_bytes(pickle.dumps(content))
            super().__init__(input_data_path=str(path), **options)

    def run(self) -> Any:
        """As fairchem's; a signal ends it with a line, since nothing of it can be resumed."""
        kept = "fairchem's runner keeps nothing (configs/adsorbml_batched.yml can be resumed)"
        with ends_with(lambda: kept):
            return super().run()
