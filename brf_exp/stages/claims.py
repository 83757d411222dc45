"""Stage `claims`: one verdict per public claim, from what a run has measured and the ledger it froze."""

from pathlib import Path
from typing import Any

from brf_exp.config import ClaimsStageConfig
from brf_exp.maths.decisions import INCONCLUSIVE, NOT_TESTED, Verdict
from brf_exp.report import newest_run
from brf_exp.stages.claim_tests import TESTS, Measured, Outcome
from brf_exp.stages.finish import once
from brf_exp.stages.ledger import Claim, freeze, frozen, ledger_hash, load_ledger
from brf_exp.storage.runs import content_key, load_results

CLAIMS_SCHEMA = 1
NOT_ROBUST = " Other phase maps give other verdicts."
STAGES = ("coherence", "discriminate", "audit")


def run(config: ClaimsStageConfig) -> Path:
    """Run the stage on a run folder (the newest one by default); the folder of its results."""
    folder = newest_run(Path(config.runs_dir)) if config.run is None else Path(config.run).absolute()
    return claims_of(folder, config.claims.ledger)


def claims_of(run_folder: Path, ledger: str | None) -> Path:
    """Judge every claim of the run's frozen ledger; the folder of its results."""
    measured = Measured(*(load_results(run_folder / stage, made_by=f"brf-exp run (stage {stage})") for stage in STAGES))
    freeze(run_folder, ledger)
    content = frozen(run_folder)
    assert content is not None
    claims, sha256 = content
    current = ledger_hash(load_ledger(ledger))
    determines = {
        "schema": CLAIMS_SCHEMA,
        "ledger": sha256,
        "ledger_now": current,
        "results": content_key([measured.coherence, measured.discrimination, measured.audit]),
    }
    results = {
        "schema": CLAIMS_SCHEMA,
        "stage": "claims",
        "pair": measured.discrimination["pair"],
        "corpus": measured.discrimination["corpus"],
        "ledger_sha256": sha256,
        "ledger_changed": current != sha256,
        "claims": [_judge(claim, measured) for claim in sorted(claims, key=_place)],
    }
    return once(
        run_folder / "claims",
        stage="claims",
        subject=str(measured.discrimination["pair"]),
        determines=determines,
        make=lambda: (results, {}),
    )


def _place(claim: Claim) -> tuple[int, str]:
    """Claims that are tested first, in the order of their tests; the others by id."""
    order = list(TESTS)
    return (order.index(claim.test) if claim.test in order else len(order), claim.id)


def _judge(claim: Claim, measured: Measured) -> dict[str, Any]:
    outcome = _outcome(claim, measured)
    return {
        "id": claim.id,
        "source": claim.source,
        "statement": claim.statement,
        "tested_by": claim.statistic,
        "supported_if": claim.supported_if,
        "falsified_if": claim.falsified_if,
        "smallest_effect": claim.smallest_effect,
        "verdict": outcome.verdict.verdict,
        "reason": outcome.verdict.reason,
        "sentence": outcome.sentence + (NOT_ROBUST if outcome.robust is False else ""),
        "robust": outcome.robust,
        "evidence": outcome.evidence,
    }


def _outcome(claim: Claim, measured: Measured) -> Outcome:
    if claim.test not in TESTS:
        return Outcome(Verdict(NOT_TESTED, "no stage measures it yet"), "This run does not test the claim.", None, {})
    outcome = TESTS[claim.test](measured)
    blocked = measured.blocked()
    if blocked:
        sentence = f"{measured.scope}: nothing is decided ({blocked}) (inconclusive)."
        return Outcome(Verdict(INCONCLUSIVE, blocked), sentence, None, outcome.evidence)
    return outcome
