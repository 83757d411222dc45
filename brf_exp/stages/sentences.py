"""Verdicts in plain English. Every sentence names its pair, corpus and map."""

from collections.abc import Sequence

from brf_exp.maths.decisions import NO_GAIN, Verdict

_COHERENCE = {
    "coherent beyond shared difficulty": "the two models' phases are related token by token, beyond what shared "
    "difficulty explains",
    "no coherence": "the two models' phases are not related by more than a negligible amount",
    "shared difficulty": "the phases are related, but no more than two models that find the same tokens hard would be",
    "opposite sign": "the phases are related the opposite way to what is claimed",
    "documents": "there are too few documents to decide",
    "controls": "nothing is decided, because the planted controls did not come out as they must",
    "no difficulty proxy": "the phases may be related, but without a third model as difficulty proxy the claim that "
    "they are related beyond shared difficulty cannot be tested",
    "proxy reliability": "the relation beyond shared difficulty vanishes if the difficulty proxy is only 80 % reliable",
    "negative control": "the procedure finds coherence too often when documents are mismatched on purpose",
    "pseudo-documents": "the rows are one long document cut into blocks, which cannot support the claim",
    "document length": "the documents are too short for their autocorrelation",
    "power": "the data cannot tell a relevant relation from none",
    "constant gaps": "one model's gaps are all equal, so that it has no phases to relate",
    "ties at zero": "half of the gaps are exactly 0, so that there is no median gap to scale the phases with",
    "constant phases": "the phases do not vary within documents, so that there is nothing to relate",
    "documents of one token": "every document has one token, so that nothing can vary within documents",
    "identical models": "two of the models are one and the same, which relates their phases trivially",
    "proxy under test": "the difficulty proxy is one of the models under test, so that it takes away what it measures",
    "no residuals": "the difficulty proxy determines the gaps, so that nothing is left to relate",
    "no variation": "all documents show exactly the same relation, so that chance cannot be told from it",
    "pairs differ": "pairs of models give different verdicts",
}
_DISCRIMINATION = {
    "better than every phase-free rule": "Born Rule Fusion predicts better than every phase-free rule and control",
    "truncation": "the dumps keep too few logits per token to decide",
    "documents": "there are too few documents to decide",
    "controls": "nothing is decided, because the planted controls did not come out as they must",
    "not tuned": "rules were not tuned, so nothing is decided",
    "folds": "all documents fall into one fold, so that no rule can be tuned on other documents",
    "power": "the data cannot tell a relevant gain from none",
    "undefined fusion": "the fused distribution is undefined at some positions",
    "identical models": "two of the models are one and the same, so that fusing them tells nothing",
    "documents of one token": "every document has one token, so that phases shifted within documents are the same",
    "constant gaps": "every model's gaps are all equal, so that Born Rule Fusion has one constant phase difference",
    "ties at zero": "half of the gaps are exactly 0, so that there is no median gap to scale the phases with",
    "no variation": "all documents show exactly the same difference, so that chance cannot be told from it",
    "no rival has a bounded log loss": "no rule that Born Rule Fusion could be compared with has a bounded log loss",
    "missing logsumexp": "the losses are not known, because the column logsumexp is missing",
}
_PHASE_CONTROLS = {
    "brf_zero": "phases of zero",
    "brf_shifted": "phases shifted within documents",
    "brf_flipped": "phases turned by half a circle",
    "brf_uniform": "random phases",
}


def scope(pair: str, corpus: str, phase: str) -> str:
    """What a verdict is about."""
    return f"For {pair}, {corpus}, map {phase}"


def coherence_sentence(verdict: Verdict, where: str) -> str:
    """One sentence for the Phase Coherence Test."""
    return f"{where}: {_COHERENCE.get(verdict.reason, verdict.reason)} ({verdict.verdict})."


def joint_sentence(verdicts: list[Verdict], joint: Verdict, where: str) -> str:
    """One sentence over all pairs of several models."""
    counts = {name: sum(found.verdict == name for found in verdicts) for name in ("supported", "falsified")}
    pairs = f"of {len(verdicts)} pairs of models, {counts['supported']} support and {counts['falsified']} falsify"
    return f"{where}: {pairs} that phases are related beyond shared difficulty ({joint.verdict})."


def discrimination_sentence(verdict: Verdict, where: str) -> str:
    """One sentence for the Cross-Term Discrimination Test."""
    if verdict.reason.startswith(NO_GAIN):
        body = f"Born Rule Fusion has no relevant gain over {_rival(verdict.reason.removeprefix(NO_GAIN))}"
    else:
        body = _DISCRIMINATION.get(verdict.reason, verdict.reason)
    return f"{where}: {body} ({verdict.verdict})."


def _rival(rule: str) -> str:
    control = _PHASE_CONTROLS.get(rule)
    return f"the same rule with {control}" if control else f"the phase-free rule {rule}"


def unnormalised_sentence(models: Sequence[str], where: str) -> str:
    """One sentence where the named models' captures have no logsumexp."""
    lacking = "; ".join(models)
    return (
        f"{where}: only a lower and an upper end of the losses can be given, because the column logsumexp is missing "
        f"from the rows of {lacking}; add it (ln of the sum of exp(logit) over all tokens) to decide (inconclusive)."
    )


def blocked_sentence(reason: str, where: str) -> str:
    """One sentence for a claim of a run whose gates or controls leave everything open."""
    return f"{where}: {_DISCRIMINATION.get(reason, reason)} (inconclusive)."
