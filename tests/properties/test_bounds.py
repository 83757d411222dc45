"""Whatever is cut away from full distributions, the intervals contain what the full distributions give."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brf_exp.maths import topk_rules as rules
from brf_exp.maths.discrimination import below_minimum
from brf_exp.maths.fusion import bhattacharyya
from brf_exp.maths.fusion_rows import coherences
from brf_exp.maths.interference import interference_information
from brf_exp.maths.rules import fuse
from brf_exp.maths.tails import product_squares, tail_sums
from brf_exp.maths.topk import known_tokens
from brf_exp.maths.topk_bounds import accuracy_bounds, difference_bounds
from brf_exp.maths.topk_votes import vote_losses, votes

SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["dirichlet", "peaked", "tied", "equal", "tiny_tails"])
SIZES = st.integers(2, 14)
ROUNDING = 1e-9


@st.composite
def shapes(draw, n_models: int = 2) -> tuple[int, tuple[int, ...]]:
    """Vocabulary size, and how many rows of it each model's dump keeps."""
    size = draw(SIZES)
    k = draw(st.integers(1, size))
    return size, (k, *(draw(st.one_of(st.just(k), st.integers(1, size))) for _ in range(n_models - 1)))


SOME_MODELS = st.one_of(shapes(), shapes(3))


def _weights(weight: float, n_models: int) -> tuple[rules.Weight, np.ndarray]:
    """The weight argument of the losses, and all weights."""
    if n_models == 2:
        return weight, np.array([weight, 1 - weight])
    everyone = np.array([weight, 0.7 * (1 - weight), 0.3 * (1 - weight)])
    return everyone, everyone


def _phases(seed: int, made) -> tuple[np.ndarray, np.ndarray]:
    """Phases per model and token of the vocabulary (M, n, V), and the same on the shared tokens (M, n, k + 1)."""
    full = np.random.default_rng(seed).uniform(0, 2 * np.pi, made.log_p.shape)
    ids = np.maximum(made.known.shared_ids, 0)
    return full, np.take_along_axis(full, np.broadcast_to(ids, (full.shape[0], *ids.shape)), axis=2)


def _exact(dump, seed: int, parameters: dict[str, float]) -> dict[str, tuple[rules.RuleLosses, np.ndarray]]:
    """Every rule: its interval, and its full distribution (n, V)."""
    known, log_p = dump.known, dump.log_p
    s, m, coherence = parameters["exponent"], parameters["mixture"], parameters["coherence"]
    w, weights = _weights(parameters["weight"], known.n_models)
    phi = _turns(seed, known.n_models, known.n)
    c = coherences(phi)
    of_tokens, of_shared = _phases(seed, dump)
    found = {
        "linear": (rules.linear_losses(known, weight=w), fuse("linear", log_p, weights=weights).p),
        "log_linear": (rules.log_linear_losses(known, weight=w), fuse("log_linear", log_p, weights=weights).p),
        "log_pool": (rules.log_linear_losses(known), fuse("log_linear", log_p).p),
        "product": (rules.product_losses(known, exponent=s), fuse("product", log_p, exponent=s).p),
        "lin_log": (
            rules.lin_log_losses(known, mixture=m, weight=w),
            fuse("lin_log_mixture", log_p, weights=weights, mixture=m).p,
        ),
        "constant": (
            rules.coherent_losses(known, coherence=coherence, weight=w),
            fuse("constant_coherence", log_p, weights=weights, coherence=coherence).p,
        ),
        "brf": (rules.coherent_losses(known, coherence=c), fuse("brf", log_p, phases_rad=phi).p),
        "brf_weighted": (
            rules.coherent_losses(known, coherence=c, weight=w),
            fuse("brf", log_p, weights=weights, phases_rad=phi).p,
        ),
        "brf_tokens": (
            rules.token_phase_losses(known, phases_rad=of_shared, weight=w),
            fuse("brf", log_p, weights=weights, phases_rad=of_tokens).p,
        ),
        "contrastive": (
            rules.contrastive_losses(known, strength=parameters["strength"]),
            fuse("contrastive", log_p, strength=parameters["strength"]).p,
        ),
        "model_a": (rules.single_losses(known, model=0), np.exp(log_p[0])),
    }
    for order in (-1.0, 0.25, 0.5, 0.75, 2.0, parameters["order"]):
        found[f"power_mean {order}"] = (
            rules.power_mean_losses(known, order=order, weight=w),
            fuse("power_mean", log_p, weights=weights, order=order).p,
        )
    return found


