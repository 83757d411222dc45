"""AUCs and their variance against scikit-learn, scipy, the published example, loops and the bootstrap."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from brf_exp.maths.auc import auc, auc_differences, obuchowski, placement_values, within_document_auc
from brf_exp.maths.documents import offsets_from_lengths

# Obuchowski (1997), table 3: two readers' scores of arteries by patient, + with and - without stenosis, and the results
# printed with them; taken from a public transcription of the example, not from the article. Complete records only.
STENOSIS = """
+87,87 +79,83 | +88,94 +95,93 | +100,100 +68,79 | +65,61 +89,91 | +97,97 +100,100 | +100,99 +89,88 | +77,77
+94,89 -45,44 | +89,92 --11,-17 | +95,91 -30,14 | +95,95 -10,-122 | +100,100 -19,-3 | +75,75 | -70,73 +70,81
-26,27 +86,93 | -0,8 +65,70 | -6,23 +100,100 | -76,79 +96,95 | -44,55 +100,100 | -73,67 +97,94 | +85,86
-58,60 +100,99 | --2,-2 +100,100 | --3,-14 -0,-11 | -47,-3 --94,-90 | --16,17 -75,85 | -5,-22 --1,-14 | --6,-52
-37,38 -47,35 | -42,40 -4,6 | -55,23 -55,45 | -4,-87 --13,-65 | -49,24 -35,9 | -53,66 | -2,-15 | --48,-78
"""


def _stenosis() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    patients = [patient.split() for patient in STENOSIS.strip().replace("\n", "|").split("|")]
    arteries = [artery for patient in patients for artery in patient]
    scores = np.array([[float(value) for value in artery[1:].split(",")] for artery in arteries])
    labels = np.array([artery[0] == "+" for artery in arteries])
    return scores, labels, offsets_from_lengths(np.array([len(patient) for patient in patients]))


def _world(
    seed: int, n_documents: int = 25, n_scores: int = 3, effect: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ragged documents that share a level, scores rounded so that they tie, and some documents of one class."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, n_documents)
    offsets = offsets_from_lengths(lengths)
    level = np.repeat(effect * rng.standard_normal((n_documents, n_scores + 1)), lengths, axis=0)
    latent = level + rng.standard_normal((offsets[-1], n_scores + 1))
    scores = latent[:, 1:] + np.linspace(0.2, 1.0, n_scores) * latent[:, :1]
    return np.round(scores, 1), latent[:, 0] > 0.5, offsets


def _kernel(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1, 1/2 or 0 for every positive (rows) and negative (columns) of one score: a double loop."""
    positive, negative = scores[labels], scores[~labels]
    found = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in product(positive, negative)]
    return np.array(found).reshape(positive.size, negative.size)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_auc_against_scikit_learn_and_scipy(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 400))
    labels = rng.permutation(np.arange(n) < rng.integers(1, n))
    scores = np.round(rng.standard_normal(n) + 0.5 * labels, decimals)
    found = auc(scores, labels)
    assert found == pytest.approx(roc_auc_score(labels, scores), abs=1e-13)
    count = stats.mannwhitneyu(scores[labels], scores[~labels], method="asymptotic").statistic
    assert found == pytest.approx(count / (labels.sum() * (~labels).sum()), abs=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.bool_])
def test_other_numbers_than_doubles(dtype: type) -> None:
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 3, 200).astype(dtype), rng.random(200) < 0.3
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-13)


def test_delong_against_the_kernel() -> None:
    """With one row per document: covariances of the kernel's row and column means."""
    scores, labels, _ = _world(1)
    kernels = [_kernel(column, labels) for column in scores.T]
    v10 = np.column_stack([kernel.mean(axis=1) for kernel in kernels])
    v01 = np.column_stack([kernel.mean(axis=0) for kernel in kernels])
    for column, first, second in zip(scores.T, v10.T, v01.T, strict=True):
        values = placement_values(column, labels)
        np.testing.assert_allclose(values[labels], first, atol=1e-14)
        np.testing.assert_allclose(values[~labels], second, atol=1e-14)
    expected = np.cov(v10.T) / v10.shape[0] + np.cov(v01.T) / v01.shape[0]
    found = obuchowski(scores, labels, np.arange(labels.size + 1))
    np.testing.assert_allclose(found.aucs, [kernel.mean() for kernel in kernels], atol=1e-14)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-11)


