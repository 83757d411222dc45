"""A random tiny model on disk: quick to make, quick to run, with logits that differ."""

from collections.abc import Callable
from pathlib import Path

import pytest

from brf_exp.config import RecipeConfig

MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Saves a random byte-level model of 257 real ids; `n_padding` further ids have logits but no token."""
    from brf_exp.models.tiny import make_model, make_tokenizer

    def make(*, n_padding: int = 0, architecture: str = "llama", context_tokens: int = 32, seed: int = 0) -> Path:
        recipe = RecipeConfig(
            architecture=architecture,
            byte_level=True,
            hidden_size=16,
            intermediate_size=24,
            n_layers=2,
            n_heads=2,
            context_tokens=context_tokens,
        )
        folder = tmp_path_factory.mktemp("model") / f"random_{architecture}_{n_padding}_{seed}"
        tokenizer = make_tokenizer([], byte_level=True)
        model = make_model(recipe, vocabulary_size=len(tokenizer) + n_padding, seed=seed)
        for parameter in model.parameters():
            parameter.data.mul_(8.0 if parameter.ndim > 1 else 1.0)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_folder: MakeModel) -> Path:
    """One such model without padding."""
    return make_folder()
