"""How many logits per token a decision needs, from the widths that fewer of them leave open."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST_FACTOR = 2.0**16  # beyond this many times the k at hand an extrapolation says nothing


@dataclass(frozen=True)
class WidthLaw:
    """Width of a truncation interval, width exp(-slope x - bend x^2) with x = ln(k / k_0) >= 0; `k` is k_0."""

    k: int
    width: float
    slope: float
    bend: float

    def at(self, k: float) -> float:
        """The width that the law gives at k >= k_0."""
        x = np.log(k / self.k)
        return float(self.width * np.exp(-self.slope * x - self.bend * x**2))

    def needed(self, width: float) -> float | None:
        """The k at which the interval is as narrow as `width`; None where no k within reach is."""
        if self.width <= width:
            return float(self.k)
        if width <= 0 or (self.slope <= 0 and self.bend <= 0):
            return None
        # The positive root of bend x^2 + slope x = drop, in the form that loses no digits for a small bend.
        drop = np.log(self.width / width)
        x = 2 * drop / (self.slope + np.sqrt(self.slope**2 + 4 * self.bend * drop))
        return float(self.k * np.exp(x)) if x <= np.log(MOST_FACTOR) else None


def width_law(ks: Sequence[int], widths: Sequence[float]) -> WidthLaw:
    """Parabola through the widths at three k on logarithmic scales, a straight line where it would bend upwards.

    The mass beyond the k best tokens falls faster than any power of k, which is why the line bends. Nothing but
    those widths speaks for the law beyond the largest k, so that what it gives is an estimate and no promise. Two k
    give a line, and one says nothing: a law that never falls. Raises ValueError where `ks` do not rise or a width is
    not a finite number of at least 0.
    """
    k, width = np.asarray(ks, dtype=np.float64), np.asarray(widths, dtype=np.float64)
    if k.size == 0 or (np.diff(k) <= 0).any() or not (np.isfinite(width) & (width >= 0)).all():
        raise ValueError(f"`ks` must rise and have finite widths of at least 0, got {ks} and {widths}")
    last, end = int(k[-1]), float(width[-1])
    if k.size < 2 or not (width > 0).all():
        return WidthLaw(last, end, 0.0, 0.0)
    x, y = np.log(k / k[-1]), np.log(width)
    if k.size > 2:
        bend, slope, _ = (float(-value) for value in np.polyfit(x, y, 2))
        if bend > 0 and slope > 0:
            return WidthLaw(last, end, slope, bend)
    return WidthLaw(last, end, max(float(-np.polyfit(x, y, 1)[0]), 0.0), 0.0)


@dataclass(frozen=True)
class OpenRival:
    """One rival of an open comparison: the ends without truncation, its margin, and its law of widths, all in nats."""

    rival: str
    upper_middle: float
    lower_middle: float
    margin: float
    law: WidthLaw


def deciding_k(rivals: Sequence[OpenRival], *, most: int | None = None) -> tuple[int, str] | None:
    """The smallest k at which the comparison would be decided if the midpoints stayed, and how; None if at none.

    `supported` where every upper end would be below minus the margin, `falsified` where some rival's lower end would
    be above it: the ends move towards the midpoint's by half of what the width shrinks. `most`: the vocabulary's size,
    where it is known; with all of it kept nothing is open.
    """
    gains = [_needed(rival.law, -rival.margin - rival.upper_middle, most) for rival in rivals]
    losses = [_needed(rival.law, rival.lower_middle + rival.margin, most) for rival in rivals]
    found = []
    if gains and all(k is not None for k in gains):
        found.append((max(k for k in gains if k is not None), "supported"))
    found += [(k, "falsified") for k in losses if k is not None]
    if not found:
        return None
    k, verdict = min(found)
    return int(np.ceil(k)), verdict


def _needed(law: WidthLaw, room: float, most: int | None) -> float | None:
    """The k at which half the width is less than the room there is; None where there is no room."""
    if room <= 0:
        return None
    found = law.needed(2 * room)
    return found if most is None else min(most, most if found is None else found)
