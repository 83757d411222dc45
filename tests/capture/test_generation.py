"""Texts that a model writes: the same tokens as transformers' own generation, the same logits as a plain pass."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from brf_exp.capture.continuation import continuation
from brf_exp.capture.forward import score
from brf_exp.capture.generation import Generated, Prompt, end_ids, generate, require_room, uniforms
from brf_exp.capture.sampling import sample
from brf_exp.config import CaptureConfig, Dtype, GenerationConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.models.load import LoadedModel, load_model, resolve_spec

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "models"
MODELS = ["tiny_prose", "tiny_bytes", "stories260k", "babyllama105", "gpt_neox", "gpt2"]
TEXT = "Once upon a time there was a little girl named Lily. She loved to play outside in the park. "
SETTINGS = CaptureConfig(k=7, batch_tokens=256)
Load = Callable[[str], LoadedModel]


@pytest.fixture(scope="module")
def fresh(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Load:
    """A model by name: an embedded one, one of the reference models, or a random one of an architecture."""

    def by_name(name: str) -> LoadedModel:
        if name == "gpt2":
            spec = str(_gpt2(tmp_path_factory.mktemp("learned")))
        elif name == "gpt_neox":
            spec = str(make_folder(architecture=name, context_tokens=64))
        else:
            spec = name if name.startswith("tiny_") else str(SHARED / name)
            if not name.startswith("tiny_") and not (SHARED / name).is_dir():
                pytest.skip("no reference models here")
        return load_model(resolve_spec(spec), Dtype.FLOAT32, "cpu")

    return by_name


@pytest.fixture(scope="module")
def load(fresh: Load) -> Load:
    """The same, loaded once: for tests that leave the model as it is."""
    return functools.cache(fresh)


def _gpt2(folder: Path) -> Path:
    """A random model with learned positions and more logits than tokens."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from brf_exp.models.tiny import make_tokenizer

    tokenizer = make_tokenizer([], byte_level=True)
    torch.manual_seed(3)
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer) + 7, bos_token_id=256, eos_token_id=256, **sizes))
    for parameter in model.parameters():
        parameter.data.mul_(8.0 if parameter.ndim > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ids_of(loaded: LoadedModel, text: str) -> np.ndarray:
    return np.array(loaded.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int32)


def prompts_of(loaded: LoadedModel, lengths: list[int], n_new: int = 12) -> list[Prompt]:
    ids = ids_of(loaded, TEXT * 2)
    return [Prompt(ids[i : i + n], uniforms(5, i, n_new)) for i, n in enumerate(lengths)]


def offsets_of(made: Generated) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([ids.size for ids in made.token_ids])])


@pytest.mark.parametrize("model", MODELS)
def test_logits_are_those_of_a_plain_pass(model: str, load: Load) -> None:
    loaded = load(model)
    prompts = prompts_of(loaded, [9, 3, 9, 14, 3, 9, 1], n_new=20)
    made = generate(loaded, prompts, SETTINGS, GenerationConfig())
    beginning = [] if loaded.beginning_id is None else [loaded.beginning_id]
    offsets = offsets_of(made)
    for number, (prompt, ids) in enumerate(zip(prompts, made.token_ids, strict=True)):
        whole = np.concatenate([beginning, prompt.token_ids, ids]).astype(np.int32)
        plain = score(loaded, [whole], k=SETTINGS.k, batch_tokens=4096, min_context_tokens=8)
        plain, mine = plain.rows(slice(-ids.size, None)), made.scores.rows(slice(*offsets[number : number + 2]))
        for name in ("logsumexp", "target_logit", "entropy", "logits"):
            np.testing.assert_allclose(getattr(mine, name), getattr(plain, name), atol=1e-4, rtol=0, err_msg=name)
        np.testing.assert_array_equal(mine.target_rank, plain.target_rank)
        np.testing.assert_array_equal(mine.ids, plain.ids)


@pytest.mark.parametrize("model", MODELS)
def test_greedy_is_what_transformers_generates(model: str, load: Load) -> None:
    loaded = load(model)
    prompts = prompts_of(loaded, [9, 4, 9, 20], n_new=25)
    made = generate(loaded, prompts, SETTINGS, GenerationConfig(temperature=0.0))
    beginning = [] if loaded.beginning_id is None else [loaded.beginning_id]
    for prompt, ids in zip(prompts, made.token_ids, strict=True):
        row = torch.tensor([[*beginning, *prompt.token_ids.tolist()]])
        with torch.inference_mode():
            expected = loaded.model.generate(
                row,
                attention_mask=torch.ones_like(row),
                do_sample=False,
                max_new_tokens=25,
                pad_token_id=0,
                eos_token_id=end_ids(loaded),
                suppress_tokens=list(range(loaded.true_vocabulary_size, loaded.padded_vocabulary_size)) or None,
            )
        assert ids.tolist() == expected[0, row.shape[1] :].tolist()
    assert (made.scores.target_rank == 1).all()


