"""Models in memory: weights from safetensors, a fast tokenizer, the vocabulary that is real."""

import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brf_exp.config import Dtype
from brf_exp.errors import ConfigError, InputError
from brf_exp.models.head import OutputHead, find_head
from brf_exp.models.reference import (
    INSTALL,
    ModelFiles,
    ModelReference,
    fetch,
    folder_of,
    identify,
    resolve,
    resolve_spec,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["LoadedModel", "ModelReference", "load_model", "resolve", "resolve_spec"]

UNLIMITED_CONTEXT_TOKENS = 2**31 - 1
CAUSAL_TOLERANCE_EPS = 32  # of the number type, times the largest logit
DEVICES = ("cpu", "cuda", "mps")


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to score text.

    Logits of ids from `true_vocabulary_size` on belong to no token of the tokenizer and are left out.
    `beginning_id` opens every document (the tokenizer's BOS, else its EOS); None: position 0 cannot be scored.
    `head` is the output layer by itself; None, with the reason: only logits of all positions at once can be had.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    reference: ModelReference
    true_vocabulary_size: int
    padded_vocabulary_size: int
    weights_sha256: str
    tokenizer_fingerprint: str
    context_tokens: int
    beginning_id: int | None
    device: "torch.device"
    head: OutputHead | None
    headless_reason: str


def load_model(
    reference: ModelReference,
    dtype: Dtype,
    device: str,
    *,
    files: ModelFiles | None = None,
    device_map: str | None = None,
    compiled: bool = False,
) -> LoadedModel:
    """Load a model for scoring.

    Parameters: the model; number type of the forward pass; cpu, cuda or mps; its hashes where already known; auto to
    spread it over all devices; whether to compile what lies below its output layer.
    Raises InputError where torch is missing or the folder is not a causal language model in safetensors with a
    fast tokenizer, and ConfigError for a device this machine does not have.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")):
        raise InputError(
            f"`{reference.name}` must be run with torch and transformers, got an installation without. Run: {INSTALL}"
        )
    reference = fetch(reference)
    torch_device = _device(device)
    with quiet():
        tokenizer = _load_tokenizer(folder_of(reference), reference.name)
        model = _load_weights(folder_of(reference), reference.name, dtype, torch_device, device_map)
    if compiled:
        model.base_model.compile(dynamic=True)
    probe = _probe_tokens(model)
    padded = _check_causal(model, probe, reference.name)
    head, headless_reason = find_head(model, probe)
    table: dict[str, int] = tokenizer.get_vocab()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        reference=reference,
        true_vocabulary_size=min(padded, max(table.values()) + 1),
        padded_vocabulary_size=padded,
        weights_sha256=(files or identify(reference)).weights_sha256,
        tokenizer_fingerprint=table_fingerprint(table),
        context_tokens=_context_tokens(model),
        beginning_id=_beginning_id(tokenizer, padded),
        device=model.device,
        head=head,
        headless_reason=headless_reason,
    )


def table_fingerprint(table: dict[str, int]) -> str:
    """SHA-256 (hex) of a tokenizer's id-to-string table, sorted by id: equal fingerprints mean shared ids."""
    rows = sorted((index, token) for token, index in table.items())
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


def tokenizer_fingerprint(reference: ModelReference) -> str:
    """The fingerprint of a fetched model's tokenizer; its weights are not read."""
    with quiet():
        return table_fingerprint(_load_tokenizer(folder_of(reference), reference.name).get_vocab())


def _device(name: str) -> "torch.device":
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    usable = sorted(device for device, present in available.items() if present)
    if name not in usable:
        raise ConfigError(f"`capture.device` must be one of {', '.join(usable)} on this machine, got {name!r}.")
    return torch.device(name)


@contextlib.contextmanager
def threads(n: int) -> Iterator[None]:
    """Compute with so many threads of the processor, and with as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bars or advice from transformers: errors of the user are one line of ours."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_tokenizer(folder: Path, name: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"`{name}` must have a tokenizer that transformers can load, got {_first_line(error)}."
        ) from None
    if not tokenizer.is_fast:
        raise InputError(f"`{name}` must have a fast tokenizer (tokenizer.json), got {type(tokenizer).__name__}.")
    return tokenizer


def _load_weights(
    folder: Path, name: str, dtype: Dtype, device: "torch.device", device_map: str | None
) -> "PreTrainedModel":
    """The causal language model of a folder; a weight that the files lack is an error, never a random number."""
    import torch
    from transformers import AutoModelForCausalLM

    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise ConfigError(
            f"`capture.device_map` must be null without the package accelerate, got {device_map!r}. "
            "Install it with `pip install accelerate`."
        )
    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            folder,
            dtype=getattr(torch, Dtype(dtype).value),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **({} if device_map is None else {"device_map": device_map}),
        )
    except Exception as error:
        raise InputError(
            f"`{name}` must be a causal language model in safetensors, got {_first_line(error)}."
        ) from None
    missing = sorted(info["missing_keys"])
    if missing:
        raise InputError(
            f"`{name}` must have every weight of {type(model).__name__}, got {len(missing)} missing, "
            f"the first {missing[0]!r}."
        )
    loaded: PreTrainedModel = (model.to(device) if device_map is None else model).eval()
    return loaded


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split()).rstrip(".:")[:300]


def _probe_tokens(model: "PreTrainedModel") -> "torch.Tensor":
    """Two texts of eight tokens that differ in the last one."""
    import torch

    embeddings: Any = model.get_input_embeddings()
    rows = torch.arange(1, 9, device=model.device).repeat(2, 1) % int(embeddings.num_embeddings)
    rows[1, -1] = 0
    return rows


def _check_causal(model: "PreTrainedModel", probe: "torch.Tensor", name: str) -> int:
    """Number of logits per position; refuses a model whose logits change with later tokens."""
    import torch

    with torch.inference_mode():
        logits = model(input_ids=probe, use_cache=False).logits.float()
    tolerance = CAUSAL_TOLERANCE_EPS * torch.finfo(model.dtype).eps * float(logits.abs().max())
    if float((logits[0, :-1] - logits[1, :-1]).abs().max()) > tolerance:
        raise InputError(f"`{name}` must be a causal language model, got one that sees the tokens it predicts.")
    return int(logits.shape[-1])


def _context_tokens(model: "PreTrainedModel") -> int:
    config: Any = model.config.get_text_config()
    stated = getattr(config, "max_position_embeddings", None)
    return int(stated) if stated else UNLIMITED_CONTEXT_TOKENS


def _beginning_id(tokenizer: "PreTrainedTokenizerBase", padded: int) -> int | None:
    for candidate in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if candidate is not None and candidate < padded:
            return int(candidate)
    return None
