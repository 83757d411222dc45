"""Per position, what Born Rule Fusion is made of there; and sums over positions that need its parts."""

from typing import Any

import numpy as np

from brf_exp.maths.documents import Offsets, document_sums, positions_within
from brf_exp.maths.fusion import mixture_share
from brf_exp.maths.fusion_rows import FusionRows, PhaseFunction, coherences
from brf_exp.maths.interference import interference_information
from brf_exp.maths.specs import weight_of
from brf_exp.maths.topk_rules import coherent_losses
from brf_exp.maths.tuning import ScoredRule, TunedRule

CURVE = np.linspace(-0.99, 1.0, 41)
# Positions kept for figures and notebooks: the first whole documents.
MAX_TABLE_POSITIONS = 2**18
LOSSES = ("brf", "linear", "log_linear", "constant_coherence")


class DiscriminationTables:
    """Collects columns per position, the loss along constant coherence, and where agreement is suppressed.

    Sums are per document, so that how documents are cut into chunks changes no digit.
    """

    def __init__(self, offsets: Offsets, own_phases: PhaseFunction, own_scale: float | None, tuned: TunedRule) -> None:
        self.offsets, self._own_phases, self._own_scale = offsets, own_phases, own_scale
        self._weight = _mean_weight(tuned)
        self._columns: list[dict[str, np.ndarray]] = []
        n_kept = int(np.searchsorted(offsets, MAX_TABLE_POSITIONS, side="right")) - 1
        self._n_rows_kept = int(offsets[max(n_kept, 1)])
        self.n_negative_tuned = 0
        self.information = np.zeros((2, offsets.size - 1))
        self.has_information = True
        self._curve = np.zeros((CURVE.size, 2, offsets.size - 1))

    def add(self, rows: FusionRows, documents: slice, scored: dict[str, ScoredRule]) -> None:
        """Take a chunk of whole documents in."""
        own = coherences(self._own_phases(rows, self._own_scale))
        tuned = scored["brf"].coherence
        assert tuned is not None
        # With more than two models agreement is suppressed where the mean over pairs is below 0.
        self.n_negative_tuned += int((tuned.mean(axis=0) < 0).sum())
        for place, coherence in enumerate(CURVE):
            losses = coherent_losses(rows.known, coherence=float(coherence), weight=self._weight)
            self._curve[place][:, documents] = document_sums(losses.bounds.T, rows.offsets).T
        information = None
        # Defined for two models and one phase per position.
        self.has_information = rows.n_models == 2 and not scored["brf"].spec.of_tokens
        if self.has_information:
            information = interference_information(rows.known, tuned[0])
            self.information[:, documents] = document_sums(information.T, rows.offsets).T
        n_left = self._n_rows_kept - int(self.offsets[documents.start])
        if n_left > 0:
            columns = _columns(rows, documents, scored, own, tuned, information)
            self._columns.append({name: values[:n_left] for name, values in columns.items()})

    def tables(self) -> dict[str, dict[str, Any]]:
        """What is written as Parquet."""
        names = list(self._columns[0])
        curve = self._curve.sum(axis=2) / int(self.offsets[-1])
        return {
            "positions": {name: np.concatenate([part[name] for part in self._columns]) for name in names},
            "coherence_curve": {
                "coherence": CURVE,
                "log_loss_lower_nats": curve[:, 0],
                "log_loss_upper_nats": curve[:, 1],
            },
        }


def _mean_weight(tuned: TunedRule) -> Any:
    weights = np.array([weight_of(parameters) for parameters in tuned.listed])
    return weights.mean(axis=0) if weights.ndim == 2 else float(weights.mean())


def _columns(
    rows: FusionRows,
    documents: slice,
    scored: dict[str, ScoredRule],
    own: np.ndarray,
    tuned: np.ndarray,
    information: np.ndarray | None,
) -> dict[str, np.ndarray]:
    known, brf = rows.known, scored["brf"]
    numbers = np.arange(documents.start, documents.stop, dtype=np.int32)
    middle = known.overlaps[0].mean(axis=0)
    with np.errstate(divide="ignore"):  # total cancellation has no mixture
        share = mixture_share(tuned[0], middle)
    columns = {
        "document": np.repeat(numbers, np.diff(rows.offsets)),
        "position": positions_within(rows.offsets).astype(np.int32),
        "token_id": known.shared_ids[:, 0].astype(np.int32),
        "log_p_a": known.target[0],
        "log_p_b": known.target[1],
        "coherence": tuned[0],
        "own_scale_coherence": own[0],
        "overlap_lower": known.overlaps[0, 0],
        "overlap_upper": known.overlaps[0, 1],
        "mixture_share": np.where(np.isfinite(share), share, np.nan),
        "coherent_gain_nats": scored["linear"].losses.middle - brf.losses.middle,
    }
    if information is not None:
        columns["interference_information_nats"] = information.mean(axis=0)
    for name in LOSSES:
        columns[f"loss_{name}_nats"] = scored[name].losses.middle
    columns["loss_brf_lower_nats"], columns["loss_brf_upper_nats"] = brf.losses.bounds
    return columns
