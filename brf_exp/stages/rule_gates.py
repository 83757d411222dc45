"""What must hold before rules are compared, and what stands in where the data leave it undefined."""

from dataclasses import dataclass

import numpy as np

from brf_exp.config import AnalysisStageConfig
from brf_exp.maths.distribution import default_scale
from brf_exp.maths.documents import assign_folds
from brf_exp.maths.tuning import Folds
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages.fusion_source import CaptureSource
from brf_exp.stages.pairs import PairInputs
from brf_exp.stages.rule_test import folds_of

# Gaps that no planted world can be shaped like: none is built, and the gate itself says why nothing is decided.
NO_WORLD = ("constant gaps", "ties at zero")
WITHOUT_SCALE = ("quantile", "table")
# Stands in for the median gap where half of the gaps are 0, in logits: nothing is decided with it.
STAND_IN_SCALE = 1.0


@dataclass(frozen=True)
class Ground:
    """What the rules stand on: scales of the phase maps in logits, the folds to tune on, and the gate.

    `median_gap` of all models together; `scale` the one that is set, else the median. `folds` is None where nothing is
    tuned. `failed` names the first gate that fails, or is empty.
    """

    median_gap: float
    scale: float
    scale_from: str
    folds: Folds | None
    failed: str


def ground_of(config: AnalysisStageConfig, inputs: PairInputs, source: CaptureSource) -> Ground:
    """What a pair's rows offer to stand on; where there is no median gap, the scale that is set stands in for it."""
    phase, numbers = config.phase, _fold_numbers(config, source)
    failed = _degenerate(inputs, source)
    try:
        median, scale_from = default_scale(source.distributions), "documents"
        folds = None if numbers is None else folds_of(numbers, source.gaps.gaps, source.offsets)
    except UndefinedStatisticError as error:
        median, scale_from = phase.scale or STAND_IN_SCALE, "stand-in"
        folds = None if numbers is None else Folds(numbers, dict.fromkeys(np.unique(numbers).tolist(), median))
        if phase.scale is None and phase.name not in WITHOUT_SCALE:
            failed = failed or error.reason
    if not failed and folds is None:
        failed = "folds" if config.evaluation.tune else "not tuned"
    if phase.scale is not None:
        return Ground(median, phase.scale, "setting", folds, failed)
    return Ground(median, median, scale_from, folds, failed)


def _degenerate(inputs: PairInputs, source: CaptureSource) -> str:
    """Models or data on which Born Rule Fusion is one of its own rivals.

    Models that are one and the same make it the linear pool, phases that cannot vary make it constant coherence, and
    documents of one token its own control with shifted phases.
    """
    if inputs.identical:
        return "identical models"
    if all(distribution.largest_atom == 1 for distribution in source.distributions):
        return "constant gaps"
    return "documents of one token" if (np.diff(source.offsets) == 1).all() else ""


def _fold_numbers(config: AnalysisStageConfig, source: CaptureSource) -> np.ndarray | None:
    """Fold of each document; None where nothing is to be tuned, or all documents fall into one fold."""
    if not config.evaluation.tune:
        return None
    numbers = assign_folds(source.gaps.documents.doc_ids, config.evaluation.n_folds, config.seed)
    return None if (numbers == numbers[0]).all() else numbers
