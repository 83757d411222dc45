"""What the values of a config alone can tell: ranges, known names, settings that need each other."""

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from brf_exp import config as c
from brf_exp.capture.shards import REQUIREMENT, is_shard
from brf_exp.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """A requirement in words and as a function of the value; null passes."""

    requirement: str
    holds: Callable[[Any], bool]


def at_least(minimum: int) -> Rule:
    """A number not below `minimum`."""
    return Rule(f"at least {minimum}", lambda value: value >= minimum)


def within(minimum: int, maximum: int) -> Rule:
    """A number from `minimum` to `maximum`."""
    return Rule(f"from {minimum} to {maximum}", lambda value: minimum <= value <= maximum)


def one_of(*names: str) -> Rule:
    """One of a few names."""
    return Rule(f"one of {', '.join(sorted(names))}", lambda value: value in names)


ABOVE_ZERO = Rule("a finite number above 0", lambda value: math.isfinite(value) and value > 0)
NOT_NEGATIVE = Rule("a finite number of at least 0", lambda value: math.isfinite(value) and value >= 0)
SHARE = Rule("between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_ONE = Rule("at least 0 and below 1", lambda value: 0 <= value < 1)
# Levels nearer to 1 have no finite interval in double precision.
LEVEL = Rule("above 0 and at most 0.9999", lambda value: 0 < value <= 0.9999)
# Beyond it phases overflow or lose their digits.
SCALE = Rule("from 1e-9 to 1e9", lambda value: 1e-9 <= value <= 1e9)
SEED = within(0, 2**32 - 1)
# Six digits behind the point, as in the names of their columns.
TEMPERATURES = Rule(
    "different numbers from 0.01 to 100 other than 1, with at most six digits behind the point",
    lambda values: (
        len(set(values)) == len(values) and all(0.01 <= v <= 100 and v != 1 and v == round(v, 6) for v in values)
    ),
)
DEVICE = Rule("cpu, cuda, cuda:<number> or mps", lambda value: re.fullmatch(r"cpu|mps|cuda(:\d+)?", value) is not None)
# Below it differences of logits overflow; 0 is the top token alone.
TEMPERATURE = Rule("0 or from 0.001 to 1000", lambda value: value == 0 or 1e-3 <= value <= 1e3)
TOP_SHARE = Rule("above 0 and at most 1", lambda value: 0 < value <= 1)
PHASES = ("arctan", "linear", "tanh", "exponential", "quantile", "table")

RULES: dict[type, dict[str, Rule]] = {
    c.StageConfig: {"seed": SEED},
    c.CaptureStageConfig: {"condition": one_of("none")},
    c.AnalysisStageConfig: {
        "condition": one_of("none"),
        "captures": Rule("a list of two or more folders, [A,B]", lambda value: len(value) != 1),
        "memory_mb": at_least(0),
    },
    c.AuditStageConfig: {"n_distributions": at_least(1), "vocabulary_size": at_least(2)},
    c.RecipeConfig: {
        "architecture": one_of("llama", "gpt_neox"),
        "hidden_size": at_least(1),
        "intermediate_size": at_least(1),
        "n_layers": at_least(1),
        "n_heads": at_least(1),
        "dropout": BELOW_ONE,
        "context_tokens": at_least(2),
        "prose_share": SHARE,
        "tokens": at_least(1),
        "seed": at_least(0),
    },
    c.TrainConfig: {
        "tokens": at_least(1),
        "batch_tokens": at_least(1),
        "learning_rate": ABOVE_ZERO,
        "matrix_learning_rate": ABOVE_ZERO,
        "warmup_share": SHARE,
        "weight_decay": NOT_NEGATIVE,
        "gradient_clip": ABOVE_ZERO,
        "n_threads": at_least(1),
    },
    c.CorpusConfig: {
        "name": one_of("stdlib", "file", "hub"),
        "domain": one_of("prose", "code", "all"),
        "max_documents": at_least(1),
        "max_tokens": at_least(1),
        "max_document_tokens": at_least(1),
    },
    c.CaptureConfig: {
        "k": at_least(2),
        "batch_tokens": at_least(1),
        "context_tokens": at_least(2),
        "min_context_tokens": at_least(0),
        "rows_per_part": at_least(1),
        "temperatures": TEMPERATURES,
        "device": DEVICE,
        "device_map": one_of("auto"),
        "shard": Rule(REQUIREMENT, is_shard),
    },
    c.GenerationConfig: {
        "prompt_tokens": at_least(1),
        "new_tokens": at_least(1),
        "temperature": TEMPERATURE,
        "top_k": at_least(1),
        "top_p": TOP_SHARE,
    },
    c.PairGenerationConfig: {"by": one_of("a", "b")},
    c.PhaseConfig: {"name": one_of(*PHASES), "scale": SCALE},
    c.EvaluationConfig: {
        "n_folds": within(2, 1000),
        "delta_nats": NOT_NEGATIVE,
        "confidence_level": LEVEL,
        "n_resamples": at_least(1),
        "n_repairings": at_least(1),
        "n_negative_controls": at_least(1),
        "min_documents": at_least(2),
    },
    c.RecaptureConfig: {
        "captures": Rule("a list of two or more folders, [A,B]", lambda value: len(value) != 1),
        "max_tokens": at_least(1),
    },
    c.ClaimsConfig: {"delta": BELOW_ONE},
    c.CollectStageConfig: {"alpha": LEVEL, "map": one_of(*PHASES)},
}


def check(config: c.StageConfig) -> None:
    """Raise ConfigError for the first value that cannot be used, by its dotted key."""
    _check_values(config, "")
    _check_needs(config)


def _check_values(node: Any, prefix: str) -> None:
    for kind in type(node).__mro__:
        for name, rule in RULES.get(kind, {}).items():
            value = getattr(node, name)
            if value is not None and not rule.holds(value):
                raise ConfigError(f"`{prefix}{name}` must be {rule.requirement}, got {value!r}.")
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if dataclasses.is_dataclass(value):
            _check_values(value, f"{prefix}{field.name}.")


def _check_needs(config: c.StageConfig) -> None:
    """Settings that another setting asks for."""
    if isinstance(config, c.CaptureStageConfig | c.TrainStageConfig):
        _check_model(config.model, trained=isinstance(config, c.TrainStageConfig))
    if isinstance(config, c.CaptureStageConfig | c.AnalysisStageConfig):
        _check_corpus(config.corpus)
        _check_generation(config.capture, config.generation)
    if isinstance(config, c.AnalysisStageConfig):
        if config.capture.shard is not None:
            raise ConfigError(
                f"`capture.shard` must be null where a capture is read, got {config.capture.shard!r}. "
                "Shards are made with `brf-exp capture`."
            )
        if config.phase.name == "table":
            _require("phase.table", config.phase.table, "a CSV file of gap,phase for phase=table")
        if not config.captures:
            _check_pair(config.pair)
    if isinstance(config, c.CoherenceStageConfig) and config.planning and config.claims.delta == 0:
        raise ConfigError("`claims.delta` must be above 0 with planning=true, got 0.0. Any effect is larger than 0.")
    if isinstance(config, c.IngestStageConfig):
        _require("submission", config.submission, "a folder, .zip or .tar.gz with a submission.yaml")


def _check_model(model: c.ModelConfig, *, trained: bool) -> None:
    if trained and model.name == "hf":
        raise ConfigError("`model` must be an embedded model for `train`, got 'hf'.")
    if model.name == "hf":
        _require("model.id", model.id, "a local folder or a hub id for model=hf")
    if model.recipe.hidden_size % model.recipe.n_heads:
        raise ConfigError(
            f"`model.recipe.hidden_size` must be a multiple of `model.recipe.n_heads` ({model.recipe.n_heads}), "
            f"got {model.recipe.hidden_size}."
        )


def _check_corpus(corpus: c.CorpusConfig) -> None:
    if corpus.name == "file":
        _require("corpus.path", corpus.path, "a .txt, .jsonl, .csv or .parquet file for corpus=file")
    if corpus.name == "hub":
        _require("corpus.id", corpus.id, "a hub dataset id for corpus=hub")
    splits = one_of("train", "validation", "held_out", "all")
    if corpus.name == "stdlib" and not splits.holds(corpus.split):
        raise ConfigError(f"`corpus.split` must be {splits.requirement}, got {corpus.split!r}.")


def _check_generation(capture: c.CaptureConfig, generation: c.GenerationConfig) -> None:
    """Settings of generation do nothing where nothing is generated: whoever sets them means to generate."""
    is_set = [f.name for f in dataclasses.fields(generation) if getattr(generation, f.name) != f.default]
    if capture.mode != c.CaptureMode.GENERATION and is_set:
        raise ConfigError(
            f"`capture.mode` must be generation where generation.{is_set[0]} is set, got {str(capture.mode)!r}. "
            "Add capture.mode=generation."
        )
    others = [name for name in is_set if name != "tokens_of"]
    if generation.tokens_of is not None and others:
        raise ConfigError(
            f"`generation.{others[0]}` must be left out with generation.tokens_of, whose tokens are generated already, "
            f"got {getattr(generation, others[0])!r}."
        )


def _check_pair(pair: c.PairConfig) -> None:
    if pair.submission is None:
        _require("pair.a", pair.a, f"a local folder or a hub id for pair={pair.name}")
        _require("pair.b", pair.b, f"a local folder or a hub id for pair={pair.name}")


def _require(key: str, value: str | None, requirement: str) -> None:
    if value is None or value == "":
        raise ConfigError(f"`{key}` must be {requirement}, got {'null' if value is None else repr(value)}.")
