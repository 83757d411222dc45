"""What `discriminate` can say where a capture has no logsumexp: lower and upper ends of a few losses, and no verdict.

A model's normaliser is at least the listed tokens' sum and at most that with every other token at the k-th logit. What
Born Rule Fusion makes of that is too wide to be of use, so only the models, the linear pool and rules that pick a model
in a known way are scored. The share of positions that suppress agreement needs gaps alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.special import logsumexp

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.decisions import INCONCLUSIVE, Gates
from brf_exp.maths.documents import Offsets
from brf_exp.maths.phases import MAPS
from brf_exp.maths.resampling import effective_df
from brf_exp.maths.specs import CANDIDATE, MODEL, ORACLE, RIVAL, model_letters
from brf_exp.stages.gap_rows import matched_batches
from brf_exp.stages.pairs import TOP_TWO, PairInputs
from brf_exp.stages.rule_gates import Ground
from brf_exp.stages.rule_scores import plain
from brf_exp.stages.sentences import scope, unnormalised_sentence
from brf_exp.stages.subject import tested_subject
from brf_exp.storage import schema
from brf_exp.storage.captures import Capture

NORMALISER = "logsumexp"
REASON = f"missing {NORMALISER}"
NEEDED = ("token_id", "target_logit", "id_1")


def require_columns(capture: Capture) -> None:
    """Raise InputError naming every missing column, unless the normaliser is the only one."""
    if any(name not in capture.columns for name in NEEDED):
        capture.require([*schema.DISCRIMINATION_COLUMNS, "id_1"], purpose="discriminate")


def without_normaliser(captures: Sequence[Capture]) -> list[str]:
    """Names of the models whose captures have no logsumexp."""
    return [capture.model_name for capture in captures if NORMALISER not in capture.columns]


def loss_bounds(
    logits: np.ndarray,
    ids: np.ndarray,
    *,
    target_logit: np.ndarray,
    target_ids: np.ndarray,
    vocabulary_size: int | None,
) -> np.ndarray:
    """Lower and upper end of one model's log loss without its normaliser, (2, n) nats.

    Parameters: `logits` and `ids` (n, k), best first; `target_logit`, `target_ids` (n,) of the realised token, exact.
    Unlisted tokens have at least probability 0 and at most the logit of rank k; without `vocabulary_size` nothing says
    how many they are, and the upper end is inf.
    """
    is_listed = (ids == target_ids[:, None]).any(axis=1)
    target = np.where(is_listed, -np.inf, target_logit)
    lower = logsumexp(np.column_stack([logits, target]), axis=1)
    if vocabulary_size is None:
        return np.stack([lower - target_logit, np.full_like(lower, np.inf)])
    n_others = np.maximum(vocabulary_size - ids.shape[1] - ~is_listed, 0)
    with np.errstate(divide="ignore"):
        upper = np.logaddexp(lower, np.log(n_others) + logits[:, -1])
    return np.stack([lower, upper]) - target_logit


def unnormalised_summary(
    inputs: PairInputs,
    config: AnalysisStageConfig,
    gates: Gates,
    ground: Ground,
    agreement: dict[str, Any],
    controls: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of results.json: the keys of the whole test, null where a normaliser would be needed."""
    captures, primary, evaluation = inputs.captures, config.phase.name, config.evaluation
    offsets, lacking = inputs.documents.offsets, without_normaliser(captures)
    decided = {"verdict": INCONCLUSIVE, "reason": REASON}
    return {
        "schema": 1,
        "stage": "discrimination",
        "pair": inputs.name,
        "corpus": inputs.corpus_name,
        "models": [capture.model_name for capture in captures],
        "tested": tested_subject(inputs),
        "missing_columns": {name: [NORMALISER] for name in lacking},
        "n_positions": int(offsets[-1]),
        "n_documents": int(offsets.size - 1),
        "effective_df": effective_df(np.diff(offsets)) if offsets.size > 2 else None,
        "split": {"kind": evaluation.split, "n_folds": evaluation.n_folds, "tune": False},
        "k": min(capture.k for capture in captures),
        "temperatures": [1.0],
        "phase_scope": config.phase.scope,
        "rules": _rules(captures, offsets),
        "contrasts": {},
        "maps": {name: {"rule": rule, **decided, "contrasts": {}} for name, rule in _map_rules(primary).items()},
        "adjustment": "max_t",
        "bhattacharyya": [0.0, 1.0],
        "below_minimum_interval": [0.0, 1.0],
        "below_minimum_controls": {},
        "interference": dict.fromkeys(INTERFERENCE),
        "agreement": {**agreement, "negative_share_tuned": None},
        "auc": {},
        "gates": asdict(replace(gates, failed=REASON)),
        "controls": controls,
        "delta_nats": evaluation.delta_nats,
        "confidence_level": evaluation.confidence_level,
        "scale_from": ground.scale_from,
        "primary": primary,
        **decided,
        "sentence": unnormalised_sentence(lacking, scope(inputs.name, inputs.corpus_name, primary)),
        "robust": True,
        **dict.fromkeys(UNKNOWN),
    }


