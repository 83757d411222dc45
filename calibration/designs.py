"""Simulated pairs in which it is known what the models share: latent difficulty in, lognormal gaps out."""

import zlib
from dataclasses import dataclass, replace

import numpy as np
from scipy import signal, stats

from brf_exp.maths.documents import Offsets, offsets_from_lengths, positions_within, spread
from brf_exp.maths.resampling import coefficient_of_variation

SEED = 20260302
# Documents of a ragged design are lognormal, and drawn again until they are as ragged as the design claims.
LOG_LENGTH_MEAN, LOG_LENGTH_SD, SHORTEST, LONGEST, RAGGED = 4.9, 0.8, 20, 1500, 0.5
START_POSITIONS = 5


@dataclass(frozen=True)
class Sample:
    """Gaps (M, n) of M models on the same tokens, and what a difficulty proxy says of each token (n,)."""

    gaps: np.ndarray
    proxy: np.ndarray
    offsets: Offsets

    @property
    def n_documents(self) -> int:
        """Number of documents."""
        return self.offsets.size - 1


@dataclass(frozen=True)
class Design:
    """What the normal scores of independent models are made of.

    `rho` autocorrelation within documents; shares of the variance: `icc` a model's own document level, `document` a
    document level that models share, `position` a ramp over the document that they share, `token` a difficulty of
    each token that they share. `start`: standard deviations by which the first five positions of every document are
    harder for all models. `residual`: correlation, position by position, of what is left. `reliability` of the proxy
    for the shared difficulty. `lattice`: step (logits) that gaps are rounded to, as bf16 logits are. `ragged`:
    lognormal document lengths that vary by more than half their mean.
    """

    rho: float = 0.0
    icc: float = 0.0
    document: float = 0.0
    position: float = 0.0
    start: float = 0.0
    token: float = 0.0
    residual: float = 0.0
    reliability: float = 1.0
    lattice: float = 0.0
    n_documents: int = 40
    length: int = 256
    ragged: bool = False

    def sample(self, rng: np.random.Generator, n_models: int = 2) -> Sample:
        """One simulated corpus seen by `n_models` models."""
        scores, difficulty, offsets = self.scores(rng, n_models)
        gaps = np.exp(0.5 + 0.9 * scores)
        if self.lattice:
            gaps = self.lattice * np.round(gaps / self.lattice)
        noise = rng.standard_normal(difficulty.size)
        proxy = np.sqrt(self.reliability) * difficulty + np.sqrt(1 - self.reliability) * noise
        return Sample(gaps, proxy, offsets)

    def scores(self, rng: np.random.Generator, n_models: int) -> tuple[np.ndarray, np.ndarray, Offsets]:
        """Standard normal scores (M, n), the tokens' shared difficulty (n,), and the documents."""
        offsets = offsets_from_lengths(self._lengths(rng))
        shared, difficulty = self._shared(offsets, rng)
        own = 1.0 - self.icc - self.document - self.position - self.token
        rest = [self._autocorrelated(offsets, rng) for _ in range(n_models)]
        rest[1:] = [self.residual * rest[0] + np.sqrt(1 - self.residual**2) * other for other in rest[1:]]
        levels = [_levels(offsets, rng) for _ in range(n_models)]
        scores = [
            shared + np.sqrt(self.icc) * level + np.sqrt(own) * other for level, other in zip(levels, rest, strict=True)
        ]
        return np.stack(scores), difficulty, offsets

    def _lengths(self, rng: np.random.Generator) -> np.ndarray:
        if not self.ragged:
            return np.full(self.n_documents, self.length)
        while True:
            drawn = rng.lognormal(LOG_LENGTH_MEAN, LOG_LENGTH_SD, self.n_documents)
            lengths = np.clip(drawn, SHORTEST, LONGEST).astype(np.int64)
            if coefficient_of_variation(lengths) > RAGGED:
                return lengths

    def _shared(self, offsets: Offsets, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """What models share in all, and the tokens' difficulty that a proxy can see, both (n,)."""
        difficulty = self._autocorrelated(offsets, rng)
        place = positions_within(offsets)
        ramp = np.sqrt(3) * (1 - 2 * (place + 0.5) / spread(np.diff(offsets), offsets))
        shared = np.sqrt(self.document) * _levels(offsets, rng) + np.sqrt(self.position) * ramp
        return shared + np.sqrt(self.token) * difficulty - self.start * (place < START_POSITIONS), difficulty

    def _autocorrelated(self, offsets: Offsets, rng: np.random.Generator) -> np.ndarray:
        """Standard normal AR(1) within documents, (n,)."""
        lengths = np.diff(offsets)
        noise = rng.standard_normal((lengths.size, int(lengths.max())))
        noise[:, 1:] *= np.sqrt(1 - self.rho**2)
        scores = signal.lfilter([1.0], [1.0, -self.rho], noise, axis=1)
        return np.asarray(scores[np.arange(scores.shape[1]) < lengths[:, None]])


# Own document levels and autocorrelation of the designs that are about something else.
PLAIN = Design(rho=0.6, icc=0.2)
SHARED = Design(rho=0.6, icc=0.1)
DESIGNS = {
    "iid": Design(),
    "AR .6": Design(rho=0.6),
    "AR .9": Design(rho=0.9),
    "AR .6, icc .2": PLAIN,
    "AR .9, icc .2": Design(rho=0.9, icc=0.2),
    "AR .6, icc .2, 20 documents": replace(PLAIN, n_documents=20),
    "ragged, 20 documents": replace(PLAIN, n_documents=20, ragged=True),
    "ragged, 40 documents": replace(PLAIN, ragged=True),
    "tied gaps": replace(PLAIN, lattice=0.125),
    "shared document .2": replace(SHARED, document=0.2),
    "shared position .1": replace(SHARED, position=0.1),
    "shared hard start": replace(SHARED, start=2.0),
    "shared token .3": replace(SHARED, token=0.3),
    "shared token .5": replace(SHARED, token=0.5),
    "all shared": replace(SHARED, document=0.2, position=0.1, token=0.3),
}


def _levels(offsets: Offsets, rng: np.random.Generator) -> np.ndarray:
    """One standard normal per document on each of its rows, (n,)."""
    return spread(rng.standard_normal(offsets.size - 1), offsets)


def generator(name: str, index: int) -> np.random.Generator:
    """The Generator of one simulation: neither the order nor the number of others changes it."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode()), index])


def band(n: int, *, level: float = 0.999, size: float = 0.05) -> tuple[float, float]:
    """The rates that a test of this size has in n simulations with probability `level`."""
    lower, upper = stats.binom.interval(level, n, size)
    return float(lower / n), float(upper / n)