@pytest.mark.parametrize("model", ["tiny_prose", "gpt2"])
def test_batches_do_not_change_what_is_written(model: str, load: Load) -> None:
    loaded = load(model)
    prompts = prompts_of(loaded, [5, 9, 5, 5, 9, 2, 5], n_new=15)
    together = generate(loaded, prompts, SETTINGS, GenerationConfig())
    pairs = generate(loaded, prompts, CaptureConfig(k=7, batch_tokens=60), GenerationConfig())
    alone = [generate(loaded, [prompt], SETTINGS, GenerationConfig()) for prompt in prompts]
    for number, made in enumerate(alone):
        rows = slice(*offsets_of(together)[number : number + 2])
        np.testing.assert_array_equal(together.token_ids[number], made.token_ids[0])
        np.testing.assert_array_equal(together.token_ids[number], pairs.token_ids[number])
        for name in ("logsumexp", "target_logit", "entropy", "logits"):
            ours, theirs = getattr(together.scores, name)[rows], getattr(made.scores, name)
            np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0, err_msg=name)
            np.testing.assert_allclose(ours, getattr(pairs.scores, name)[rows], atol=1e-4, rtol=0, err_msg=name)


def test_no_batch_is_larger_than_allowed(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("tiny_prose")
    seen: list[int] = []
    forward = loaded.model.base_model.forward

    def watched(*, input_ids: torch.Tensor, past_key_values: Any, **more: object) -> object:
        n_read = 0 if past_key_values is None else past_key_values.get_seq_length()
        seen.append(input_ids.shape[0] * (n_read + input_ids.shape[1]))
        return forward(input_ids=input_ids, past_key_values=past_key_values, **more)

    monkeypatch.setattr(loaded.model.base_model, "forward", watched)
    done: list[int] = []
    settings = CaptureConfig(k=7, batch_tokens=100)
    made = generate(loaded, prompts_of(loaded, [9] * 11 + [5] * 4), settings, GenerationConfig(), on_tokens=done.append)
    assert max(seen) <= 100 < 2 * max(seen)
    assert sum(done) == made.scores.logsumexp.size == sum(ids.size for ids in made.token_ids)


def test_a_model_that_is_not_halved(load: Load) -> None:
    loaded = load("gpt2")
    whole = replace(loaded, head=None, headless_reason="as in this test")
    prompts = prompts_of(loaded, [5, 9, 5])
    made, same = (generate(each, prompts, SETTINGS, GenerationConfig()) for each in (loaded, whole))
    for ours, theirs in zip(made.token_ids, same.token_ids, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(made.scores.logits, same.scores.logits, atol=1e-4, rtol=0)


def test_further_temperatures(load: Load) -> None:
    loaded = load("babyllama105")
    settings = CaptureConfig(k=105, temperatures=[0.5, 2.0])
    made = generate(loaded, prompts_of(loaded, [5, 9]), settings, GenerationConfig()).scores
    for column, temperature in enumerate([0.5, 2.0]):
        expected = np.logaddexp.reduce(made.logits.astype(np.float64) / temperature, axis=1)
        np.testing.assert_allclose(made.tempered[:, column], expected, atol=1e-5)


def test_a_text_ends_behind_its_end_token(fresh: Load) -> None:
    loaded = fresh("tiny_prose")
    end = end_ids(loaded)
    head = loaded.model.get_output_embeddings().weight.data
    head.mul_(0.05)  # nearly uniform: one token in a thousand ends a text, so give that one a better chance
    forward = loaded.model.forward

    def ending(*args: object, **more: object) -> object:
        out = forward(*args, **more)
        out.logits[..., end] = 4.0
        return out

    loaded.model.forward = ending
    prompts = prompts_of(loaded, [6] * 40, n_new=30)
    made = generate(loaded, prompts, SETTINGS, GenerationConfig())
    lengths = np.array([ids.size for ids in made.token_ids])
    ended = np.array([ids[-1] in end for ids in made.token_ids])
    assert ended.sum() > 5 and (lengths[~ended] == 30).all()
    assert all(token not in end for ids in made.token_ids for token in ids[:-1])
    assert made.scores.logsumexp.size == lengths.sum()


def test_fewer_new_tokens_are_the_first_ones(load: Load) -> None:
    loaded = load("tiny_prose")
    many, few = (
        generate(loaded, prompts_of(loaded, [7, 7, 7], n_new=n), SETTINGS, GenerationConfig()) for n in (16, 6)
    )
    for longer, shorter in zip(many.token_ids, few.token_ids, strict=True):
        assert shorter.size == 6
        np.testing.assert_array_equal(longer[:6], shorter)


def test_uniforms_are_of_seed_and_document() -> None:
    np.testing.assert_array_equal(uniforms(1, 2, 50), uniforms(1, 2, 80)[:50])
    assert not np.isin(uniforms(1, 2, 50), np.concatenate([uniforms(1, 3, 50), uniforms(2, 2, 50)])).any()


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, None, 1.0), (0.6, None, 0.8), (1.7, 5, 0.9)])
def test_frequencies(temperature: float, top_k: int | None, top_p: float) -> None:
    n = 40_000
    logits = torch.from_numpy(np.random.default_rng(1).normal(0, 2, 12).astype(np.float32))
    u = np.random.default_rng(2).random(n)
    ids = sample(logits.expand(n, -1), u, temperature=temperature, top_k=top_k, top_p=top_p).numpy()
    p = brute_force(logits.numpy(), temperature, top_k, top_p)
    found = np.bincount(ids, minlength=12)
    assert (found[p == 0] == 0).all()
    expected = n * p[p > 0]
    chi_square = float(((found[p > 0] - expected) ** 2 / expected).sum())
    assert chi_square < 2 * np.count_nonzero(p) + 12  # mean of the degrees of freedom, 3 standard deviations and more


