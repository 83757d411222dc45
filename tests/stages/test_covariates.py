"""Features of tokens, and predictions that no document's own gaps have a part in."""

from typing import Any

import numpy as np
import pytest

from brf_exp.maths import documents
from brf_exp.maths.documents import document_chunks, offsets_from_lengths, positions_within
from brf_exp.stages import covariates as c
from brf_exp.stages.covariates import Covariates, FeatureArray, TokenFeatures, cross_fitted_prediction, token_covariates
from brf_exp.stages.gap_rows import SIGNALS, GapRows, Signals
from brf_exp.storage.captures import DocumentIndex

LENGTHS = np.array([30, 1, 2, 45, 60, 12, 3, 80, 40, 27])
OFFSETS = offsets_from_lengths(LENGTHS)
N = int(OFFSETS[-1])


def rows(seed: int = 0, *, n_proxies: int = 2, ids: bool = True, classes: bool = True) -> GapRows:
    rng = np.random.default_rng(seed)
    proxies = [Signals(f"p{k}", rng.random((len(SIGNALS), N)).astype(np.float32)) for k in range(n_proxies)]
    return GapRows(
        models=("a", "b"),
        documents=DocumentIndex(tuple(map(str, range(LENGTHS.size))), OFFSETS),
        gaps=rng.exponential(1.0, (2, N)),
        signals=tuple(proxies),
        n_under_test=0,
        token_id=rng.choice([3, 5, 900], N, p=[0.6, 0.38, 0.02]).astype(np.int32) if ids else None,
        token_class=rng.integers(0, 9, N).astype(np.int8) if classes else None,
    )


def expected_features(made: GapRows) -> np.ndarray:
    """Row by row, from the definition; frequent ids are 3 and 5."""
    assert made.token_id is not None and made.token_class is not None
    number = {3: 1, 5: 2}
    found = []
    for start, stop in zip(OFFSETS[:-1], OFFSETS[1:], strict=True):
        for place, row in enumerate(range(start, stop)):
            values: list[float] = [place, stop - start - place]
            values += [signal for proxy in made.signals for signal in proxy.values[:, row]]
            values += [
                number.get(int(made.token_id[row - lag]), 0) if place >= lag else c.MAX_CLASSES + 1 for lag in (1, 2)
            ]
            values += [made.token_class[row], made.token_class[row - 1] if place >= 1 else c.MAX_CLASSES + 1]
            found.append(values)
    return np.array(found, dtype=np.float32)


@pytest.mark.parametrize("chunk_rows", [1, 50, 10_000])
def test_features_are_those_of_each_token(chunk_rows: int) -> None:
    made = rows()
    features = TokenFeatures(made, made.signals)
    found = [features.at(chunk) for chunk in document_chunks(OFFSETS, chunk_rows)]
    np.testing.assert_array_equal(np.concatenate(found), expected_features(made))
    assert features.categorical == [False] * 10 + [True] * 4
    assert features.frequent_ids.tolist() == [3, 5]


@pytest.mark.parametrize(
    ("n_proxies", "ids", "classes", "categorical"),
    [
        (0, False, False, [False] * 2),
        (1, True, False, [False] * 6 + [True] * 2),
        (1, False, True, [False] * 6 + [True] * 2),
    ],
)
def test_what_is_not_known_is_no_feature(n_proxies: int, ids: bool, classes: bool, categorical: list[bool]) -> None:
    made = rows(n_proxies=n_proxies, ids=ids, classes=classes)
    covariates = token_covariates(made, made.signals, np.zeros(LENGTHS.size))
    assert covariates.categorical == categorical
    assert covariates.features.at(slice(2, 5)).shape == (LENGTHS[2:5].sum(), len(categorical))


def test_the_realised_token_is_no_feature() -> None:
    made = rows()
    assert made.token_id is not None
    before = TokenFeatures(made, made.signals).at(slice(0, LENGTHS.size))
    last = OFFSETS[1:] - 1
    made.token_id[last] = np.where(made.token_id[last] == 3, 5, 3)
    np.testing.assert_array_equal(TokenFeatures(made, made.signals).at(slice(0, LENGTHS.size)), before)


def test_rare_ids_and_negative_ids_are_one_class() -> None:
    ids = np.concatenate([np.full(c.RARE, 7), np.full(c.RARE - 1, 8), np.full(c.RARE + 1, 2), [-1, 10**6]])
    frequent = c._frequent(ids)
    assert frequent.tolist() == [2, 7]
    assert c._classes(np.array([7, 8, 2, -1, 10**6, 0]), frequent).tolist() == [2, 0, 1, 0, 0, 0]
    assert c._classes(np.array([7, 8]), c._frequent(np.array([1, 2]))).tolist() == [0, 0]


