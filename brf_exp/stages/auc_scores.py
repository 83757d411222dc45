"""Does the interference term rank correct tokens above wrong ones, and better than what it is made of?

Correct means: the realised token is the top token of the linear pool at equal weights, one label for all scores. Every
score is fixed in direction in advance: a higher value says "more likely correct".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from brf_exp.config import EvaluationConfig
from brf_exp.maths.auc import AucDifference, ClusteredAuc, auc_differences, obuchowski, within_document_auc
from brf_exp.maths.documents import Offsets
from brf_exp.maths.fusion_rows import FusionRows, PhaseFunction, coherences
from brf_exp.maths.topk import TARGET, KnownTokens
from brf_exp.maths.topk_bounds import accuracy_bounds
from brf_exp.maths.tuning import ScoredRule
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.discrimination_tables import MAX_TABLE_POSITIONS

AUC_CANDIDATE = "interference"
LABEL = "the realised token is the top token of the linear pool at equal weights, among the tokens that the rows list"
NOTE = (
    "An AUC above 0.5 is automatic, since the interference term is made of the logit gaps and gaps predict "
    "correctness: only the differences from the other scores mean something."
)


class AucScores:
    """Collects scores and labels of the first positions, in whole documents, and compares their AUCs by document.

    `own_phases` and `own_scale`: the map's phases at its own scale, untuned.
    """

    def __init__(self, offsets: Offsets, own_phases: PhaseFunction, own_scale: float | None) -> None:
        n_kept = max(int(np.searchsorted(offsets, MAX_TABLE_POSITIONS, side="right")) - 1, 1)
        self._offsets = offsets[: n_kept + 1]
        self._own_phases, self._own_scale = own_phases, own_scale
        self._parts: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
        self._n_open = 0

    def add(self, rows: FusionRows, documents: slice, scored: Mapping[str, ScoredRule]) -> None:
        """Take a chunk of whole documents in."""
        n_kept = self._offsets.size - 1
        if documents.start >= n_kept:
            return
        kept = int(self._offsets[min(documents.stop, n_kept)] - self._offsets[documents.start])
        scores = correctness_scores(rows, coherences(self._own_phases(rows, self._own_scale)))
        correct, is_open = pool_correctness(rows.known)
        # Copies, so that nothing holds on to the rest of the chunk.
        self._parts.append(({name: values[:kept].copy() for name, values in scores.items()}, correct[:kept].copy()))
        self._n_open += int(is_open[:kept].sum())

    def summary(self, evaluation: EvaluationConfig, rng: np.random.Generator) -> dict[str, Any]:
        """What results.json says of the AUCs; null values with a named reason where they do not exist."""
        names = list(self._parts[0][0])
        scores = np.column_stack([np.concatenate([part[name] for part, _ in self._parts]) for name in names])
        labels = np.concatenate([part for _, part in self._parts])
        n_positive = int(labels.sum())
        described = {
            "label": LABEL,
            "note": NOTE,
            "n_positions": labels.size,
            "n_documents": self._offsets.size - 1,
            "n_positive": n_positive,
            "n_negative": labels.size - n_positive,
            "n_open": self._n_open,
            "candidate": AUC_CANDIDATE,
            "adjustment": "holm",
        }
        return {**described, **_inference(names, scores, labels, self._offsets, evaluation, rng)}


def correctness_scores(rows: FusionRows, coherence: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that a correct token should have high values of, (n,) each, the candidate first; `coherence` (P, n).

    `interference`: c B, the sum of the interference term over all tokens, at the middle of B; `coherence`: c alone;
    `max_prob`: the largest probability of the linear pool; `gap_sum`: of all models; `overlap`: B;
    `negative_entropy`: less the models' mean entropy, where entropies are stored. Pairs of models are averaged.
    """
    middle = rows.known.overlaps.mean(axis=1)
    scores = {
        AUC_CANDIDATE: (coherence * middle).mean(axis=0),
        "coherence": coherence.mean(axis=0),
        "max_prob": _pool_scores(rows.known).max(axis=0),
        "gap_sum": rows.gaps.sum(axis=0),
        "overlap": middle.mean(axis=0),
    }
    return scores if rows.entropies is None else {**scores, "negative_entropy": -rows.entropies.mean(axis=0)}


