"""Realised tokens below every model: against full distributions and loops, contrasts with the controls, edge cases."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from brf_exp.config import EvaluationConfig
from brf_exp.maths.documents import document_sums, offsets_from_lengths
from brf_exp.maths.fusion_rows import FusionRows, zero_phases
from brf_exp.maths.resampling import holm, ratio_test
from brf_exp.maths.rules import fuse
from brf_exp.maths.specs import CANDIDATE, RuleSpec, brf_spec, control_specs, phase_free_specs
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.tuning import ScoredRule, TunedRule, score, untuned
from brf_exp.stages.below_minimum import BelowMinimum, below_own_models, difference_test
from brf_exp.storage.runs import to_json

LENGTHS = np.array([14, 22, 19, 13, 21, 16, 17, 12, 24, 18, 15, 20])
OFFSETS = offsets_from_lengths(LENGTHS)
N, V = int(OFFSETS[-1]), 7
FOLDS = np.arange(12) % 3
TEMPERATURES = (1.0, 0.5, 2.0)
EVALUATION = EvaluationConfig(n_resamples=99)
CONTROLS = ["brf_zero", "brf_flipped", "brf_uniform", "brf_shifted"]
SPECS = [
    brf_spec("brf", "arctan", 1.3, role=CANDIDATE, n_models=2, default_scale=None),
    *control_specs("arctan", 1.3, n_models=2, default_scale=None),
]
Rows = Callable[..., FusionRows]


def _log_p(temperature: float = 1.0) -> np.ndarray:
    shared = np.random.default_rng(1).normal(0, 1.5, (N, V))
    logits = (shared + np.random.default_rng(2).normal(0, 1, (2, N, V))) / temperature
    return logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)


def _targets() -> np.ndarray:
    return np.argmax(_log_p().mean(axis=0) + np.random.default_rng(3).gumbel(size=(N, V)), axis=1)


def _rows(k: int) -> FusionRows:
    targets = _targets()

    def known(temperature: float) -> Any:
        log_p = _log_p(temperature)
        order = np.argsort(-log_p, axis=2)[:, :, :k]
        ranked = list(np.take_along_axis(log_p, order, axis=2))
        exact = log_p[:, np.arange(N), targets]
        return known_tokens(list(order), ranked, target_ids=targets, target_log_p=exact, complete=k == V)

    best = np.sort(_log_p(), axis=2)
    gaps = (best[:, :, -1] - best[:, :, -2]) * np.array([[0.2], [3.0]])  # opposed phases, often
    random = np.random.default_rng(6).uniform(0, 2 * np.pi, (2, N))
    others = {t: known(t) for t in TEMPERATURES[1:]}
    return FusionRows(known(1.0), gaps, gaps[:, ::-1], gaps, gaps, random, OFFSETS, at_temperatures=others)


@pytest.fixture(scope="module")
def rows_of() -> Rows:
    made = {k: _rows(k) for k in (3, V)}
    return lambda k=V: made[k]


def _tuned(turn: int = 0) -> dict[str, TunedRule]:
    """Every rule with weights and temperatures of its own in each fold."""
    made = {}
    for place, spec in enumerate(SPECS):
        candidates = [spec.candidates[number] for number in (12, 17, 22)]
        temperatures = [TEMPERATURES[(place + turn + fold) % 3] for fold in range(3)]
        pairs = enumerate(zip(candidates, temperatures, strict=True))
        made[spec.name] = TunedRule(spec, {fold: {**p, "temperature": t} for fold, (p, t) in pairs})
    return made


def _collected(
    rows: FusionRows, tuned: dict[str, TunedRule], *, n_documents: int = 99, folds: np.ndarray | None = FOLDS
) -> BelowMinimum:
    found, last = BelowMinimum(rows.offsets, tuned), rows.offsets.size - 1
    for first in range(0, last, n_documents):
        documents = slice(first, min(first + n_documents, last))
        part = rows.take(np.arange(rows.offsets[documents.start], rows.offsets[documents.stop]))
        part = replace(part, offsets=rows.offsets[documents.start : documents.stop + 1] - rows.offsets[documents.start])
        own = None if folds is None else folds[documents]
        found.add(part, documents, {name: score(rule, part, own) for name, rule in tuned.items()})
    return found


def _summary(rows: FusionRows, tuned: dict[str, TunedRule] | None = None, **options: Any) -> dict[str, Any]:
    made = _collected(rows, tuned or _tuned(), **options)
    return made.summary(EVALUATION, np.random.default_rng(0))


def _events(rule: TunedRule, rows: FusionRows, *, models_at_one: bool = False) -> np.ndarray:
    """Events from full distributions, one position at a time, (n,) bool."""
    found, fold_of_row = np.empty(N, dtype=bool), np.repeat(FOLDS, LENGTHS)
    at = {t: _log_p(t) for t in TEMPERATURES}
    phi_of = {f: rule.spec.phases(rows, p.get("scale")) for f, p in rule.parameters.items()}
    for n, (fold, target) in enumerate(zip(fold_of_row, _targets(), strict=True)):
        parameters = rule.parameters[fold]
        log_p = at[parameters["temperature"]][:, n]
        weights = np.array([parameters["weight"], 1 - parameters["weight"]])
        q = fuse("brf", log_p, weights=weights, phases_rad=phi_of[fold][:, n]).p[target]
        models = at[1.0][:, n] if models_at_one else log_p
        found[n] = q < min(np.exp(models[:, target])) * (1 - 1e-9)
    return found


def test_rates_against_full_distributions(rows_of: Rows) -> None:
    rows, tuned = rows_of(), _tuned()
    found = _summary(rows, tuned)
    expected = {name: _events(rule, rows).mean() for name, rule in tuned.items()}
    assert 0.02 < expected["brf"] < 0.5
    assert expected["brf_zero"] == 0.0
    assert found["below_minimum_rate"] == pytest.approx(expected.pop("brf"))
    assert list(found["below_minimum_controls"]) == CONTROLS
    assert found["below_minimum_controls"] == pytest.approx(expected)
    assert found["below_minimum_interval"] == pytest.approx([found["below_minimum_rate"]] * 2, abs=2 / N)


def test_models_are_taken_at_the_temperature_of_the_fusion(rows_of: Rows) -> None:
    """A fusion that never is below its models would be called so beside models of another temperature."""
    rows, zero = rows_of(), _tuned()["brf_zero"]
    assert _events(zero, rows, models_at_one=True).mean() > 0.05
    assert not below_own_models(score(zero, rows, FOLDS), rows).any()


def test_top_rows_contain_the_exact_rates(rows_of: Rows) -> None:
    rows, tuned = rows_of(3), _tuned(1)
    for name, rule in tuned.items():
        surely, middle, possibly = below_own_models(score(rule, rows, FOLDS), rows)
        exact = _events(rule, rows_of())
        assert exact[surely].all() and possibly[exact].all(), name
        assert not (surely & ~middle).any() and not (middle & ~possibly).any()
    low, high = _summary(rows, tuned)["below_minimum_interval"]
    assert low < _events(tuned["brf"], rows_of()).mean() < high


def test_contrasts_are_document_level_differences(rows_of: Rows) -> None:
    rows, tuned = rows_of(3), _tuned()
    found = _summary(rows, tuned)["below_minimum_contrasts"]
    counts = {
        name: document_sums(below_own_models(score(rule, rows, FOLDS), rows).T.astype(float), OFFSETS).T
        for name, rule in tuned.items()
    }
    pvalues = []
    for name in CONTROLS:
        rng = np.random.default_rng(0)
        test = ratio_test(counts["brf"][1] - counts[name][1], LENGTHS, confidence_level=0.95, n_resamples=99, rng=rng)
        assert test.method == "t"
        made = found[name]
        assert made["difference"] == pytest.approx(test.value, abs=1e-15)
        assert (made["pvalue"], made["reason"]) == (test.pvalue, None)
        assert made["interval"] == list(test.interval)
        surely, _, possibly = counts["brf"].sum(axis=1) / N
        control = counts[name].sum(axis=1) / N
        assert made["truncation"] == pytest.approx([surely - control[2], possibly - control[0]])
        assert made["truncation"][0] < made["difference"] < made["truncation"][1]
        pvalues.append(test.pvalue)
    assert [found[name]["pvalue_adjusted"] for name in CONTROLS] == holm(np.array(pvalues)).tolist()
    assert found["brf_zero"]["difference"] > 0


def test_who_they_hit(rows_of: Rows) -> None:
    rows, tuned = rows_of(), _tuned()
    found = _summary(rows, tuned)["below_minimum_events"]
    is_event, targets, log_p = _events(tuned["brf"], rows), _targets().tolist(), _log_p()
    frequency = Counter(targets)
    assert (found["n_events"], found["n_others"]) == (is_event.sum(), (~is_event).sum())
    assert (found["n_distinct_tokens"], found["n_undefined"], found["reason"]) == (len(frequency), 0, None)
    for group, inside in (("events", is_event), ("others", ~is_event)):
        surprisal, agree, ranks = [], [], []
        for n in np.flatnonzero(inside):
            own = targets[n]
            surprisal.append(-np.log(np.exp(log_p[:, n, own]).mean()))
            agree.append(log_p[0, n].argmax() == log_p[1, n].argmax())
            more = sum(count > frequency[own] for count in frequency.values())
            alike = sum(count == frequency[own] for count in frequency.values())
            ranks.append(more + (1 + alike) / 2)
        expected = {
            "surprisal_nats": np.mean(surprisal),
            "top_tokens_agree": np.mean(agree),
            "median_frequency_rank": np.median(ranks),
        }
        assert found[group] == pytest.approx(expected)
    assert found["events"] != found["others"]


@pytest.mark.parametrize("k", [3, V])
def test_chunks_change_no_digit(rows_of: Rows, k: int) -> None:
    whole = to_json(_summary(rows_of(k)))
    for n_documents in (1, 5):
        assert to_json(_summary(rows_of(k), n_documents=n_documents)) == whole


@pytest.mark.parametrize("seed", range(5))
def test_median_rank_of_many_tokens(seed: int, rows_of: Rows) -> None:
    """Token ids far apart, seen in any order: the median is that of the positions' ranks."""
    rng = np.random.default_rng(seed)
    ids = rng.zipf(1.6, N).clip(max=2**31 - 2) if seed else rng.integers(0, 2**31 - 2, N)
    known = rows_of(3).known
    shared_ids = np.concatenate([ids[:, None], known.shared_ids[:, 1:]], axis=1)
    rows, tuned = replace(rows_of(3), known=replace(known, shared_ids=shared_ids)), _untuned()
    found = _summary(rows, tuned, n_documents=2, folds=None)["below_minimum_events"]
    is_event = below_own_models(score(tuned["brf"], rows, None), rows)[1]
    values, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    rank_of = np.array([(counts > c).sum() + ((counts == c).sum() + 1) / 2 for c in counts])
    assert found["n_distinct_tokens"] == values.size
    assert found["events"]["median_frequency_rank"] == np.median(rank_of[place][is_event])
    assert found["others"]["median_frequency_rank"] == np.median(rank_of[place][~is_event])