PARAMETERS = st.fixed_dictionaries(
    {
        "weight": st.floats(0.02, 0.98),
        "exponent": st.floats(0.2, 3.0),
        "mixture": st.floats(0.0, 1.0),
        "coherence": st.floats(-0.4, 1.0),
        "order": st.floats(-3.0, 3.0).filter(lambda r: abs(r) > 0.05),
        "strength": st.floats(0.02, 1.0),
    }
)


def _turns(seed: int, n_models: int, n: int) -> np.ndarray:
    """Phases (M, n) of which no two are opposite.

    Short of antiphase, where equal models' normaliser is all rounding (Z of 1e-9 knows the loss to 1e-6).
    """
    return np.random.default_rng(seed).uniform(0, 0.95 * np.pi / (n_models - 1), (n_models, n))


def _cosines(seed: int, n: int) -> np.ndarray:
    return coherences(_turns(seed, 2, n))[0]


@settings(deadline=None, max_examples=150)
@given(SEEDS, KINDS, SOME_MODELS, PARAMETERS)
def test_losses_and_differences(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    found = _exact(made, seed, parameters)
    exact = {}
    for name, (losses, p) in found.items():
        with np.errstate(divide="ignore"):
            exact[name] = -np.log(made.at_target(p))
        kept = ~losses.undefined & np.isfinite(exact[name]) & (exact[name] < 600)
        assert (losses.bounds[0] <= losses.bounds[1]).all(), name
        assert (losses.bounds[0][kept] <= exact[name][kept] + ROUNDING).all(), name
        assert (losses.bounds[1][kept] >= exact[name][kept] - ROUNDING).all(), name
        # Nothing is unknown at k = V, up to rounding, which counts where the models hardly overlap.
        if min(shape[1]) == shape[0] and kind == "tied":
            np.testing.assert_allclose(losses.bounds[:, kept], np.stack([exact[name][kept]] * 2), atol=1e-6)
    for first, second in itertools.combinations(found, 2):
        one, other = found[first][0], found[second][0]
        kept = ~(one.undefined | other.undefined) & (exact[first] < 600) & (exact[second] < 600)
        lower, upper = difference_bounds(one, other)[:, kept]
        difference = (exact[first] - exact[second])[kept]
        assert (lower <= difference + 2 * ROUNDING).all(), (first, second)
        assert (upper >= difference - 2 * ROUNDING).all(), (first, second)
        separate = (one.bounds[1] - other.bounds[0])[kept]
        assert (upper <= separate + ROUNDING).all(), (first, second)


@settings(deadline=None, max_examples=100)
@given(SEEDS, KINDS, SOME_MODELS, st.floats(0.02, 1.0))
def test_contrastive_has_no_upper_end_unless_rows_are_whole(dump, seed, kind, shape, strength) -> None:
    made = dump(seed, kind, *shape)
    losses = rules.contrastive_losses(made.known, strength=strength)
    is_whole = min(shape[1]) == shape[0]
    assert (made.known.has_no_tail == is_whole).all()
    assert (np.isfinite(losses.bounds[1]) == is_whole).all()
    assert np.isfinite(losses.bounds[0]).all()
    assert not losses.undefined.any()


def test_a_tail_of_no_mass_can_be_all_of_a_contrastive_forecast(dump) -> None:
    """p_1 = 1e-10 over p_2 = 1e-30: a numerator of 1e10 at beta = 1 on tokens whose mass rounds to nothing."""
    p = np.array([[[1 - 1e-10, 1e-10]], [[1.0, 1e-30]]])
    known = known_tokens(
        [np.array([[0]])] * 2, list(np.log(p[:, :, :1])), target_ids=np.array([0]), target_log_p=np.log(p[:, :, 0])
    )
    assert known.remainder.max() < 1e-9
    lower, upper = rules.contrastive_losses(known, strength=1.0).bounds[:, 0]
    exact = -np.log(fuse("contrastive", np.log(p), strength=1.0).p[0, 0])
    assert exact > 20 and lower <= exact < upper == np.inf


@settings(deadline=None, max_examples=150)
@given(SEEDS, KINDS, SOME_MODELS)
def test_overlap(dump, seed, kind, shape) -> None:
    made = dump(seed, kind, *shape)
    pairs = list(itertools.combinations(range(len(shape[1])), 2))
    assert made.known.overlaps.shape == (len(pairs), 2, made.targets.size)
    for (i, j), (lower, upper) in zip(pairs, made.known.overlaps, strict=True):
        exact = bhattacharyya(made.log_p[i], made.log_p[j])
        assert (lower <= exact + 1e-12).all()
        assert (upper >= exact - 1e-12).all()
        assert (upper <= 1).all()


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes(), st.sampled_from([0.95, 0.999]))
def test_interference_information(dump, seed, kind, shape, most) -> None:
    """The divergence of the fused forecast from the linear pool, up to near antiphase."""
    made = dump(seed, kind, *shape)
    c = np.cos(np.random.default_rng(seed).uniform(0, most * np.pi, made.targets.size))
    q, pool = fuse("constant_coherence", made.log_p, coherence=c).p, fuse("linear", made.log_p).p
    with np.errstate(divide="ignore", invalid="ignore"):
        exact = np.where(q > 0, q * np.log(q / pool), 0.0).sum(axis=1)
    lower, upper = interference_information(made.known, c)
    # What is lost to rounding counts by 1 / Z.
    rounding = ROUNDING + 1e-12 / (1 + c * bhattacharyya(*made.log_p)) ** 2
    assert (lower <= exact + rounding).all()
    assert (upper >= exact - rounding).all()
    if min(shape[1]) == shape[0]:
        np.testing.assert_allclose(upper, lower, atol=1e-4)


