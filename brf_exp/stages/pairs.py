"""From a pair's settings to matched captures: the one place that knows where a pair's rows come from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from brf_exp.config import (
    AnalysisStageConfig,
    CaptureMode,
    DiscriminateStageConfig,
    GenerationConfig,
    ModelConfig,
    ScoringConfig,
)
from brf_exp.errors import ConfigError, InputError
from brf_exp.models.reference import fetch, folder_of, resolve
from brf_exp.stages.alignment import AlignedProxy, aligned_proxy
from brf_exp.storage.captures import Capture, DocumentIndex, open_capture
from brf_exp.storage.runs import content_key, read_json

PAIR_FILE = "pair.json"
EMBEDDED_PREFIX = "tiny_"
NO_PROXY = "none"
TOP_TWO = ("logit_1", "logit_2")


@dataclass(frozen=True)
class PairInputs:
    """Captures of two or more models with equal rows, and what tells the difficulty of tokens where there is any.

    `proxy` is another model with the same rows; `aligned` an embedded one with tokens of its own, for two models
    without a proxy. `aligned_rows` says how rows of different tokenizers were matched by characters (`n_positions`,
    `share` by model key), None where they needed no matching. Rows are known to be equal only where `check_rows` or
    whoever reads them has compared them.
    """

    name: str
    captures: tuple[Capture, ...]
    proxy: Capture | None
    lineage: str | None
    pseudo_documents: bool
    aligned: AlignedProxy | None = None
    aligned_rows: dict[str, Any] | None = None

    @property
    def documents(self) -> DocumentIndex:
        """The documents of all captures."""
        return self.captures[0].documents

    @property
    def texts(self) -> Path | None:
        """The documents' texts, where they were kept."""
        for folder in (self.captures[0].folder, self.captures[0].folder.parent):
            if (folder / "texts.jsonl").is_file():
                return folder / "texts.jsonl"
        return None

    @property
    def corpus_name(self) -> str:
        """What the texts are called in sentences."""
        manifest = self.captures[0].manifest
        name = _name_of(manifest.get("corpus", {}))
        return f"{name} continued by {manifest['generation']['by']}" if "generation" in manifest else name

    def identity(self) -> dict[str, Any]:
        """What determines these rows, for keys and manifests."""
        members = [capture_identity(capture) for capture in self.captures]
        proxy = self.proxy and capture_identity(self.proxy)
        return {
            "pair": self.name,
            "captures": members,
            "proxy": proxy,
            "aligned": self.aligned and self.aligned.identity(),
        }

    @property
    def identical(self) -> tuple[tuple[str, str], ...]:
        """Names of models under test that are one model: the same weights or, where those are unknown, rows."""
        twins = [pair for pair in combinations(self.captures, 2) if _is_same_model(*pair)]
        return tuple((first.model_name, second.model_name) for first, second in twins)

    def tested_only(self) -> "PairInputs":
        """The models under test alone, without anything that tells difficulty."""
        return replace(self, proxy=None, aligned=None)

    @property
    def proxy_is_tested(self) -> bool:
        """Whether the proxy is one of the models under test: it would take away what it is to measure."""
        return self.proxy is not None and any(_is_same_model(self.proxy, capture) for capture in self.captures)

    def gaps(self) -> np.ndarray:
        """Logit gaps of all models, (M, n), float64; InputError where one is not a finite number of at least 0."""
        return np.stack([logit_gaps(capture, *capture.read(TOP_TWO).values()) for capture in self.captures])


def _name_of(corpus: dict[str, Any]) -> str:
    if corpus.get("name") == "file" and corpus.get("path"):
        return Path(corpus["path"]).name
    if corpus.get("name") == "hub" and corpus.get("id"):
        return str(corpus["id"])
    return str(corpus.get("name", "unnamed texts"))


def logit_gaps(capture: Capture, logit_1: np.ndarray, logit_2: np.ndarray, *, before: int = 0) -> np.ndarray:
    """Logit gaps of consecutive rows, float64; InputError where logits are not finite and descending.

    `before` is the number of the capture's rows ahead of these.
    """
    first, second = logit_1.astype(np.float64), logit_2.astype(np.float64)
    with np.errstate(invalid="ignore"):  # inf - inf
        gap: np.ndarray = first - second
    wrong = np.flatnonzero(~(np.isfinite(gap) & (gap >= 0)))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            f"`logit_1` and `logit_2` of {capture.model_name} must be finite and descending, got {first[row]} and "
            f"{second[row]} in row {before + row + 1}. Mend the capture."
        )
    return gap


