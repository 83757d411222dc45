"""Calibration tests run the simulations of the package `calibration`, fewer of them and on shorter documents."""

from collections.abc import Callable, Iterator

import pytest
from threadpoolctl import threadpool_limits

from calibration import designs


@pytest.fixture(scope="session")
def band() -> Callable[[int], tuple[float, float]]:
    """99.9 % of the rates that a test of size .05 has in n simulations."""
    return designs.band


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices this small are faster without other threads to wait for. Tests of other folders have theirs back."""
    with threadpool_limits(1):
        yield
