import itertools

import numpy as np
import pytest
import torch

from brf_exp.config import RecipeConfig, TrainConfig
from brf_exp.corpora.document import Document
from brf_exp.models import tiny

DOCUMENTS = [
    Document("p1", "Some prose that is read, and read again. " * 20, "prose"),
    Document("p2", "Other prose, with other words in it. " * 10, "prose"),
    Document("c1", "def square(x):\n    return x * x\n" * 30, "code"),
]
SMALL = {"hidden_size": 16, "intermediate_size": 24, "n_layers": 1, "n_heads": 2, "context_tokens": 32}


def test_byte_tokenizer_has_256_bytes_and_an_end() -> None:
    tokenizer = tiny.make_tokenizer([], byte_level=True)
    assert len(tokenizer) == 257
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 256
    text = "naïve 😀"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def test_fitted_tokenizer_gives_text_back_in_fewer_tokens() -> None:
    tokenizer = tiny.make_tokenizer(DOCUMENTS, byte_level=False)
    text = "Some prose, and def square(x): naïve 😀"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert len(ids) < len(text)
    assert tokenizer.get_vocab() == tiny.make_tokenizer(DOCUMENTS, byte_level=False).get_vocab()
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_weights_are_of_the_seed(architecture: str) -> None:
    recipe = RecipeConfig(architecture=architecture, **SMALL)  # type: ignore[arg-type]
    first, again, other = (tiny.make_model(recipe, vocabulary_size=50, seed=seed) for seed in (1, 1, 2))
    assert first.config.model_type == architecture
    pairs = list(zip(first.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_rows_are_of_one_domain_in_the_recipe_s_share() -> None:
    streams = {name: itertools.repeat(np.full(7, value)) for name, value in (("prose", 1), ("code", 2))}
    feed = tiny.batches(streams, prose_share=0.8, n_rows=100, context_tokens=16, rng=np.random.default_rng(0))
    rows = np.concatenate([next(feed) for _ in range(10)])
    assert rows.shape == (1000, 16)
    assert (rows == rows[:, :1]).all()
    assert (rows[:, 0] == 1).mean() == pytest.approx(0.8, abs=0.05)


def test_stream_opens_documents_and_shows_all_of_them_every_epoch() -> None:
    tokenizer = tiny.make_tokenizer([], byte_level=True)
    stream = tiny.token_stream(DOCUMENTS, tokenizer, np.random.default_rng(0))
    epochs = [[tuple(next(stream)) for _ in DOCUMENTS] for _ in range(4)]
    assert all(row[0] == 256 for epoch in epochs for row in epoch)
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_learning_rate_rises_and_falls() -> None:
    scales = [tiny.learning_rate_scale(step, n_steps=100, warmup_share=0.1) for step in range(100)]
    assert scales[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert max(scales) == 1.0
    assert all(a >= b for a, b in itertools.pairwise(scales[10:]))
    assert scales[-1] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_training_lowers_the_loss_and_repeats(architecture: str) -> None:
    recipe = RecipeConfig(architecture=architecture, byte_level=True, tokens=64 * 32, seed=3, **SMALL)  # type: ignore[arg-type]
    train = TrainConfig(batch_tokens=128)
    tokenizer = tiny.make_tokenizer([], byte_level=True)
    models, losses = [], []
    for _ in range(2):
        model = tiny.make_model(recipe, vocabulary_size=257, seed=recipe.seed)
        seen: list[tiny.TrainingProgress] = []
        assert tiny.fit(model, tokenizer, DOCUMENTS, recipe, train, on_progress=seen.append) == 64 * 32
        models.append(model)
        losses.append(seen[-1])
    assert losses[0] == losses[1]
    assert losses[0].n_tokens == 64 * 32
    assert losses[0].loss_nats < np.log(257)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert not models[0].training


def test_tokens_of_the_settings_go_before_those_of_the_recipe() -> None:
    recipe = RecipeConfig(byte_level=True, tokens=10**9, **SMALL)  # type: ignore[arg-type]
    model = tiny.make_model(recipe, vocabulary_size=257, seed=0)
    tokenizer = tiny.make_tokenizer([], byte_level=True)
    train = TrainConfig(batch_tokens=64, tokens=128)
    assert tiny.fit(model, tokenizer, DOCUMENTS, recipe, train, on_progress=lambda progress: None) == 128
