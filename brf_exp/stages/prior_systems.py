"""Published systems that fuse models, and what a dump of next-token distributions can say about each.

docs/prior-systems.md is made of this list by scripts/prior_systems.py.
"""

from dataclasses import asdict, dataclass
from typing import Any

from brf_exp.report.audit_rows import SYSTEMS

FUSES = ("distributions", "next-token distributions", "generations", "document scores", "class probabilities")
NEEDS = ("dumps", "live models", "training")
COMPARABLE = ("yes", "no", "proxy")
UNSOURCED = "no single source"
MEANINGS = {
    "yes": "the rule itself is scored on the dumps",
    "proxy": "a rule that shares its idea is scored; its result says nothing final about the system",
    "no": "no rule here stands for it",
}


@dataclass(frozen=True)
class PriorSystem:
    """A system. `rule` is the entry of `brf_exp.maths.RULES` that stands for it, or None; `year` may be unknown."""

    name: str
    year: int | None
    reference: str
    fuses: str
    needs: tuple[str, ...]
    comparable: str
    rule: str | None
    why: str


def _formula(name: str, year: int | None, reference: str, rule: str, why: str) -> PriorSystem:
    """A formula on distributions of anything: they are all it needs."""
    return PriorSystem(name, year, reference, "distributions", ("dumps",), "yes", rule, why)


