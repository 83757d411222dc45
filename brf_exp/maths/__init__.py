"""Pure functions on arrays: phase maps, fusion rules, bounds on top-k rows, circular statistics, resampling.

Nothing here reads files, keeps state or draws random numbers without a Generator.
"""

from brf_exp.maths.circular import kuramoto_order, pairwise_phase_consistency, rayleigh, v_test_pvalue
from brf_exp.maths.coherence import CoherenceResult, shift_null
from brf_exp.maths.coherence import coherence as phase_coherence
from brf_exp.maths.distribution import GapDistribution, default_scale, gap_distribution
from brf_exp.maths.fusion import Fused, bhattacharyya, mixture_share
from brf_exp.maths.phases import MAPS, PhaseTable, Phasors, circular_shift
from brf_exp.maths.phases import phases as gap_phases
from brf_exp.maths.resampling import bootstrap_t, holm, ratio_estimate, ratio_test, sign_flip_pvalues
from brf_exp.maths.rules import RULES, fuse, known_losses
from brf_exp.maths.topk import KnownTokens, known_tokens
from brf_exp.maths.topk_bounds import accuracy_bounds, difference_bounds
from brf_exp.maths.undefined import UndefinedStatisticError

__all__ = [
    "MAPS",
    "RULES",
    "CoherenceResult",
    "Fused",
    "GapDistribution",
    "KnownTokens",
    "PhaseTable",
    "Phasors",
    "UndefinedStatisticError",
    "accuracy_bounds",
    "bhattacharyya",
    "bootstrap_t",
    "circular_shift",
    "default_scale",
    "difference_bounds",
    "fuse",
    "gap_distribution",
    "gap_phases",
    "holm",
    "kuramoto_order",
    "known_losses",
    "known_tokens",
    "mixture_share",
    "pairwise_phase_consistency",
    "phase_coherence",
    "ratio_estimate",
    "ratio_test",
    "rayleigh",
    "shift_null",
    "sign_flip_pvalues",
    "v_test_pvalue",
]