def _untuned(**changed: RuleSpec) -> dict[str, TunedRule]:
    return {spec.name: untuned(changed.get(spec.name, spec)) for spec in SPECS}


def test_rules_without_phases_and_other_maps_are_left_out(rows_of: Rows) -> None:
    other = brf_spec("brf_tanh", "tanh", 1.3, role="other_map", n_models=2, default_scale=None)
    (linear,) = [spec for spec in phase_free_specs(2) if spec.name == "linear"]
    tuned = {**_untuned(), "brf_tanh": untuned(other), "linear": untuned(linear)}
    assert _summary(rows_of(), tuned, folds=None) == _summary(rows_of(), _untuned(), folds=None)


def test_no_events(rows_of: Rows) -> None:
    """Without phase differences fusion is a power mean: the models' least probability bounds it."""
    found = _summary(rows_of(), _untuned(brf=replace(SPECS[0], losses=SPECS[1].losses, phases=zero_phases)), folds=None)
    assert (found["below_minimum_rate"], found["below_minimum_interval"]) == (0.0, [0.0, 0.0])
    events = found["below_minimum_events"]
    assert (events["n_events"], events["n_others"], events["reason"]) == (0, N, "no events")
    assert set(events["events"].values()) == {None} and None not in events["others"].values()
    contrasts = found["below_minimum_contrasts"]
    assert contrasts["brf_zero"] == {
        "difference": 0.0,
        "truncation": [0.0, 0.0],
        "interval": None,
        "pvalue": None,
        "pvalue_adjusted": None,
        "reason": "no events",
    }
    assert contrasts["brf_flipped"]["difference"] < 0 and contrasts["brf_flipped"]["reason"] is None
    # Three tests are left to correct for.
    smallest = min(made["pvalue"] for made in contrasts.values() if made["pvalue"] is not None)
    assert min(made["pvalue_adjusted"] for name, made in contrasts.items() if name != "brf_zero") == 3 * smallest


