"""Every check that a submission goes through, in one list: help, documentation and reports are made from it.

Standard library only, so that `--help` prints it at once.
"""

from dataclasses import dataclass
from typing import Final

ERROR: Final = "error"
WARNING: Final = "warning"


@dataclass(frozen=True)
class Check:
    """One check: its name in reports, what it looks at, what it asks for, and whether failing it rejects."""

    name: str
    subject: str
    asks: str
    severity: str = ERROR


_ALL: Final = (
    Check("archive-damaged", "archive", "a .zip or .tar.gz that unpacks whole, without a password"),
    Check("archive-member", "archive", "plain files and folders under short relative paths, each once"),
    Check("archive-size", "archive", "at most 1000 files, 8 GiB, and 200 times its own size when unpacked"),
    Check("archive-root", "archive", "one submission.yaml, at the top or in the only folder"),
    Check("description-file", "submission.yaml", "UTF-8, at most 64 KiB, plain YAML: no tags, anchors, doubled keys"),
    Check("description-keys", "submission.yaml", "every required key and no unknown one; models keyed a, b, c, ..."),
    Check("description-value", "submission.yaml", "every value of its kind and in its range"),
    Check("description-path", "submission.yaml", "captures that exist inside the submission, no links out of it"),
    Check("name-scripts", "submission.yaml", "words of one alphabet: others can look the same", WARNING),
    Check("table-file", "table", "a whole, readable file of the format its name says, within the size cap"),
    Check("table-columns", "table", "position, logit_1, logit_2, ... without gaps; id_1, ... as many; spans in twos"),
    Check("table-kind", "table", "value_kind, log_base and temperature that fit the columns"),
    Check("columns-ignored", "table", "no columns beside those of the format (they are not read)", WARNING),
    Check("tokens-by-text", "table", "tokens named by ids: of several with one text only one is listed", WARNING),
    Check("cell-empty", "cell", "a value in every cell that is read"),
    Check("cell-number", "cell", "numbers with a decimal point"),
    Check("cell-finite", "cell", "finite numbers, in float32 too; no NaN or infinity"),
    Check("cell-range", "cell", "whole numbers where asked for; ids below vocab_size; entropy up to ln(vocab_size)"),
    Check("cell-text", "cell", "names of documents: printable text of at most 256 characters"),
    Check("values-order", "row", "values that do not rise from left to right"),
    Check("ids-distinct", "row", "no token id twice in a row"),
    Check("span-order", "row", "char_end at or behind char_start"),
    Check("target-value", "row", "the realised token's value equal to its listed one, else at most the last listed"),
    Check("target-rank", "row", "target_rank that the listed values allow"),
    Check("logsumexp-low", "row", "logsumexp at or above that of the listed values"),
    Check("logsumexp-high", "row", "logsumexp that vocab_size tokens can reach, unlisted ones at most the last value"),
    Check("entropy-bounds", "row", "entropy between what the listed probabilities and vocab_size allow"),
    Check("probability-sign", "row", "log-probabilities of at most 0"),
    Check("probability-sum", "row", "listed probabilities that sum to at most 1, and to 1 with the unlisted ones"),
    Check("target-floor", "label", "the realised token's own value, no floor such as -9999 in its place"),
    Check("document-order", "document", "the rows of a document together; at most a million documents"),
    Check("position-order", "document", "positions that increase within their document"),
    Check("document-twice", "document", "no document of 20 rows or more that is another over again"),
    Check("short-document-twice", "document", "no shorter document that is another over again", WARNING),
    Check("choices-left-out", "document", "one choice per response: of several only the first is independent", WARNING),
    Check("documents-numbered", "document", "names of documents that both models' logs have alike", WARNING),
    Check("looks-probabilities", "label", "no probabilities in place of logits or log-probabilities"),
    Check("looks-negated", "label", "no negative log-probabilities (sign flipped)"),
    Check("looks-worst-first", "label", "the best token first, not last"),
    Check("looks-logits", "label", "no logits called log-probabilities"),
    Check("looks-log-probabilities", "label", "no log-probabilities called logits", WARNING),
    Check("looks-log-base", "label", "no base-10 or base-2 logarithms beside another log_base"),
    Check("looks-renormalised", "label", "no probabilities that were made to sum to 1 over the listed tokens"),
    Check("looks-sum-to-one", "label", "no listed probabilities that sum to 1 in every row, however likely", WARNING),
    Check("looks-filtered", "label", "no top-p or top-k filter: empty or infinite tails, or a floor such as -9999"),
    Check("looks-tempered", "label", "no values at another temperature than the logsumexp or entropy beside them"),
    Check("looks-half-precision", "label", "no logsumexp of half precision that its row contradicts, or off by 0.01"),
    Check("half-precision", "label", "no logsumexp of half precision", WARNING),
    Check("texts-line", "texts.jsonl", 'one {"doc_id": ..., "text": ...} per line, every document once'),
    Check("texts-documents", "texts.jsonl", "a text for every document of the captures"),
    Check("texts-span", "texts.jsonl", "spans within their document's text"),
    Check("rows-documents", "models", "the same documents in the same order, named alike, where the tokenizer is one"),
    Check("rows-count", "models", "as many rows in every model where the tokenizer is one"),
    Check("rows-same", "models", "row n of every model at the same doc_id, position, token_id"),
    Check(
        "offsets-share",
        "models",
        "half of the longer tokens aligned by characters, half of the documents shared",
        WARNING,
    ),
)
CHECKS: Final = {check.name: check for check in _ALL}
LABEL: Final = "label"
UNDETECTABLE: Final = (
    "What no check can tell: values divided by a temperature, where neither logsumexp, entropy nor target_rank stands\n"
    "beside them (any such row is a legal distribution); and base-2 logarithms in rows whose unlisted tokens could\n"
    "still fill the sum up to 1 for the declared vocab_size. State temperature and log_base as they were."
)


def check_lines() -> list[str]:
    """Every check in a line of its own, for `brf-exp ingest --help`."""
    width = max(map(len, CHECKS))
    lines = [
        f"  {check.name:<{width}}  {check.asks}{' (warning)' if check.severity == WARNING else ''}" for check in _ALL
    ]
    return [*lines, *(f"  {line}" for line in UNDETECTABLE.splitlines())]


def check_table() -> str:
    """Every check as a Markdown table, for the documentation."""
    lines = ["| check | looks at | asks for | if not |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.subject} | {c.asks.replace('|', chr(92) + '|')} | {c.severity} |" for c in _ALL]
    return "\n".join(lines)