def test_no_more_classes_than_bins() -> None:
    ids = np.repeat(np.arange(1000), c.RARE)
    assert c._frequent(ids).size == c.MAX_CLASSES
    assert c._frequent(ids).tolist() == list(range(c.MAX_CLASSES))


# --- the cross-fitted prediction --------------------------------------------------------------------------------------


def design(seed: int, *, n_documents: int = 30, length: int = 60) -> tuple[np.ndarray, Covariates, np.ndarray]:
    """Scores that depend on position and on the second feature."""
    rng = np.random.default_rng(seed)
    offsets = np.arange(0, n_documents * length + 1, length)
    x, noise = rng.normal(size=(2, offsets[-1]))
    features = np.column_stack([positions_within(offsets), x]).astype(np.float32)
    scores = np.sin(features[:, 0] / 9) + x + 0.3 * noise
    folds = np.arange(n_documents) % 5
    return scores, Covariates(FeatureArray(features, offsets), [False, False], folds), offsets


def predicted(scores: np.ndarray, covariates: Covariates, offsets: np.ndarray, *, seed: int = 0) -> np.ndarray:
    out = np.full(scores.size, np.nan)
    cross_fitted_prediction(scores, covariates, offsets, seed=seed, out=out)
    return out


def test_it_predicts_what_the_features_tell() -> None:
    scores, covariates, offsets = design(0)
    found = predicted(scores, covariates, offsets)
    truth = scores - documents.spread(documents.document_means(scores, offsets), offsets)
    assert np.corrcoef(found, truth)[0, 1] > 0.9


def test_no_document_predicts_itself() -> None:
    scores, covariates, offsets = design(1)
    before = predicted(scores, covariates, offsets)
    mine = np.repeat(covariates.folds == 2, np.diff(offsets))
    changed = np.where(mine, -5 * scores[::-1], scores)
    after = predicted(changed, covariates, offsets)
    np.testing.assert_array_equal(after[mine], before[mine])
    assert (after[~mine] != before[~mine]).any()


def test_a_documents_level_is_no_part_of_it() -> None:
    scores, covariates, offsets = design(2)
    level = np.repeat(np.random.default_rng(0).integers(-4, 5, offsets.size - 1), np.diff(offsets))
    np.testing.assert_allclose(
        predicted(scores + level, covariates, offsets), predicted(scores, covariates, offsets), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("chunk_rows", [60, 500])
def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    scores, covariates, offsets = design(3)
    whole = predicted(scores, covariates, offsets)
    monkeypatch.setattr(documents.document_chunks, "__defaults__", (chunk_rows,))
    assert len(list(document_chunks(offsets))) > 3
    np.testing.assert_array_equal(predicted(scores, covariates, offsets), whole)


@pytest.mark.parametrize("n_cpus", [1, 7])
def test_processors_make_no_difference(monkeypatch: pytest.MonkeyPatch, n_cpus: int) -> None:
    scores, covariates, offsets = design(4)
    whole = predicted(scores, covariates, offsets)
    monkeypatch.setattr("os.cpu_count", lambda: n_cpus)
    np.testing.assert_array_equal(predicted(scores, covariates, offsets), whole)


@pytest.mark.parametrize("missing", ["everywhere", "in training", "here and there"])
def test_features_that_are_missing(missing: str) -> None:
    scores, covariates, offsets = design(5)
    features: Any = covariates.features
    values = np.column_stack([features.values, np.random.default_rng(0).random(scores.size)]).astype(np.float32)
    fold = np.repeat(covariates.folds, np.diff(offsets))
    absent = {"everywhere": fold >= 0, "in training": fold != 2, "here and there": np.arange(scores.size) % 3 == 0}
    values[absent[missing], 2] = np.nan
    found = predicted(scores, Covariates(FeatureArray(values, offsets), [False] * 3, covariates.folds), offsets)
    assert np.isfinite(found).all()
    assert np.corrcoef(found, scores)[0, 1] > 0.9


def test_a_long_corpus_is_fitted_on_evenly_spaced_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.full(1000, 50)
    monkeypatch.setattr(c, "MAX_FIT_ROWS", 5000)
    chosen = c._spaced(np.arange(0, 1000, 2), lengths)
    assert (chosen.size, chosen[0], chosen[-1]) == (100, 0, 998)
    assert np.ptp(np.diff(chosen)) <= 2
    np.testing.assert_array_equal(c._spaced(np.arange(99), lengths), np.arange(99))
    assert c._spaced(np.array([5]), np.full(6, 10**6)).tolist() == [5]


def test_few_rows_of_many_still_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, covariates, offsets = design(6, n_documents=60)
    monkeypatch.setattr(c, "MAX_FIT_ROWS", 1200)
    found = predicted(scores, covariates, offsets)
    assert np.corrcoef(found, scores)[0, 1] > 0.8
