from pathlib import Path

import numpy as np
import pytest
import torch

from brf_exp.capture.forward import Scores, score
from brf_exp.capture.reduce import reduce_logits, top_k
from brf_exp.capture.windows import plan_windows
from brf_exp.config import Dtype
from brf_exp.errors import InputError
from brf_exp.models.load import LoadedModel, load_model, resolve_spec

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "models"
TEXT = "Once upon a time there was a little girl named Lily. She loved to play outside in the park. " * 12


def reference_scores(folder: Path, sequence: np.ndarray, *, context: int, least: int, k: int) -> tuple[np.ndarray, ...]:
    """Full-vocabulary float64 log-probabilities, one window at a time: of the targets, and the k largest."""
    loaded = load_model(resolve_spec(str(folder)), Dtype.FLOAT64, "cpu")
    targets, largest = [], []
    for window in plan_windows(len(sequence), context_tokens=context, min_context_tokens=least):
        rows = torch.from_numpy(sequence[window.start : window.stop][None].astype(np.int64))
        with torch.inference_mode():
            logits = loaded.model(input_ids=rows).logits[0, window.first_target - 1 - window.start :]
        log_p = torch.log_softmax(logits[:, : loaded.true_vocabulary_size], dim=-1).numpy()
        truth = sequence[window.first_target : window.stop + 1]
        targets.append(log_p[np.arange(len(truth)), truth])
        largest.append(-np.sort(-log_p, axis=1)[:, :k])
    return np.concatenate(targets), np.concatenate(largest)


def sequences_of(loaded: LoadedModel, *texts: str) -> list[np.ndarray]:
    ids = [loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    return [np.array([loaded.beginning_id, *row], dtype=np.int32) for row in ids]


@pytest.mark.parametrize(("dtype", "tolerance"), [(Dtype.FLOAT32, 5e-5), (Dtype.FLOAT64, 1e-5)])
@pytest.mark.parametrize("model", ["stories260k", "babyllama105"])
def test_agrees_with_a_plain_float64_pass(model: str, dtype: Dtype, tolerance: float) -> None:
    folder = SHARED / model
    if not folder.is_dir():
        pytest.skip("no reference models here")
    loaded = load_model(resolve_spec(str(folder)), dtype, "cpu")
    sequences = sequences_of(loaded, TEXT, TEXT[7:90], TEXT[11:])
    scores = score(loaded, sequences, k=20, batch_tokens=512, min_context_tokens=64, context_tokens=128)
    first = 0
    for sequence in sequences:
        context = min(loaded.context_tokens, 128)
        targets, largest = reference_scores(folder, sequence, context=context, least=64, k=20)
        rows = slice(first, first + len(targets))
        first += len(targets)
        np.testing.assert_allclose(scores.target_logit[rows] - scores.logsumexp[rows], targets, atol=tolerance, rtol=0)
        kept = scores.logits[rows] - scores.logsumexp[rows, None]
        np.testing.assert_allclose(kept, largest, atol=tolerance, rtol=0)
    assert first == len(scores.logsumexp)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_batching_does_not_move_the_numbers(architecture: str, make_folder) -> None:  # type: ignore[no-untyped-def]
    loaded = load_model(resolve_spec(str(make_folder(architecture=architecture))), Dtype.FLOAT64, "cpu")
    sequences = sequences_of(loaded, TEXT[:200], TEXT[:3], TEXT[5:70])
    together = score(loaded, sequences, k=257, batch_tokens=4096, min_context_tokens=8)
    # A stretch of text that is longer than a batch is one by itself.
    alone = [score(loaded, [s], k=257, batch_tokens=8, min_context_tokens=8) for s in sequences]
    for name in vars(together):
        expected = np.concatenate([getattr(scores, name) for scores in alone])
        np.testing.assert_allclose(getattr(together, name), expected, atol=2e-6, err_msg=name)


def test_whole_vocabulary_sums_to_one(tiny_folder: Path) -> None:
    loaded = load_model(resolve_spec(str(tiny_folder)), Dtype.FLOAT32, "cpu")
    scores = score(loaded, sequences_of(loaded, TEXT[:100]), k=257, batch_tokens=64, min_context_tokens=4)
    p = np.exp(scores.logits.astype(np.float64) - scores.logsumexp[:, None])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)  # sums of float32 terms
    np.testing.assert_allclose(scores.entropy, -(p * np.log(p)).sum(axis=1), rtol=1e-6)
    assert (p[:, 0] > 10 * p[:, -1]).all()  # the model is not uniform, so the comparison says something
    position = np.arange(len(p))
    rank = scores.target_rank
    np.testing.assert_array_equal(scores.ids[position, rank - 1], sequences_of(loaded, TEXT[:100])[0][1:])
    np.testing.assert_array_equal(scores.logits[position, rank - 1], scores.target_logit)


