"""Every value that the config alone shows to be unusable."""

from dataclasses import replace
from typing import Any

import pytest

from brf_exp import config as c
from brf_exp.capture.shards import REQUIREMENT as SHARD
from brf_exp.checks import RULES, check
from brf_exp.errors import ConfigError
from brf_exp.settings import settings_of

PAIR = c.PairConfig(name="tiny", a="tiny_prose", b="tiny_code")
HF_PAIR = c.PairConfig(name="hf", a="x")
# What makes a config whole where the dataclass alone is not.
WHOLE: dict[type[c.StageConfig], dict[str, Any]] = {
    c.RunStageConfig: {"pair": PAIR},
    c.IngestStageConfig: {"submission": "x"},
    c.ClaimsStageConfig: {"run": "x"},
    c.ReportStageConfig: {"run": "x"},
}
NAN, INF = float("nan"), float("inf")
POSITIVE = "a finite number above 0"
NOT_NEGATIVE = "a finite number of at least 0"
SCALE = "from 1e-9 to 1e9"
LEVEL = "above 0 and at most 0.9999"
CASES: list[tuple[type[c.StageConfig], str, Any, str]] = [
    (c.AuditStageConfig, "seed", -1, "from 0 to 4294967295"),
    (c.AuditStageConfig, "seed", 2**32, "from 0 to 4294967295"),
    (c.AuditStageConfig, "n_distributions", 0, "at least 1"),
    (c.AuditStageConfig, "vocabulary_size", 1, "at least 2"),
    (c.CaptureStageConfig, "condition", "odd", "one of none"),
    (c.RunStageConfig, "condition", "odd", "one of none"),
    (c.RunStageConfig, "captures", ["a"], "a list of two or more folders, [A,B]"),
    (c.CaptureStageConfig, "corpus.name", "web", "one of file, hub, stdlib"),
    (c.CaptureStageConfig, "corpus.domain", "verse", "one of all, code, prose"),
    (c.CaptureStageConfig, "corpus.split", "test", "one of all, held_out, train, validation"),
    (c.CaptureStageConfig, "corpus.max_documents", 0, "at least 1"),
    (c.CaptureStageConfig, "corpus.max_tokens", 0, "at least 1"),
    (c.CaptureStageConfig, "corpus.max_document_tokens", 0, "at least 1"),
    (c.CaptureStageConfig, "capture.k", 1, "at least 2"),
    (c.CaptureStageConfig, "capture.batch_tokens", 0, "at least 1"),
    (c.CaptureStageConfig, "capture.context_tokens", 1, "at least 2"),
    (c.CaptureStageConfig, "capture.min_context_tokens", -1, "at least 0"),
    (c.CaptureStageConfig, "capture.rows_per_part", 0, "at least 1"),
    (c.CaptureStageConfig, "capture.shard", "5/4", "n/m with 1 <= n <= m, such as 3/16"),
    *(
        (
            c.CaptureStageConfig,
            "capture.temperatures",
            wrong,
            "different numbers from 0.01 to 100 other than 1, with at most six digits behind the point",
        )
        for wrong in ([0.0], [1.0], [0.7, 0.7], [101.0], [0.12345678])
    ),
    (c.CaptureStageConfig, "capture.device_map", "balanced", "one of auto"),
    *((c.CaptureStageConfig, "capture.shard", wrong, SHARD) for wrong in ("0/4", "5/4", "a/b")),
    (c.CaptureStageConfig, "capture.device", "tpu", "cpu, cuda, cuda:<number> or mps"),
    (c.CaptureStageConfig, "generation.prompt_tokens", 0, "at least 1"),
    (c.CaptureStageConfig, "generation.new_tokens", 0, "at least 1"),
    (c.CaptureStageConfig, "generation.temperature", -1.0, "0 or from 0.001 to 1000"),
    (c.CaptureStageConfig, "generation.temperature", NAN, "0 or from 0.001 to 1000"),
    (c.CaptureStageConfig, "generation.top_k", 0, "at least 1"),
    (c.CaptureStageConfig, "generation.top_p", 0.0, "above 0 and at most 1"),
    (c.RunStageConfig, "generation.by", "c", "one of a, b"),
    (c.RunStageConfig, "phase.name", "sine", "one of arctan, exponential, linear, quantile, table, tanh"),
    (c.RunStageConfig, "memory_mb", -1, "at least 0"),
    (c.RunStageConfig, "recapture.captures", ["A"], "a list of two or more folders, [A,B]"),
    (c.DiscriminateStageConfig, "recapture.max_tokens", 0, "at least 1"),
    (c.RunStageConfig, "phase.scale", 0.0, SCALE),
    (c.RunStageConfig, "phase.scale", -1.0, SCALE),
    (c.RunStageConfig, "phase.scale", 1e-300, SCALE),
    (c.RunStageConfig, "phase.scale", NAN, SCALE),
    (c.RunStageConfig, "phase.scale", INF, SCALE),
    (c.RunStageConfig, "evaluation.n_folds", 1, "from 2 to 1000"),
    (c.RunStageConfig, "evaluation.n_folds", 1001, "from 2 to 1000"),
    (c.RunStageConfig, "evaluation.delta_nats", -0.1, NOT_NEGATIVE),
    (c.RunStageConfig, "evaluation.delta_nats", NAN, NOT_NEGATIVE),
    (c.RunStageConfig, "evaluation.confidence_level", 1.0, LEVEL),
    (c.RunStageConfig, "evaluation.confidence_level", 0.99999999, LEVEL),
    (c.RunStageConfig, "evaluation.confidence_level", 0.0, LEVEL),
    (c.RunStageConfig, "evaluation.n_resamples", 0, "at least 1"),
    (c.RunStageConfig, "evaluation.n_repairings", 0, "at least 1"),
    (c.RunStageConfig, "evaluation.n_negative_controls", 0, "at least 1"),
    (c.RunStageConfig, "evaluation.min_documents", 1, "at least 2"),
    (c.RunStageConfig, "claims.delta", 1.0, "at least 0 and below 1"),
    (c.ClaimsStageConfig, "claims.delta", -0.1, "at least 0 and below 1"),
    (c.CollectStageConfig, "alpha", 0.0, "above 0 and at most 0.9999"),
    (c.CollectStageConfig, "map", "zero", "one of arctan, exponential, linear, quantile, table, tanh"),
    (c.TrainStageConfig, "train.tokens", 0, "at least 1"),
    (c.TrainStageConfig, "train.batch_tokens", 0, "at least 1"),
    (c.TrainStageConfig, "train.learning_rate", 0.0, POSITIVE),
    (c.TrainStageConfig, "train.matrix_learning_rate", INF, POSITIVE),
    (c.TrainStageConfig, "train.warmup_share", 1.5, "between 0 and 1"),
    (c.TrainStageConfig, "train.weight_decay", -1.0, NOT_NEGATIVE),
    (c.TrainStageConfig, "train.gradient_clip", 0.0, POSITIVE),
    (c.TrainStageConfig, "train.n_threads", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.architecture", "rnn", "one of gpt_neox, llama"),
    (c.TrainStageConfig, "model.recipe.hidden_size", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.hidden_size", 127, "a multiple of `model.recipe.n_heads` (4)"),
    (c.TrainStageConfig, "model.recipe.intermediate_size", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.n_layers", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.n_heads", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.dropout", 1.0, "at least 0 and below 1"),
    (c.TrainStageConfig, "model.recipe.context_tokens", 1, "at least 2"),
    (c.TrainStageConfig, "model.recipe.prose_share", -0.1, "between 0 and 1"),
    (c.TrainStageConfig, "model.recipe.tokens", 0, "at least 1"),
    (c.TrainStageConfig, "model.recipe.seed", -1, "at least 0"),
    (c.IngestStageConfig, "submission", None, "a folder, .zip or .tar.gz with a submission.yaml"),
]


def _with(node: Any, key: str, value: Any) -> Any:
    name, _, rest = key.partition(".")
    return replace(node, **{name: _with(getattr(node, name), rest, value) if rest else value})


@pytest.mark.parametrize(("stage", "key", "value", "requirement"), CASES)
def test_a_value_out_of_range(stage: type[c.StageConfig], key: str, value: Any, requirement: str) -> None:
    config = _with(stage(**WHOLE.get(stage, {})), key, value)
    with pytest.raises(ConfigError) as caught:
        check(config)
    got = "null" if value is None else repr(value)
    assert str(caught.value) == f"`{key}` must be {requirement}, got {got}."


def test_every_rule_has_a_case() -> None:
    covered = {(stage, key) for stage, key, _, _ in CASES}
    for owner, rules in RULES.items():
        for name in rules:
            assert any(
                key.split(".")[-1] == name and _owner(stage, key).__mro__.__contains__(owner) for stage, key in covered
            ), (owner, name)


def _owner(stage: type[c.StageConfig], key: str) -> type:
    node: Any = stage()
    for name in key.split(".")[:-1]:
        node = getattr(node, name)
    return type(node)


@pytest.mark.parametrize("stage", c.STAGES.values())
def test_the_defaults_pass(stage: type[c.StageConfig]) -> None:
    whole = {"pair": PAIR} if issubclass(stage, c.AnalysisStageConfig) else WHOLE.get(stage, {})
    check(stage(**whole))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            c.RunStageConfig(pair=HF_PAIR),
            "`pair.b` must be a local folder or a hub id for pair=hf, got null.",
        ),
        (
            c.CaptureStageConfig(model=c.ModelConfig(name="hf")),
            "`model.id` must be a local folder or a hub id for model=hf, got null.",
        ),
        (
            c.TrainStageConfig(model=c.ModelConfig(name="hf", id="x")),
            "`model` must be an embedded model for `train`, got 'hf'.",
        ),
        (
            c.CaptureStageConfig(corpus=c.CorpusConfig(name="file")),
            "`corpus.path` must be a .txt, .jsonl, .csv or .parquet file for corpus=file, got null.",
        ),
        (
            c.CaptureStageConfig(corpus=c.CorpusConfig(name="hub")),
            "`corpus.id` must be a hub dataset id for corpus=hub, got null.",
        ),
        (
            c.RunStageConfig(pair=PAIR, phase=c.PhaseConfig(name="table")),
            "`phase.table` must be a CSV file of gap,phase for phase=table, got null.",
        ),
        (
            c.CoherenceStageConfig(pair=PAIR, planning=True, claims=c.ClaimsConfig(delta=0.0)),
            "`claims.delta` must be above 0 with planning=true, got 0.0. Any effect is larger than 0.",
        ),
    ],
)
def test_settings_that_need_each_other(config: c.StageConfig, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert str(caught.value) == message


def test_two_captures_or_a_submission_need_no_models() -> None:
    check(c.CoherenceStageConfig(captures=["a", "b"], pair=c.PairConfig(name="hf")))
    check(c.CoherenceStageConfig(captures=["a", "b", "c"], pair=c.PairConfig(name="hf")))
    check(c.CoherenceStageConfig(pair=c.PairConfig(name="mine", submission="x")))


@pytest.mark.parametrize("device", ["cpu", "mps", "cuda", "cuda:1"])
def test_devices(device: str) -> None:
    check(c.CaptureStageConfig(capture=c.CaptureConfig(device=device)))


def test_a_hub_corpus_has_splits_of_its_own() -> None:
    check(c.CaptureStageConfig(corpus=c.CorpusConfig(name="hub", id="x", split="test")))


def test_every_setting_has_a_comment_and_a_requirement() -> None:
    for stage in c.STAGES.values():
        for setting in settings_of(stage).values():
            assert setting.comment
            assert setting.requirement
