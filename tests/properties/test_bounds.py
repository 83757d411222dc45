"""Whatever is cut away from full distributions, the intervals contain what the full distributions give."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brf_exp.maths import topk_rules as rules
from brf_exp.maths.discrimination import below_minimum
from brf_exp.maths.fusion import bhattacharyya, fuse
from brf_exp.maths.topk_bounds import accuracy_bounds, difference_bounds
from brf_exp.maths.topk_votes import vote_losses, votes
from brf_exp.maths.tuning import RuleSpec, ScoredRule

SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["dirichlet", "peaked", "tied", "equal", "tiny_tails"])
SIZES = st.integers(2, 14)
ROUNDING = 1e-9


@st.composite
def shapes(draw) -> tuple[int, tuple[int, int]]:
    """Vocabulary size, and how many rows of it each model's dump keeps."""
    size = draw(SIZES)
    k = draw(st.integers(1, size))
    other = draw(st.one_of(st.just(k), st.integers(1, size)))
    return size, (k, other)


def _exact(dump, c: np.ndarray, parameters: dict[str, float]) -> dict[str, tuple[rules.RuleLosses, np.ndarray]]:
    """Every rule: its interval, and its full distribution (n, V)."""
    known, log_p = dump.known, dump.log_p
    w, s, m = parameters["weight"], parameters["exponent"], parameters["mixture"]
    weights = np.array([w, 1 - w])
    mixture = (1 - m) * fuse("linear", log_p, weights=weights).p + m * fuse("log_linear", log_p).p
    found = {
        "linear": (rules.linear_losses(known, weight=w), fuse("linear", log_p, weights=weights).p),
        "log_linear": (rules.log_linear_losses(known, weight=w), fuse("log_linear", log_p, weights=weights).p),
        "log_pool": (rules.log_linear_losses(known), fuse("log_linear", log_p).p),
        "product": (rules.product_losses(known, exponent=s), fuse("product", log_p, exponent=s).p),
        "lin_log": (rules.lin_log_losses(known, mixture=m, weight=w), mixture),
        "constant": (
            rules.coherent_losses(known, coherence=parameters["coherence"], weight=w),
            fuse("constant_coherence", log_p, weights=weights, coherence=parameters["coherence"]).p,
        ),
        "brf": (rules.coherent_losses(known, coherence=c), fuse("constant_coherence", log_p, coherence=c).p),
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
        "exponent": st.floats(1.0, 3.0),
        "mixture": st.floats(0.0, 1.0),
        "coherence": st.floats(-0.95, 1.0),
        "order": st.floats(-3.0, 3.0).filter(lambda r: abs(r) > 0.05),
    }
)


def _cosines(seed: int, n: int) -> np.ndarray:
    # Short of antiphase, where equal models' normaliser is all rounding (Z of 1e-9 knows the loss to 1e-6).
    return np.cos(np.random.default_rng(seed).uniform(0, 0.95 * np.pi, n))


@settings(deadline=None, max_examples=150)
@given(SEEDS, KINDS, shapes(), PARAMETERS)
def test_losses_and_differences(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    found = _exact(made, _cosines(seed, made.targets.size), parameters)
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
        lower, upper = difference_bounds(made.known, one, other)[:, kept]
        difference = (exact[first] - exact[second])[kept]
        assert (lower <= difference + 2 * ROUNDING).all(), (first, second)
        assert (upper >= difference - 2 * ROUNDING).all(), (first, second)
        separate = (one.bounds[1] - other.bounds[0])[kept]
        assert (upper <= separate + ROUNDING).all(), (first, second)


@settings(deadline=None, max_examples=150)
@given(SEEDS, KINDS, shapes())
def test_overlap(dump, seed, kind, shape) -> None:
    made = dump(seed, kind, *shape)
    lower, upper = made.known.overlap
    exact = bhattacharyya(*made.log_p)
    assert (lower <= exact + 1e-12).all()
    assert (upper >= exact - 1e-12).all()
    assert (upper <= 1).all()


@settings(deadline=None, max_examples=80)
@given(SEEDS, KINDS, shapes(), PARAMETERS)
def test_accuracy(dump, seed, kind, shape, parameters) -> None:
    made = dump(seed, kind, *shape)
    c = _cosines(seed, made.targets.size)
    found = _exact(made, c, parameters)
    w, s, order, constant = (parameters[name] for name in ("weight", "exponent", "order", "coherence"))
    asked = {
        "linear": ("linear", {"weight": w}),
        "log_linear": ("log_linear", {"weight": w}),
        "product": ("product", {"exponent": s}),
        "constant": ("constant_coherence", {"coherence": constant, "weight": w}),
        "brf": ("constant_coherence", {"coherence": c}),
        f"power_mean {order}": ("power_mean", {"order": order, "weight": w}),
    }
    for name, (rule, given_parameters) in asked.items():
        p = found[name][1]
        if (p.sum(axis=1) < 0.5).any():  # undefined somewhere: there is no top token to ask for
            continue
        others = p.copy()
        np.put_along_axis(others, made.targets[:, None], -1.0, 1)
        # Within rounding of a tie either answer is right.
        margin = 1e-9 * others.max(axis=1)
        lead = made.at_target(p) - others.max(axis=1)
        lower, upper = accuracy_bounds(made.known, rule, **given_parameters).mean(axis=1)
        assert lower <= (lead > -margin).mean() + 1e-12, name
        assert upper >= (lead > margin).mean() - 1e-12, name
        if min(shape[1]) == shape[0] and kind == "dirichlet":
            assert lower == upper, name


@settings(deadline=None, max_examples=80)
@given(SEEDS, KINDS, shapes())
def test_below_minimum(dump, seed, kind, shape) -> None:
    made = dump(seed, kind, *shape)
    c = _cosines(seed, made.targets.size)
    losses = rules.coherent_losses(made.known, coherence=c)
    spec = RuleSpec("brf", "candidate", lambda r, p: losses, {})
    surely, middle, possibly = below_minimum(made.known, ScoredRule(spec, losses, ({},)))
    q = made.at_target(fuse("constant_coherence", made.log_p, coherence=c).p)
    ratio = q / np.exp(made.known.target.min(axis=0))
    assert not surely[ratio > 1 + 1e-6].any()
    assert possibly[ratio < 1 - 1e-6].all()
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
    joint = np.diff(difference_bounds(made.known, brf, constant), axis=0).mean()
    separate = sum(np.diff(one.bounds, axis=0).mean() for one in (brf, constant))
    assert joint < 0.4 * separate


def test_overlap_alone_is_asked_of_rules_that_have_it(dump) -> None:
    made = dump(5, "dirichlet", 9, (4, 4))
    with pytest.raises(ValueError, match="not a function of the overlaps alone"):
        rules.power_mean_losses(made.known, order=2.0).at(made.known.overlaps)
