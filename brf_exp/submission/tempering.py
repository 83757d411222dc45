"""Whether values stand at another temperature than the logsumexp and the entropy beside them."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from brf_exp.submission.convert import capture_units, same_units_tolerance
from brf_exp.submission.description import Member
from brf_exp.submission.fault import Place, SubmissionError, said
from brf_exp.submission.layout import Layout
from brf_exp.submission.normaliser import ENTROPY_TOLERANCE, entropy_bounds, log_sum_bounds, row_normaliser
from brf_exp.submission.rows import Rows

# Temperatures that values are tried at where they contradict what stands beside them.
TRIED: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 3.0, 5.0)


@dataclass
class TemperatureEvidence:
    """Counts rows that contradict the temperature declared, and which temperatures would not."""

    n_rows: int = 0
    n_broken: int = 0
    fits: dict[float, bool] = field(default_factory=lambda: dict.fromkeys(TRIED, True))
    bits_fit: bool = True

    def add(self, rows: Rows, layout: Layout, member: Member) -> None:
        """Take sound rows in; without a logsumexp nothing can be told."""
        normaliser = row_normaliser(rows, layout, member)
        if normaliser is None or layout.log_probabilities:
            return
        self.n_rows += len(rows.values)
        values, entropy = capture_units(rows.values, member), rows.fixed.get("entropy")
        n_broken = _n_broken(values, normaliser, entropy, member.vocab_size)
        self.n_broken += n_broken
        if not self.n_broken:
            return
        if entropy is None or _n_broken(values, normaliser, entropy * np.log(2.0), member.vocab_size):
            self.bits_fit = False
        for temperature, fits in self.fits.items():
            if fits and _n_broken(values * temperature, normaliser, entropy, member.vocab_size):
                self.fits[temperature] = False

    def named(self, place: Place) -> list[SubmissionError]:
        """What the contradictions look like, where one explanation fits every row since the first."""
        fitting = [temperature for temperature, fits in self.fits.items() if fits]
        if not self.n_broken:
            return []
        if self.bits_fit:
            sentence = f"must have its entropy in nats, got what looks like bits: {self._counted()}, times ln 2 none."
            return [said(place, f"{sentence} Multiply it by ln 2.", check="looks-tempered")]
        if not fitting:
            return []
        span = f"{fitting[0]:g}" if len(fitting) == 1 else f"{fitting[0]:g} to {fitting[-1]:g}"
        sentence = (
            f"must have values and logsumexp at one temperature, got what looks like values divided by {span} beyond "
            f"what is declared: {self._counted()}, undivided none would. Dump both at temperature 1, or state it."
        )
        return [said(place, sentence, check="looks-tempered")]

    def _counted(self) -> str:
        return f"{self.n_broken} of {self.n_rows} rows contradict their logsumexp or entropy"


def _n_broken(values: np.ndarray, normaliser: np.ndarray, entropy: np.ndarray | None, vocab_size: int) -> int:
    """Rows whose logsumexp or entropy cannot be that of the values."""
    tolerance = same_units_tolerance(values)
    least, largest = log_sum_bounds(values, vocab_size)
    broken = (normaliser < least - tolerance) | (normaliser > largest + tolerance)
    if entropy is not None:
        low, high = entropy_bounds(values, normaliser, vocab_size)
        broken |= (entropy < low - ENTROPY_TOLERANCE) | (entropy > high + ENTROPY_TOLERANCE)
    return int(broken.sum())
