import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch

from brf_exp.config import Dtype, RecipeConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.models import load
from brf_exp.models.load import load_model, table_fingerprint
from brf_exp.models.reference import embedded_names, resolve_spec
from brf_exp.models.tiny import make_model, make_tokenizer

RECIPE = RecipeConfig(byte_level=True, hidden_size=16, intermediate_size=24, n_layers=1, n_heads=2, context_tokens=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "random"
    tokenizer = make_tokenizer([], byte_level=True)
    make_model(RECIPE, vocabulary_size=len(tokenizer) + 7, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    shutil.copytree(saved, tmp_path / "random")
    return tmp_path / "random"


def test_facts(saved: Path) -> None:
    loaded = load_model(resolve_spec(str(saved)), Dtype.FLOAT64, "cpu")
    assert (loaded.true_vocabulary_size, loaded.padded_vocabulary_size) == (257, 264)
    assert (loaded.context_tokens, loaded.beginning_id) == (32, 256)
    assert loaded.model.dtype == torch.float64
    assert not loaded.model.training
    assert loaded.tokenizer_fingerprint == table_fingerprint(loaded.tokenizer.get_vocab())


def test_fingerprint_is_of_the_table() -> None:
    assert table_fingerprint({"a": 0, "b": 1}) == table_fingerprint({"b": 1, "a": 0})
    assert table_fingerprint({"a": 0, "b": 1}) != table_fingerprint({"a": 1, "b": 0})


def test_beginning_is_bos_then_eos_then_none(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in settings.items() if key != "bos_token"}))
    assert load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu").beginning_id == 256
    dropped = {key: value for key, value in settings.items() if key not in ("bos_token", "eos_token")}
    path.write_text(json.dumps(dropped))
    assert load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu").beginning_id is None


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.0.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"must have every weight of LlamaForCausalLM, got 1 missing, the first 'model\.lay"
    ):
        load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")


def test_weights_that_are_not_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04 pickled")
    with pytest.raises(InputError, match=r"^`random` must be a causal language model in safetensors, got "):
        load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")


def test_code_of_a_model_is_never_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "custom", "auto_map": {"AutoConfig": "trap.Config", "AutoModelForCausalLM": "trap.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "trap.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match=r"^`random` must "):
        load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")


def test_model_that_sees_what_it_predicts(folder: Path) -> None:
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(
        vocab_size=257,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        is_decoder=False,
    )
    torch.manual_seed(0)
    model = BertLMHeadModel(config)
    for parameter in model.parameters():
        parameter.data.mul_(5)
    model.save_pretrained(folder)
    with pytest.raises(
        InputError, match=r"must be a causal language model, got one that sees the tokens it predicts\."
    ):
        load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")


def test_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"^`random` must have a tokenizer that transformers can load, got "):
        load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")


def test_device_that_is_not_there(saved: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^`capture\.device` must be one of .*cpu.* on this machine, got 'abacus'\.$"
    ):
        load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "abacus")


def test_without_torch(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"must be run with torch and transformers, .*pip install 'brf-exp\[models\]'$"
    ):
        load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu")


@pytest.mark.parametrize("name", embedded_names())
def test_embedded_models_load(name: str) -> None:
    loaded = load_model(resolve_spec(name), Dtype.FLOAT32, "cpu")
    assert loaded.true_vocabulary_size == loaded.padded_vocabulary_size
    assert loaded.beginning_id == loaded.tokenizer.eos_token_id


def test_embedded_models_of_the_default_pair_share_ids() -> None:
    names = [name for name in ("tiny_prose", "tiny_code", "tiny_mixed") if name in embedded_names()]
    loaded = [load_model(resolve_spec(name), Dtype.FLOAT32, "cpu") for name in names]
    assert len({model.tokenizer_fingerprint for model in loaded}) == 1
    assert len({model.weights_sha256 for model in loaded}) == len(names)


def test_spread_over_the_devices_there_are(saved: Path) -> None:
    pytest.importorskip("accelerate")
    spread = load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu", device_map="auto")
    plain = load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu")
    assert spread.head is not None
    inputs = torch.arange(12)[None]
    with torch.inference_mode():
        expected = plain.model(input_ids=inputs).logits
        torch.testing.assert_close(spread.model(input_ids=inputs).logits, expected, rtol=0, atol=0)


def test_spreading_names_the_package_it_needs(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else find_spec(name))
    with pytest.raises(
        ConfigError, match=r"`capture\.device_map` must be null without the package accelerate, got 'auto'"
    ):
        load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu", device_map="auto")


@pytest.mark.slow  # a minute of a C++ compiler
def test_compiled_gives_the_same_numbers(saved: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("no compiler here")
    compiled = load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu", compiled=True)
    plain = load_model(resolve_spec(str(saved)), Dtype.FLOAT32, "cpu")
    assert compiled.head is not None
    assert plain.head is not None
    inputs = torch.arange(24).view(2, 12)
    with torch.inference_mode():
        expected = plain.head.hidden_states(inputs)
        torch.testing.assert_close(compiled.head.hidden_states(inputs), expected, rtol=1e-4, atol=1e-5)