def capture_identity(capture: Capture) -> str:
    """Hash of a capture's rows and of the names that results quote."""
    parts = [part["sha256"] for part in capture.manifest["parts"]]
    corpus = capture.manifest.get("corpus", {})
    named = {name: corpus.get(name) for name in ("name", "path", "id")}
    return content_key({"parts": parts, "model": capture.model_name, "corpus": named})


def _is_same_model(first: Capture, second: Capture) -> bool:
    weights = [capture.manifest["model"].get("weights_sha256") for capture in (first, second)]
    if all(weights):
        return bool(weights[0] == weights[1])
    rows = [[part["sha256"] for part in capture.manifest["parts"]] for capture in (first, second)]
    return rows[0] == rows[1]


def resolve_pair(config: AnalysisStageConfig) -> PairInputs:
    """The captures a stage's settings ask for, captured now where they are not there yet."""
    if config.captures:
        inputs = _from_folders(config)
    elif config.pair.submission:
        inputs = _from_submission(config)
    else:
        inputs = _from_models(config)
    check_headers(inputs)
    return replace(inputs, aligned=_aligned(inputs, config))


def _aligned(inputs: PairInputs, config: AnalysisStageConfig) -> AlignedProxy | None:
    """The embedded proxy of two models that have none; stage `discriminate` asks for no difficulty."""
    is_wanted = len(inputs.captures) == 2 and inputs.proxy is None and NO_PROXY not in (config.proxy, config.pair.proxy)
    if not is_wanted or isinstance(config, DiscriminateStageConfig):
        return None
    return aligned_proxy(
        inputs.captures,
        inputs.texts,
        runs_dir=Path(config.runs_dir),
        device=config.capture.device,
        seed=config.seed,
        progress=config.progress,
    )


def _from_folders(config: AnalysisStageConfig) -> PairInputs:
    if len(config.captures) < 2:
        n = len(config.captures)
        raise ConfigError(f"`captures` must be two or more capture folders, got {n}. Name them as [A,B].")
    tested = tuple(open_capture(Path(folder).absolute()) for folder in config.captures)
    third = _proxy_named(config)
    proxy = open_capture(Path(third).absolute()) if third else None
    return PairInputs(_joined(tested), tested, proxy, None, _is_pseudo(tested[0]))


def _proxy_named(config: AnalysisStageConfig) -> str | None:
    return config.proxy if config.proxy != NO_PROXY else None


def _joined(tested: Sequence[Capture]) -> str:
    return "-".join(capture.model_name for capture in tested)


def _from_submission(config: AnalysisStageConfig) -> PairInputs:
    folder = Path(config.pair.submission or "")
    description = read_json(folder / PAIR_FILE)
    name, models = description["name"], dict(description["models"])
    third = _proxy_named(config)
    keys = [key for key in sorted(models) if key != third]
    if len(keys) < 2:
        raise ConfigError(
            f"`proxy` must leave two models of `{name}` to test, got {config.proxy!r}. "
            "Name a capture folder or submit a third model."
        )
    aligned = None
    if not description["shared_ids"] and not _share_ids([models[key] for key in keys]):
        aligned = _aligned_by_characters(config, description)
    folders = aligned["captures"] if aligned else {key: model["capture"] for key, model in models.items()}
    tested = tuple(open_capture(folder / folders[key]) for key in keys)
    proxy = None
    if third:
        proxy = open_capture(folder / folders[third] if third in models else Path(third).absolute())
    return PairInputs(name, tested, proxy, config.pair.lineage, _is_pseudo(tested[0]), aligned_rows=aligned)


def _share_ids(models: Sequence[dict[str, Any]]) -> bool:
    """Whether some of a submission's models have one tokenizer, though not all have."""
    named = {(model.get("tokenizer"), model.get("vocab_size")) for model in models}
    return len(named) == 1 and (None, None) not in named


def _aligned_by_characters(config: AnalysisStageConfig, description: dict[str, Any]) -> dict[str, Any]:
    """Where a submission's matched rows lie; InputError where the stage needs shared token ids, or none match."""
    name, reason = description["name"], description.get("stages", {}).get("reason")
    aligned: dict[str, Any] | None = description.get("aligned")
    if isinstance(config, ScoringConfig):
        hint = f" `brf-exp coherence pair={name}` works." if aligned else ""
        raise InputError(
            f"`{name}` must have models with one tokenizer to compare their predictions, got different ones "
            f"({reason}). Submit models that share their token ids, or byte-level dumps (257 outcomes).{hint}"
        )
    if aligned is None:
        raise InputError(
            f"`{name}` must have models with one tokenizer, or rows that can be aligned by characters, got neither "
            f"({reason}). Submit char_start and char_end with every row."
        )
    return aligned


