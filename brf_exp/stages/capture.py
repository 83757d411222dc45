"""Stage `capture`: one model over one corpus, kept as rows; never done twice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brf_exp.capture import workplace
from brf_exp.capture.generated_rows import GeneratedRows, sampling_settings
from brf_exp.capture.making import Making
from brf_exp.capture.parts import Part, RowSource
from brf_exp.capture.scored_rows import ScoredRows, content_of, open_generated
from brf_exp.capture.shards import REQUIREMENT, is_shard
from brf_exp.capture.teacher_forced import TeacherForced
from brf_exp.config import (
    CaptureConfig,
    CaptureMode,
    CaptureStageConfig,
    CorpusConfig,
    Dtype,
    GenerationConfig,
    ModelConfig,
)
from brf_exp.corpora.load import load_documents
from brf_exp.corpora.stored import StoredDocuments
from brf_exp.errors import ConfigError
from brf_exp.models.load import LoadedModel, load_model
from brf_exp.models.reference import ModelFiles, ModelReference, fetch, identify, resolve
from brf_exp.storage import captures, runs, schema

CONDITIONS = ("none",)
KEY_CHARS = 16


@dataclass(frozen=True)
class Request:
    """One capture as asked for: a fetched model, the corpus's documents before any cut, the settings."""

    reference: ModelReference
    files: ModelFiles
    documents: StoredDocuments
    corpus: CorpusConfig
    settings: CaptureConfig
    condition: str
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    seed: int = 0
    tokens_of: captures.Capture | None = None

    @property
    def generates(self) -> bool:
        """Whether the model goes on from the texts instead of reading them."""
        return self.settings.mode == CaptureMode.GENERATION and self.tokens_of is None

    def determines(self) -> dict[str, Any]:
        """Everything that determines the rows: the capture's key is the hash of it."""
        more: dict[str, Any] = {}
        if self.generates:
            more = {"generation": sampling_settings(self.generation), "seed": self.seed}
        elif self.tokens_of is not None:
            more = {"tokens_of": content_of(self.tokens_of)}
        return {
            "capture_schema": schema.CAPTURE_SCHEMA,
            "model": {
                "revision": self.reference.revision,
                "weights_sha256": self.files.weights_sha256,
                "files": self.files.sha256,
            },
            "corpus": {
                "fingerprint": self.documents.fingerprint,
                "max_tokens": self.corpus.max_tokens,
                "max_document_tokens": self.corpus.max_document_tokens,
            },
            "condition": self.condition,
            # Who computes which parts does not change them.
            "capture": {name: value for name, value in asdict(self.settings).items() if name != "shard"},
            **more,
        }


