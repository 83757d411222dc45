import numpy as np
import pytest

from brf_exp.maths.convex_hull import nearest_average


def _is_nearest(q: np.ndarray, p: np.ndarray, found: np.ndarray, tolerance: float = 1e-9) -> bool:
    """The certificate of a projection: no corner lies on q's side of the plane through `found` across q - found."""
    return bool(((q - found) @ (p - found).T <= tolerance).all())


def _shares(p: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Weights of sum 1 that give the point."""
    rows = np.vstack([p.T, np.ones(len(p))])
    return np.linalg.lstsq(rows, np.append(found, 1.0), rcond=None)[0]


@pytest.mark.parametrize("n_models", [1, 2, 3, 4])
@pytest.mark.parametrize("concentration", [0.1, 2.0])
def test_it_is_the_projection(n_models: int, concentration: float) -> None:
    rng = np.random.default_rng(n_models)
    p = rng.dirichlet(np.full(6, concentration), size=(n_models, 200))
    q = rng.dirichlet(np.full(6, concentration), size=200)
    found = nearest_average(q, p)
    for n in range(200):
        shares = _shares(p[:, n], found[n])
        np.testing.assert_allclose(shares @ p[:, n], found[n], atol=1e-9)
        assert shares.min() > -1e-7
        assert _is_nearest(q[n], p[:, n], found[n])


def test_the_certificate_can_fail() -> None:
    p = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert _is_nearest(np.array([0.4, 0.6]), p, np.array([0.4, 0.6]))
    assert not _is_nearest(np.array([0.4, 0.6]), p, np.array([0.5, 0.5]))


def test_an_average_is_its_own_nearest() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), size=(3, 100))
    weights = rng.dirichlet(np.ones(3), size=100)
    q = np.einsum("nm,mnv->nv", weights, p)
    np.testing.assert_allclose(nearest_average(q, p), q, atol=1e-12)


def test_on_a_line_beyond_its_ends() -> None:
    p = np.array([[[0.5, 0.5]], [[0.9, 0.1]]])
    np.testing.assert_allclose(nearest_average(np.array([[0.2, 0.8]]), p), [[0.5, 0.5]])
    np.testing.assert_allclose(nearest_average(np.array([[1.0, 0.0]]), p), [[0.9, 0.1]])
    np.testing.assert_allclose(nearest_average(np.array([[0.7, 0.3]]), p), [[0.7, 0.3]])


def test_equal_models() -> None:
    p = np.broadcast_to(np.array([0.2, 0.3, 0.5]), (3, 1, 3))
    np.testing.assert_allclose(nearest_average(np.array([[0.3, 0.3, 0.4]]), p), p[0])