PRIOR_SYSTEMS: tuple[PriorSystem, ...] = (
    _formula(
        "Linear opinion pool",
        1961,
        "Stone 1961, doi 10.1214/aoms/1177704873",
        "linear",
        "The weighted average itself, its weight tuned.",
    ),
    _formula(
        "Logarithmic opinion pool",
        1986,
        "Genest & Zidek 1986, doi 10.1214/ss/1177013825",
        "log_linear",
        "The weighted geometric mean itself, its weight tuned.",
    ),
    _formula(
        "Products of experts",
        2002,
        "Hinton 2002, doi 10.1162/089976602760128018",
        "product",
        "The product of the models' distributions itself, its exponents tuned; the experts are not trained together.",
    ),
    _formula(
        "Alpha-integration",
        2007,
        "Amari 2007, doi 10.1162/neco.2007.19.10.2780",
        "power_mean",
        "The power means themselves, their order tuned; alpha = 0 is Born Rule Fusion at zero phase.",
    ),
    _formula(
        "Normalised generalised means",
        2026,
        "arXiv 2603.04204",
        "power_mean",
        "The same family: orders from 0 to 1 are where fusing systematically helps the log-likelihood.",
    ),
    _formula(
        "Contrastive decoding",
        2023,
        "Li et al. 2023, arXiv 2210.15097",
        "contrastive",
        "The ratio of both models itself, without the cut that keeps plausible tokens only.",
    ),
    _formula(
        "Majority vote",
        None,
        UNSOURCED,
        "majority_vote",
        "The vote among the models' best tokens itself; two models need a tie-break, a log loss needs the gated form.",
    ),
    _formula(
        "Routing by confidence",
        None,
        UNSOURCED,
        "routing",
        "The more confident model itself, by largest probability, gap or entropy; no router is trained.",
    ),
    PriorSystem(
        "GaC",
        2024,
        "arXiv 2406.12585",
        "next-token distributions",
        ("dumps",),
        "yes",
        "linear",
        "It averages distributions over the union of the vocabularies; with one vocabulary that is the linear pool.",
    ),
    PriorSystem(
        "UniTE",
        2024,
        "arXiv 2410.03777",
        "next-token distributions",
        ("dumps",),
        "proxy",
        "linear",
        "It averages over the union of the models' top-k tokens and renormalises there; here the whole vocabulary "
        "counts and nothing is renormalised silently.",
    ),
    PriorSystem(
        "DeePEn",
        2024,
        "arXiv 2404.12715",
        "next-token distributions",
        ("live models",),
        "proxy",
        "linear",
        "It averages relative representations over anchor tokens, made of the models' embeddings, and searches its way "
        "back with 5 AdamW steps per token; with equal representations and an exact search it is the linear pool.",
    ),
    PriorSystem(
        "FusionRoute",
        2026,
        "arXiv 2601.05106",
        "next-token distributions",
        ("live models", "training"),
        "proxy",
        "routing",
        "A trained router picks the expert and adds a complementary logit; routing by confidence picks without "
        "training and adds nothing.",
    ),
    PriorSystem(
        "Mixture-of-Agents",
        2024,
        "arXiv 2406.04692",
        "generations",
        ("live models",),
        "no",
        None,
        "Models read and rewrite each other's answers; no distribution is fused.",
    ),
    PriorSystem(
        "Self-consistency",
        2022,
        "arXiv 2203.11171",
        "generations",
        ("live models",),
        "no",
        None,
        "A majority of sampled answers; the majority vote here is one of next tokens and says nothing about answers.",
    ),
    PriorSystem(
        "Exact byte-level probabilities",
        2024,
        "arXiv 2410.09303",
        "next-token distributions",
        ("live models",),
        "no",
        None,
        "Makes models with different tokenizers comparable byte by byte, which takes further forward passes.",
    ),
    PriorSystem(
        "Language models over characters",
        2024,
        "arXiv 2412.03719",
        "next-token distributions",
        ("live models",),
        "no",
        None,
        "Turns a model over tokens into one over characters, which takes further forward passes.",
    ),
    PriorSystem(
        "Quantum probability ranking principle",
        2009,
        "Zuccon et al. 2009, doi 10.1007/978-3-642-04417-5_21",
        "document scores",
        ("dumps",),
        "proxy",
        "constant_coherence",
        "Ranks documents by probability of relevance with an interference term between documents; the same cross-term "
        "with one cosine for all positions is scored here.",
    ),
    PriorSystem(
        "Quantum-like interference in decision fusion",
        2018,
        "Gkoumas & Song 2018, arXiv 1811.11422",
        "document scores",
        ("dumps",),
        "proxy",
        "constant_coherence",
        "Fuses a text and an image score with an interference term; the same cross-term with one cosine for all "
        "positions is scored here.",
    ),
    PriorSystem(
        "Quantum cognitively motivated decision fusion",
        2021,
        "Gkoumas et al. 2021, arXiv 2101.04406",
        "class probabilities",
        ("training",),
        "no",
        None,
        "Classifiers of several media are incompatible observables on a learned superposition of two judgments; the "
        "observables are trained with labels.",
    ),
    PriorSystem(
        "Interaction as interference",
        2025,
        "Kang 2025, arXiv 2511.10018",
        "class probabilities",
        ("training",),
        "proxy",
        "brf",
        "Sums complex amplitudes of learned features before squaring; its diagnostics Coherent Gain and Interference "
        "Information are defined for Born Rule Fusion as well.",
    ),
)


def records() -> list[dict[str, Any]]:
    """Every system as plain values, one row per system: what the audit's results hold."""
    return [{**asdict(system), "needs": ", ".join(system.needs)} for system in PRIOR_SYSTEMS]


def page() -> str:
    """The page docs/prior-systems.md."""
    lines = [
        "# Prior systems",
        "",
        "Systems that fuse models, or fuse anything by interference, and what a dump of next-token distributions can",
        "say about each.",
        "",
        *(f"- *{answer}*: {meaning}." for answer, meaning in MEANINGS.items()),
        "",
        f"| {' | '.join(SYSTEMS.values())} |",
        f"|{'---|' * len(SYSTEMS)}",
        *(_row(record) for record in records()),
    ]
    return "\n".join(lines) + "\n"


def _row(record: dict[str, Any]) -> str:
    rule = record["rule"]
    cells = record | {"rule": "" if rule is None else f"`{rule}`", "year": record["year"] or ""}
    return f"| {' | '.join(str(cells[name]) for name in SYSTEMS)} |"
