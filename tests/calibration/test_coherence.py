"""Size and power of the Phase Coherence Test's parts on simulated pairs. Fixed seeds; `-m slow` for the full version.

False-positive rates that the package's own tests must have, and those that others must not (negative controls).
"""

from dataclasses import replace

import numpy as np
import pytest

from brf_exp.maths.circular import rayleigh
from brf_exp.maths.coherence import coherence, shift_null
from brf_exp.maths.pairing import Pairing, excess_term
from brf_exp.maths.resampling import ratio_test


def _tests_of(z: np.ndarray) -> tuple[float, float, float]:
    """p-values of the document t, of all circular shifts, and of Rayleigh's test on the raw differences."""
    terms = [excess_term(first, second) for first, second in zip(*z, strict=True)]
    lengths = np.full(len(terms), z.shape[2])
    pairing = Pairing(lengths, np.array([t[0] for t in terms]), np.stack([t[1] for t in terms]))
    document = ratio_test(
        pairing.excess.real, lengths, confidence_level=0.95, n_resamples=9, rng=np.random.default_rng(0)
    )
    raw = rayleigh(np.angle(z[0] * np.conj(z[1])).ravel())
    return document.pvalue, shift_null(pairing).pvalue, raw.pvalue


def _rates(design, n: int, seed: int, residual: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pvalues = [_tests_of(design.phasors(rng, residual)) for _ in range(n)]
    return (np.array(pvalues) < 0.05).mean(axis=0)


@pytest.mark.parametrize("name", ["iid", "AR .9", "AR .6, icc .2"])
def test_size(designs, name: str) -> None:
    document, shift, raw = _rates(designs[name], 200, seed=1)
    assert 0.01 <= document <= 0.11
    assert 0.01 <= shift <= 0.11
    # Independent models, and Rayleigh's test says coherent every time: gaps have a concentrated histogram.
    assert raw > 0.95


def test_power(designs) -> None:
    document, shift, _ = _rates(designs["AR .6, icc .2"], 60, seed=2, residual=0.12)
    assert document > 0.9 and shift > 0.9


def _both_nulls(design, n: int, seed: int, residual: float = 0.0) -> tuple[float, float, float]:
    """Rates at which the shift null, the re-pairing null, and both together with a positive excess reject."""
    rng = np.random.default_rng(seed)
    rejected = []
    for _ in range(n):
        z = design.phasors(rng, residual).reshape(2, -1)
        found, _, _ = coherence(
            z[0], z[1], design.offsets, n_repairings=99, confidence_level=0.95, n_resamples=9, rng=rng
        )
        shift, repairing = found.shift.pvalue < 0.05, found.repairing.pvalue < 0.05
        rejected.append((shift, repairing, shift and repairing and found.excess > 0))
    return tuple(np.array(rejected).mean(axis=0))


def test_repairing_keeps_what_positions_share(designs) -> None:
    """Both models find the start of a text hard: the shift null rejects, the decision of both nulls does not."""
    design = replace(designs["iid"], position=0.25, length=48, n_documents=24)
    shift, repairing, both = _both_nulls(design, 100, seed=3)
    assert shift > 0.9
    assert repairing < 0.11 and both < 0.11


def test_both_nulls_at_no_relation(designs) -> None:
    design = replace(designs["AR .6, icc .2"], length=64, n_documents=24)
    shift, repairing, both = _both_nulls(design, 120, seed=4)
    assert shift < 0.13 and 0 < repairing < 0.11
    assert both < 0.06
    assert _both_nulls(design, 30, seed=5, residual=0.3)[2] > 0.9


def test_interval_covers(designs) -> None:
    """The excess of a true correlation, from one long simulation, lies in about 95 % of the intervals."""
    design = designs["AR .6, icc .2"]
    long = replace(design, n_documents=2000).phasors(np.random.default_rng(6), 0.2)
    truth = np.mean([excess_term(*rows)[0].real for rows in zip(*long, strict=True)]) / design.length
    rng, covered = np.random.default_rng(7), 0
    for _ in range(150):
        z = design.phasors(rng, 0.2)
        sums = np.array([excess_term(*rows)[0].real for rows in zip(*z, strict=True)])
        lengths = np.full(sums.size, design.length)
        found = ratio_test(sums, lengths, confidence_level=0.95, n_resamples=9, rng=rng)
        covered += found.interval[0] <= truth <= found.interval[1]
    assert 0.88 <= covered / 150 <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", ["iid", "AR .9", "AR .6, icc .2"])
def test_size_in_full(designs, band, name: str) -> None:
    document, shift, raw = _rates(replace(designs[name], length=256), 1000, seed=11)
    lower, upper = band(1000)
    assert lower <= document <= upper
    assert lower <= shift <= upper
    assert raw > 0.95


@pytest.mark.slow
def test_both_nulls_in_full(designs, band) -> None:
    """The re-pairing null has its nominal size where positions share nothing and where they share a start; the shift
    null, which does not keep positions, rejects there; the decision of both stays at or below nominal."""
    lower, upper = band(600)
    _, repairing, both = _both_nulls(replace(designs["AR .6, icc .2"], length=64), 600, seed=12)
    assert lower <= repairing <= upper and both <= upper
    shift, repairing, both = _both_nulls(replace(designs["iid"], position=0.25, length=64), 600, seed=13)
    assert shift > 0.9 and lower <= repairing <= upper and both <= upper