def test_the_same_events_have_no_variation(rows_of: Rows) -> None:
    tuned = _untuned(brf_shifted=replace(SPECS[4], losses=SPECS[0].losses))
    made = _summary(rows_of(), tuned, folds=None)["below_minimum_contrasts"]["brf_shifted"]
    assert (made["difference"], made["interval"], made["pvalue"]) == (0.0, None, None)
    assert made["reason"] == "no variation"


def test_one_document(rows_of: Rows) -> None:
    rows = replace(rows_of(), offsets=np.array([0, N]))
    found = _summary(rows, _untuned(), folds=None)
    assert 0 < found["below_minimum_rate"] < 1
    for made in found["below_minimum_contrasts"].values():
        assert made["reason"] == "documents" and made["difference"] is not None
        assert made["interval"] is made["pvalue"] is made["pvalue_adjusted"] is None


def _equal_models(rows: FusionRows) -> FusionRows:
    """The first model twice: opposite phases at equal weights leave nothing."""
    log_p, targets = _log_p()[[0, 0]], _targets()
    order = np.argsort(-log_p, axis=2)
    ranked, exact = list(np.take_along_axis(log_p, order, axis=2)), log_p[:, np.arange(N), targets]
    known = known_tokens(list(order), ranked, target_ids=targets, target_log_p=exact, complete=True)
    return replace(rows, known=known, gaps=rows.gaps[[0, 0]], shifted_gaps=rows.shifted_gaps[[0, 0]])


