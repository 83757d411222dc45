"""Simulated designs: latent document effects and AR(1) difficulty, lognormal gaps, independent models."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import signal, stats


@dataclass(frozen=True)
class Design:
    """Documents x positions; `icc` the variance share of a document, `rho` the autocorrelation of the rest."""

    rho: float = 0.0
    icc: float = 0.0
    position: float = 0.0
    n_documents: int = 40
    length: int = 128

    @property
    def offsets(self) -> np.ndarray:
        return np.arange(0, self.n_documents * self.length + 1, self.length)

    def latent(self, rng: np.random.Generator) -> np.ndarray:
        """Standard normal scores (D, T); `position` is the variance share of a ramp that all documents have."""
        noise = rng.standard_normal((self.n_documents, self.length))
        noise[:, 1:] *= np.sqrt(1 - self.rho**2)
        inside = signal.lfilter([1.0], [1.0, -self.rho], noise, axis=1)
        level = rng.standard_normal((self.n_documents, 1))
        ramp = np.linspace(1.7, -1.7, self.length)
        rest = 1 - self.icc - self.position
        return np.sqrt(self.icc) * level + np.sqrt(self.position) * ramp + np.sqrt(rest) * inside

    def phasors(self, rng: np.random.Generator, residual: float = 0.0) -> np.ndarray:
        """Arctan phases of two models (2, D, T); `residual` correlates them position by position."""
        first, second = self.latent(rng), self.latent(rng)
        second = residual * first + np.sqrt(1 - residual**2) * second
        gaps = np.exp(0.5 + 0.9 * np.stack([first, second]))
        return np.exp(2j * np.arctan(gaps / np.exp(0.5)))


DESIGNS = {
    "iid": Design(),
    "AR .9": Design(rho=0.9),
    "AR .6, icc .2": Design(rho=0.6, icc=0.2),
}


@pytest.fixture(scope="session")
def designs() -> dict[str, Design]:
    return DESIGNS


def _band(n: int) -> tuple[float, float]:
    """99.9 % of what a test of size .05 rejects in n simulations."""
    lower, upper = stats.binom.interval(0.999, n, 0.05)
    return lower / n, upper / n


@pytest.fixture(scope="session")
def band() -> Callable[[int], tuple[float, float]]:
    return _band