INTERFERENCE = ("coherent_gain_nats", "coherent_gain_interval", "interference_information_nats")
# Keys of the whole test that nothing is known of.
UNKNOWN = (
    "below_minimum_rate",
    "below_minimum_contrasts",
    "below_minimum_events",
    "attribution",
    "noise_floor",
    "noise_floor_reason",
    "secondary",
    "deciding_k",
    "minimum_detectable_nats",
)


def _map_rules(primary: str) -> dict[str, str]:
    """Rule name of every map, the primary first."""
    return {primary: "brf"} | {name: f"brf_{name}" for name in MAPS if name != primary}


def _rules(captures: Sequence[Capture], offsets: Offsets) -> dict[str, Any]:
    """Every rule that is scored: interval of the mean log loss, accuracy; Born Rule Fusion has neither."""
    models = [f"model_{name}" for name in model_letters(len(captures))]
    roles = {"brf": CANDIDATE, "linear": RIVAL, **dict.fromkeys(models, MODEL), "route_gap": RIVAL, "oracle": ORACLE}
    losses = {name: np.zeros((offsets.size - 1, 2)) for name in roles if name != "brf"}
    right = {name: np.zeros(offsets.size - 1) for name in [*models, "route_gap"]}
    n_before = 0
    for batches in matched_batches(captures, [_columns(capture) for capture in captures]):
        rows = np.arange(n_before, n_before + batches[0].num_rows)
        document = np.searchsorted(offsets, rows, side="right") - 1
        n_before += rows.size
        # Row after row, so that where batches end changes no digit.
        for name, bounds in _losses(captures, batches, models):
            np.add.at(losses[name], document, bounds.T)
        for name, hit in _right(batches, models):
            np.add.at(right[name], document, hit)
    n = int(offsets[-1])
    return {
        name: {
            "role": role,
            "log_loss_nats": plain(losses[name].sum(axis=0) / n) if name in losses else None,
            "n_undefined": 0,
            "accuracy": float(right[name].sum() / n) if name in right else None,
            "parameters": {"weight": 1 / len(captures)} if name == "linear" else {},
        }
        for name, role in roles.items()
    }


def _columns(capture: Capture) -> list[str]:
    normaliser = [NORMALISER] if NORMALISER in capture.columns else []
    k = capture.k
    return [*normaliser, "token_id", "target_logit", *schema.id_columns(k), *schema.logit_columns(k)]


def _losses(
    captures: Sequence[Capture], batches: Sequence[pa.RecordBatch], models: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Lower and upper end of each rule's loss, (2, n)."""
    single = np.stack([_model_losses(capture, batch) for capture, batch in zip(captures, batches, strict=True)])
    yield from zip(models, single, strict=True)
    yield "linear", np.log(len(captures)) - np.logaddexp.reduce(-single, axis=0)
    yield "oracle", single.min(axis=0)
    yield "route_gap", np.take_along_axis(single, _surest(batches)[None, None], axis=0)[0]


def _model_losses(capture: Capture, batch: pa.RecordBatch) -> np.ndarray:
    target = batch.column("target_logit").to_numpy().astype(np.float64)
    if NORMALISER in capture.columns:
        return np.broadcast_to(batch.column(NORMALISER).to_numpy() - target, (2, target.size))
    size = capture.manifest["model"].get("vocabulary_size")
    return loss_bounds(
        np.column_stack([batch.column(name).to_numpy() for name in schema.logit_columns(capture.k)]).astype(np.float64),
        np.column_stack([batch.column(name).to_numpy() for name in schema.id_columns(capture.k)]),
        target_logit=target,
        target_ids=batch.column("token_id").to_numpy(),
        vocabulary_size=None if size is None else int(size),
    )


def _right(batches: Sequence[pa.RecordBatch], models: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Where the realised token is the top one, (n,) of 0 and 1."""
    target = batches[0].column("token_id").to_numpy()
    found = np.stack([(batch.column("id_1").to_numpy() == target).astype(np.float64) for batch in batches])
    yield from zip(models, found, strict=True)
    yield "route_gap", np.take_along_axis(found, _surest(batches)[None], axis=0)[0]


def _surest(batches: Sequence[pa.RecordBatch]) -> np.ndarray:
    """The model with the largest gap, (n,); ties go to the first."""
    top, second = (np.stack([batch.column(name).to_numpy() for batch in batches]) for name in TOP_TWO)
    return np.argmax(top.astype(np.float64) - second, axis=0)
