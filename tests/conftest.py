"""Settings of all tests."""

import torch

# The tensors of the tests are tiny: further threads would only wait for each other, which on a
# busy machine makes the tests many times slower.
torch.set_num_threads(1)