def test_undefined_fusion_is_no_event(rows_of: Rows) -> None:
    rows, tuned = _equal_models(rows_of()), _untuned()
    assert score(tuned["brf_flipped"], rows, None).losses.undefined.all()
    found = _summary(rows, tuned, folds=None)
    assert (found["below_minimum_rate"], found["below_minimum_controls"]["brf_flipped"]) == (0.0, 0.0)
    flipped = found["below_minimum_contrasts"]["brf_flipped"]
    assert flipped.pop("reason") == "undefined fusion" and set(flipped.values()) == {None}
    turned = replace(SPECS[0], losses=SPECS[2].losses)
    found = _summary(rows, _untuned(brf=turned), folds=None)
    assert found["below_minimum_events"]["n_undefined"] == N
    assert {made["reason"] for made in found["below_minimum_contrasts"].values()} == {"undefined fusion"}


def test_improbable_tokens_have_a_finite_surprisal(rows_of: Rows) -> None:
    """Probabilities of exp(-2000) are no numbers, their logarithms are."""
    rows = rows_of()
    shared = rows.known.shared.copy()
    shared[:, 0, 0] = [-2000.0, -2001.0]
    rows = replace(rows, known=replace(rows.known, shared=shared))
    made = _summary(rows, _untuned(), folds=None)["below_minimum_events"]
    total = made["n_events"] * made["events"]["surprisal_nats"] + made["n_others"] * made["others"]["surprisal_nats"]
    rest = -np.log(np.exp(_log_p()[:, np.arange(N), _targets()]).mean(axis=0))[1:].sum()
    assert total - rest == pytest.approx(2000 - np.log((1 + np.exp(-1)) / 2), abs=1e-6)


