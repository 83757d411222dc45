"""AUCs of the interference term: scores and labels against full distributions, inference against scikit-learn."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brf_exp.config import EvaluationConfig
from brf_exp.maths.auc import auc_differences, obuchowski
from brf_exp.maths.documents import offsets_from_lengths
from brf_exp.maths.fusion_rows import FusionRows, coherences, position_phases, zero_phases
from brf_exp.maths.rules import fuse
from brf_exp.maths.topk import known_tokens
from brf_exp.stages.auc_scores import AucScores, correctness_scores, pool_correctness
from brf_exp.storage.runs import to_json

LENGTHS = np.array([4, 60, 9, 23, 31, 6, 17, 12, 44, 28, 8, 15])
OFFSETS = offsets_from_lengths(LENGTHS)
N, V, SCALE = int(OFFSETS[-1]), 9, 0.8
EVALUATION = EvaluationConfig(n_resamples=99)
REFERENCES = ["coherence", "max_prob", "gap_sum", "overlap", "negative_entropy"]
Rows = Callable[..., FusionRows]


def _log_p(n_models: int) -> np.ndarray:
    """Models that share a part, (M, n, V)."""
    shared = np.random.default_rng(1).normal(0, 1, (N, V))
    logits = shared + np.random.default_rng(2).normal(0, 1.2, (n_models, N, V))
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


def _targets() -> np.ndarray:
    """Realised tokens that the pool of two models often has on top."""
    return np.argmax(_log_p(2).mean(axis=0) + np.random.default_rng(4).gumbel(0, 0.7, (N, V)), axis=1)


def _rows(n_models: int = 2, k: int = V) -> FusionRows:
    log_p, targets = _log_p(n_models), _targets()
    order = np.argsort(-log_p, axis=2)[:, :, :k]
    known = known_tokens(
        list(order),
        list(np.take_along_axis(log_p, order, axis=2)),
        target_ids=targets,
        target_log_p=log_p[:, np.arange(N), targets],
        complete=k == V,
    )
    best = np.sort(log_p, axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    entropies = -(np.exp(log_p) * log_p).sum(axis=2)
    return FusionRows(known, gaps, gaps, gaps, gaps, gaps, OFFSETS, entropies=entropies)


@pytest.fixture(scope="module")
def rows_of() -> Rows:
    made = {(m, k): _rows(m, k) for m in (2, 3) for k in (3, V)}
    return lambda n_models=2, k=V: made[n_models, k]


def _part(rows: FusionRows, first: int, last: int) -> FusionRows:
    taken = rows.take(np.arange(rows.offsets[first], rows.offsets[last]))
    return replace(taken, offsets=rows.offsets[first : last + 1] - rows.offsets[first])


def _summary(rows: FusionRows, *, n_documents: int = 99, seed: int = 0, phases: Any = None) -> dict[str, Any]:
    """The stage's summary of rows taken in so many documents at a time."""
    made = AucScores(rows.offsets, phases or position_phases("arctan"), SCALE)
    last = rows.offsets.size - 1
    for first in range(0, last, n_documents):
        documents = slice(first, min(first + n_documents, last))
        made.add(_part(rows, documents.start, documents.stop), documents, {})
    return made.summary(EVALUATION, np.random.default_rng(seed))


def _scores(rows: FusionRows) -> dict[str, np.ndarray]:
    return correctness_scores(rows, coherences(position_phases("arctan")(rows, SCALE)))


@pytest.mark.parametrize("n_models", [2, 3])
def test_scores_against_full_distributions(rows_of: Rows, n_models: int) -> None:
    rows, p = rows_of(n_models), np.exp(_log_p(n_models))
    found = _scores(rows)
    assert list(found) == ["interference", *REFERENCES]
    for n in range(0, N, 7):
        phi = [2 * np.arctan(gap / SCALE) for gap in rows.gaps[:, n]]
        pairs = [(i, j) for i in range(n_models) for j in range(i + 1, n_models)]
        overlaps = [sum(np.sqrt(p[i, n, t] * p[j, n, t]) for t in range(V)) for i, j in pairs]
        cosines = [np.cos(phi[i] - phi[j]) for i, j in pairs]
        expected = {
            "interference": np.mean([c * b for c, b in zip(cosines, overlaps, strict=True)]),
            "coherence": np.mean(cosines),
            "max_prob": p[:, n].mean(axis=0).max(),
            "gap_sum": sum(np.diff(np.sort(np.log(p[model, n])))[-1] for model in range(n_models)),
            "overlap": np.mean(overlaps),
            "negative_entropy": np.mean([p[model, n] @ np.log(p[model, n]) for model in range(n_models)]),
        }
        # What is known of B is known up to the root of a rounding.
        assert {name: values[n] for name, values in found.items()} == pytest.approx(expected, abs=2e-7)


