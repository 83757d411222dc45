"""Verdicts in plain English. Every sentence names its pair, corpus and map."""

from brf_exp.maths.decisions import Verdict

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
    "power": "the data cannot tell a relevant gain from none",
    "undefined fusion": "the fused distribution is undefined at some positions",
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
    reason = verdict.reason
    if reason.startswith("no gain over "):
        rival = reason.removeprefix("no gain over ")
        body = f"Born Rule Fusion has no relevant gain over the phase-free rule {rival}"
    else:
        body = _DISCRIMINATION.get(reason, reason)
    return f"{where}: {body} ({verdict.verdict})."
