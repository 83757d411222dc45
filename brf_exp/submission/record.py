"""What is kept about a submission: pair.json, and capture.json of every model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from brf_exp.storage import runs, schema
from brf_exp.submission.aligned import SPANS, AlignedCapture, AlignedRows
from brf_exp.submission.description import Description
from brf_exp.submission.importing import Imported
from brf_exp.submission.problems import Problems
from brf_exp.submission.registry import WARNING
from brf_exp.submission.reject_report import problem_record

PAIR: Final = "pair.json"
PAIR_SCHEMA: Final = 1
NORMALISER: Final = "logsumexp"
OTHER_TOKENS: Final = "the tokenizers differ, so token ids mean different tokens"


@dataclass(frozen=True)
class Alignment:
    """The captures of matched rows of models with different tokenizers."""

    rows: AlignedRows
    captures: list[AlignedCapture]


def provenance() -> dict[str, Any]:
    """What made the captures, for every manifest of a submission."""
    return {"packages": runs.package_versions(), "environment": runs.environment()}


def capture_manifest(description: Description, one: Imported, made_by: dict[str, Any]) -> dict[str, Any]:
    """capture.json of one model; `made_by` is a `provenance`."""
    member, layout = one.table.member, one.table.layout
    tokenizer = {"tokenizer": member.tokenizer, "vocab_size": member.vocab_size}
    return {
        "schema": schema.CAPTURE_SCHEMA,
        "model": {"name": member.name, "revision": member.revision, "vocabulary_size": member.vocab_size},
        "tokenizer_fingerprint": f"declared:{runs.content_key(tokenizer)}",
        "corpus": {"name": description.name, "fingerprint": runs.content_key(one.documents)},
        "mode": "submission",
        "condition": "none",
        "value_kind": "logprob" if layout.log_probabilities else "logit",
        "temperature": member.temperature,
        "log_base": member.log_base,
        "k": layout.k,
        "rows": sum(part["rows"] for part in one.parts),
        "documents": len(one.documents),
        "columns": one.table.columns,
        "parts": one.parts,
        **made_by,
    }


def aligned_manifest(
    description: Description, one: Imported, aligned: AlignedCapture, made_by: dict[str, Any]
) -> dict[str, Any]:
    """capture.json of one model's matched rows: same rows, and so the same fingerprint, for all models."""
    names = [[member.tokenizer, member.vocab_size] for member in description.members]
    return capture_manifest(description, one, made_by) | {
        "tokenizer_fingerprint": f"aligned:{runs.content_key(names)}",
        "k": schema.MIN_K,
        "rows": sum(part["rows"] for part in aligned.parts),
        "documents": sum(part["documents"] for part in aligned.parts),
        "columns": aligned.columns,
        "parts": aligned.parts,
    }


def pair_record(
    description: Description,
    imported: Sequence[Imported],
    content: str,
    *,
    alignment: Alignment | None,
    problems: Problems,
) -> dict[str, Any]:
    """pair.json: the models, whether ids are shared, which tests the submission supports, and what was warned of."""
    return {
        "schema": PAIR_SCHEMA,
        "name": description.name,
        "submitter": description.submitter,
        "content_sha256": content,
        "models": {one.table.member.key: _pair_entry(one) for one in imported},
        "shared_ids": description.shared_ids,
        "aligned": _aligned_entry(imported, alignment),
        "stages": stages(description, imported, alignment),
        "warnings": [problem_record(problem) for problem in problems.listed if problem.severity == WARNING],
    }


def _pair_entry(one: Imported) -> dict[str, Any]:
    """One model in pair.json."""
    member = one.table.member
    return {
        "name": member.name,
        "revision": member.revision,
        "tokenizer": member.tokenizer,
        "vocab_size": member.vocab_size,
        "value_kind": "logprob" if one.table.layout.log_probabilities else "logit",
        "temperature": member.temperature,
        "log_base": member.log_base,
        "capture": member.key,
    }


def _aligned_entry(imported: Sequence[Imported], alignment: Alignment | None) -> dict[str, Any] | None:
    """Where the matched rows lie and how many they are; None where rows need no matching, or none match."""
    if alignment is None or not alignment.captures:
        return None
    keys = [one.table.member.key for one in imported]
    return {
        "by": "char_start",
        "n_positions": alignment.rows.n_rows,
        "share": dict(zip(keys, alignment.rows.shares, strict=True)),
        "captures": {made.key: f"aligned-{made.key}" for made in alignment.captures},
    }


def stages(description: Description, imported: Sequence[Imported], alignment: Alignment | None) -> dict[str, Any]:
    """Which tests the submission supports, why not where it does not, and a line on each."""
    reasons = [reason for one in imported if (reason := _what_is_missing(one))]
    refusals = [] if description.shared_ids else [OTHER_TOKENS]
    unmatched = None if description.shared_ids else _why_unmatched(imported, alignment)
    if unmatched:
        refusals.append(unmatched)
    refusals += reasons
    only_normaliser = bool(reasons) and description.shared_ids and all(map(_has_bounds, imported))
    said = "; ".join(refusals)
    return {
        "coherence": unmatched is None,
        "discriminate": not refusals,
        "reason": said or None,
        "says": {
            "coherence": f"no: {unmatched}" if unmatched else _coherence_line(imported, alignment),
            "discriminate": (
                "yes" if not refusals else f"{'bounds only, no verdict' if only_normaliser else 'no'}: {said}"
            ),
        },
    }


def _coherence_line(imported: Sequence[Imported], alignment: Alignment | None) -> str:
    if alignment is None:
        return "yes"
    shares = zip(imported, alignment.rows.shares, strict=True)
    counted = ", ".join(f"{share:.1%} of {one.table.source.place}" for one, share in shares)
    return f"yes, on {alignment.rows.n_rows} positions aligned by characters ({counted})"


def _why_unmatched(imported: Sequence[Imported], alignment: Alignment | None) -> str | None:
    """Why rows of different tokenizers cannot be matched, or None."""
    if not all(set(SPANS) <= set(one.table.columns) for one in imported):
        return "without char_start and char_end the rows of different tokenizers cannot be aligned"
    if alignment is None or not alignment.captures:
        return "no token of one model begins at the character where one of the other does"
    return None


def _has_bounds(one: Imported) -> bool:
    """Whether nothing is missing but the logsumexp, if that."""
    return {"token_id", "target_logit", "id_1"} <= set(one.table.columns)


def _what_is_missing(one: Imported) -> str | None:
    """Why a capture does not support discrimination, or None."""
    member, layout, place = one.table.member, one.table.layout, one.table.source.place
    if member.temperature != 1.0 and NORMALISER not in one.table.columns:
        return f"{place} has values at temperature {member.temperature:g} and no logsumexp at temperature 1"
    needed = [name for name in ("token_id", NORMALISER) if name not in one.table.columns]
    if not layout.target:
        needed.append("target_logprob" if layout.values[0] == "logprob_1" else "target_logit")
    if not layout.ids:
        needed.append(f"id_1 to id_{layout.k}")
    return f"{place} lacks {', '.join(needed)}" if needed else None