def test_interference_is_all_that_the_phases_add(rows_of: Rows) -> None:
    """Without normalisation Born Rule Fusion of two models has 1 + c B in place of 1."""
    phi, log_p = position_phases("arctan")(rows_of(), SCALE), _log_p(2)
    added = fuse("brf", log_p, phases_rad=phi).normaliser - 1
    np.testing.assert_allclose(_scores(rows_of())["interference"], added, atol=2e-7)


@pytest.mark.parametrize("n_models", [2, 3])
def test_labels_against_full_distributions(rows_of: Rows, n_models: int) -> None:
    exact = np.exp(_log_p(n_models)).mean(axis=0).argmax(axis=1) == _targets()
    assert 0.2 < exact.mean() < 0.8
    correct, is_open = pool_correctness(rows_of(n_models).known)
    np.testing.assert_array_equal(correct, exact)
    if n_models == 2:
        assert not is_open.any()
    correct, is_open = pool_correctness(rows_of(n_models, 3).known)
    np.testing.assert_array_equal(correct[~is_open], exact[~is_open])
    assert correct[is_open].all()
    # Open positions exist, and some of them are wrong.
    assert 0 < (correct & ~exact).sum() < is_open.sum() < N / 2


def test_a_token_that_one_model_alone_lists_can_win() -> None:
    """The realised token has 0.2 in the pool; token 7, listed by the first model, 0.45 or more."""
    p = np.array([[0.9, 0.05], [0.5, 0.2]])
    known = known_tokens(
        [np.array([[7, 1]]), np.array([[2, 3]])],
        list(np.log(p)[:, None]),
        target_ids=np.array([5]),
        target_log_p=np.log([[0.04], [0.36]]),
    )
    assert pool_correctness(known) == (np.array([False]), np.array([False]))


def test_values_against_scikit_learn(rows_of: Rows) -> None:
    found, rows = _summary(rows_of()), rows_of()
    label = np.exp(_log_p(2)).mean(axis=0).argmax(axis=1) == _targets()
    scores = _scores(rows)
    assert (found["n_positions"], found["n_documents"], found["n_open"]) == (N, 12, 0)
    assert (found["n_positive"], found["n_negative"]) == (label.sum(), (~label).sum())
    assert found["reason"] is None and set(found["scores"]) == set(scores)
    for name, made in found["scores"].items():
        assert made["auc"] == pytest.approx(roc_auc_score(label, scores[name]), abs=1e-12)
        low, high = made["interval"]
        assert low < made["auc"] < high and made["reason"] is None
        pairs, concordant = 0, 0.0
        for start, stop in zip(OFFSETS[:-1], OFFSETS[1:], strict=True):
            own = label[start:stop]
            if own.any() and not own.all():
                pairs += own.sum() * (~own).sum()
                concordant += own.sum() * (~own).sum() * roc_auc_score(own, scores[name][start:stop])
        assert made["within_document"]["auc"] == pytest.approx(concordant / pairs)
        assert made["within_document"]["n_documents"] + made["within_document"]["n_dropped"] == 12
    assert list(found["differences"]) == REFERENCES


def test_differences_are_interference_minus_reference(rows_of: Rows) -> None:
    found, scores = _summary(rows_of()), _scores(rows_of())
    label = pool_correctness(rows_of().known)[0]
    columns = np.column_stack([scores[name] for name in REFERENCES[::-1]] + [scores["interference"]])
    expected = auc_differences(obuchowski(columns, label, OFFSETS), candidate=5, confidence_level=0.95)
    for name, made in zip(REFERENCES[::-1], expected, strict=True):
        got = found["differences"][name]
        assert got["difference"] == pytest.approx(
            found["scores"]["interference"]["auc"] - found["scores"][name]["auc"], abs=1e-12
        )
        assert (got["pvalue"], got["pvalue_adjusted"]) == pytest.approx((made.pvalue, made.pvalue_adjusted))
        assert got["interval"] == pytest.approx(made.interval)
        assert got["reason"] is None


