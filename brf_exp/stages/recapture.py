"""The pair captured a second time with other number noise: what an effect must exceed.

Engines, batch sizes and number types move log-probabilities; a difference between rules that such a change alone
makes is no effect. The noise floor of a contrast is |its mean on the capture - its mean on the second one|.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brf_exp.config import CaptureConfig, Dtype, PairGenerationConfig, ScoringConfig
from brf_exp.errors import InputError
from brf_exp.stages.fusion_source import stored_temperatures
from brf_exp.stages.gap_rows import GapRows
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.storage.schema import temperature_column


@dataclass(frozen=True)
class Recapture:
    """The second capture of a pair's first documents, or why there is none."""

    inputs: PairInputs | None
    reason: str = ""

    def identity(self) -> dict[str, Any]:
        """What determines the noise floor, for keys and manifests."""
        return {"inputs": self.inputs and self.inputs.identity(), "reason": self.reason}


def recaptured(config: ScoringConfig, inputs: PairInputs) -> Recapture:
    """Capture the pair again as the settings ask, or open the folders they name."""
    asked = config.recapture
    if not config.evaluation.tune:
        return Recapture(None, "nothing is decided without tuning")
    if asked.captures:
        again = replace(config, captures=asked.captures, proxy="none")
        return Recapture(resolve_pair(again).tested_only())
    if not asked.enabled:
        return Recapture(None, "recapture.enabled is false")
    if config.captures or config.pair.submission:
        return Recapture(None, "the models are not at hand: give recapture.captures")
    corpus = replace(config.corpus, max_tokens=min(asked.max_tokens, config.corpus.max_tokens or asked.max_tokens))
    settings = _other_noise(config.capture, asked.dtype)
    again = replace(config, corpus=corpus, capture=settings, generation=_same_tokens(config, inputs), proxy="none")
    return Recapture(resolve_pair(again).tested_only())


def _same_tokens(config: ScoringConfig, inputs: PairInputs) -> PairGenerationConfig:
    """Where tokens were generated, they are scored again: generating anew would give others."""
    generated = [capture.folder for capture in inputs.captures if capture.manifest.get("mode") == "generation"]
    return replace(config.generation, tokens_of=str(generated[0])) if generated else config.generation


def _other_noise(settings: CaptureConfig, dtype: Dtype) -> CaptureConfig:
    """The settings at another number type and half the batch."""
    other = dtype if dtype != settings.dtype else Dtype.FLOAT32 if dtype != Dtype.FLOAT32 else Dtype.BFLOAT16
    return replace(settings, dtype=other, batch_tokens=max(2, settings.batch_tokens // 2))


def require_temperatures(again: PairInputs, temperatures: Sequence[float]) -> None:
    """Raise InputError where the second capture lacks a temperature that rules were tuned at."""
    for capture in again.captures:
        missing = sorted(set(temperatures) - set(stored_temperatures([capture])))
        if missing:
            raise InputError(
                f"`recapture` must store the logsumexp at the temperatures of the first captures, {capture.model_name} "
                f"lacks {', '.join(map(temperature_column, missing))}. Dump it as well."
            )


def n_leading_documents(first: GapRows, again: GapRows) -> int:
    """How many of the first documents the second capture has whole, in the same order and with the same tokens.

    Raises InputError where it has none, or goes on with others: its last document alone may be cut.
    """
    ours, theirs = first.documents, again.documents
    n = min(len(ours.doc_ids), len(theirs.doc_ids))
    same = np.array([a == b for a, b in zip(ours.doc_ids[:n], theirs.doc_ids[:n], strict=True)])
    same &= ours.lengths[:n] == theirs.lengths[:n]
    found = n if same.all() else int(np.argmin(same))
    rows = slice(0, int(theirs.offsets[found]))
    tokens = [ids for ids in (first.token_id, again.token_id) if ids is not None]
    tokens_differ = len(tokens) == 2 and not np.array_equal(tokens[0][rows], tokens[1][rows])
    if found == 0 or found < len(theirs.doc_ids) - 1 or tokens_differ:
        raise InputError(
            f"`recapture` must have the first documents of {first.models[0]}, got {found} of its "
            f"{len(theirs.doc_ids)} documents the same{' with other tokens' if tokens_differ else ''}. "
            "Capture the same models on the same texts."
        )
    return found
