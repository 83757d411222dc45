"""Simulated scores of tokens that are right or wrong, and what the comparison of AUCs by document makes of them."""

from typing import Any

import numpy as np
from scipy import stats

from brf_exp.maths.auc import auc_differences, obuchowski
from calibration.designs import Design, generator

# Correlation of each score with what makes a token right: the candidate, four as good, one worse.
CORRELATIONS = np.array([0.4, 0.4, 0.4, 0.4, 0.4, 0.2])
N_EQUAL = 4
LEVEL = 0.95


def true_auc(correlation: float) -> float:
    """AUC of a score that is bivariate normal with a latent variable above 0 for right tokens."""
    return 0.5 + 2 / np.pi * float(np.arcsin(correlation / np.sqrt(2)))


def simulate_ranks(design: Design, name: str, index: int) -> dict[str, Any]:
    """p-values and intervals of the candidate against scores that are as good and one that is worse."""
    rng = generator(name, index)
    scores, labels, offsets = sample(design, rng)
    found = auc_differences(obuchowski(scores, labels, offsets), confidence_level=LEVEL)
    equal, worse = found[:N_EQUAL], found[N_EQUAL]
    alone = auc_differences(obuchowski(scores[:, : N_EQUAL + 1], labels, offsets), confidence_level=LEVEL)
    assert worse.interval is not None and worse.pvalue is not None
    truth = true_auc(CORRELATIONS[0]) - true_auc(CORRELATIONS[-1])
    return {
        "difference": float(np.mean([_below(one.pvalue) for one in equal])),
        "family": min(one.pvalue_adjusted for one in alone if one.pvalue_adjusted is not None),
        "missed": not worse.interval[0] <= truth <= worse.interval[1],
        "found": worse.pvalue < 1 - LEVEL and worse.difference > 0,
        "tokens": token_rejections(scores[:, : N_EQUAL + 1], labels),
    }


def sample(design: Design, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n, K), half of whose own part is common to them, labels (n,), and the documents."""
    (right, common, *own), _, offsets = design.scores(rng, 2 + CORRELATIONS.size)
    noise = np.sqrt(0.5) * common[:, None] + np.sqrt(0.5) * np.column_stack(own)
    return CORRELATIONS * right[:, None] + np.sqrt(1 - CORRELATIONS**2) * noise, right > 0, offsets


def token_rejections(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of the comparisons of equals that DeLong's test rejects, which takes tokens for independent."""
    found = auc_differences(obuchowski(scores, labels, np.arange(labels.size + 1)), confidence_level=LEVEL)
    limit = stats.norm.ppf((1 + LEVEL) / 2)
    return float(np.mean([one.statistic is not None and abs(one.statistic) > limit for one in found]))


def _below(pvalue: float | None) -> bool:
    return pvalue is not None and pvalue < 1 - LEVEL
