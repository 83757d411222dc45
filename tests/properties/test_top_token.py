"""Whatever is cut away from full distributions, surely and possibly right contain what the full ones say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brf_exp.maths import fusion
from brf_exp.maths.fusion_rows import coherences
from brf_exp.maths.top_token import coherent_top, mixture_top, token_phase_top

SEEDS = st.integers(0, 2**32 - 1)
KINDS = st.sampled_from(["dirichlet", "peaked", "tied", "equal", "tiny_tails"])


@st.composite
def shapes(draw) -> tuple[int, tuple[int, ...]]:
    """Vocabulary size, and how many rows of it each of two or three models' dumps keep."""
    size = draw(st.integers(2, 14))
    n_models = draw(st.sampled_from([2, 3]))
    return size, tuple(draw(st.integers(1, size)) for _ in range(n_models))


def _weights(seed: int, n_models: int) -> tuple[float | np.ndarray, np.ndarray]:
    """The weight argument, and all weights."""
    weights = np.random.default_rng(seed).dirichlet(np.full(n_models, 2.0))
    if n_models == 2:
        weights[1] = 1 - weights[0]
        return float(weights[0]), weights
    return weights, weights


def _check(made, scores: np.ndarray, found: np.ndarray, *, whole: bool) -> None:
    """`scores` (n, V) of the full distributions; near a tie either answer is right."""
    surely, possibly = found
    others = scores.copy()
    np.put_along_axis(others, made.targets[:, None], -np.inf, 1)
    lead, margin = made.at_target(scores) - others.max(axis=1), 1e-9 * scores.max(axis=1)
    defined = scores.sum(axis=1) > 1e-9
    assert (surely <= possibly).all()
    assert (lead > -margin)[surely & defined].all()
    assert possibly[(lead > margin) & defined].all()
    if whole:
        clear = defined & (np.abs(lead) > margin)
        np.testing.assert_array_equal(surely[clear], (lead > 0)[clear])
        np.testing.assert_array_equal(possibly[clear], (lead > 0)[clear])


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes(), st.floats(0.0, 1.0))
def test_mixture(dump, seed, kind, shape, mixture) -> None:
    made = dump(seed, kind, *shape)
    weight, weights = _weights(seed, len(shape[1]))
    scores = fusion.lin_log_numerator(made.log_p, weights, mixture=mixture)
    found = mixture_top(made.known, mixture=mixture, weight=weight)
    _check(made, scores, found, whole=min(shape[1]) == shape[0] and kind in ("dirichlet", "tied"))


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes())
def test_one_phase_per_position(dump, seed, kind, shape) -> None:
    made = dump(seed, kind, *shape)
    n_models = len(shape[1])
    weight, weights = _weights(seed, n_models)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, (n_models, made.targets.size))
    scores = fusion.born_numerator(made.log_p, weights, phases_rad=phases)
    found = coherent_top(made.known, coherence=coherences(phases), weight=weight)
    _check(made, scores, found, whole=min(shape[1]) == shape[0])


@settings(deadline=None, max_examples=100)
@given(SEEDS, KINDS, shapes(), st.floats(-1.0, 1.0))
def test_one_coherence_for_all_pairs(dump, seed, kind, shape, constant) -> None:
    """Also where no phases have it: three models cannot all be opposed, and the score is cut at 0."""
    made = dump(seed, kind, *shape)
    n_models = len(shape[1])
    weight, weights = _weights(seed, n_models)
    scores = fusion.coherent_numerator(made.log_p, weights, coherence=constant)
    pairs = n_models * (n_models - 1) // 2
    found = coherent_top(made.known, coherence=np.full((pairs, made.targets.size), constant), weight=weight)
    _check(made, scores, found, whole=False)


@settings(deadline=None, max_examples=200)
@given(SEEDS, KINDS, shapes())
def test_a_phase_per_token(dump, seed, kind, shape) -> None:
    """Whatever the phases of tokens outside the shared ones."""
    made = dump(seed, kind, *shape)
    n_models = len(shape[1])
    weight, weights = _weights(seed, n_models)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, made.log_p.shape)
    if seed % 2:
        phases[...] = 0.0  # all aligned, the most that a token outside can have
    ids = np.maximum(made.known.shared_ids, 0)
    of_shared = np.take_along_axis(phases, np.broadcast_to(ids, (n_models, *ids.shape)), axis=2)
    scores = fusion.born_numerator(made.log_p, weights, phases_rad=phases)
    found = token_phase_top(made.known, phases_rad=of_shared, weight=weight)
    _check(made, scores, found, whole=min(shape[1]) == shape[0])


def test_the_more_rows_the_fewer_open_positions(dump) -> None:
    """With two models and with three; hardly any are open where the tail is thin."""
    for n_models in (2, 3):
        rng = np.random.default_rng(1)
        c = coherences(rng.uniform(0, 1, (n_models, 400)))
        shares = []
        for k in (3, 8, 13):
            made = dump(3, "peaked", 14, (k,) * n_models, n=400)
            found = [
                coherent_top(made.known, coherence=c),
                mixture_top(made.known, mixture=0.5),
                token_phase_top(made.known, phases_rad=rng.uniform(0, 1, made.known.shared.shape)),
            ]
            shares.append([(surely != possibly).mean() for surely, possibly in found])
        few, some, many = np.array(shares)
        assert (few > some).all() and (some > many).all() and (many < 0.05).all() and (few > 0.1).all()


def test_many_models_have_the_aligned_bound(dump) -> None:
    made = dump(4, "dirichlet", 10, (4,) * 9, n=100)
    phases = np.random.default_rng(2).uniform(0, 1, (9, 100))
    scores = fusion.born_numerator(made.log_p, np.full(9, 1 / 9), phases_rad=phases)
    _check(made, scores, coherent_top(made.known, coherence=coherences(phases)), whole=False)