def run(config: CaptureStageConfig) -> Path:
    """Capture as configured; the capture's folder."""
    return capture(
        config.model,
        config.corpus,
        config.capture,
        condition=config.condition,
        generation=config.generation,
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
    generation: GenerationConfig | None = None,
    runs_dir: Path,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """The folder of a model's capture on a corpus, made now or found made.

    Where it is there already, neither torch nor transformers is imported. An interrupted capture goes on with what is
    missing, to the same bytes; several processes can work on one. With `capture.shard`, the folder is the unfinished
    one as long as parts of other shards are missing. Only generation is random, and `seed` decides about it.
    Raises ConfigError for settings, InputError for a model or corpus that cannot be used.
    """
    _check(corpus, capture, condition)
    capture = replace(capture, temperatures=sorted(capture.temperatures))
    reference = fetch(model if isinstance(model, ModelReference) else resolve(model))
    wanted, tokens_of = generation or GenerationConfig(), None
    if capture.mode == CaptureMode.GENERATION and wanted.tokens_of is not None:
        tokens_of = open_generated(Path(wanted.tokens_of).expanduser().absolute())
    documents = load_documents(corpus) if tokens_of is None else StoredDocuments(())
    files = identify(reference)
    request = Request(reference, files, documents, corpus, capture, condition, wanted, seed, tokens_of)
    determines = request.determines()
    key = runs.content_key(determines)
    final = runs_dir / "captures" / runs.slug(reference.name) / key[:KEY_CHARS]
    if workplace.is_finished(final):
        workplace.sweep(final)
        return final
    if (final / captures.MANIFEST).exists():
        workplace.reopen(final)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    loaded = _loaded(request)
    described = {"schema": schema.CAPTURE_SCHEMA, "stage": "capture", "key": key, "determines": determines}
    environment = {"seed": seed, "started": started, **_machine(loaded)}
    # The documents are the source's from here on: once they are tokenised, they go from the disk.
    source, request = _source(request, loaded), replace(request, documents=StoredDocuments(()))
    del documents
    making = Making(final, key, source, loaded, capture, progress=progress)
    return making.made(lambda parts: {**described, **_facts(request, loaded, source, parts)}, environment)


def _check(corpus: CorpusConfig, capture: CaptureConfig, condition: str) -> None:
    """Refuse settings that no model could serve."""
    if condition not in CONDITIONS:
        raise ConfigError(f"`condition` must be one of {', '.join(CONDITIONS)}, got {condition!r}.")
    smallest = {
        "capture.k": (capture.k, schema.MIN_K),
        "capture.batch_tokens": (capture.batch_tokens, 2),
        "capture.context_tokens": (capture.context_tokens, 2),
        "capture.min_context_tokens": (capture.min_context_tokens, 1),
        "capture.rows_per_part": (capture.rows_per_part, 1),
        "corpus.max_tokens": (corpus.max_tokens, 1),
        "corpus.max_document_tokens": (corpus.max_document_tokens, 1),
    }
    for name, (value, least) in smallest.items():
        if value is not None and value < least:
            raise ConfigError(f"`{name}` must be at least {least}, got {value}.")
    if capture.shard is not None and not is_shard(capture.shard):
        raise ConfigError(f"`capture.shard` must be {REQUIREMENT}, got {capture.shard!r}.")


def _loaded(request: Request) -> LoadedModel:
    """The model in memory, able to serve the settings."""
    settings = request.settings
    loaded = load_model(
        request.reference,
        settings.dtype,
        settings.device,
        files=request.files,
        device_map=settings.device_map,
        compiled=settings.compile and not request.generates,
    )
    _check_against_model(settings, loaded)
    if loaded.head is None:
        workplace.say(
            f"{request.reference.name}: logits of all positions are made at once, since {loaded.headless_reason}. "
            "The numbers are the same, at a higher cost."
        )
    return loaded


def _check_against_model(capture: CaptureConfig, loaded: LoadedModel) -> None:
    """Refuse settings that this model cannot serve."""
    if capture.k > loaded.true_vocabulary_size:
        raise ConfigError(
            f"`capture.k` must be at most {loaded.true_vocabulary_size}, the vocabulary of {loaded.reference.name}, "
            f"got {capture.k}."
        )
    context = min(loaded.context_tokens, capture.context_tokens)
    if capture.min_context_tokens >= context:
        raise ConfigError(
            f"`capture.min_context_tokens` must be below {context}, the context of {loaded.reference.name} within "
            f"capture.context_tokens, got {capture.min_context_tokens}."
        )


def _source(request: Request, loaded: LoadedModel) -> RowSource:
    """Where the rows come from."""
    settings, corpus = request.settings, request.corpus
    if request.tokens_of is not None:
        return ScoredRows(loaded, request.tokens_of, settings, max_tokens=corpus.max_tokens)
    if request.generates:
        return GeneratedRows(loaded, request.documents, corpus, settings, request.generation, seed=request.seed)
    return TeacherForced(loaded, request.documents, corpus, settings)


def _facts(request: Request, loaded: LoadedModel, source: RowSource, parts: Sequence[Part]) -> dict[str, Any]:
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
        "condition": request.condition,
        **source.facts(),
        "beginning_id": loaded.beginning_id,
        "context_tokens": min(loaded.context_tokens, settings.context_tokens),
        "min_context_tokens": settings.min_context_tokens,
        "k": settings.k,
        "dtype": {"forward": settings.dtype, "head": _head_dtype(settings, loaded), "kept": "float32"},
        "rows": sum(part.rows for part in parts),
        "documents": sum(part.documents for part in parts),
        "parts": [asdict(part) for part in parts],
    }


def _head_dtype(settings: CaptureConfig, loaded: LoadedModel) -> Dtype:
    """Number type of the output layer: at least float32 where it is run by itself."""
    return settings.dtype if loaded.head is None or settings.dtype == Dtype.FLOAT64 else Dtype.FLOAT32


def _machine(loaded: LoadedModel) -> dict[str, Any]:
    """The device that computed."""
    import torch

    name = torch.cuda.get_device_name(loaded.device) if loaded.device.type == "cuda" else loaded.device.type
    folder = loaded.reference.folder
    return {"device": name, "n_threads": torch.get_num_threads(), "model_folder": str(folder)}
