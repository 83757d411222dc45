"""Models of known shapes with random weights, a tokenizer for them, and texts of given lengths in tokens.

Speed depends on shapes alone. The tokenizer is a byte-level BPE fitted to the standard library's text; ids that its
text does not fill stand for tokens that never occur, so that the head is as wide as the real model's.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPTNeoXConfig, PretrainedConfig, PreTrainedTokenizerFast, Qwen2Config

from brf_exp.config import CorpusConfig, Dtype
from brf_exp.corpora.load import load_documents
from brf_exp.models import load
from brf_exp.models.load import LoadedModel, quiet
from brf_exp.models.reference import ModelFiles, ModelReference

FITTED_TOKENS = 50_000
END = "<|endoftext|>"
SHORTEST_TEXT_TOKENS = 128
NO_FILES = ModelFiles("0" * 64, {})  # of a model that exists in memory only


@dataclass(frozen=True)
class Shape:
    """One architecture: `n_real` of its ids belong to tokens, the rest pad the head."""

    config: PretrainedConfig
    n_real: int

    @property
    def n_ids(self) -> int:
        """Width of the head."""
        return int(self.config.vocab_size)


PYTHIA_70M = GPTNeoXConfig(
    vocab_size=50_304,
    hidden_size=512,
    num_hidden_layers=6,
    num_attention_heads=8,
    intermediate_size=2048,
    max_position_embeddings=2048,
    rotary_pct=0.25,
)
QWEN_HALF_B = Qwen2Config(
    vocab_size=151_936,
    hidden_size=896,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    intermediate_size=4864,
    max_position_embeddings=32_768,
    tie_word_embeddings=True,
)
QWEN_7B = Qwen2Config(
    vocab_size=152_064,
    hidden_size=3584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    intermediate_size=18_944,
    max_position_embeddings=32_768,
    tie_word_embeddings=False,
)
SHAPES = {
    "pythia-70m": Shape(PYTHIA_70M, 50_277),
    "qwen2.5-0.5b": Shape(QWEN_HALF_B, 151_665),
    "qwen2.5-7b": Shape(QWEN_7B, 151_665),
}


@cache
def fitted_tokenizer() -> dict[str, Any]:
    """The fitted BPE as the content of a tokenizer.json; the same on every run of one Python version."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=FITTED_TOKENS,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (document.text for document in load_documents(CorpusConfig(split="all")))
    tokenizer.train_from_iterator(texts, trainer)
    return json.loads(tokenizer.to_str())


def tokenizer_of(n_tokens: int) -> PreTrainedTokenizerFast:
    """The fitted tokenizer with ids up to `n_tokens`."""
    content = fitted_tokenizer()
    vocabulary = content["model"]["vocab"]
    filled = vocabulary | {f"<unused {index}>": index for index in range(len(vocabulary), n_tokens)}
    whole = Tokenizer.from_str(json.dumps(content | {"model": content["model"] | {"vocab": filled}}))
    return PreTrainedTokenizerFast(tokenizer_object=whole, bos_token=END, eos_token=END)


def random_model(shape: Shape, dtype: str, device: str) -> torch.nn.Module:
    """A model of that shape, its weights drawn on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(shape.config, dtype=getattr(torch, dtype)).eval()


def random_loaded(name: str, dtype: str, device: str) -> LoadedModel:
    """A random model as the package loads one, from memory instead of files."""
    shape = SHAPES[name]
    with mock.patch.multiple(
        load,
        fetch=lambda reference: reference,
        _load_tokenizer=lambda *arguments: tokenizer_of(shape.n_real),
        _load_weights=lambda *arguments: random_model(shape, dtype, device),
    ):
        reference = ModelReference(name, name, None, Path(name), embedded=False)
        return load.load_model(reference, Dtype(dtype), device, files=NO_FILES)


def random_folder(name: str, folder: Path) -> Path:
    """A random float32 model with its tokenizer in a folder of the usual form."""
    with quiet():
        random_model(SHAPES[name], "float32", "cpu").save_pretrained(folder)
    tokenizer_of(SHAPES[name].n_real).save_pretrained(folder)
    return folder


def texts_of(tokenizer: Any, n_tokens: int, longest: int) -> Iterator[dict[str, str]]:
    """Standard-library text in pieces of 128 to `longest` tokens, `n_tokens` in all or a few more."""
    rng = np.random.default_rng(0)
    documents = load_documents(CorpusConfig(split="all"))
    left, numbers = n_tokens, count()
    while True:
        for document in documents:
            spans = tokenizer(document.text, return_offsets_mapping=True, verbose=False)["offset_mapping"]
            first = 0
            while first < len(spans):
                stop = min(first + int(rng.integers(SHORTEST_TEXT_TOKENS, longest + 1)), len(spans), first + left)
                yield {
                    "doc_id": f"text-{next(numbers):07d}",
                    "text": document.text[spans[first][0] : spans[stop - 1][1]],
                }
                left -= stop - first
                first = stop
                if left <= 0:
                    return


def write_texts_of(path: Path, tokenizer: Any, n_tokens: int, longest: int) -> Path:
    """Such texts as JSON lines, texts of blanks left out; they may tokenise to some tokens more or fewer."""
    with path.open("w", encoding="utf-8") as file:
        for line in texts_of(tokenizer, n_tokens, longest):
            if line["text"].strip():
                file.write(json.dumps(line) + "\n")
    return path