def _from_models(config: AnalysisStageConfig) -> PairInputs:
    tested, proxy = _models_of(config)
    models = [*tested, *([proxy] if proxy else [])]
    if config.capture.mode == CaptureMode.GENERATION and config.generation.tokens_of is None:
        made = _generated(config, models, author=0 if config.generation.by == "a" else 1)
    else:
        made = [_captured(config, model, config.generation) for model in models]
    captures = tuple(made[: len(tested)])
    name = config.pair.name if config.pair.name != "hf" else _joined(captures)
    return PairInputs(name, captures, made[-1] if proxy else None, config.pair.lineage, False)


def _captured(config: AnalysisStageConfig, model: ModelConfig, generation: GenerationConfig) -> Capture:
    # Late import: capturing needs torch, and an analysis of captures that are there does not.
    from brf_exp.stages.capture import capture

    folder = capture(
        model,
        config.corpus,
        config.capture,
        condition=config.condition,
        generation=generation,
        runs_dir=Path(config.runs_dir),
        seed=config.seed,
        progress=config.progress,
    )
    return open_capture(folder)


def _generated(config: AnalysisStageConfig, models: Sequence[ModelConfig], *, author: int) -> list[Capture]:
    """One model generates, and the others score what it wrote, token for token."""
    _require_shared_ids(models[author], [model for place, model in enumerate(models) if place != author])
    written = _captured(config, models[author], config.generation)
    scoring = replace(config.generation, tokens_of=str(written.folder))
    return [written if place == author else _captured(config, model, scoring) for place, model in enumerate(models)]


def _require_shared_ids(author: ModelConfig, others: Sequence[ModelConfig]) -> None:
    """Raise ConfigError before hours of generating where a model could not read the tokens; without torch, later."""
    from brf_exp.capture.scored_rows import other_tokenizer
    from brf_exp.models.load import tokenizer_fingerprint

    own = fetch(resolve(author))
    for reference in (fetch(resolve(model)) for model in others):
        files = [folder_of(each) / "tokenizer.json" for each in (own, reference)]
        if all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes():
            continue
        if find_spec("transformers") and tokenizer_fingerprint(own) != tokenizer_fingerprint(reference):
            raise other_tokenizer(reference.name, own.name)


def _models_of(config: AnalysisStageConfig) -> tuple[list[ModelConfig], ModelConfig | None]:
    """The models to test, and the proxy."""
    pair = config.pair
    for key, value in (("pair.a", pair.a), ("pair.b", pair.b)):
        if not value:
            raise ConfigError(f"`{key}` must be a model folder or hub id, got none. Add {key}=PATH.")
    tested = [(pair.a, pair.a_revision), (pair.b, pair.b_revision), *((spec, None) for spec in pair.others)]
    models = [_model_of(str(spec), revision) for spec, revision in tested]
    third, revision = (config.proxy, None) if config.proxy else (pair.proxy, pair.proxy_revision)
    return models, _model_of(third, revision) if third and third != NO_PROXY else None


def _model_of(spec: str, revision: str | None) -> ModelConfig:
    """A pair's member as model settings: an embedded name, a local folder or a hub id."""
    if spec.startswith(EMBEDDED_PREFIX) and "/" not in spec:
        return ModelConfig(name=spec)
    return ModelConfig(name="hf", id=spec, revision=revision)


def _is_pseudo(capture: Capture) -> bool:
    return bool(capture.manifest.get("pseudo_documents", False))


def check_headers(inputs: PairInputs) -> None:
    """Raise InputError where manifests tell that the captures cannot have the same rows; no row is read."""
    first, *others = inputs.captures
    for other in [*others, *([inputs.proxy] if inputs.proxy else [])]:
        _require_same_tokenizer(first, other)
        n_documents = [sum(part["documents"] for part in capture.manifest["parts"]) for capture in (first, other)]
        if n_documents[0] != n_documents[1] or first.n_rows != other.n_rows:
            raise InputError(
                f"`{other.model_name}` must have the documents of {first.model_name}, got others "
                f"({other.n_rows} rows in {n_documents[1]} documents against {first.n_rows} in {n_documents[0]}). "
                "Capture both on the same texts."
            )


def _require_same_tokenizer(first: Capture, other: Capture) -> None:
    left, right = (capture.manifest.get("tokenizer_fingerprint") for capture in (first, other))
    if left and right and left != right:
        raise InputError(
            f"`{other.model_name}` must have the tokenizer of {first.model_name}, got another one. "
            "Choose two models that share their token ids."
        )