def test_few_events_in_unequal_documents_are_not_bootstrapped() -> None:
    """Most resamples of 60 documents hold 2 documents with events never or once: a bootstrap-t has no upper end."""
    rng = np.random.default_rng(7)
    lengths = np.clip(np.exp(rng.normal(4, 1, 60)).astype(int), 5, 900)
    differences = np.where(np.isin(np.arange(60), [4, 31]), 1.0, 0.0)
    (lower, upper), pvalue = difference_test(differences, lengths, EVALUATION, rng)
    mean = 2 / lengths.sum()
    error = np.sqrt(60 / 59 * ((differences - mean * lengths) ** 2).sum()) / lengths.sum()
    assert (lower, upper) == pytest.approx(stats.t.interval(0.95, 59, mean, error))
    assert pvalue == pytest.approx(2 * stats.t.sf(mean / error, 59))
    many = np.where(np.arange(60) < 12, 1.0, 0.0)
    test = ratio_test(many, lengths, confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(8))
    assert test.method == "bootstrap_t"
    assert difference_test(many, lengths, EVALUATION, np.random.default_rng(8)) == (test.interval, test.pvalue)


def test_no_difference_of_rates_is_beyond_one() -> None:
    """One document has nearly all positions."""
    lengths = np.array([2000, *[5] * 14])
    differences = np.array([-500.0, *[5, 4] * 7])
    test = ratio_test(differences, lengths, confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(1))
    assert test.interval[0] < -1 < test.interval[1] < 1
    found = difference_test(differences, lengths, EVALUATION, np.random.default_rng(1))
    assert found == ((-1.0, test.interval[1]), test.pvalue)
    mirrored = difference_test(-differences, lengths, EVALUATION, np.random.default_rng(1))
    assert mirrored == ((pytest.approx(-test.interval[1]), 1.0), test.pvalue)


def test_seeds(rows_of: Rows) -> None:
    """With documents of very unequal lengths intervals are bootstrapped."""
    rows = replace(rows_of(), offsets=np.array([*range(0, 60, 4), 60, 110, *range(120, N, 5), N]))
    made = _collected(rows, _untuned(), folds=None)
    one, again, other = (made.summary(EVALUATION, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one["below_minimum_contrasts"] != other["below_minimum_contrasts"]
    assert one["below_minimum_events"] == other["below_minimum_events"]


def test_everything_below(rows_of: Rows) -> None:
    """Losses so high that every realised token is an event."""
    tuned = _untuned()
    scored = {name: score(rule, rows_of(), None) for name, rule in tuned.items()}
    losses = replace(scored["brf"].losses, bounds=scored["brf"].losses.bounds + 100)
    scored["brf"] = ScoredRule(tuned["brf"], losses)
    found = BelowMinimum(OFFSETS, tuned)
    found.add(rows_of(), slice(0, 12), scored)
    made = found.summary(EVALUATION, np.random.default_rng(0))
    assert made["below_minimum_rate"] == 1.0
    events = made["below_minimum_events"]
    assert (events["n_events"], events["n_others"], events["reason"]) == (N, 0, "nothing but events")
    assert set(events["others"].values()) == {None}
    # The rate is 1 in every document, and the same difference from no event under zero phases.
    assert made["below_minimum_contrasts"]["brf_zero"]["reason"] == "no variation"
