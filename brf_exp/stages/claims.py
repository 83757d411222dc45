"""Stage `claims`: one verdict per public claim, from what a run has measured and the ledger it froze."""

from pathlib import Path
from typing import Any

from brf_exp.config import ClaimsStageConfig
from brf_exp.maths.decisions import FALSIFIED, INCONCLUSIVE, NOT_TESTED, SUPPORTED, Verdict
from brf_exp.report import newest_run
from brf_exp.stages.claim_tests import TESTS, Measured, Outcome
from brf_exp.stages.finish import once
from brf_exp.stages.ledger import MEASURED, Claim, freeze, frozen, ledger_hash, load_ledger
from brf_exp.stages.sentences import blocked_sentence
from brf_exp.storage.runs import content_key, load_results

CLAIMS_SCHEMA = 1
# Goes up whenever claims are judged or worded in another way, so that they are judged anew.
JUDGING = 2
# What follows the sentence of a decided claim, by whether all phase maps give its verdict; None: only one was tried.
ROBUSTNESS = {
    True: "",
    False: " Not robust: this does not hold under every phase map.",
    None: " Not known to be robust: only one phase map was looked at.",
}
FROZEN_LATE = "The ledger was frozen only after results were there, so claims could have been chosen to fit them."


def run(config: ClaimsStageConfig) -> Path:
    """Run the stage on a run folder (the newest one by default); the folder of its results."""
    folder = newest_run(Path(config.runs_dir)) if config.run is None else Path(config.run).absolute()
    return claims_of(folder, config.claims.ledger)


def claims_of(run_folder: Path, ledger: str | None) -> Path:
    """Judge every claim of the run's frozen ledger; the folder of its results."""
    made_by = "brf-exp run (stage {})"
    measured = Measured(*(load_results(run_folder / stage, made_by=made_by.format(stage)) for stage in MEASURED))
    freeze(run_folder, ledger)
    content = frozen(run_folder)
    assert content is not None
    sha256, late = content.sha256, content.frozen_late
    current = ledger_hash(load_ledger(ledger))
    determines = {
        "schema": CLAIMS_SCHEMA,
        "judging": JUDGING,
        "ledger": sha256,
        "ledger_now": current,
        "ledger_frozen_late": late,
        "results": content_key([measured.coherence, measured.discrimination, measured.audit]),
    }
    results = {
        "schema": CLAIMS_SCHEMA,
        "stage": "claims",
        "pair": measured.discrimination["pair"],
        "corpus": measured.discrimination["corpus"],
        "ledger_sha256": sha256,
        "ledger_changed": current != sha256,
        "ledger_frozen_late": late,
        "ledger_note": FROZEN_LATE if late else None,
        "claims": [_judge(claim, measured) for claim in sorted(content.claims, key=_place)],
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
        "sentence": outcome.sentence + _qualification(outcome),
        "robust": outcome.robust,
        "evidence": outcome.evidence,
    }


def _qualification(outcome: Outcome) -> str:
    """A claim is supported or falsified without qualification only where all phase maps agree."""
    return ROBUSTNESS[outcome.robust] if outcome.verdict.verdict in (SUPPORTED, FALSIFIED) else ""


def _outcome(claim: Claim, measured: Measured) -> Outcome:
    if claim.test not in TESTS:
        sentence = f"{measured.scope}: this run does not test the claim ({NOT_TESTED})."
        return Outcome(Verdict(NOT_TESTED, "no stage measures it yet"), sentence, None, {})
    outcome = TESTS[claim.test](measured)
    blocked = measured.blocked()
    if blocked:
        sentence = blocked_sentence(blocked, measured.scope)
        return Outcome(Verdict(INCONCLUSIVE, blocked), sentence, None, outcome.evidence)
    return outcome
