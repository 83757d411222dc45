"""Stage `capture`: one model over one corpus, kept as rows; never done twice."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brf_exp.capture.parts import Part, remove_side_files, write_parts
from brf_exp.capture.progress import progress_bar
from brf_exp.capture.tokenise import TokenisedDocument, check_vocabulary, tokenise
from brf_exp.config import CaptureConfig, CaptureStageConfig, CorpusConfig, ModelConfig
from brf_exp.corpora.document import TEXTS, Document, fingerprint, write_texts
from brf_exp.corpora.load import load_documents
from brf_exp.errors import BrfError, ConfigError, InputError
from brf_exp.models.load import LoadedModel, load_model
from brf_exp.models.reference import ModelFiles, ModelReference, fetch, identify, resolve
from brf_exp.storage import captures, runs, schema

CONDITIONS = ("none",)
COMPUTING_PACKAGES = ("tokenizers", "torch", "transformers")
KEY_CHARS = 16


@dataclass(frozen=True)
class Request:
    """One capture as asked for: a fetched model, the corpus's documents before any cut, the settings."""

    reference: ModelReference
    files: ModelFiles
    documents: list[Document]
    corpus: CorpusConfig
    settings: CaptureConfig
    condition: str

    def determines(self) -> dict[str, Any]:
        """Everything that determines the rows: the capture's key is the hash of it."""
        return {
            "capture_schema": schema.CAPTURE_SCHEMA,
            "model": {
                "revision": self.reference.revision,
                "weights_sha256": self.files.weights_sha256,
                "files": self.files.sha256,
            },
            "corpus": {
                "fingerprint": fingerprint(self.documents),
                "max_tokens": self.corpus.max_tokens,
                "max_document_tokens": self.corpus.max_document_tokens,
            },
            "condition": self.condition,
            "capture": asdict(self.settings),
        }


def run(config: CaptureStageConfig) -> Path:
    """Capture as configured; the capture's folder."""
    return capture(
        config.model,
        config.corpus,
        config.capture,
        condition=config.condition,
        runs_dir=Path(config.runs_dir),
        seed=config.seed,
        progress=config.progress,
    )


