"""Distance of a distribution from all weighted averages of others."""

from itertools import combinations

import numpy as np


def nearest_average(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The weighted average of the models that lies nearest to q in Euclidean distance, exactly.

    Parameters: `q` (n, V); `p` (M, n, V). Returns (n, V). The nearest point of a simplex is the foot of the
    perpendicular on one of its faces, so all 2^M - 1 faces are tried; M is a handful.

    >>> nearest_average(np.array([[0.2, 0.8]]), np.array([[[0.5, 0.5]], [[0.9, 0.1]]]))
    array([[0.5, 0.5]])
    """
    nearest, distance = p[0], np.full(q.shape[0], np.inf)
    for size in range(1, p.shape[0] + 1):
        for face in combinations(range(p.shape[0]), size):
            foot, inside = _foot(q, p[list(face)])
            found = np.where(inside, ((q - foot) ** 2).sum(axis=1), np.inf)
            closer = found < distance
            nearest, distance = np.where(closer[:, None], foot, nearest), np.where(closer, found, distance)
    return nearest


def _foot(q: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foot of the perpendicular from q on the plane through the corners, and whether it lies between them."""
    edges = np.moveaxis(corners[1:] - corners[0], 0, 1)
    gram = edges @ edges.transpose(0, 2, 1)
    shares = (np.linalg.pinv(gram, hermitian=True) @ (edges @ (q - corners[0])[:, :, None]))[:, :, 0]
    inside = (shares >= 0).all(axis=1) & (shares.sum(axis=1) <= 1)
    return corners[0] + np.einsum("nk,nkv->nv", shares, edges), inside
