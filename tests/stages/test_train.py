import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from brf_exp.config import Dtype, ModelConfig, RecipeConfig, TrainConfig, TrainStageConfig
from brf_exp.corpora import stdlib
from brf_exp.corpora.document import Document, Split
from brf_exp.errors import ConfigError, InputError
from brf_exp.models.load import load_model, resolve_spec
from brf_exp.stages import train as stage
from brf_exp.storage.runs import read_json

RECIPE = RecipeConfig(
    byte_level=True, hidden_size=16, intermediate_size=24, n_layers=1, n_heads=2, context_tokens=32, tokens=256, seed=5
)


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"prose": "Words that come, naïve words that go. ", "code": "for item in items:\n    print(item)\n"}
    documents = [
        Document(f"{domain}/{split.value}", text * n, domain, split)
        for domain, text in texts.items()
        for split, n in ((Split.TRAIN, 20), (Split.VALIDATION, 2), (Split.HELD_OUT, 4))
    ]

    def few(domain: str) -> Iterator[Document]:
        assert domain == "all"
        yield from documents

    monkeypatch.setattr(stdlib, "documents", few)


def config(tmp_path: Path, **changes: object) -> TrainStageConfig:
    """Two steps of a model 16 wide."""
    base = TrainStageConfig(
        runs_dir=str(tmp_path), model=ModelConfig("small", recipe=RECIPE), train=TrainConfig(batch_tokens=128)
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_folder_is_a_model_with_its_recipe_and_evaluation(tmp_path: Path) -> None:
    folder = stage.run(config(tmp_path))
    assert folder.parent == tmp_path / "train" and folder.name.startswith("small-")
    recipe = read_json(folder / "recipe.json")
    assert recipe["determines"]["recipe"]["seed"] == 5
    assert (recipe["n_tokens"], recipe["name"]) == (256, "small")
    loaded = load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")
    assert recipe["n_parameters"] == loaded.model.num_parameters()
    assert loaded.padded_vocabulary_size == 257
    evaluation = read_json(folder / "evaluation.json")
    assert set(evaluation["domains"]) == {"prose", "code"}
    for found in evaluation["domains"].values():
        assert set(found["bits_per_byte"]) == {"model", "ngram_tokens", "ngram_bytes", "gzip", "xz", "xz_primed"}
        assert found["n_tokens"] == found["n_bytes"]
        assert 5 < found["bits_per_byte"]["model"] < 9  # two steps teach next to nothing
        assert found["bits_per_byte"]["ngram_bytes"] < 1  # the held-out text is all in the training text
    assert evaluation["domains"]["prose"]["n_bytes"] == 4 * len("Words that come, naïve words that go. ".encode())


def test_bits_per_byte_are_those_of_a_plain_pass(tmp_path: Path) -> None:
    import torch

    folder = stage.run(config(tmp_path))
    loaded = load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")
    text = "for item in items:\n    print(item)\n" * 4
    ids = np.array([256, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]])
    nats = 0.0
    with torch.inference_mode():
        for position in range(1, len(ids)):
            # windows overlap by half the context of 32: the first reaches token 32, each further one 17 more
            start = 0 if position <= 32 else 33 + (position - 33) // 17 * 17 - 16
            logits = loaded.model(input_ids=torch.from_numpy(ids[None, start:position])).logits[0, -1].double()
            nats -= float(torch.log_softmax(logits, -1)[ids[position]])
    found = read_json(folder / "evaluation.json")["domains"]["code"]["bits_per_byte"]["model"]
    assert found == pytest.approx(nats / math.log(2) / len(text), abs=2e-4)


def test_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage.run(config(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(stage.tiny, "fit", fail)
    assert stage.run(config(tmp_path)) == first


def test_seed_is_added_to_the_recipe_s(tmp_path: Path) -> None:
    first, other = stage.run(config(tmp_path)), stage.run(config(tmp_path, seed=2))
    assert first != other
    assert read_json(other / "recipe.json")["determines"]["recipe"]["seed"] == 7
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_same_bytes_again(tmp_path: Path) -> None:
    first, again = (stage.run(config(tmp_path, out=str(tmp_path / name))) for name in "ab")
    assert (first, again) == (tmp_path / "a", tmp_path / "b")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "evaluation.json"):
        assert (first / name).read_bytes() == (again / name).read_bytes()


def test_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(
        InputError, match=r"^`out` must be a new folder, got '.*out' with other content\. Choose another\.$"
    ):
        stage.run(config(tmp_path, out=str(tmp_path / "out")))
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_model_without_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^`model` must be a model with a recipe to be trained, got 'hf'\."):
        stage.run(config(tmp_path, model=ModelConfig("hf", id="org/name")))
