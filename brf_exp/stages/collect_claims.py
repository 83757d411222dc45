"""Many runs together: which of them count, what is left of their verdicts after correction, and how many that are."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.maths.decisions import FALSIFIED, INCONCLUSIVE, SUPPORTED
from brf_exp.maths.multiplicity import AdjustedPvalues, adjusted_pvalues
from brf_exp.stages.collect_pvalues import SIDES
from brf_exp.stages.collect_read import ClaimRecord, RunRecord

MULTIPLICITY, NO_PVALUE = "multiplicity", "no p-value"
VERDICTS = (SUPPORTED, FALSIFIED, INCONCLUSIVE)
CORRECTIONS = ("holm", "benjamini_hochberg", "benjamini_yekutieli")
PVALUES = ("pvalue", *(f"pvalue_{name}" for name in CORRECTIONS))
# Decided by the audit of the rules, which is the same for every pair.
STRUCTURAL = ("novel_cross_terms", "below_minimum")
CLAIM_COLUMNS: dict[str, type] = {
    "run": str, "pair": str, "corpus": str, "condition": str, "phase_map": str, "seed": int, "claim": str,
    "statement": str, "verdict": str, "reason": str, "robust": bool, "counted": bool, "n_tests": int,
    "verdict_adjusted": str, "reason_adjusted": str, "n_other_runs": int, "n_other_runs_agreeing": int,
    **{f"{side}_{name}": float for side in (SUPPORTED, FALSIFIED) for name in PVALUES},
    "folder": str, "key": str,
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Tests of one question over all subjects, corrected together.

    `runs`: places of the counted runs; `pvalues` (m,) with 1 where a test cannot reject; `floor`: the smallest p-value
    that any test of the family can give, None where one of them has no such bound.
    """

    claim: str
    question: str
    runs: tuple[int, ...]
    pvalues: np.ndarray
    adjusted: AdjustedPvalues
    floor: float | None = None

    def of(self, run: int) -> dict[str, float]:
        """The p-value of one counted run after every correction."""
        place = self.runs.index(run)
        return {f"pvalue_{name}": float(getattr(self.adjusted, name)[place]) for name in CORRECTIONS}

    def summary(self, alpha: float) -> dict[str, Any]:
        """Size and numbers of rejections, as JSON."""
        kept = {f"n_{name}": int((getattr(self.adjusted, name) < alpha).sum()) for name in CORRECTIONS}
        return {
            "claim": self.claim,
            "question": self.question,
            "n_tests": len(self.runs),
            "n_uncorrected": int((self.pvalues < alpha).sum()),
            **kept,
            "smallest_possible_pvalue": self.floor,
            "can_reject": self.floor is None or self.floor * max(len(self.runs), 1) < alpha,
        }


def counted_runs(runs: Sequence[RunRecord], places: Iterable[int]) -> list[int]:
    """Which of the runs at these places count: per subject the first in order."""
    best: dict[str, int] = {}
    for place in places:
        other = best.setdefault(runs[place].subject, place)
        if runs[place].order < runs[other].order:
            best[runs[place].subject] = place
    return sorted(best.values())


def number_families(runs: Sequence[RunRecord]) -> list[Family]:
    """The two tests' own p-values over subjects: is there any dependence, is there any difference."""
    made = []
    for claim, question, column, verdict in (
        ("phase coherence", "dependence", "coherence_pvalue", "coherence_verdict"),
        ("discrimination", "difference", "difference_pvalue", "discrimination_verdict"),
    ):
        tested = [place for place, run in enumerate(runs) if run.cells[verdict] is not None]
        places = counted_runs(runs, tested)
        known = [runs[place].cells[column] for place in places]
        floors = [runs[place].floors[question] for place in places]
        made.append(_family(claim, question, places, known, _floor(known, floors)))
    return made


def claim_families(runs: Sequence[RunRecord], *, alpha: float) -> dict[tuple[str, str], Family]:
    """Per claim that p-values decide, one family for `supported` and one for `falsified`."""
    found = {}
    for claim_id in claim_ids(runs):
        tested = _tested(runs, claim_id)
        places = counted_runs(runs, tested)
        claims = {place: tested[place] for place in places}
        if not any(claim.test in SIDES for claim in claims.values()):
            continue
        for side in (SUPPORTED, FALSIFIED):
            pvalues = [_effective(claim, side, alpha) for claim in claims.values()]
            floors = [_claim_floor(runs[place], claims[place], side) for place in places]
            found[claim_id, side] = _family(claim_id, side, places, pvalues, _floor(pvalues, floors))
    return found


def _claim_floor(run: RunRecord, claim: ClaimRecord, side: str) -> float | None:
    """Only what supports coherence rests on draws that are counted."""
    return run.floors["dependence"] if (claim.test, side) == ("phase_coherence", SUPPORTED) else None


def _floor(pvalues: Sequence[float | None], floors: Sequence[float | None]) -> float | None:
    """The smallest p-value that any of the tests can give, None where one may fall to 0; what has none gives none."""
    bounds = [floor for value, floor in zip(pvalues, floors, strict=True) if value is not None]
    known = [bound for bound in bounds if bound is not None]
    return min(known) if known and len(known) == len(bounds) else None


def _family(claim: str, question: str, places: list[int], pvalues: list[float | None], floor: float | None) -> Family:
    """What has no p-value stays in the family with 1: who is in it must not depend on what came out."""
    values = np.array([1.0 if value is None else value for value in pvalues])
    return Family(claim, question, tuple(places), values, adjusted_pvalues(values), floor)


