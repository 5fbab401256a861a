"""fairchem's AdsorbML runner, but its input is read here: fairchem unpickles nearly anything."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

from fairchem.core.components.calculate import AdsorbMLRunner

from eqv2_plugin.evaluation.adsorbml.input import read_content


class CheckedAdsorbMLRunner(AdsorbMLRunner):
    """fairchem's ``AdsorbMLRunner``, unchanged but for the door to its input.

    Args:
        input_data_path: see `eqv2_plugin.evaluation.adsorbml.input`; JSON, too.
        **options: of fairchem's runner.

    Raises:
        FileNotFoundError, ValueError: see `read_content`.
    """

    def __init__(self, *, input_data_path: str, **options: Any) -> None:
        content = read_content(Path(input_data_path).expanduser())
        # fairchem opens the file by name; what it finds is what was made here.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "input.pkl"
            path.write_bytes(pickle.dumps(content))
            super().__init__(input_data_path=str(path), **options)
