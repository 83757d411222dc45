"""What is kept about a submission: pair.json, and capture.json of every model."""

from collections.abc import Sequence
from typing import Any, Final

from brf_exp.storage import runs, schema
from brf_exp.submission.description import Description
from brf_exp.submission.importing import Imported

PAIR: Final = "pair.json"
PAIR_SCHEMA: Final = 1
SPANS: Final = ("char_start", "char_end")


def capture_manifest(description: Description, one: Imported) -> dict[str, Any]:
    """capture.json of one model."""
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
        "packages": runs.package_versions(),
        "environment": runs.environment(),
    }


def pair_record(description: Description, imported: Sequence[Imported], content: str) -> dict[str, Any]:
    """pair.json: the models, whether ids are shared, and which tests the submission supports."""
    return {
        "schema": PAIR_SCHEMA,
        "name": description.name,
        "submitter": description.submitter,
        "content_sha256": content,
        "models": {one.table.member.key: _pair_entry(one) for one in imported},
        "shared_ids": description.shared_ids,
        "stages": _stages(description, imported),
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


def _stages(description: Description, imported: Sequence[Imported]) -> dict[str, Any]:
    """Which tests the submission supports, and why not where it does not."""
    reasons = [reason for one in imported if (reason := _what_is_missing(one))]
    spans = all(set(SPANS) <= set(one.table.columns) for one in imported)
    if not description.shared_ids:
        reasons.insert(0, "the tokenizers differ, so token ids mean different tokens")
    coherence = description.shared_ids or spans
    if not coherence:
        reasons.insert(1, "without char_start and char_end the rows of different tokenizers cannot be aligned")
    return {"coherence": coherence, "discriminate": not reasons, "reason": "; ".join(reasons) or None}


def _what_is_missing(one: Imported) -> str | None:
    """Why a capture does not support discrimination, or None."""
    member, layout, place = one.table.member, one.table.layout, one.table.source.place
    if member.temperature != 1.0 and "logsumexp" not in one.table.columns:
        return f"{place} has values at temperature {member.temperature:g} and no logsumexp at temperature 1"
    needed = [name for name in ("token_id", "logsumexp") if name not in one.table.columns]
    if not layout.target:
        needed.append("target_logprob" if layout.values[0] == "logprob_1" else "target_logit")
    if not layout.ids:
        needed.append(f"id_1 to id_{layout.k}")
    return f"{place} lacks {', '.join(needed)}" if needed else None
