"""From a checkpoint to results: predictions, relaxations, AdsorbML."""
