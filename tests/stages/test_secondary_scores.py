"""Secondary scores from top-k rows against those of full distributions, and however rows are cut."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from brf_exp.config import EvaluationConfig
from brf_exp.maths.calibration_error import calibration_error
from brf_exp.maths.fusion_rows import FusionRows
from brf_exp.maths.recalibration import TEMPERATURES
from brf_exp.maths.rules import fuse
from brf_exp.maths.specs import (
    CANDIDATE,
    GATE,
    RIVAL,
    RuleSpec,
    brf_spec,
    control_specs,
    phase_free_specs,
    untuned_specs,
)
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.topk_votes import vote_losses, votes
from brf_exp.maths.tuning import Folds, ScoredRule, TunedRule, score, untuned
from brf_exp.stages import secondary_scores
from brf_exp.stages.secondary_results import secondary_summary
from brf_exp.stages.secondary_scores import SecondaryScores

LENGTH, D, V = 10, 24, 7
N = LENGTH * D
OFFSETS = np.arange(0, N + 1, LENGTH)
FOLDS = Folds(np.arange(D) % 3, dict.fromkeys(range(3), 1.0))
TUNED_TEMPERATURES = (1.0, 0.5, 2.0)
EVALUATION = EvaluationConfig(n_resamples=99)
SPECS = [
    brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None),
    *phase_free_specs(2, complete=True),
    *control_specs("arctan", 1.3, n_models=2, default_scale=None),
    *untuned_specs(2, has_entropies=True),
]
RATES = {fold: {"hit_rate_disagree": 0.2 + 0.05 * fold, "hit_rate_agree": 0.5 + 0.1 * fold} for fold in range(3)}


def _log_p(temperature: float = 1.0, n_models: int = 2) -> np.ndarray:
    logits = np.random.default_rng(n_models).normal(0, 1.5, (n_models, N, V))
    logits[1:] += logits[0]
    logits /= temperature
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


def _known(k: int, temperature: float, n_models: int) -> KnownTokens:
    log_p = _log_p(temperature, n_models)
    drawn = np.random.default_rng(5).random((N, 1))
    targets = np.minimum((np.exp(_log_p(1.0, n_models)[0]).cumsum(axis=1) < drawn).sum(axis=1), V - 1)
    order = np.argsort(-log_p, axis=2)[:, :, :k]
    ranked = list(np.take_along_axis(log_p, order, axis=2))
    exact = log_p[:, np.arange(N), targets]
    return known_tokens(list(order), ranked, target_ids=targets, target_log_p=exact, complete=k == V, vocabulary_size=V)


def _rows(k: int, n_models: int = 2) -> FusionRows:
    best = np.sort(_log_p(1.0, n_models), axis=2)
    gaps = best[:, :, -1] - best[:, :, -2]
    return FusionRows(
        known=_known(k, 1.0, n_models),
        gaps=gaps,
        shifted_gaps=gaps[:, ::-1],
        ranks=gaps,
        shifted_ranks=gaps,
        random_phases=np.random.default_rng(6).uniform(0, 2 * np.pi, (n_models, N)),
        offsets=OFFSETS,
        entropies=-(np.exp(best) * best).sum(axis=2),
        at_temperatures={t: _known(k, t, n_models) for t in TUNED_TEMPERATURES[1:]},
    )


@pytest.fixture(scope="module")
def rows_of() -> Callable[[int], FusionRows]:
    made = {k: _rows(k) for k in (3, V)}
    return made.__getitem__


def _tuned(spec: RuleSpec) -> TunedRule:
    """Parameters and temperatures of their own in every fold."""
    if not spec.candidates:
        return untuned(spec)
    chosen = [spec.candidates[place] for place in (13, 16, 33)]
    return TunedRule(
        spec, {f: {**p, "temperature": t} for f, (p, t) in enumerate(zip(chosen, TUNED_TEMPERATURES, strict=True))}
    )


VOTE = TunedRule(RuleSpec("majority_vote", RIVAL, None, lambda rows, given: None, {}), RATES)  # type: ignore[arg-type, return-value]
TUNED = {**{spec.name: _tuned(spec) for spec in SPECS}, "majority_vote": VOTE}


def _scored(rows: FusionRows, documents: slice) -> dict[str, ScoredRule]:
    fold = FOLDS.of_document[documents]
    found = {name: score(tuned, rows, fold) for name, tuned in TUNED.items() if name != "majority_vote"}
    ballot, of_row = votes(rows.known), np.repeat(fold, LENGTH)
    rates = np.array([list(RATES[f].values()) for f in range(3)])[of_row, ballot.agree.astype(int)]
    found["majority_vote"] = ScoredRule(VOTE, vote_losses(rows.known, ballot, hit_rate=rates), None, fold)
    return found


def _cut(rows: FusionRows, documents: slice) -> FusionRows:
    offsets = OFFSETS[documents.start : documents.stop + 1]
    return replace(rows.take(np.arange(offsets[0], offsets[-1])), offsets=offsets - offsets[0])


def _collected(rows: FusionRows, n_documents: int = D, **options: Any) -> SecondaryScores:
    scores = SecondaryScores(OFFSETS, TUNED, FOLDS, **options)
    for first in range(0, D, n_documents):
        documents = slice(first, min(first + n_documents, D))
        chunk = _cut(rows, documents)
        scores.add(chunk, documents, _scored(chunk, documents))
    return scores


def _full(name: str, rows: FusionRows) -> np.ndarray:
    """The whole fused distribution of a rule, (n, V), by its definition."""
    tuned, q = TUNED[name], np.empty((N, V))
    of_row = np.repeat(FOLDS.of_document, LENGTH)
    for fold in range(3):
        mine = np.flatnonzero(of_row == fold)
        parameters = tuned.parameters[fold] if len(tuned.parameters) > 1 else tuned.parameters[-1]
        log_p = _log_p(parameters.get("temperature", 1.0))[:, mine]
        given = {k: v for k, v in parameters.items() if k not in ("weight", "temperature", "scale")}
        weights = np.array([parameters.get("weight", 0.5), 1 - parameters.get("weight", 0.5)])
        if name.startswith("model_"):
            q[mine] = np.exp(log_p["ab".index(name[-1])])
        elif name == "majority_vote":
            agree = log_p[0].argmax(axis=1) == log_p[1].argmax(axis=1)
            for voted in (False, True):
                rate = given["hit_rate_agree" if voted else "hit_rate_disagree"]
                q[mine[agree == voted]] = fuse("majority_vote", log_p[:, agree == voted], hit_rate=rate).p
        elif tuned.spec.rule is None:
            confidence = {
                "route_max_prob": log_p.max(axis=2),
                "route_gap": rows.gaps[:, mine],
                "route_entropy": -rows.entropies[:, mine],
                "oracle": rows.known.target[:, mine],
            }[name]
            q[mine] = fuse("routing", log_p, confidence=confidence).p
        else:
            if tuned.spec.phases is not None:
                given["phases_rad"] = tuned.spec.phases(rows.take(mine), parameters.get("scale"))
            q[mine] = fuse(tuned.spec.rule, log_p, weights=weights, **given).p
    return q


def _brier(q: np.ndarray, targets: np.ndarray) -> float:
    wanted = np.eye(V)[targets]
    return float(((q - wanted) ** 2).sum(axis=1).mean())


@pytest.fixture(scope="module")
def whole(rows_of: Callable[[int], FusionRows]) -> tuple[SecondaryScores, dict[str, Any]]:
    scores = _collected(rows_of(V))
    return scores, secondary_summary(scores, EVALUATION, np.random.default_rng(1))


@pytest.fixture(scope="module")
def few(rows_of: Callable[[int], FusionRows]) -> tuple[SecondaryScores, dict[str, Any]]:
    scores = _collected(rows_of(3))
    return scores, secondary_summary(scores, EVALUATION, np.random.default_rng(1))


@pytest.mark.parametrize("name", list(TUNED))
def test_whole_vocabularies_give_the_exact_scores(
    rows_of: Callable[[int], FusionRows], whole: tuple[SecondaryScores, dict[str, Any]], name: str
) -> None:
    rows, (_, summary) = rows_of(V), whole
    q, targets = _full(name, rows), rows.known.shared_ids[:, 0]
    found = summary["rules"][name]
    assert found["missing"] == {}
    np.testing.assert_allclose(found["brier"], [_brier(q, targets)] * 2, rtol=0, atol=1e-9)
    right = q.argmax(axis=1) == targets
    # Votes have equal confidences at many positions, up to what normalising a whole distribution does to them.
    expected = calibration_error(
        q.max(axis=1).round(12), right, OFFSETS, confidence_level=0.95, n_resamples=9, rng=np.random.default_rng(0)
    )
    calibration = found["calibration_error"]
    assert calibration["expected"] == pytest.approx(expected.expected.value, abs=1e-8)
    assert calibration["squared"] == pytest.approx(expected.squared.value, abs=1e-8)
    assert calibration["plug_in"] == pytest.approx(expected.plug_in, abs=1e-8)
    assert calibration["bins"]["counts"] == expected.table.counts.tolist()
    losses = np.stack([_tempered_losses(q, targets, t) for t in TEMPERATURES])
    by_document = losses.reshape(len(TEMPERATURES), D, LENGTH).sum(axis=2)
    total, temperatures = 0.0, []
    for fold in range(3):
        mine = FOLDS.of_document == fold
        best = int(by_document[:, ~mine].sum(axis=1).argmin())
        temperatures.append(TEMPERATURES[best])
        total += by_document[best, mine].sum()
    assert found["recalibrated"]["temperatures"] == temperatures
    assert found["recalibrated"]["log_loss_nats"] == pytest.approx(total / N, abs=1e-7)
    at_one = float(-np.log(q[np.arange(N), targets]).mean())
    assert found["recalibrated"]["at_temperature_1_nats"] == pytest.approx(at_one, abs=1e-7)


def _tempered_losses(q: np.ndarray, targets: np.ndarray, temperature: float) -> np.ndarray:
    tempered = q ** (1 / temperature)
    return -np.log(tempered[np.arange(N), targets] / tempered.sum(axis=1))


@pytest.mark.parametrize("name", list(TUNED))
def test_a_few_rows_contain_the_exact_scores(
    rows_of: Callable[[int], FusionRows],
    whole: tuple[SecondaryScores, dict[str, Any]],
    few: tuple[SecondaryScores, dict[str, Any]],
    name: str,
) -> None:
    exact = whole[1]["rules"][name]["brier"][0]
    lower, upper = few[1]["rules"][name]["brier"]
    assert lower - 1e-9 <= exact <= upper + 1e-9
    assert upper - lower < (2.0 if name == "contrastive" else 0.5)


def test_brier_contrasts_contain_the_exact_differences(
    whole: tuple[SecondaryScores, dict[str, Any]], few: tuple[SecondaryScores, dict[str, Any]]
) -> None:
    exact, cut = whole[1]["brier_contrasts"], few[1]["brier_contrasts"]
    assert set(exact) == set(cut) == set(TUNED) - {"brf"}
    for name, found in exact.items():
        rules = whole[1]["rules"]
        difference = rules["brf"]["brier"][0] - rules[name]["brier"][0]
        assert found["difference"] == pytest.approx(difference, abs=1e-9)
        lower, upper = cut[name]["truncation"]
        assert lower - 1e-9 <= difference <= upper + 1e-9
        assert cut[name]["interval"][0] <= lower and upper <= cut[name]["interval"][1]
        assert found["interval"][0] < difference < found["interval"][1]


@pytest.mark.parametrize("n_documents", [1, 5])
@pytest.mark.parametrize("block_rows", [7, 60, 8192])
def test_chunks_change_no_digit(
    rows_of: Callable[[int], FusionRows], monkeypatch: pytest.MonkeyPatch, n_documents: int, block_rows: int
) -> None:
    """Also where a document is longer than a block, and where the edges of the bins are settled early."""
    monkeypatch.setattr(secondary_scores, "BLOCK_ROWS", block_rows)
    made = [_collected(rows_of(3), n, edge_positions=95) for n in (D, n_documents)]
    for name in TUNED:
        np.testing.assert_array_equal(made[0].sums(name), made[1].sums(name))
    whole, parts = (secondary_summary(scores, EVALUATION, np.random.default_rng(1)) for scores in made)
    assert whole == parts


def test_blocks_make_no_difference(
    rows_of: Callable[[int], FusionRows], monkeypatch: pytest.MonkeyPatch, few: tuple[SecondaryScores, dict[str, Any]]
) -> None:
    monkeypatch.setattr(secondary_scores, "BLOCK_ROWS", 7)
    scores = _collected(rows_of(3))
    for name in TUNED:
        np.testing.assert_allclose(scores.sums(name), few[0].sums(name), rtol=1e-12, atol=1e-12)


def test_strict_json(few: tuple[SecondaryScores, dict[str, Any]]) -> None:
    assert json.loads(json.dumps(few[1], allow_nan=False)) == few[1]
    contrastive = few[1]["rules"]["contrastive"]
    assert contrastive["recalibrated"] is None
    assert contrastive["missing"] == {"recalibrated": "unbounded normaliser"}


def _summary_of(spec: RuleSpec, rows: FusionRows, folds: Folds | None = FOLDS, **changes: Any) -> dict[str, Any]:
    tuned = {spec.name: untuned(spec)}
    scores = SecondaryScores(OFFSETS, tuned, folds)
    scores.add(rows, slice(0, D), {spec.name: replace(score(tuned[spec.name], rows, None), **changes)})
    return secondary_summary(scores, EVALUATION, np.random.default_rng(0))


def test_what_has_no_forecast_says_why(rows_of: Callable[[int], FusionRows]) -> None:
    everything = ("brier", "calibration_error", "recalibrated")
    token = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None, scope="token")
    three = brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=3, default_scale=None)
    gate = RuleSpec("gate", GATE, "constant_coherence", SPECS[0].losses, SPECS[0].defaults)
    for spec, rows, reason in (
        (token, rows_of(3), "phase per token"),
        (three, _rows(3, n_models=3), "more than two models"),
        (gate, rows_of(3), "no coherence per position"),
    ):
        found = _summary_of(spec, rows)
        assert found["rules"][spec.name] == {**dict.fromkeys(everything), "missing": dict.fromkeys(everything, reason)}
        assert found["brier_contrasts"] == {}


def test_a_gate_is_coherent_fusion_with_its_own_coherence(rows_of: Callable[[int], FusionRows]) -> None:
    rows, brf = rows_of(3), SPECS[0]
    gate = RuleSpec("gate", GATE, "brf", brf.losses, {**brf.defaults, "weight": 0.4})
    brf = replace(brf, defaults={**brf.defaults, "weight": 0.4})
    coherence = brf.coherence(rows, brf.defaults)
    found = _summary_of(gate, rows, coherence=coherence)["rules"]["gate"]
    expected = _summary_of(brf, rows)["rules"]["brf"]
    assert found == expected


def test_untuned_rules_are_not_recalibrated(rows_of: Callable[[int], FusionRows]) -> None:
    found = _summary_of(SPECS[0], rows_of(3), folds=None)["rules"]["brf"]
    assert found["recalibrated"] is None and found["missing"] == {"recalibrated": "not tuned"}
    assert found["brier"] is not None and found["calibration_error"] is not None
    one_fold = Folds(np.zeros(D, dtype=int), {0: 1.0})
    assert _summary_of(SPECS[0], rows_of(3), folds=one_fold)["rules"]["brf"]["missing"] == {"recalibrated": "folds"}


def test_undefined_fusion_has_no_scores(rows_of: Callable[[int], FusionRows]) -> None:
    rows, brf = rows_of(3), SPECS[0]
    same = rows.known
    same = replace(same, shared=same.shared[[0, 0]], overlaps=np.ones_like(same.overlaps))
    found = _summary_of(brf, replace(rows, known=same), coherence=np.where(np.arange(N) == 17, -1.0, 0.5)[None])
    assert found["rules"]["brf"]["brier"] is None
    assert set(found["rules"]["brf"]["missing"].values()) == {"undefined fusion"}


def test_one_document_has_no_calibration_error(rows_of: Callable[[int], FusionRows]) -> None:
    rows = replace(rows_of(3), offsets=np.array([0, N]))
    tuned = {spec.name: untuned(spec) for spec in SPECS[:2]}
    scores = SecondaryScores(rows.offsets, tuned, None)
    scores.add(rows, slice(0, 1), {name: score(rule, rows, None) for name, rule in tuned.items()})
    found = secondary_summary(scores, EVALUATION, np.random.default_rng(0))
    assert found["rules"]["brf"]["missing"]["calibration_error"] == "documents"
    assert found["rules"]["brf"]["brier"] is not None and found["brier_contrasts"] == {}
