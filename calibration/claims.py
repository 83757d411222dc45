"""Which designs each test claims to cover, in what it must reject, and what must fail."""

from collections.abc import Callable
from dataclasses import dataclass

from calibration.designs import Design

SIZE, AT_MOST, NOT = "size", "at most", "not covered"


def _nothing_shared_by_tokens(design: Design) -> bool:
    return not design.token


def _nothing_shared_by_places(design: Design) -> bool:
    return not (design.token or design.position or design.start)


def _exchangeable(design: Design) -> bool:
    return not (design.token or design.document or design.ragged)


@dataclass(frozen=True)
class Claim:
    """A test: its title in tables, the designs in which its null is true, and what rate it claims there.

    `kind` is SIZE where the rate must lie in the band, AT_MOST where it must not lie above; `conservative` designs
    are AT_MOST whatever the kind: the test was measured to reject too rarely there.
    """

    title: str
    covers: Callable[[Design], bool]
    why_not: str
    kind: str = SIZE
    conservative: Callable[[Design], bool] = lambda design: False


def _ramp(design: Design) -> bool:
    return bool(design.position)


def _ramp_or_few(design: Design) -> bool:
    return bool(design.position) or design.n_documents <= 20


def _ragged_and_few(design: Design) -> bool:
    return bool(design.ragged) and design.n_documents <= 20


_PLACES = "shared positions, because every model finds the start of a text hard and shifts break that"
_TOKENS = "shared token difficulty, which is dependence"

TESTS = {
    "kappa": Claim(
        "document t, kappa against 0",
        _nothing_shared_by_places,
        "shared positions, which are in kappa and not in its null of 0; shared token difficulty, which is dependence",
    ),
    "kappa_recentred": Claim(
        "document t, kappa against re-pairings", _nothing_shared_by_tokens, _TOKENS, conservative=_ramp
    ),
    "sign_flip": Claim("sign flip of the same", _nothing_shared_by_tokens, _TOKENS, conservative=_ramp_or_few),
    "shift": Claim(
        "shift null",
        _nothing_shared_by_places,
        f"{_PLACES}; documents shorter than 5 / (1 - autocorrelation), which a gate refuses; {_TOKENS}",
    ),
    "repairing": Claim("re-pairing null", _nothing_shared_by_tokens, _TOKENS, conservative=_ragged_and_few),
    "dependent": Claim(
        "P1", _nothing_shared_by_tokens, f"{_TOKENS} (both nulls and a positive kappa, so at most .05)", AT_MOST
    ),
    "document_permutation": Claim(
        "document permutation",
        _exchangeable,
        f"unequal lengths, where it is not run; a shared level of the document, which it sees; {_TOKENS}",
    ),
    "harmonic_2": Claim("harmonic 2", _nothing_shared_by_places, "as the shift null"),
    "harmonic_3": Claim("harmonic 3", _nothing_shared_by_places, "as the shift null"),
    "harmonic_4": Claim("harmonic 4", _nothing_shared_by_places, "as the shift null"),
    "harmonics_holm": Claim(
        "any harmonic (Holm)", _nothing_shared_by_places, "as the shift null (adjusted, so at most .05)", AT_MOST
    ),
}


def covers(test: str, design: Design) -> str:
    """SIZE, AT_MOST or NOT: what a test claims in a design."""
    claim = TESTS[test]
    if not claim.covers(design):
        return NOT
    return AT_MOST if claim.conservative(design) else claim.kind


def text() -> str:
    """Which designs each test does not cover, and why, as a list."""
    titles: dict[str, list[str]] = {}
    for claim in TESTS.values():
        titles.setdefault(claim.why_not, []).append(claim.title)
    lines = [f"- {', '.join(its)}: {why}." for why, its in titles.items()]
    conservative = (
        "Three tests reject too rarely in some designs, where only the upper edge is claimed: those against the "
        "re-pairing mean where positions share a smooth ramp, the sign flip with 20 documents as well, and the "
        "re-pairing null with 20 ragged documents."
    )
    return "\n".join(["Each test covers all designs but these:", "", *lines, "", conservative])


@dataclass(frozen=True)
class MustFail:
    """A test that must reject in more than `least` of the simulations of a design without any relation beyond it."""

    what: str
    test: str
    design: str
    phase: str
    least: float


MUST_FAIL = (
    MustFail("Rayleigh's test of the phase differences", "rayleigh", "iid", "arctan", 0.95),
    MustFail("the same", "rayleigh", "AR .9", "quantile", 0.3),
    MustFail("permutation of documents padded with zeros", "padded_permutation", "ragged, 40 documents", "arctan", 0.9),
    MustFail("the same", "padded_permutation", "ragged, 40 documents", "quantile", 0.1),
    MustFail("document permutation", "document_permutation", "shared document .2", "arctan", 0.8),
    MustFail("token permutation in 20 strata of the proxy", "stratified", "shared token .3", "quantile", 0.2),
    MustFail("the same", "stratified", "shared token .3", "arctan", 0.4),
    MustFail("shift null alone", "shift", "shared token .3", "quantile", 0.9),
    MustFail("the same", "shift", "shared position .1", "arctan", 0.9),
    MustFail("the same", "shift", "shared hard start", "arctan", 0.8),
    MustFail("document t, kappa against 0", "kappa", "shared position .1", "arctan", 0.9),
)