def _effective(claim: ClaimRecord, side: str, alpha: float) -> float | None:
    """A claim's p-value, or 1 where it is small and something else (a gate, a control) kept the verdict back."""
    value: float | None = getattr(claim, side)
    kept_back = value is not None and value < alpha and claim.verdict != side
    return 1.0 if kept_back else value


def claim_ids(runs: Iterable[RunRecord]) -> list[str]:
    """Every claim that some run tested, in the order in which runs list them."""
    return list(dict.fromkeys(claim.id for run in runs for claim in run.claims))


def _tested(runs: Sequence[RunRecord], claim_id: str) -> dict[int, ClaimRecord]:
    """The claim in every run that tested it, by the run's place."""
    return {place: claim for place, run in enumerate(runs) for claim in run.claims if claim.id == claim_id}


def claim_rows(
    runs: Sequence[RunRecord], families: dict[tuple[str, str], Family], *, alpha: float
) -> list[dict[str, Any]]:
    """One row per run and claim; only counted runs have corrected p-values and a verdict after correction."""
    rows = []
    for claim_id in claim_ids(runs):
        tested = _tested(runs, claim_id)
        counted = set(counted_runs(runs, tested))
        agreement = _agreement(runs, tested, counted)
        for place, claim in tested.items():
            row = _base_row(runs[place], claim) | {"counted": place in counted}
            if place in counted:
                row |= agreement[place] | _corrected(place, claim, families, alpha) | {"n_tests": len(counted)}
            rows.append(row)
    return rows


def _base_row(run: RunRecord, claim: ClaimRecord) -> dict[str, Any]:
    names = ("run", "folder", "pair", "corpus", "condition", "phase_map", "seed", "key")
    words = {"claim": claim.id, "statement": claim.statement, "verdict": claim.verdict, "reason": claim.reason}
    numbers = {f"{side}_pvalue": getattr(claim, side) for side in (SUPPORTED, FALSIFIED)}
    return {name: run.cells[name] for name in names} | words | {"robust": claim.robust} | numbers


def _agreement(
    runs: Sequence[RunRecord], tested: dict[int, ClaimRecord], counted: set[int]
) -> dict[int, dict[str, int]]:
    """Per counted run: how many other runs there are of its subject, and how many of them come to the same verdict."""
    verdicts: defaultdict[str, list[str]] = defaultdict(list)
    for place, claim in tested.items():
        verdicts[runs[place].subject].append(claim.verdict)
    found = {}
    for place in counted:
        same = verdicts[runs[place].subject]
        found[place] = {
            "n_other_runs": len(same) - 1,
            "n_other_runs_agreeing": same.count(tested[place].verdict) - 1,
        }
    return found


def _corrected(place: int, claim: ClaimRecord, families: dict[tuple[str, str], Family], alpha: float) -> dict[str, Any]:
    """Corrected p-values, and the verdict that is left: the same, or inconclusive; never another or a stronger one."""
    found = {side: families.get((claim.id, side)) for side in (SUPPORTED, FALSIFIED)}
    cells = {f"{side}_{name}": value for side, f in found.items() if f for name, value in f.of(place).items()}
    kept = {"verdict_adjusted": claim.verdict, "reason_adjusted": claim.reason}
    if found[SUPPORTED] is None or claim.verdict not in (SUPPORTED, FALSIFIED):
        return cells | kept
    if getattr(claim, claim.verdict) is None:
        return cells | {"verdict_adjusted": INCONCLUSIVE, "reason_adjusted": NO_PVALUE}
    if cells[f"{claim.verdict}_pvalue_holm"] < alpha:
        return cells | kept
    return cells | {"verdict_adjusted": INCONCLUSIVE, "reason_adjusted": MULTIPLICITY}


def claim_summaries(runs: Sequence[RunRecord], rows: list[dict[str, Any]], corrected: set[str]) -> list[dict[str, Any]]:
    """Per claim: how many pairs came to which verdict, on their own and after correction, and that in a sentence."""
    tests = {claim.id: claim for run in reversed(runs) for claim in run.claims}
    found = []
    for claim_id in claim_ids(runs):
        counted = [row for row in rows if row["claim"] == claim_id and row["counted"]]
        own = _counts(row["verdict"] for row in counted)
        after = _counts(row["verdict_adjusted"] for row in counted) if claim_id in corrected else None
        structural = tests[claim_id].test in STRUCTURAL
        found.append({
            "id": claim_id,
            "test": tests[claim_id].test,
            "statement": tests[claim_id].statement,
            "n_pairs": len(counted),
            "verdicts": own,
            "verdicts_adjusted": after,
            "structural": structural,
            "sentence": _sentence(len(counted), own, after, structural),
        })  # fmt: skip
    return found


def _counts(verdicts: Iterable[str]) -> dict[str, int]:
    counted = Counter(verdicts)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def _sentence(n: int, own: dict[str, int], after: dict[str, int] | None, structural: bool) -> str:
    """What came out, in words. A count is no verdict on the claim."""
    text = f"Of {n} {'pair' if n == 1 else 'pairs'}, {_in_words(own)}"
    if after is not None:
        return f"{text}; after Holm's correction over {n} {'test' if n == 1 else 'tests'}, {_in_words(after)}."
    if structural:
        return f"{text}. The audit of the rules decides this, the same for every pair: one finding, however many pairs."
    return f"{text}. No p-value decides this, so nothing is corrected."


def _in_words(counts: dict[str, int]) -> str:
    parts = [f"{counts[verdict]} {verdict}" for verdict in VERDICTS]
    return f"{parts[0]}, {parts[1]} and {parts[2]}"