@settings(deadline=None, max_examples=100)
@given(SEEDS, KINDS, shapes(), st.floats(0.5, 1.0))
def test_squares_of_products_below_one(dump, seed, kind, shape, exponent) -> None:
    """sum G^2s outside S, and sum G^s as well, against all tokens that are not in S."""
    made = dump(seed, kind, *shape)
    known, pool = made.known, np.exp(0.5 * made.log_p.sum(axis=0))
    outside = np.ones(pool.shape, dtype=bool)
    for row, ids in zip(outside, known.shared_ids, strict=True):
        row[ids[ids >= 0]] = False
    np.testing.assert_array_equal(known.n_outside, outside.sum(axis=1))
    sums = [np.where(outside, pool**power, 0).sum(axis=1) for power in (exponent, 2 * exponent)]
    assert (rules.product_tail(known, exponent) >= sums[0] * (1 - ROUNDING)).all()
    assert (product_squares(known, exponent, tail_sums(known)) >= sums[1] * (1 - ROUNDING)).all()


@settings(deadline=None, max_examples=120)
@given(SEEDS, KINDS, SOME_MODELS, PARAMETERS)
def test_accuracy(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    n_models = len(shape[1])
    found = _exact(made, seed, parameters)
    s, order, constant, beta = (parameters[name] for name in ("exponent", "order", "coherence", "strength"))
    w, _ = _weights(parameters["weight"], n_models)
    asked = {
        "linear": ("linear", {"weight": w}),
        "log_linear": ("log_linear", {"weight": w}),
        "product": ("product", {"exponent": s}),
        "constant": ("constant_coherence", {"coherence": constant, "weight": w}),
        f"power_mean {order}": ("power_mean", {"order": order, "weight": w}),
    }
    if n_models == 2:
        asked["brf_weighted"] = ("constant_coherence", {"coherence": _cosines(seed, made.targets.size), "weight": w})
        asked["contrastive"] = ("contrastive", {"strength": beta})
    for name, (rule, given_parameters) in asked.items():
        p = found[name][1]
        defined = p.sum(axis=1) > 0.5  # elsewhere there is no top token to ask for
        others = p.copy()
        np.put_along_axis(others, made.targets[:, None], -1.0, 1)
        # Within rounding of a tie either answer is right.
        margin = 1e-9 * others.max(axis=1)
        lead = made.at_target(p) - others.max(axis=1)
        surely, possibly = accuracy_bounds(made.known, rule, **given_parameters)
        assert (lead > -margin)[surely & defined].all(), name
        assert possibly[(lead > margin) & defined].all(), name
        if min(shape[1]) == shape[0] and kind == "dirichlet":
            np.testing.assert_array_equal(surely[defined], possibly[defined], err_msg=name)


@settings(deadline=None, max_examples=80)
@given(SEEDS, KINDS, SOME_MODELS)
def test_below_minimum(dump, seed, kind, shape) -> None:
    made = dump(seed, kind, *shape)
    phi = _turns(seed, len(shape[1]), made.targets.size)
    losses = rules.coherent_losses(made.known, coherence=coherences(phi))
    surely, middle, possibly = below_minimum(losses.bounds, made.known.target)
    q = made.at_target(fuse("brf", made.log_p, phases_rad=phi).p)
    ratio = q / np.exp(made.known.target.min(axis=0))
    kept = ~losses.undefined
    assert not surely[kept & (ratio > 1 + 1e-6)].any()
    assert possibly[kept & (ratio < 1 - 1e-6)].all()
    assert (surely <= middle).all() and (middle <= possibly).all()


@settings(deadline=None, max_examples=80)
@given(SEEDS, KINDS, shapes(), st.floats(0.05, 0.95))
@example(5664430, "peaked", (3, (1, 1)), 0.5)
def test_vote(dump, seed, kind, shape, hit_rate) -> None:
    """Where the tie-break is decided by the rows, the forecast's interval contains the full one."""
    made = dump(seed, kind, *shape)
    ballot = votes(made.known)
    losses = vote_losses(made.known, ballot, hit_rate=np.full(made.targets.size, hit_rate))
    exact = -np.log(made.at_target(fuse("majority_vote", made.log_p, hit_rate=hit_rate).p))
    pool = fuse("linear", made.log_p).p
    tops = np.argmax(made.log_p, axis=2)
    means = np.take_along_axis(pool, tops.T, axis=1)
    np.testing.assert_array_equal(ballot.agree, tops[0] == tops[1])
    # A voted token is not known to the other model only where neither lists it: then its lead must be clear.
    slack = 0.5 * np.exp(made.known.cap).max(axis=0)
    decided = ballot.agree | (np.abs(means[:, 0] - means[:, 1]) > slack + 1e-12)
    decided &= pool.max(axis=1) < 1 - 1e-9
    # ln(1 - linear(v)) is ill-conditioned where linear(v) is near 1: a rounding of it weighs 1 / (1 - linear(v)).
    rounding = ROUNDING + 16 * np.finfo(float).eps / (1 - pool.max(axis=1)[decided])
    assert (losses.bounds[0][decided] <= exact[decided] + rounding).all()
    assert (losses.bounds[1][decided] >= exact[decided] - rounding).all()


def test_intervals_are_not_vacuous(dump) -> None:
    """The more rows are kept the narrower, and narrow where the tail is thin."""
    widths = []
    for k in (2, 5, 10):
        made = dump(3, "peaked", 14, (k, k), n=400)
        losses = rules.coherent_losses(made.known, coherence=_cosines(3, 400))
        widths.append((losses.bounds[1] - losses.bounds[0]).mean())
    assert widths[0] > widths[1] > widths[2] > 0
    assert widths[2] < 0.005


def test_joint_difference_is_narrower_than_separate_intervals(dump) -> None:
    made = dump(4, "dirichlet", 14, (4, 4), n=400)
    brf = rules.coherent_losses(made.known, coherence=0.3 + 0.2 * _cosines(4, 400))
    constant = rules.coherent_losses(made.known, coherence=0.5)
    joint = np.diff(difference_bounds(brf, constant), axis=0).mean()
    separate = sum(np.diff(one.bounds, axis=0).mean() for one in (brf, constant))
    assert joint < 0.4 * separate


def test_overlap_alone_is_asked_of_rules_that_have_it(dump) -> None:
    made = dump(5, "dirichlet", 9, (4, 4))
    with pytest.raises(ValueError, match="not a function of the overlaps alone"):
        rules.power_mean_losses(made.known, order=2.0).at(made.known.overlaps)