def brute_force(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float) -> np.ndarray:
    """What each token is drawn with, by a loop over tokens from the best one down."""
    order = sorted(range(logits.size), key=lambda token: (-logits[token], token))[:top_k]
    weights = {token: float(np.exp((float(logits[token]) - float(logits.max())) / temperature)) for token in order}
    total, reached, kept = sum(weights.values()), 0.0, {}
    for token in order:
        if top_p == 1 or reached < top_p * total:
            kept[token] = weights[token]
        reached += weights[token]
    p = np.zeros(logits.size)
    for token, weight in kept.items():
        p[token] = weight / sum(kept.values())
    return p


@pytest.mark.parametrize("top_k", [None, 1, 3, 40, 1000])
@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.77, 0.999, 1.0])
@pytest.mark.parametrize("temperature", [0.001, 0.7, 3.0])
def test_filters_against_brute_force(temperature: float, top_k: int | None, top_p: float) -> None:
    rng = np.random.default_rng(4)
    logits = rng.integers(-9, 9, (6, 100)).astype(np.float32) / 2  # ties throughout
    u = np.concatenate([[0.0, 1 - 2**-53], rng.random(4)])
    ids = sample(torch.from_numpy(logits), u, temperature=temperature, top_k=top_k, top_p=top_p).numpy()
    for row, token in enumerate(ids):
        p = brute_force(logits[row], temperature, top_k, top_p)
        by_rank = (top_k is not None and top_k < 100) or top_p < 1
        order = np.argsort(-logits[row], kind="stable") if by_rank else np.arange(100)
        cumulative = np.cumsum(p[order])
        place = int(np.searchsorted(cumulative, u[row] * cumulative[-1], side="right"))
        place = min(place, int(np.searchsorted(cumulative, cumulative[-1])))
        near = np.abs(cumulative - u[row]).min() < 1e-12  # on an edge between two tokens, either may be taken
        assert p[token] > 0 and (token == order[place] or near)


@pytest.mark.parametrize(("top_k", "top_p"), [(None, 0.6), (8, 1.0), (8, 0.6)])
def test_filters_are_those_of_transformers(top_k: int | None, top_p: float) -> None:
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.from_numpy(np.random.default_rng(6).normal(0, 2, (4, 50)).astype(np.float32))
    steps = [TemperatureLogitsWarper(0.8)] + ([TopKLogitsWarper(top_k)] if top_k else []) + [TopPLogitsWarper(top_p)]
    allowed = torch.isfinite(LogitsProcessorList(steps)(None, logits.clone())).numpy()
    u = np.linspace(0, 1, 3000, endpoint=False)
    for row in range(4):
        ids = sample(logits[row].expand(3000, -1), u, temperature=0.8, top_k=top_k, top_p=top_p).numpy()
        assert set(ids.tolist()) == set(np.flatnonzero(allowed[row]).tolist())