def _slow_covariance(kernels: list[np.ndarray], labels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Obuchowski's formula, one document and one pair of scores at a time."""
    n_positive, n_negative, n_documents = int(labels.sum()), int((~labels).sum()), offsets.size - 1
    document = np.repeat(np.arange(n_documents), np.diff(offsets))
    n_first = sum(labels[document == d].any() for d in range(n_documents))
    n_second = sum((~labels[document == d]).any() for d in range(n_documents))
    errors = []
    for kernel in kernels:
        v10, v01 = kernel.mean(axis=1), kernel.mean(axis=0)
        e1 = [sum(v - kernel.mean() for v in v10[document[labels] == d]) for d in range(n_documents)]
        e0 = [sum(v - kernel.mean() for v in v01[document[~labels] == d]) for d in range(n_documents)]
        errors.append((e1, e0))
    covariance = np.empty((len(kernels), len(kernels)))
    for (i, (e1, e0)), (j, (f1, f0)) in product(enumerate(errors), repeat=2):
        s10 = n_first / ((n_first - 1) * n_positive) * sum(x * y for x, y in zip(e1, f1, strict=True))
        s01 = n_second / ((n_second - 1) * n_negative) * sum(x * y for x, y in zip(e0, f0, strict=True))
        s11 = n_documents / (n_documents - 1) * sum(x * y for x, y in zip(e1, f0, strict=True))
        s11 += n_documents / (n_documents - 1) * sum(x * y for x, y in zip(f1, e0, strict=True))
        covariance[i, j] = s10 / n_positive + s01 / n_negative + s11 / (n_positive * n_negative)
    return covariance


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_covariance_against_loops(seed: int) -> None:
    scores, labels, offsets = _world(seed)
    expected = _slow_covariance([_kernel(column, labels) for column in scores.T], labels, offsets)
    found = obuchowski(scores, labels, offsets)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-10)
    for made in auc_differences(found, candidate=1, confidence_level=0.95):
        k = made.reference
        variance = expected[1, 1] + expected[k, k] - 2 * expected[1, k]
        assert made.standard_error == pytest.approx(np.sqrt(variance), rel=1e-8)


def test_published_example() -> None:
    found = obuchowski(*_stenosis())
    assert (found.n_documents, found.n_positive, found.n_negative) == (36, 29, 36)
    assert np.round(found.aucs, 4).tolist() == [0.9837, 0.9852]
    assert np.round(found.standard_errors, 4).tolist() == [0.0108, 0.0097]
    # The printed S10, S01, S11 + S11' of reader 1, of reader 2 and of both.
    parts = {
        (0, 0): (0.0013151307, 0.0022375873, 2 * 0.0051785478),
        (1, 1): (0.0009284122, 0.0022598583, 2 * -0.0005015760),
        (0, 1): (0.0008484357, 0.0019241250, 0.0028648340 - 0.0015136931),
    }
    for place, (s10, s01, s11) in parts.items():
        assert found.covariance[place] == pytest.approx(s10 / 29 + s01 / 36 + s11 / (29 * 36), abs=1e-11)


def test_published_difference() -> None:
    (made,) = auc_differences(obuchowski(*_stenosis()), candidate=1, confidence_level=0.95)
    assert (made.reference, made.df) == (0, 35)
    assert made.difference == pytest.approx(0.0014, abs=5e-5)
    assert made.standard_error == pytest.approx(0.0066, abs=5e-5)
    # They take the normal distribution where t(35) is taken here.
    assert 2 * stats.norm.sf(abs(made.statistic)) == pytest.approx(0.8271, abs=5e-5)
    normal = made.difference + stats.norm.ppf([0.025, 0.975]) * made.standard_error
    assert normal == pytest.approx([-0.0115, 0.0143], abs=5e-5)
    assert made.pvalue == pytest.approx(2 * stats.t.sf(abs(made.statistic), 35))
    assert made.interval == pytest.approx(stats.t.interval(0.95, 35, made.difference, made.standard_error))


