"""The decision rules: evidence in, verdict out. Nothing is computed here, so every case can be tested by hand."""

from dataclasses import dataclass

SUPPORTED, FALSIFIED, INCONCLUSIVE, NOT_TESTED = "supported", "falsified", "inconclusive", "not tested"
NEGATIVE_CONTROL_LIMIT = 0.10
# How the reason of a falsified discrimination starts; the strongest rival's name follows.
NO_GAIN = "no gain over "
# Ends that differ by less than this share of their mean differ by rounding.
VARIATION = 1e-9


@dataclass(frozen=True)
class Verdict:
    """A verdict with its reason (empty only where there is nothing to add)."""

    verdict: str
    reason: str


@dataclass(frozen=True)
class Gates:
    """What must hold before anything is decided; `failed` names the first gate that does not, or is empty."""

    n_documents: int
    min_documents: int
    controls: str = "passed"  # passed | failed | not run
    failed: str = ""

    def blocking(self) -> str:
        """The first reason why no verdict is possible, or an empty string."""
        if self.n_documents < self.min_documents:
            return "documents"
        if self.failed:
            return self.failed
        return "" if self.controls == "passed" else "controls"


@dataclass(frozen=True)
class CoherenceEvidence:
    """Everything the Phase Coherence Test decides on. Intervals are shares of the possible excess."""

    excess: float
    shift_pvalue: float
    repairing_pvalue: float
    share_interval: tuple[float, float]
    residual_interval: tuple[float, float] | None
    survives_reliability: bool | None
    negative_control_rate: float
    delta: float
    alpha: float = 0.05
    pseudo_documents: bool = False

    @property
    def rejects(self) -> bool:
        """P1: both nulls are rejected."""
        return self.shift_pvalue < self.alpha and self.repairing_pvalue < self.alpha


def undecided(gates: Gates, reason: str) -> Verdict:
    """The verdict where a test does not exist: a gate that fails anyway, else the reason why it does not exist."""
    return Verdict(INCONCLUSIVE, gates.blocking() or reason)


def joint_verdict(gates: Gates, verdicts: list[Verdict]) -> Verdict:
    """The verdict over all pairs of several models: that of every pair, else inconclusive."""
    if len({found.verdict for found in verdicts}) > 1:
        return Verdict(INCONCLUSIVE, gates.blocking() or "pairs differ")
    reasons = {found.reason for found in verdicts}
    return verdicts[0] if len(reasons) == 1 else Verdict(verdicts[0].verdict, "; ".join(sorted(reasons)))


def coherence_verdict(gates: Gates, evidence: CoherenceEvidence) -> Verdict:
    """The ordered verdict of the Phase Coherence Test."""
    blocked = gates.blocking()
    if blocked:
        return Verdict(INCONCLUSIVE, blocked)
    residual = evidence.residual_interval
    dependent = evidence.rejects and evidence.excess > 0
    if dependent and residual is not None and residual[0] > evidence.delta and evidence.survives_reliability:
        if evidence.pseudo_documents:
            return Verdict(INCONCLUSIVE, "pseudo-documents")
        if evidence.negative_control_rate > NEGATIVE_CONTROL_LIMIT:
            return Verdict(INCONCLUSIVE, "negative control")
        return Verdict(SUPPORTED, "coherent beyond shared difficulty")
    no_dependence = evidence.share_interval[1] < evidence.delta
    if no_dependence or (residual is not None and residual[1] < evidence.delta):
        if evidence.rejects and evidence.excess < 0:
            return Verdict(FALSIFIED, "opposite sign")
        return Verdict(FALSIFIED, "no coherence" if no_dependence else "shared difficulty")
    return Verdict(INCONCLUSIVE, _why_open(dependent, residual, evidence))


def _why_open(dependent: bool, residual: tuple[float, float] | None, evidence: CoherenceEvidence) -> str:
    if residual is None:
        return "no difficulty proxy"
    if dependent and residual[0] > evidence.delta:
        return "proxy reliability"
    return "power"


@dataclass(frozen=True)
class RivalEnds:
    """What decides against one rival: ends of candidate minus rival, with and without truncation, in nats.

    `noise_floor`: what other number noise alone makes of the difference, where that is known.
    """

    rival: str
    upper: float
    lower_simultaneous: float
    upper_middle: float
    lower_middle: float
    noise_floor: float | None = None

    @property
    def has_no_variation(self) -> bool:
        """Whether all documents show the same difference, one that is not 0: chance cannot be told from it.

        Without a standard error both ends are the mean. A difference of 0 is that of equal forecasts, which is certain.
        """
        middle = (self.upper_middle + self.lower_middle) / 2
        return middle != 0 and abs(self.upper_middle - self.lower_middle) <= VARIATION * abs(middle)


def least_gain(delta_nats: float, noise_floor: float | None) -> float:
    """The least gain that counts, nats: delta, or the noise floor where it is known and larger."""
    return max(delta_nats, noise_floor or 0.0)


def discrimination_verdict(gates: Gates, rivals: list[RivalEnds], *, delta_nats: float) -> Verdict:
    """The ordered verdict of the Cross-Term Discrimination Test."""
    blocked = gates.blocking()
    if blocked:
        return Verdict(INCONCLUSIVE, blocked)
    if not rivals:
        return Verdict(INCONCLUSIVE, "no rival has a bounded log loss")
    if any(rival.has_no_variation for rival in rivals):
        return Verdict(INCONCLUSIVE, "no variation")
    margins = {rival.rival: least_gain(delta_nats, rival.noise_floor) for rival in rivals}
    if all(rival.upper < -margins[rival.rival] for rival in rivals):
        return Verdict(SUPPORTED, "better than every phase-free rule")
    ahead = [rival for rival in rivals if rival.lower_simultaneous > -margins[rival.rival]]
    if ahead:
        strongest = max(ahead, key=lambda rival: rival.lower_simultaneous)
        return Verdict(FALSIFIED, f"{NO_GAIN}{strongest.rival}")
    without_truncation = all(r.upper_middle < -margins[r.rival] for r in rivals) or any(
        r.lower_middle > -margins[r.rival] for r in rivals
    )
    return Verdict(INCONCLUSIVE, "truncation" if without_truncation else "power")
