"""Text that a model writes itself, a token at a time, with the logits it chose each token from."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brf_exp.capture.reduce import Reduced, Scores, join, reduce_logits
from brf_exp.capture.sampling import sample
from brf_exp.config import CaptureConfig, GenerationConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.models.load import LoadedModel

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Prompt:
    """What one document is gone on from: token ids without a beginning token, how many tokens to add at most, and
    one uniform number in [0, 1) for each of them."""

    token_ids: np.ndarray
    uniforms: np.ndarray

    @property
    def n_new(self) -> int:
        """Tokens to add at most."""
        return int(self.uniforms.size)


@dataclass(frozen=True)
class Generated:
    """Token ids added to each prompt, and the scores of all of them one behind the other."""

    token_ids: list[np.ndarray]
    scores: Scores


def uniforms(seed: int, document: int, n: int) -> np.ndarray:
    """The numbers that a document's tokens are drawn with, (n,): of the seed and the document's index alone.

    The first numbers are the same whatever n is.
    """
    return np.random.default_rng([seed, document]).random(n)


def end_ids(loaded: LoadedModel) -> list[int]:
    """Token ids that end a text, sorted: the tokenizer's own and those that the model's configuration has besides."""
    config: Any = loaded.model.config.get_text_config()
    stated = getattr(config, "eos_token_id", None)
    ids = {*(stated if isinstance(stated, list) else [stated]), loaded.tokenizer.eos_token_id}
    return sorted(int(found) for found in ids if found is not None and found < loaded.true_vocabulary_size)


def require_room(loaded: LoadedModel, settings: CaptureConfig, generation: GenerationConfig) -> None:
    """Raise ConfigError where prompt and continuation do not fit the model's context and capture.context_tokens."""
    context = min(loaded.context_tokens, settings.context_tokens)
    room = context + 1 - (loaded.beginning_id is not None)  # the last token is never read
    if generation.prompt_tokens + generation.new_tokens > room:
        raise ConfigError(
            f"`generation.prompt_tokens` and `generation.new_tokens` must be at most {room} together, the context of "
            f"{loaded.reference.name} within capture.context_tokens, got {generation.prompt_tokens} and "
            f"{generation.new_tokens}. Lower one of them."
        )


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    settings: CaptureConfig,
    generation: GenerationConfig,
    *,
    on_tokens: Callable[[int], None] = lambda n: None,
) -> Generated:
    """Continue every prompt, in batches of prompts of one length, so that nothing is ever padded.

    The batches depend on the prompts alone. A text ends behind its end token or behind `n_new` tokens. Scores are of
    the raw logits, before temperature, top_k and top_p. `on_tokens` is told the positions done after each step.
    Raises InputError where the model has no cache or gives logits that are not finite.
    """
    ends, n_beginning = end_ids(loaded), int(loaded.beginning_id is not None)
    documents: list[np.ndarray] = []
    token_ids: list[np.ndarray] = []
    found: list[Scores] = []
    for members in _batches(prompts, n_beginning=n_beginning, batch_tokens=settings.batch_tokens):
        batch = _Batch(loaded, [prompts[i] for i in members], settings, generation, ends)
        rows, ids, scores = batch.run(on_tokens)
        documents.append(members[rows])
        token_ids.append(ids)
        found.append(scores)
    of_row = np.concatenate(documents)
    order = np.argsort(of_row, kind="stable")
    joined = Scores(**{name: np.concatenate([getattr(s, name) for s in found]) for name in vars(found[0])})
    stops = np.cumsum(np.bincount(of_row, minlength=len(prompts)))
    return Generated(np.split(np.concatenate(token_ids)[order], stops[:-1]), joined.rows(order))