def test_padded_ids_are_left_out(make_folder) -> None:  # type: ignore[no-untyped-def]
    loaded = load_model(resolve_spec(str(make_folder(n_padding=63))), Dtype.FLOAT32, "cpu")
    assert (loaded.true_vocabulary_size, loaded.padded_vocabulary_size) == (257, 320)
    scores = score(loaded, sequences_of(loaded, TEXT[:60]), k=257, batch_tokens=64, min_context_tokens=4)
    assert scores.ids.max() == 256
    p = np.exp(scores.logits.astype(np.float64) - scores.logsumexp[:, None])
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)  # sums of float32 terms
    with torch.inference_mode():
        rows = torch.from_numpy(sequences_of(loaded, TEXT[:20])[0][None].astype(np.int64))
        full = loaded.model(input_ids=rows).logits[0].double()
    excluded = 1 - torch.exp(torch.logsumexp(full[:, :257], -1) - torch.logsumexp(full, -1))
    assert float(excluded.min()) > 0.01  # leaving them in would have shown


def test_ties_go_to_the_lower_id() -> None:
    logits = torch.tensor(
        [[1.0, 3.0, 3.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]]
    )
    ids, values = top_k(logits, k=4)
    assert ids.tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert values.tolist() == [[3, 3, 2, 2], [0, 0, 0, 0], [5, 4, 3, 2]]


def test_top_k_is_a_stable_sort() -> None:
    rng = np.random.default_rng(2)
    logits = rng.integers(0, 6, (200, 30)).astype(np.float32)
    for k in (2, 7, 30):
        ids, values = top_k(torch.from_numpy(logits), k=k)
        expected = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        np.testing.assert_array_equal(ids, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(logits, expected, axis=1))


def test_rank_counts_ties_by_id() -> None:
    logits = torch.tensor([[2.0, 5.0, 2.0, 2.0]]).repeat(4, 1)
    scores = reduce_logits(logits, torch.arange(4), k=2).scores(())
    assert scores.target_rank.tolist() == [2, 1, 3, 4]


def test_entropy_of_a_certain_outcome_is_zero() -> None:
    scores = reduce_logits(torch.tensor([[0.0, -float("inf"), -float("inf")]]), torch.tensor([0]), k=2).scores(())
    assert scores.entropy.tolist() == [0.0]
    assert scores.logsumexp.tolist() == [0.0]


def test_logits_that_are_not_numbers(tiny_folder: Path) -> None:
    loaded = load_model(resolve_spec(str(tiny_folder)), Dtype.FLOAT32, "cpu")
    next(iter(loaded.model.parameters())).data[7] = float("nan")
    sequences = [np.array([256, 7, 7, 7], dtype=np.int32)]
    with pytest.raises(
        InputError, match=r"must give finite logits, got NaN or infinity\. Try capture\.dtype=float32\."
    ):
        score(loaded, sequences, k=3, batch_tokens=64, min_context_tokens=4)


def test_progress_counts_every_position(tiny_folder: Path) -> None:
    loaded = load_model(resolve_spec(str(tiny_folder)), Dtype.FLOAT32, "cpu")
    done: list[int] = []
    scores: Scores = score(
        loaded,
        sequences_of(loaded, TEXT[:300], "ab"),
        k=2,
        batch_tokens=64,
        min_context_tokens=4,
        on_tokens=done.append,
    )
    assert sum(done) == len(scores.logsumexp) == 302