def capture(
    model: ModelConfig | ModelReference,
    corpus: CorpusConfig,
    capture: CaptureConfig,
    *,
    condition: str = "none",
    runs_dir: Path,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """The folder of a model's capture on a corpus, made now or found made.

    Where it is there already, neither torch nor transformers is imported. An interrupted capture goes on behind its
    last finished part, to the same bytes. Nothing in it is random: `seed` is recorded only.
    Raises ConfigError for settings, InputError for a model or corpus that cannot be used.
    """
    _check(corpus, capture, condition)
    reference = fetch(model if isinstance(model, ModelReference) else resolve(model))
    request = Request(reference, identify(reference), load_documents(corpus), corpus, capture, condition)
    key = runs.content_key(request.determines())
    final = runs_dir / "captures" / runs.slug(reference.name) / key[:KEY_CHARS]
    if (final / captures.MANIFEST).is_file():
        return final
    started = datetime.now(UTC).isoformat(timespec="seconds")
    loaded = load_model(reference, capture.dtype, capture.device, files=request.files)
    _check_against_model(capture, loaded)
    used = _tokenised(request, loaded)
    with runs.locked(final):
        if not (final / captures.MANIFEST).is_file():
            partial = final.with_name(final.name + ".partial")
            parts = _fill(partial, loaded, used, capture, progress=progress)
            manifest: dict[str, Any] = {"schema": schema.CAPTURE_SCHEMA, "stage": "capture", "key": key}
            manifest |= {"determines": request.determines(), **_facts(request, loaded, used, parts)}
            manifest["corpus"]["texts_sha256"] = captures.sha256_of(partial / TEXTS)
            manifest["packages"] = runs.package_versions()
            manifest["environment"] = {"seed": seed, "started": started, **_machine(loaded), **runs.environment()}
            _finish(partial, final, manifest)
    return final


def _check(corpus: CorpusConfig, capture: CaptureConfig, condition: str) -> None:
    """Refuse settings that no model could serve."""
    if condition not in CONDITIONS:
        raise ConfigError(f"`condition` must be one of {', '.join(CONDITIONS)}, got {condition!r}.")
    smallest = {
        "capture.k": (capture.k, schema.MIN_K),
        "capture.batch_tokens": (capture.batch_tokens, 2),
        "capture.min_context_tokens": (capture.min_context_tokens, 1),
        "capture.rows_per_part": (capture.rows_per_part, 1),
        "corpus.max_tokens": (corpus.max_tokens, 1),
        "corpus.max_document_tokens": (corpus.max_document_tokens, 1),
    }
    for name, (value, least) in smallest.items():
        if value is not None and value < least:
            raise ConfigError(f"`{name}` must be at least {least}, got {value}.")


def _check_against_model(capture: CaptureConfig, loaded: LoadedModel) -> None:
    """Refuse settings that this model cannot serve."""
    if capture.k > loaded.true_vocabulary_size:
        raise ConfigError(
            f"`capture.k` must be at most {loaded.true_vocabulary_size}, the vocabulary of {loaded.reference.name}, "
            f"got {capture.k}."
        )
    context = min(loaded.context_tokens, capture.batch_tokens)
    if capture.min_context_tokens >= context:
        raise ConfigError(
            f"`capture.min_context_tokens` must be below {context}, the context of {loaded.reference.name} within "
            f"capture.batch_tokens, got {capture.min_context_tokens}."
        )


def _tokenised(request: Request, loaded: LoadedModel) -> list[TokenisedDocument]:
    """The documents that are scored, cut as the corpus settings say."""
    used = tokenise(
        request.documents,
        loaded.tokenizer,
        n_unscored=0 if loaded.beginning_id is not None else 1,
        max_tokens=request.corpus.max_tokens,
        max_document_tokens=request.corpus.max_document_tokens,
    )
    if not used:
        raise InputError(f"`corpus` must have text that gives {loaded.reference.name} a token to score, got none.")
    check_vocabulary(used, vocabulary_size=loaded.true_vocabulary_size, name=loaded.reference.name)
    return used


def _fill(
    partial: Path, loaded: LoadedModel, used: Sequence[TokenisedDocument], settings: CaptureConfig, *, progress: bool
) -> list[Part]:
    """Write the texts and the parts that are missing; what a user must mend leaves nothing behind."""
    partial.mkdir(exist_ok=True)
    write_texts(partial / TEXTS, (document.document for document in used))
    versions = runs.package_versions()
    made_by = {name: versions[name] for name in COMPUTING_PACKAGES}
    n_tokens = sum(document.n_tokens for document in used)
    try:
        with progress_bar(f"capture {loaded.reference.name}", n_tokens=n_tokens, enabled=progress) as on_tokens:
            return write_parts(partial, loaded, used, settings, made_by=made_by, on_tokens=on_tokens)
    except BrfError:
        shutil.rmtree(partial)
        raise


def _facts(
    request: Request, loaded: LoadedModel, used: Sequence[TokenisedDocument], parts: Sequence[Part]
) -> dict[str, Any]:
    """What capture.json says of the rows."""
    reference, settings = request.reference, request.settings
    return {
        "model": {
            "name": reference.name,
            "id": reference.id if reference.embedded or reference.revision else reference.name,
            "revision": reference.revision,
            "weights_sha256": loaded.weights_sha256,
            "vocabulary_size": loaded.true_vocabulary_size,
            "padded_vocabulary_size": loaded.padded_vocabulary_size,
            "n_excluded_ids": loaded.padded_vocabulary_size - loaded.true_vocabulary_size,
        },
        "tokenizer_fingerprint": loaded.tokenizer_fingerprint,
        "corpus": {**asdict(request.corpus), "fingerprint": fingerprint(document.document for document in used)},
        "condition": request.condition,
        "mode": "teacher_forced",
        "temperatures": [1.0],
        "beginning_id": loaded.beginning_id,
        "first_position": 0 if loaded.beginning_id is not None else 1,
        "context_tokens": min(loaded.context_tokens, settings.batch_tokens),
        "min_context_tokens": settings.min_context_tokens,
        "k": settings.k,
        "dtype": {"forward": settings.dtype, "head": settings.dtype, "kept": "float32"},
        "rows": sum(part.rows for part in parts),
        "documents": len(used),
        "parts": [asdict(part) for part in parts],
    }


def _machine(loaded: LoadedModel) -> dict[str, Any]:
    """The device that computed."""
    import torch

    name = torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else loaded.device.type
    folder = loaded.reference.folder
    return {"device": name, "n_threads": torch.get_num_threads(), "model_folder": str(folder)}


def _finish(partial: Path, final: Path, manifest: dict[str, Any]) -> None:
    """Describe the rows and give the folder its name."""
    runs.write_json(partial / captures.MANIFEST, manifest)
    remove_side_files(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.replace(final)
