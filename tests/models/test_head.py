"""The output layer by itself: the model's own logits, for any architecture, or a reason why not."""

from typing import Any

import pytest
import torch
import transformers

from brf_exp.models.head import OutputHead, find_head

VOCABULARY = 160
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED: dict[str, Any] = {**SHAPE, "num_key_value_heads": 2}
OLD_SHAPE = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}
CONFIGS: dict[str, Any] = {
    "bloom": lambda: transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
    "cohere": lambda: transformers.CohereConfig(**GROUPED, logit_scale=0.25),
    "gemma": lambda: transformers.GemmaConfig(**GROUPED, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**GROUPED, head_dim=8, final_logit_softcapping=3.0),
    "gemma3": lambda: transformers.Gemma3TextConfig(**GROUPED, head_dim=8, final_logit_softcapping=2.0),
    "gpt2": lambda: transformers.GPT2Config(**OLD_SHAPE, **ENDS),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SHAPE),
    "gptj": lambda: transformers.GPTJConfig(**OLD_SHAPE, **ENDS, rotary_dim=4),
    "granite": lambda: transformers.GraniteConfig(**GROUPED, logits_scaling=4.0),
    "llama": lambda: transformers.LlamaConfig(**GROUPED),
    "llama_tied": lambda: transformers.LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**GROUPED),
    "mixtral": lambda: transformers.MixtralConfig(**GROUPED, num_local_experts=2),
    "olmo2": lambda: transformers.Olmo2Config(**GROUPED),
    "phi": lambda: transformers.PhiConfig(**SHAPE),
    "phi3": lambda: transformers.Phi3Config(**GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**GROUPED, head_dim=8),
}


def make(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    """A random model whose logits differ enough for caps and scales to show."""
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(6)
            else:
                parameter.add_(0.1)  # biases of zero would hide that they are left out
    return model


PROBE = torch.arange(1, 17).view(2, 8)


@pytest.mark.parametrize("name", CONFIGS)
def test_gives_the_models_own_logits(name: str) -> None:
    model = make(CONFIGS[name]())
    head, reason = find_head(model, PROBE)
    assert head is not None, reason
    inputs = torch.randint(VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(input_ids=inputs, use_cache=False).logits.flatten(0, 1)
        hidden = head.hidden_states(inputs).flatten(0, 1)
        for rows in (slice(0, 60), slice(7, 8), slice(11, 29)):
            torch.testing.assert_close(
                head.logits(hidden[rows]), expected[rows], rtol=0, atol=2e-5 * float(expected.abs().max())
            )
        assert float(expected.std()) > 0.05
        # The model is as it was.
        torch.testing.assert_close(
            model(input_ids=inputs, use_cache=False).logits.flatten(0, 1), expected, rtol=0, atol=0
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_projects_in_float32(dtype: torch.dtype) -> None:
    """Logits of a model in half precision are not rounded to it: their error is the hidden states' alone."""
    model = make(CONFIGS["llama"](), dtype)
    head, reason = find_head(model, PROBE)
    assert head is not None, reason
    with torch.inference_mode():
        hidden = head.hidden_states(PROBE).flatten(0, 1)
        found = head.logits(hidden)
        exact = hidden.double() @ model.lm_head.weight.double().t()
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
        rounded = model(input_ids=PROBE, use_cache=False).logits.flatten(0, 1)
        assert float((rounded.double() - exact).abs().max()) > 20 * float((found.double() - exact).abs().max())


def test_float64_stays_float64() -> None:
    head, _ = find_head(make(CONFIGS["llama"](), torch.float64), PROBE)
    assert head is not None
    with torch.inference_mode():
        assert head.logits(head.hidden_states(PROBE).flatten(0, 1)).dtype == torch.float64


def test_a_model_that_takes_itself_apart_otherwise() -> None:
    config = transformers.OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=64,
        word_embed_proj_dim=16,
    )
    head, reason = find_head(make(config), PROBE)
    assert head is None
    assert "decoder" in reason


def test_logits_that_differ_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that does something to its logits only where it reads tokens itself."""
    model = make(CONFIGS["llama"]())
    forward = OutputHead.hidden_states
    monkeypatch.setattr(OutputHead, "hidden_states", lambda self, ids: forward(self, ids) * 1.001)
    head, reason = find_head(model, PROBE)
    assert head is None
    assert reason.startswith("its halves give logits that differ by ")


def test_an_output_layer_of_another_kind() -> None:
    model = make(CONFIGS["llama"]())

    class Doubled(torch.nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    model.lm_head.__class__ = Doubled
    head, reason = find_head(model, PROBE)
    assert head is None
    assert reason == "its output layer is Doubled, not one matrix"