def _bootstrap_aucs(scores: np.ndarray, labels: np.ndarray, offsets: np.ndarray, n_resamples: int) -> np.ndarray:
    """AUCs of resampled documents, (n_resamples, K), from the kernel summed over pairs of documents."""
    n_documents = offsets.size - 1
    document = np.repeat(np.arange(n_documents), np.diff(offsets))
    weights = np.random.default_rng(5).multinomial(n_documents, np.full(n_documents, 1 / n_documents), n_resamples)
    members = (document[None, :] == np.arange(n_documents)[:, None]).astype(float)
    first, second = members[:, labels], members[:, ~labels]
    pairs = (weights @ first.sum(axis=1)) * (weights @ second.sum(axis=1))
    sums = [first @ _kernel(column, labels) @ second.T for column in scores.T]
    return np.column_stack([np.einsum("bd,de,be->b", weights, matrix, weights) / pairs for matrix in sums])


def test_standard_errors_against_the_bootstrap_of_documents() -> None:
    scores, labels, offsets = _world(6, n_documents=80)
    replicates = _bootstrap_aucs(scores, labels, offsets, 4000)
    found = obuchowski(scores, labels, offsets)
    tokens = obuchowski(scores, labels, np.arange(labels.size + 1))
    spread = replicates.std(axis=0, ddof=1)
    np.testing.assert_allclose(found.standard_errors, spread, rtol=0.05)
    differences = auc_differences(found, confidence_level=0.95)
    for made in differences:
        expected = (replicates[:, 0] - replicates[:, made.reference]).std(ddof=1)
        assert made.standard_error == pytest.approx(expected, rel=0.05)
    # Rows taken as independent are far off.
    assert (tokens.standard_errors < 0.7 * spread).all()


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_within_documents_against_loops(seed: int) -> None:
    scores, labels, offsets = _world(seed, n_scores=1)
    found = within_document_auc(
        scores[:, 0], labels, offsets, confidence_level=0.95, n_resamples=99, rng=np.random.default_rng(0)
    )
    concordant, pairs = [], []
    for start, stop in zip(offsets[:-1], offsets[1:], strict=True):
        own = labels[start:stop]
        if own.any() and not own.all():
            kernel = _kernel(scores[start:stop, 0], own)
            concordant.append(kernel.size * roc_auc_score(own, scores[start:stop, 0]))
            pairs.append(kernel.size)
            assert kernel.sum() == pytest.approx(concordant[-1])
    assert found.value == pytest.approx(sum(concordant) / sum(pairs), abs=1e-13)
    assert (found.n_documents, found.n_pairs) == (len(pairs), sum(pairs))
    assert found.n_dropped == offsets.size - 1 - len(pairs) > 0
    errors = np.array(concordant) - found.value * np.array(pairs)
    variance = len(pairs) / (len(pairs) - 1) * (errors**2).sum() / sum(pairs) ** 2
    assert found.standard_error == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_within_equal_documents_is_the_t_test_of_their_aucs() -> None:
    rng = np.random.default_rng(10)
    labels = np.concatenate([rng.permutation(np.arange(20) < 8) for _ in range(12)])
    scores, offsets = rng.standard_normal(240) + 0.3 * labels, np.arange(0, 241, 20)
    found = within_document_auc(
        scores, labels, offsets, confidence_level=0.9, n_resamples=99, rng=np.random.default_rng(0)
    )
    aucs = [
        roc_auc_score(own, values) for own, values in zip(labels.reshape(12, 20), scores.reshape(12, 20), strict=True)
    ]
    expected = stats.ttest_1samp(aucs, 0.5)
    assert found.method == "t"
    assert (found.value, found.pvalue) == pytest.approx((np.mean(aucs), expected.pvalue))
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.9)))