TEXTS = {
    "tiny_prose": "Once upon a time, naïve café 😀 the 中文 dog  sat\n\n on the 😀😀 mat. don't stop—now",
    "tiny_bytes": "Once upon a time, naïve café 😀 the 中文 dog  sat\n\n on the 😀😀 mat. don't stop—now",
    "stories260k": "Once upon a time, naïve café 😀 the 中文 dog  sat\n\n on the 😀😀 mat. don't stop—now",
    "babyllama105": 'Once upon a time, there was a dog. He said: "do not stop"',
}


@pytest.mark.parametrize("model", TEXTS)
def test_characters_are_those_of_the_tokenizer(model: str, load: Load) -> None:
    tokenizer, text = load(model).tokenizer, TEXTS[model]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, spans = encoded["input_ids"], np.array(encoded["offset_mapping"])
    compared = 0
    for n in range(1, len(ids)):
        if spans[n - 1, 1] > spans[n, 0]:  # a prompt ends with a whole character
            continue
        made = continuation(tokenizer, ids[:n], ids[n:])
        base = spans[n - 1, 1]
        assert made.text == text[base:]
        np.testing.assert_array_equal(np.stack([made.char_start, made.char_end], axis=1) + base, spans[n:])
        compared += 1
    assert compared > 30


def test_bytes_that_are_no_text(load: Load) -> None:
    tokenizer = load("tiny_bytes").tokenizer
    of_byte = {byte: tokenizer.convert_tokens_to_ids(token) for token, byte in _byte_tokens().items()}

    def spans(raw: bytes) -> tuple[str, list[tuple[int, int]]]:
        made = continuation(tokenizer, [of_byte[ord("t")]], [*(of_byte[byte] for byte in raw), 256])
        return made.text, list(zip(made.char_start.tolist(), made.char_end.tolist(), strict=True))

    assert spans(b"a\xf0\x9fx") == ("a�x", [(0, 1), (1, 2), (1, 2), (2, 3), (3, 3)])  # the end token spans nothing
    assert spans(b"\xff\xffx") == ("��x", [(0, 1), (1, 2), (2, 3), (3, 3)])
    assert spans("é".encode() + b"\xf0\x9f") == ("é�", [(0, 1), (0, 1), (1, 2), (1, 2), (2, 2)])
    assert spans(b"") == ("", [(0, 0)])


def _byte_tokens() -> dict[str, int]:
    """The characters that stand for bytes in byte-level vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


def test_a_context_too_short_is_refused(load: Load) -> None:
    loaded = load("tiny_prose")  # context 256, with a beginning token
    require_room(loaded, CaptureConfig(), GenerationConfig(prompt_tokens=128, new_tokens=128))
    message = (
        r"`generation\.prompt_tokens` and `generation\.new_tokens` must be at most 256 together, the context of "
        r"tiny_prose within capture\.context_tokens, got 128 and 129\. Lower one of them\."
    )
    with pytest.raises(ConfigError, match=message):
        require_room(loaded, CaptureConfig(), GenerationConfig(prompt_tokens=128, new_tokens=129))
    generate(loaded, prompts_of(loaded, [20, 20], n_new=236)[:1], CaptureConfig(k=2), GenerationConfig())


@pytest.mark.parametrize("halved", [True, False])
def test_a_model_without_a_cache_is_refused(halved: bool, fresh: Load) -> None:
    loaded = fresh("tiny_prose")
    forward = loaded.model.base_model.forward
    loaded.model.base_model.forward = lambda *args, use_cache, **more: forward(*args, use_cache=False, **more)
    if not halved:
        loaded = replace(loaded, head=None)
    with pytest.raises(InputError, match=r"`tiny_prose` must keep a cache .*\. Choose capture\.mode=teacher_forced\."):
        generate(loaded, prompts_of(loaded, [5]), SETTINGS, GenerationConfig())


def test_logits_that_are_not_numbers(fresh: Load) -> None:
    loaded = fresh("tiny_prose")
    next(iter(loaded.model.parameters())).data[:] = float("nan")
    for generation in (GenerationConfig(), GenerationConfig(top_p=0.5), GenerationConfig(temperature=0.0)):
        with pytest.raises(InputError, match="must give finite logits"):
            generate(loaded, prompts_of(loaded, [5, 5]), SETTINGS, generation)
