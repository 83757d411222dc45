"""Whatever is cut away from full distributions, the Brier interval contains the score of the full forecast."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths import forecasts
from brf_exp.maths.brier import BrierScores, brier_of, brier_scores, log_loss_of, sufficient_statistics, vote_brier
from brf_exp.maths.rules import fuse
from brf_exp.maths.top_probability import top_probability

SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["dirichlet", "peaked", "tied", "equal", "tiny_tails"])
ROUNDING = 1e-11
PARAMETERS = st.fixed_dictionaries(
    {
        "weight": st.floats(0.02, 0.98),
        "exponent": st.floats(0.5, 3.0),
        "mixture": st.floats(0.0, 1.0),
        "coherence": st.floats(-0.95, 1.0),
        "order": st.floats(-3.0, 3.0).filter(lambda r: abs(r) > 0.05),
        "strength": st.floats(0.05, 2.0),
    }
)


@st.composite
def shapes(draw) -> tuple[int, tuple[int, int]]:
    """Vocabulary size, and how many rows of it each model's dump keeps."""
    size = draw(st.integers(2, 14))
    k = draw(st.integers(1, size))
    return size, (k, draw(st.one_of(st.just(k), st.integers(1, size))))


def brier(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """From its definition."""
    wanted = np.zeros_like(p)
    np.put_along_axis(wanted, targets[:, None], 1.0, 1)
    return ((p - wanted) ** 2).sum(axis=1)


def _cosines(seed: int, n: int) -> np.ndarray:
    return np.cos(np.random.default_rng(seed).uniform(0, 0.95 * np.pi, n))


def every_rule(dump, c: np.ndarray, parameters: dict[str, float]) -> dict:
    """Every rule: what top-k rows tell of it, and the full fused distribution."""
    known, log_p = dump.known, dump.log_p
    w, s, m, constant, r, beta = (
        parameters[name] for name in ("weight", "exponent", "mixture", "coherence", "order", "strength")
    )
    weights = np.array([w, 1 - w])
    log_pool = fuse("log_linear", log_p)
    mixture = (1 - m) * fuse("linear", log_p, weights=weights).p + m * log_pool.p
    mixture[log_pool.undefined] = 0.0
    confidence = np.random.default_rng(int(1e6 * w)).normal(size=(2, c.size))
    pairs = {
        "linear": (forecasts.linear_forecast(known, weight=w), fuse("linear", log_p, weights=weights).p),
        "model_a": (forecasts.single_forecast(known, model=0), np.exp(log_p[0])),
        "model_b": (forecasts.single_forecast(known, model=1), np.exp(log_p[1])),
        "brf": (
            forecasts.coherent_forecast(known, coherence=c, weight=w),
            fuse("constant_coherence", log_p, weights=weights, coherence=c).p,
        ),
        "constant": (
            forecasts.coherent_forecast(known, coherence=constant),
            fuse("constant_coherence", log_p, coherence=constant).p,
        ),
        "log_linear": (forecasts.log_linear_forecast(known, weight=w), fuse("log_linear", log_p, weights=weights).p),
        "log_pool": (forecasts.log_linear_forecast(known), log_pool.p),
        "product": (forecasts.product_forecast(known, exponent=s), fuse("product", log_p, exponent=s).p),
        "lin_log": (forecasts.lin_log_forecast(known, mixture=m, weight=w), mixture),
        "routing": (
            forecasts.routed_forecast(known, confidence=confidence),
            fuse("routing", log_p, confidence=confidence).p,
        ),
        "contrastive": (
            forecasts.contrastive_forecast(known, strength=beta),
            fuse("contrastive", log_p, strength=beta).p,
        ),
    }
    for order in (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0, r):
        pairs[f"power_mean {order}"] = (
            forecasts.power_mean_forecast(known, order=order, weight=w),
            fuse("power_mean", log_p, weights=weights, order=order).p,
        )
    return pairs


def _completed(dump, k: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Other full distributions (2, n, 2 V) with the same top-k rows: what is not listed piled up to the cap.

    Each model fills the tokens it does not list in an order of its own or in a common one, the other's list first or
    last, so that overlaps and squares go to their extremes.
    """
    full = np.exp(dump.log_p)
    _, n, size = full.shape
    made = np.concatenate([full, np.zeros_like(full)], axis=2)
    ranked = [np.argsort(-dump.log_p[m], axis=1, kind="stable")[:, : k[m]] for m in (0, 1)]
    for row in range(n):
        listed = [set(ranked[m][row].tolist()) | {int(dump.targets[row])} for m in (0, 1)]
        common_order = rng.random(2 * size)
        aligned = rng.random() < 0.5
        for m in (0, 1):
            free = np.array([t for t in range(2 * size) if t not in listed[m]])
            mass, cap = made[m, row, free].sum(), full[m, row, ranked[m][row, -1]]
            cap *= 1 - 1e-9  # short of a tie with a listed token, which would be another arg-max
            order = common_order if aligned else rng.random(2 * size)
            theirs = np.isin(free, list(listed[1 - m]))
            order = order[free] + rng.choice([-2, 0, 2]) * theirs
            put = np.clip(mass - np.arange(free.size) * cap, 0, cap)
            made[m, row, free[np.argsort(order)]] = put
    with np.errstate(divide="ignore"):
        return np.log(made)


def check(name: str, scores: BrierScores, exact: np.ndarray, kept: np.ndarray, *, met: bool) -> None:
    lower, upper = scores.bounds
    assert (lower >= 0).all() and (lower <= upper).all() and (upper <= 2).all(), name
    assert (lower[kept] <= exact[kept] + ROUNDING).all(), name
    assert (upper[kept] >= exact[kept] - ROUNDING).all(), name
    if met:  # nothing is unknown at k = V
        np.testing.assert_allclose(upper[kept] - lower[kept], 0, atol=1e-9, err_msg=name)


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes(), PARAMETERS)
def test_every_rule(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    everything = min(shape[1]) == shape[0]
    for name, (forecast, p) in every_rule(made, _cosines(seed, made.targets.size), parameters).items():
        scores = brier_scores(forecast)
        kept = ~scores.undefined & (p.sum(axis=1) > 0.5)
        # Peaked models' overlap is next to 0, and a root of what rounding leaves is larger than that.
        met = everything and kind != "peaked" and not (name == "product" and parameters["exponent"] < 1)
        check(name, scores, brier(p, made.targets), kept, met=met)
        # The parts hold one by one as well.
        outside = np.ones(p.shape, dtype=bool)
        rows, columns = np.nonzero(made.known.shared_ids >= 0)
        outside[rows, made.known.shared_ids[rows, columns]] = False
        largest = np.where(outside, p, 0).max(axis=1)
        assert (forecast.peak[1].max(axis=0)[kept] >= largest[kept] - ROUNDING).all(), name
        assert (forecast.peak[0].min(axis=0)[kept] <= largest[kept] + ROUNDING).all(), name


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes(), PARAMETERS)
def test_every_rule_on_extreme_completions(dump, seed, kind, shape, parameters) -> None:
    """The bounds hold for whatever agrees with the rows, not only for likely distributions."""
    made = dump(seed, kind, *shape, n=12, n_outcomes=2 * shape[0])
    completed = replace(made, log_p=_completed(made, shape[1], np.random.default_rng(seed)))
    for name, (forecast, p) in every_rule(completed, _cosines(seed, 12), parameters).items():
        scores = brier_scores(forecast)
        kept = ~scores.undefined & (p.sum(axis=1) > 0.5)
        check(name, scores, brier(p, made.targets), kept, met=False)
    hit_rate = parameters["mixture"]
    p = fuse("majority_vote", completed.log_p, hit_rate=hit_rate).p
    clear = fuse("linear", completed.log_p).p.max(axis=1) < 1 - 1e-4
    check("vote", vote_brier(made.known, hit_rate=np.full(12, hit_rate)), brier(p, made.targets), clear, met=False)


@settings(deadline=None, max_examples=120)
@given(SEEDS, KINDS, shapes(), st.floats(0.02, 0.98))
def test_vote(dump, seed, kind, shape, hit_rate) -> None:
    """Also where the rows leave open who wins the tie-break."""
    made = dump(seed, kind, *shape)
    p = fuse("majority_vote", made.log_p, hit_rate=hit_rate).p
    scores = vote_brier(made.known, hit_rate=np.full(made.targets.size, hit_rate))
    # Shares of the rest are all rounding where the rest is 0: 1e-16 of it weighs 1e-16 / rest.
    rest = 1 - fuse("linear", made.log_p).p.max(axis=1)
    check("vote", scores, brier(p, made.targets), rest > 1e-4, met=False)


@settings(deadline=None, max_examples=120)
@given(SEEDS, KINDS, shapes(), PARAMETERS)
def test_top_probability(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    for name, (forecast, p) in every_rule(made, _cosines(seed, made.targets.size), parameters).items():
        if forecast.undefined.any() or (p.sum(axis=1) < 0.5).any():
            continue
        top = top_probability(forecast)
        assert (top.confidence[0] <= p.max(axis=1) + ROUNDING).all(), name
        assert (top.confidence[1] >= p.max(axis=1) - ROUNDING).all(), name
        others = p.copy()
        np.put_along_axis(others, made.targets[:, None], -1.0, 1)
        lead = made.at_target(p) - others.max(axis=1)
        assert not top.correct[0][lead < -1e-9].any(), name
        assert top.correct[1][lead > 1e-9].all(), name


@settings(deadline=None, max_examples=80)
@given(SEEDS, KINDS, st.integers(2, 14), st.floats(-0.95, 1.0))
def test_sufficient_statistics(dump, seed, kind, size, constant) -> None:
    """Eight numbers give what the full distributions give, for one coherence or many."""
    made = dump(seed, kind, size, (1, 1))
    statistics = sufficient_statistics(made.log_p, made.targets)
    assert statistics.shape == (8, made.targets.size)
    both = np.stack([np.full(made.targets.size, constant), _cosines(seed, made.targets.size)])
    for row, c in enumerate(both):
        fused = fuse("constant_coherence", made.log_p, coherence=c)
        # What is lost is rounding of the eight numbers, sums over the tokens, over Z^2.
        difference = brier_of(statistics, both)[row] - brier(fused.p, made.targets)
        assert (np.abs(difference) * np.minimum(fused.normaliser, 1) ** 2 < 8 * size * np.finfo(float).eps).all()
        exact = -np.log(made.at_target(fused.p))
        np.testing.assert_allclose(log_loss_of(statistics, both)[row], exact, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(brier_of(statistics, constant), brier_of(statistics, both)[0])