@pytest.mark.parametrize("n_models", [2, 3])
def test_chunks_change_no_digit(rows_of: Rows, n_models: int) -> None:
    whole = to_json(_summary(rows_of(n_models, 3)))
    assert json.loads(whole)["n_open"] > 0
    for n_documents in (1, 5):
        assert to_json(_summary(rows_of(n_models, 3), n_documents=n_documents)) == whole


def test_the_first_positions_in_whole_documents(rows_of: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = to_json(_summary(_part(rows_of(2, 3), 0, 7)))
    monkeypatch.setattr("brf_exp.stages.auc_scores.MAX_TABLE_POSITIONS", int(OFFSETS[8]) - 1)
    for n_documents in (1, 5, 99):
        assert to_json(_summary(rows_of(2, 3), n_documents=n_documents)) == expected


def test_one_long_document_is_kept_whole(rows_of: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brf_exp.stages.auc_scores.MAX_TABLE_POSITIONS", 3)
    found = _summary(rows_of())
    assert (found["n_positions"], found["n_documents"], found["reason"]) == (LENGTHS[0], 1, "documents")


def test_seeds(rows_of: Rows) -> None:
    """Document lengths vary so much that intervals within documents are bootstrapped."""
    first, again, other = (_summary(rows_of(), seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["scores"]["overlap"]["within_document"] != other["scores"]["overlap"]["within_document"]
    assert first["differences"] == other["differences"]


def test_without_entropies(rows_of: Rows) -> None:
    found, with_entropies = _summary(replace(rows_of(), entropies=None)), _summary(rows_of())
    assert list(found["scores"]) == ["interference", *REFERENCES[:-1]]
    assert list(found["differences"]) == REFERENCES[:-1]
    for name in found["scores"]:
        assert found["scores"][name]["auc"] == with_entropies["scores"][name]["auc"]


def test_scores_that_rank_alike_differ_by_nothing(rows_of: Rows) -> None:
    """Without phases c is 1, and the interference term is B."""
    found = _summary(rows_of(), phases=zero_phases)
    assert found["differences"]["overlap"] == {
        "difference": 0.0,
        "standard_error": 0.0,
        "interval": None,
        "pvalue": None,
        "pvalue_adjusted": None,
        "reason": "no variation",
    }
    constant = found["scores"]["coherence"]
    assert (constant["auc"], constant["interval"], constant["reason"]) == (0.5, None, "no variation")
    assert constant["within_document"]["auc"] == 0.5
    assert constant["within_document"]["reason"] == "no variation"
    assert found["differences"]["max_prob"]["pvalue"] is not None


def _realised(rows: FusionRows, targets: np.ndarray) -> FusionRows:
    """Rows of whole vocabularies in which other tokens are realised."""
    log_p = _log_p(2)
    order = np.argsort(-log_p, axis=2)
    ranked = list(np.take_along_axis(log_p, order, axis=2))
    exact = log_p[:, np.arange(N), targets]
    known = known_tokens(list(order), ranked, target_ids=targets, target_log_p=exact, complete=True)
    return replace(rows, known=known)


def _assert_null(found: dict[str, Any], reason: str) -> None:
    assert found["reason"] == reason
    for made in [*found["scores"].values(), *found["differences"].values()]:
        assert made.pop("reason") == reason
        assert set(made.values()) == {None}


def test_one_class_and_one_document_are_null_with_a_reason(rows_of: Rows) -> None:
    top = np.exp(_log_p(2)).mean(axis=0).argmax(axis=1)
    for targets, n_positive in ((top, N), ((top + 1) % V, 0)):
        found = _summary(_realised(rows_of(), targets))
        assert (found["n_positive"], found["n_negative"]) == (n_positive, N - n_positive)
        _assert_null(found, "one class")
    _assert_null(_summary(_part(rows_of(), 1, 2)), "documents")
    only_first = np.where(np.arange(N) < 3, top, (top + 1) % V)
    _assert_null(_summary(_realised(rows_of(), only_first)), "documents")


def test_documents_of_one_class_each_have_no_auc_within(rows_of: Rows) -> None:
    top = np.exp(_log_p(2)).mean(axis=0).argmax(axis=1)
    even = np.repeat(np.arange(12) % 2 == 0, LENGTHS)
    found = _summary(_realised(rows_of(), np.where(even, top, (top + 1) % V)))
    assert found["reason"] is None and found["n_positive"] == even.sum()
    for made in found["scores"].values():
        assert made["auc"] is not None and made["interval"] is not None
        within = made["within_document"]
        assert (within["auc"], within["interval"], within["reason"]) == (None, None, "documents")
