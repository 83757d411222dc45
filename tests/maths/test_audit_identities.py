import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from brf_exp.maths import audit_identities as module
from brf_exp.maths.audit_cases import Forecasts, draw_forecasts
from brf_exp.maths.audit_identities import OF_PAIRS, OF_TRIPLES, identities, nearest_mixture
from brf_exp.maths.fusion import bhattacharyya
from brf_exp.maths.rules import fuse

BROKEN = {"token_phases_mixture"}


@pytest.fixture(scope="module")
def drawn() -> tuple[Forecasts, Forecasts]:
    rng = np.random.default_rng(1)
    return draw_forecasts(400, 8, rng), draw_forecasts(200, 8, rng, n_models=3)


def test_all_hold_but_the_mixture_with_a_phase_per_token(drawn: tuple[Forecasts, Forecasts]) -> None:
    found = identities(*drawn)
    assert set(found) == set(OF_PAIRS) | set(OF_TRIPLES)
    assert {name for name, identity in found.items() if not identity.holds} == BROKEN
    for identity in found.values():
        assert 0 <= identity.median_error <= identity.max_error


def test_a_phase_per_token_leads_far_from_every_mixture(drawn: tuple[Forecasts, Forecasts]) -> None:
    """The error that is reported, against a numerical search over the share of the log pool."""
    pairs = drawn[0]
    found = identities(*drawn)["token_phases_mixture"]
    q = fuse("brf", pairs.log_p, phases_rad=pairs.token_phases_rad).p
    linear, log_linear = fuse("linear", pairs.log_p).p, fuse("log_linear", pairs.log_p).p
    made = nearest_mixture(pairs.log_p, q)
    for n in range(0, 400, 40):

        def squares(share: float, n: int = n) -> float:
            return float(((q[n] - (1 - share) * linear[n] - share * log_linear[n]) ** 2).sum())

        assert ((q[n] - made[n]) ** 2).sum() == pytest.approx(minimize_scalar(squares).fun, rel=1e-9, abs=1e-15)
    errors = np.abs(q - made).max(axis=1)
    assert found.max_error == errors.max() > 0.2
    assert 0.05 < found.median_error < 0.2


def test_the_nearest_mixture_of_equal_models_is_their_distribution() -> None:
    log_p = np.log(np.broadcast_to([0.2, 0.8], (2, 1, 2)))
    np.testing.assert_allclose(nearest_mixture(log_p, np.array([[0.5, 0.5]])), [[0.2, 0.8]])


@pytest.mark.parametrize(
    ("name", "replaced", "by"),
    [
        ("lin_log_mixture", "mixture_share", lambda c, overlap: c * overlap),
        ("normaliser_bound", "bhattacharyya", lambda a, b: 0.5 * bhattacharyya(a, b)),
        ("undefined_in_antiphase", "bhattacharyya", lambda a, b: np.full(a.shape[:-1], 0.5)),
        ("pairwise_normaliser", "bhattacharyya", lambda a, b: 0.5 * bhattacharyya(a, b)),
        ("zero_phase_coherent", "coherent_numerator", lambda log_p, w, coherence: np.exp(log_p).sum(axis=0)),
    ],
)
def test_an_identity_can_fail(
    drawn: tuple[Forecasts, Forecasts], monkeypatch: pytest.MonkeyPatch, name: str, replaced: str, by: object
) -> None:
    if name == "undefined_in_antiphase":
        # A rule that calls every third position undefined.
        real = fuse

        def wrong(rule: str, log_p: np.ndarray, **parameters: object) -> object:
            made = real(rule, log_p, **parameters)
            made.undefined[::3] = True
            return made

        replaced, by = "fuse", wrong
    monkeypatch.setattr(module, replaced, by)
    broken = identities(*drawn)
    assert not broken[name].holds
    assert broken["single_model"].holds


def test_other_phases_break_what_is_said_of_the_cosine(
    drawn: tuple[Forecasts, Forecasts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With phases that are not those of the cosine, the relations that need it break and the others stay."""
    real = fuse

    def wrong(rule: str, log_p: np.ndarray, **parameters: object) -> object:
        if rule == "brf" and log_p.shape[0] > 1:
            parameters["phases_rad"] = np.asarray(parameters["phases_rad"]) * 1.5
        return real(rule, log_p, **parameters)

    monkeypatch.setattr(module, "fuse", wrong)
    broken = {name for name, identity in identities(*drawn).items() if not identity.holds}
    assert broken == BROKEN | {
        *("lin_log_mixture", "quadrature_linear", "cosine_only", "agreement_monotone"),
        *("undefined_in_antiphase", "pairwise_cross_terms", "pairwise_normaliser"),
    }


def test_three_models_by_hand(drawn: tuple[Forecasts, Forecasts]) -> None:
    """The score of three models at one token, as the sum over pairs, in plain numbers."""
    triple = drawn[1]
    made = fuse("brf", triple.log_p, phases_rad=triple.phases_rad)
    p, phi = triple.p[:, 0, 0].tolist(), triple.phases_rad[:, 0].tolist()
    score = sum(p) / 3
    for i, j in ((0, 1), (0, 2), (1, 2)):
        score += 2 / 3 * math.sqrt(p[i] * p[j]) * math.cos(phi[i] - phi[j])
    assert made.p[0, 0] * made.normaliser[0] == pytest.approx(score, rel=1e-12)


def test_agreement_is_amplified_where_the_cosine_is_positive_and_suppressed_where_not() -> None:
    """Two tokens, the models agree on the first only: q / linear there, by sign of c."""
    p = np.array([[[0.5, 0.4, 0.1]], [[0.5, 0.1, 0.4]]])
    for cosine, sign in ((0.8, 1), (-0.8, -1)):
        phases = np.array([[0.0], [math.acos(cosine)]])
        ratio = fuse("brf", np.log(p), phases_rad=phases).p[0] / fuse("linear", np.log(p)).p[0]
        assert sign * (ratio[0] - 1) > 0.03
        assert sign * (ratio[1] - 1) < -0.03
        assert identities(Forecasts(p, phases, np.zeros_like(p)), _three(p)).get("agreement_monotone").holds


def _three(p: np.ndarray) -> Forecasts:
    three = np.concatenate([p, p[:1]])
    return Forecasts(three, np.zeros(three.shape[:2]), np.zeros_like(three))


def test_positions_next_to_antiphase_of_equals_are_left_out() -> None:
    """Z = 1 - B is a rounding error there; alone they are asked all the same."""
    p = np.array([[[0.3, 0.7], [0.2, 0.8]], [[0.3 + 1e-7, 0.7 - 1e-7], [0.5, 0.5]]])
    phases = np.array([[0.0, 0.0], [np.pi, 1.0]])
    pairs = Forecasts(p, phases, np.zeros_like(p))
    three = _three(p)
    assert identities(pairs, three)["lin_log_mixture"].holds
    assert not identities(pairs.rows(slice(0, 1)), three)["lin_log_mixture"].holds
