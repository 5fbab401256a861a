"""Settings of all tests."""

import pytest
import torch

# The tensors of the tests are tiny: further threads would only wait for each other, which on a
# busy machine makes the tests many times slower.
torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: at the end, one process would work and the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
