"""What the predictor of whole batches refuses."""

from __future__ import annotations

import pytest
import torch
from native_checkpoints import write_checkpoint

from eqv2_plugin.inference.predictor import BatchPredictor, open_unit


def test_no_structures_are_refused_in_words(tmp_path):
    unit = open_unit(write_checkpoint(tmp_path / "tiny.pt", "direct"), "cpu", torch.float32)
    with pytest.raises(ValueError, match="there are no structures to predict"):
        BatchPredictor(unit, "oc20")([])
