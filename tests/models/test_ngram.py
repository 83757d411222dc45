import numpy as np
import pytest

from brf_exp.models.ngram import fit_ngram


def test_bigram_by_hand() -> None:
    # One sequence a b a b a c (0 1 0 1 0 2), three symbols, order 2.
    # Bigrams: ^a 1, ab 2, ba 2, ac 1: n1 = 2, n2 = 2, discount 2 / (2 + 4) = 1/3.
    # Distinct bigrams that end in a, b, c: 2, 1, 1 of 4: n1 = 2, n2 = 1, discount 2 / (2 + 2) = 1/2.
    # Unigrams: p(a) = (2 - 1/2)/4 + (1/2 * 3 / 4)/3 = 1/2; p(b) = p(c) = (1 - 1/2)/4 + 1/8 = 1/4.
    model = fit_ngram([np.array([0, 1, 0, 1, 0, 2])], n_symbols=3, order=2)
    p = np.exp(model.log_probabilities(np.array([0, 1, 0, 2, 2])))
    after_beginning = (1 - 1 / 3) / 1 + (1 / 3 * 1 / 1) * 1 / 2
    b_after_a = (2 - 1 / 3) / 3 + (1 / 3 * 2 / 3) * 1 / 4
    a_after_b = (2 - 1 / 3) / 2 + (1 / 3 * 1 / 2) * 1 / 2
    c_after_a = (1 - 1 / 3) / 3 + (1 / 3 * 2 / 3) * 1 / 4
    c_after_c = 1 / 4  # a history never seen: the unigram
    np.testing.assert_allclose(p, [after_beginning, b_after_a, a_after_b, c_after_a, c_after_c], rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    rng = np.random.default_rng(order)
    n_symbols = 7
    model = fit_ngram([rng.integers(0, n_symbols, size) for size in (40, 3, 25)], n_symbols=n_symbols, order=order)
    for _ in range(50):
        history = rng.integers(0, n_symbols, int(rng.integers(0, 8)))
        p = [np.exp(model.log_probabilities(np.append(history, symbol))[-1]) for symbol in range(n_symbols)]
        assert sum(p) == pytest.approx(1.0, abs=1e-12)
        assert min(p) > 0


def test_predicts_what_it_has_seen() -> None:
    rng = np.random.default_rng(3)
    word = rng.integers(0, 50, 30)
    model = fit_ngram([np.tile(word, 20)], n_symbols=50)
    seen = model.log_probabilities(np.tile(word, 2))[30:]
    unseen = model.log_probabilities(rng.integers(0, 50, 200))
    assert seen.mean() > -0.1
    assert unseen.mean() < -3.0


def test_order_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"order \* 17 bits must be at most 63, got order 4"):
        fit_ngram([np.array([1, 2])], n_symbols=100_000, order=4)
