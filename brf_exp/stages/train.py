"""Stage `train`: an embedded tiny model from scratch, and what it is worth on held-out text."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.capture.forward import score
from brf_exp.capture.progress import progress_bar
from brf_exp.config import Dtype, RecipeConfig, TrainConfig, TrainStageConfig
from brf_exp.corpora import stdlib
from brf_exp.corpora.document import Document, Split, fingerprint
from brf_exp.errors import ConfigError, InputError
from brf_exp.models import tiny
from brf_exp.models.evaluate import N_BYTES, as_bytes, bits_per_byte, compressed_bits_per_byte
from brf_exp.models.load import LoadedModel, load_model, quiet, resolve_spec, threads
from brf_exp.models.ngram import NgramModel, fit_ngram
from brf_exp.storage import runs

RECIPE = "recipe.json"
EVALUATION = "evaluation.json"
BATCH_TOKENS = 8192


def run(config: TrainStageConfig) -> Path:
    """Train as configured and measure; the model's folder."""
    name = config.model.name
    if name == "hf":
        raise ConfigError("`model` must be a model with a recipe to be trained, got 'hf'. Choose model=tiny_prose.")
    recipe = replace(config.model.recipe, seed=config.model.recipe.seed + config.seed)
    documents = [document for document in stdlib.documents("all") if document.split == Split.TRAIN]
    determines = {"recipe": asdict(recipe), "train": asdict(config.train), "corpus": fingerprint(documents)}
    key = runs.content_key(determines)
    final = Path(config.out) if config.out else runs.stage_folder(Path(config.runs_dir), "train", name, key)
    if final.exists():
        _check_same(final, key)
        return final
    with runs.building(final) as partial:
        trained = _train(partial, documents, recipe, config.train, label=f"train {name}", progress=config.progress)
        description = runs.manifest(stage="train", key=key, determines=determines, name=name, **trained)
        runs.write_json(partial / RECIPE, description)
        runs.write_json(partial / EVALUATION, evaluate_folder(partial))
    return final


def _check_same(final: Path, key: str) -> None:
    """Refuse a folder that holds anything but what would be made."""
    made = runs.read_json(final / RECIPE) if (final / RECIPE).is_file() else {}
    if made.get("key") != key:
        raise InputError(f"`out` must be a new folder, got {str(final)!r} with other content. Choose another.")


def _train(
    folder: Path, documents: list[Document], recipe: RecipeConfig, train: TrainConfig, *, label: str, progress: bool
) -> dict[str, Any]:
    """Write the trained model and its tokenizer; what was seen and how long it took."""
    tokenizer = tiny.make_tokenizer(documents, byte_level=recipe.byte_level)
    model = tiny.make_model(recipe, vocabulary_size=len(tokenizer), seed=recipe.seed)
    n_parameters = model.num_parameters()
    started = time.monotonic()
    losses: list[float] = []
    bar = progress_bar(label, n_tokens=train.tokens or recipe.tokens, enabled=progress)
    with threads(train.n_threads), bar as on_tokens:
        n_tokens = tiny.fit(model, tokenizer, documents, recipe, train, on_progress=_follow(on_tokens, losses))
    seconds = time.monotonic() - started
    with quiet():
        half: Any = model.half  # half the bytes in the package, and as good: bits per byte move in the fifth digit
        half().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return {
        "n_parameters": n_parameters,
        "n_tokens": n_tokens,
        "seconds": round(seconds, 1),
        "last_loss_nats": round(losses[-1], 4),
    }


def _follow(on_tokens: Callable[[int], None], losses: list[float]) -> Callable[[tiny.TrainingProgress], None]:
    """Turn the running total of tokens into steps of the bar."""
    seen = 0

    def follow(progress: tiny.TrainingProgress) -> None:
        nonlocal seen
        on_tokens(progress.n_tokens - seen)
        seen = progress.n_tokens
        losses.append(progress.loss_nats)

    return follow


def evaluate_folder(folder: Path) -> dict[str, Any]:
    """Bits per byte of a model folder on held-out prose and code, beside compressors and 5-grams.

    A document is scored whole, from a beginning token on, every token with at least half the model's context. The
    5-grams (over the model's tokens, over bytes) and `xz_primed` have seen the training documents.
    """
    loaded = load_model(resolve_spec(str(folder)), Dtype.FLOAT32, "cpu")
    documents = list(stdlib.documents("all"))
    training = [document.text for document in documents if document.split == Split.TRAIN]
    held_out = [document for document in documents if document.split == Split.HELD_OUT]
    ngrams = {
        "tokens": fit_ngram([_ids(loaded, text) for text in training], n_symbols=loaded.true_vocabulary_size),
        "bytes": fit_ngram([as_bytes(text) for text in training], n_symbols=N_BYTES),
    }
    return {
        "schema": 1,
        "held_out_fingerprint": fingerprint(held_out),
        "domains": {
            domain: _evaluate(loaded, ngrams, training, [d.text for d in held_out if d.domain == domain])
            for domain in tiny.DOMAINS
        },
        "packages": runs.package_versions(),
    }


def _evaluate(
    loaded: LoadedModel, ngrams: dict[str, NgramModel], training: Sequence[str], held_out: Sequence[str]
) -> dict[str, Any]:
    """The numbers of one domain."""
    n_bytes = sum(len(text.encode()) for text in held_out)
    tokens = [_ids(loaded, text) for text in held_out]
    nats = {
        "model": _model_nats(loaded, tokens),
        "ngram_tokens": ngrams["tokens"].nats(tokens),
        "ngram_bytes": ngrams["bytes"].nats([as_bytes(text) for text in held_out]),
    }
    measured = {name: bits_per_byte(value, n_bytes) for name, value in nats.items()}
    measured |= compressed_bits_per_byte(held_out, training)
    return {
        "n_documents": len(held_out),
        "n_bytes": n_bytes,
        "n_tokens": sum(map(len, tokens)),
        "bits_per_byte": {name: round(value, 4) for name, value in measured.items()},
    }


def _model_nats(loaded: LoadedModel, tokens: Sequence[np.ndarray]) -> float:
    sequences = [np.concatenate([[loaded.beginning_id], ids]) for ids in tokens]
    scores = score(loaded, sequences, k=2, batch_tokens=BATCH_TOKENS, min_context_tokens=loaded.context_tokens // 2)
    return float((scores.logsumexp - scores.target_logit).sum())


def _ids(loaded: LoadedModel, text: str) -> np.ndarray:
    encoded = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return np.asarray(encoded, dtype=np.int64)