def pool_correctness(known: KnownTokens) -> tuple[np.ndarray, np.ndarray]:
    """Is the realised token the equal-weight linear pool's top token among the listed ones, and could it be another?

    (n,) bool both. A token that some models do not list counts with their probability as 0. What is not correct is
    surely so; what is correct may be open (or tied).
    """
    target, other = _pool_scores(known)
    correct = target >= other
    return correct, correct & ~accuracy_bounds(known, "linear")[0]


def _pool_scores(known: KnownTokens) -> np.ndarray:
    """Linear-pool probability, at least, of the realised token and of the best other one that is listed, (2, n)."""
    shared = np.exp(known.shared).mean(axis=0)
    alone = np.stack([np.exp(own.max(axis=1)) for own in known.own]).max(axis=0) / known.n_models
    return np.stack([shared[:, TARGET], np.maximum(shared[:, 1:].max(axis=1), alone)])


def _inference(
    names: list[str],
    scores: np.ndarray,
    labels: np.ndarray,
    offsets: Offsets,
    evaluation: EvaluationConfig,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUCs (n, K) by document and the candidate's differences, or nulls with the reason."""
    level = evaluation.confidence_level
    try:
        estimate = obuchowski(scores, labels, offsets)
    except UndefinedStatisticError as error:
        return _undefined(names, error.reason)
    candidate = names.index(AUC_CANDIDATE)
    differences = auc_differences(estimate, candidate=candidate, confidence_level=level)
    # A generator for each score: the numbers of one do not depend on which others there are.
    own = [
        {**_auc(estimate, place, level), "within_document": _within(column, labels, offsets, evaluation, generator)}
        for place, (column, generator) in enumerate(zip(scores.T, rng.spawn(len(names)), strict=True))
    ]
    return {
        "scores": dict(zip(names, own, strict=True)),
        "differences": {names[made.reference]: _difference(made) for made in differences},
        "reason": None,
    }


def _undefined(names: list[str], reason: str) -> dict[str, Any]:
    score = dict.fromkeys(("auc", "standard_error", "interval", "within_document"))
    difference = dict.fromkeys(("difference", "standard_error", "interval", "pvalue", "pvalue_adjusted"))
    return {
        "scores": {name: {**score, "reason": reason} for name in names},
        "differences": {name: {**difference, "reason": reason} for name in names if name != AUC_CANDIDATE},
        "reason": reason,
    }


def _auc(estimate: ClusteredAuc, place: int, level: float) -> dict[str, Any]:
    interval = estimate.interval(place, confidence_level=level)
    return {
        "auc": float(estimate.aucs[place]),
        "standard_error": float(estimate.standard_errors[place]),
        "interval": None if interval is None else list(interval),
        "reason": "no variation" if interval is None else None,
    }


def _difference(made: AucDifference) -> dict[str, Any]:
    return {
        "difference": made.difference,
        "standard_error": made.standard_error,
        "interval": None if made.interval is None else list(made.interval),
        "pvalue": made.pvalue,
        "pvalue_adjusted": made.pvalue_adjusted,
        "reason": "no variation" if made.interval is None else None,
    }


def _within(
    column: np.ndarray, labels: np.ndarray, offsets: Offsets, evaluation: EvaluationConfig, rng: np.random.Generator
) -> dict[str, Any]:
    """AUC over pairs within documents; nulls with the reason where fewer than two documents have both classes."""
    try:
        found = within_document_auc(
            np.ascontiguousarray(column),
            labels,
            offsets,
            confidence_level=evaluation.confidence_level,
            n_resamples=evaluation.n_resamples,
            rng=rng,
        )
    except UndefinedStatisticError as error:
        return {"auc": None, "interval": None, "n_documents": None, "n_dropped": None, "reason": error.reason}
    return {
        "auc": found.value,
        "interval": None if found.interval is None else list(found.interval),
        "n_documents": found.n_documents,
        "n_dropped": found.n_dropped,
        "reason": "no variation" if found.interval is None else None,
    }