def _batches(prompts: Sequence[Prompt], *, n_beginning: int, batch_tokens: int) -> Iterator[np.ndarray]:
    """Indices of prompts of one length, longest first; rows times all tokens stay within `batch_tokens`."""
    lengths = np.array([prompt.token_ids.size for prompt in prompts])
    for length in np.unique(lengths)[::-1]:
        members = np.flatnonzero(lengths == length)
        longest = n_beginning + int(length) + max(prompts[i].n_new for i in members.tolist())
        n_rows = max(1, batch_tokens // longest)
        for first in range(0, members.size, n_rows):
            yield members[first : first + n_rows]


class _Batch:
    """Prompts of one length that are continued together."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[Prompt],
        settings: CaptureConfig,
        generation: GenerationConfig,
        ends: list[int],
    ) -> None:
        beginning = [] if loaded.beginning_id is None else [loaded.beginning_id]
        self._inputs = np.stack([np.concatenate([beginning, prompt.token_ids]) for prompt in prompts]).astype(np.int64)
        self._n_new = np.array([prompt.n_new for prompt in prompts])
        self._uniforms = np.zeros((len(prompts), int(self._n_new.max())))
        for place, prompt in enumerate(prompts):
            self._uniforms[place, : prompt.n_new] = prompt.uniforms
        self._loaded, self._settings, self._generation, self._ends = loaded, settings, generation, ends

    def run(self, on_tokens: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray, Scores]:
        """All steps; which prompt each row is of, the token ids (int32) and the scores, in the order of steps."""
        import torch

        loaded = self._loaded
        alive = np.arange(self._n_new.size)
        inputs, cache = torch.from_numpy(self._inputs).to(loaded.device), None
        rows: list[np.ndarray] = []
        ids: list[np.ndarray] = []
        reduced: list[Reduced] = []
        with torch.inference_mode():
            for step in range(self._uniforms.shape[1]):
                logits, cache = _last_logits(loaded, inputs, cache)
                drawn, kept = self._draw(logits[torch.from_numpy(alive).to(logits.device)], self._uniforms[alive, step])
                rows.append(alive)
                ids.append(drawn)
                reduced.append(kept)
                on_tokens(alive.size)
                # Texts that have ended are read on with a stand-in, which no other text sees.
                following = np.full(self._n_new.size, self._inputs[0, -1])
                following[alive] = drawn
                alive = alive[~np.isin(drawn, self._ends) & (self._n_new[alive] > step + 1)]
                if not alive.size:
                    break
                inputs = torch.from_numpy(following[:, None]).to(loaded.device)
        scores = join(reduced).scores(self._settings.temperatures)
        if not np.isfinite(scores.logsumexp).all():
            raise InputError(
                f"`{loaded.reference.name}` must give finite logits, got NaN or infinity. Try capture.dtype=float32."
            )
        return np.concatenate(rows), np.concatenate(ids).astype(np.int32), scores

    def _draw(self, logits: "torch.Tensor", uniform: np.ndarray) -> tuple[np.ndarray, Reduced]:
        """The next token of each text, and what is kept of the logits it is drawn from."""
        wanted = self._generation
        drawn = sample(logits, uniform, temperature=wanted.temperature, top_k=wanted.top_k, top_p=wanted.top_p)
        return drawn.cpu().numpy(), reduce_logits(
            logits, drawn, k=self._settings.k, temperatures=self._settings.temperatures
        )


def _last_logits(loaded: LoadedModel, inputs: "torch.Tensor", cache: Any) -> "tuple[torch.Tensor, Any]":
    """Logits (rows, V) behind the last of the input tokens (rows, n), float32; the cache with these tokens in it."""
    import torch

    model: Any = loaded.model
    if loaded.head is not None:
        out = model.base_model(input_ids=inputs, past_key_values=cache, use_cache=True)
        logits = loaded.head.logits(out.last_hidden_state[:, -1])
    else:
        takes_it = "logits_to_keep" in inspect.signature(model.forward).parameters
        fewer = {"logits_to_keep": 1} if takes_it else {}
        out = model(input_ids=inputs, past_key_values=cache, use_cache=True, **fewer)
        logits = out.logits[:, -1]
    if getattr(out, "past_key_values", None) is None:
        raise InputError(
            f"`{loaded.reference.name}` must keep a cache of what it has read to generate text, got "
            f"{type(model).__name__}, which has none. Choose capture.mode=teacher_forced."
        )
    logits = logits[:, : loaded.true_vocabulary_size].to(torch.float32)
    return logits.cpu() if logits.device.type == "mps" else logits, out.past_key_values  # no float64 on mps
