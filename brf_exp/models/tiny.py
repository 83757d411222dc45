"""Training of the embedded tiny models: tokenizers, architectures, the loop."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brf_exp.config import RecipeConfig, TrainConfig
from brf_exp.corpora.document import Document

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
VOCABULARY_SIZE = 1024
DOMAINS = ("prose", "code")


@dataclass(frozen=True)
class TrainingProgress:
    """One line of the training log: tokens seen so far and the mean loss (nats per token) since the last."""

    n_tokens: int
    loss_nats: float


def make_tokenizer(documents: list[Document], *, byte_level: bool) -> "PreTrainedTokenizerFast":
    """A byte-level BPE tokenizer fitted to the documents; with `byte_level`, no merges (256 bytes and an end)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if byte_level:
        vocabulary = {symbol: index for index, symbol in enumerate(alphabet)}
        tokenizer = Tokenizer(models.BPE(vocab={**vocabulary, END_OF_TEXT: len(alphabet)}, merges=[]))
        tokenizer.add_special_tokens([END_OF_TEXT])
    else:
        tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if not byte_level:
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY_SIZE,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=alphabet,
            show_progress=False,
        )
        tokenizer.train_from_iterator(_balanced_texts(documents), trainer)
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, clean_up_tokenization_spaces=False
    )
    return made


def _balanced_texts(documents: list[Document]) -> list[str]:
    """Texts with the smaller domain repeated, so that merges serve both."""
    by_domain = {domain: [d.text for d in documents if d.domain == domain] for domain in DOMAINS}
    sizes = {domain: sum(map(len, texts)) for domain, texts in by_domain.items()}
    largest = max(sizes.values())
    return [text for domain, texts in by_domain.items() for text in texts * max(1, round(largest / sizes[domain]))]


def make_model(recipe: RecipeConfig, *, vocabulary_size: int, seed: int) -> "PreTrainedModel":
    """An untrained model of the recipe's architecture."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    end_of_text_id = 0 if not recipe.byte_level else vocabulary_size - 1
    shared: dict[str, Any] = {
        "vocab_size": vocabulary_size,
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size,
        "num_hidden_layers": recipe.n_layers,
        "num_attention_heads": recipe.n_heads,
        "max_position_embeddings": recipe.context_tokens,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "attention_dropout": recipe.dropout,
    }
    torch.manual_seed(seed)
    if recipe.architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shared, num_key_value_heads=recipe.n_heads))
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shared, hidden_dropout=recipe.dropout))


def token_stream(
    documents: list[Document], tokenizer: "PreTrainedTokenizerFast", rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Endless token ids of the documents, each opened by the end-of-text token, reshuffled every epoch."""
    encoded = [
        np.array([tokenizer.bos_token_id, *tokenizer(d.text, verbose=False)["input_ids"]], dtype=np.int64)
        for d in documents
    ]
    while True:
        for index in rng.permutation(len(encoded)):
            yield encoded[index]


def batches(
    streams: dict[str, Iterator[np.ndarray]],
    *,
    prose_share: float,
    n_rows: int,
    context_tokens: int,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Endless (n_rows, context_tokens) batches; each row is of one domain, drawn with the recipe's share."""
    buffers = {domain: np.empty(0, dtype=np.int64) for domain in streams}
    while True:
        rows = []
        for _ in range(n_rows):
            domain = "prose" if rng.random() < prose_share else "code"
            while buffers[domain].size < context_tokens:
                buffers[domain] = np.concatenate([buffers[domain], next(streams[domain])])
            rows.append(buffers[domain][:context_tokens])
            buffers[domain] = buffers[domain][context_tokens:]
        yield np.stack(rows)


def learning_rate_scale(step: int, *, n_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine down to one twentieth."""
    n_warmup = max(1, round(warmup_share * n_steps))
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress))


def fit(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    documents: list[Document],
    recipe: RecipeConfig,
    train: TrainConfig,
    *,
    on_progress: Callable[[TrainingProgress], None],
) -> int:
    """Train in place on the given documents; returns the tokens seen."""
    import torch

    torch.manual_seed(recipe.seed + 1)
    rng = np.random.default_rng(recipe.seed)
    streams = {domain: token_stream([d for d in documents if d.domain == domain], tokenizer, rng) for domain in DOMAINS}
    n_rows = max(1, train.batch_tokens // recipe.context_tokens)
    n_steps = max(1, (train.tokens or recipe.tokens) // (n_rows * recipe.context_tokens))
    feed = batches(
        streams, prose_share=recipe.prose_share, n_rows=n_rows, context_tokens=recipe.context_tokens, rng=rng
    )
    optimisers = _optimisers(model, train)
    model.train()
    recent: list[float] = []
    for step in range(n_steps):
        rows = torch.from_numpy(next(feed))
        scale = learning_rate_scale(step, n_steps=n_steps, warmup_share=train.warmup_share)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak_lr"] * scale
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), train.gradient_clip)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        recent.append(float(loss.detach()))
        if len(recent) == 50 or step == n_steps - 1:
            on_progress(TrainingProgress((step + 1) * rows.numel(), float(np.mean(recent))))
            recent = []
    model.train(False)
    return n_steps * n_rows * recipe.context_tokens


def _optimisers(model: "PreTrainedModel", train: TrainConfig) -> "list[torch.optim.Optimizer]":
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases."""
    import torch

    inner: list[torch.nn.Parameter] = []
    outer: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (inner if parameter.ndim == 2 and "embed" not in name else outer).append(parameter)
    muon = torch.optim.Muon(
        [{"params": inner, "peak_lr": train.matrix_learning_rate}],
        lr=train.matrix_learning_rate,
        weight_decay=train.weight_decay,
        momentum=0.95,
    )
    adam = torch.optim.AdamW(
        [{"params": outer, "peak_lr": train.learning_rate}],
        lr=train.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=0.0,
    )
    return [muon, adam]
