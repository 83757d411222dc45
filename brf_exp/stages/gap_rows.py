"""One pass over matched captures: the columns that the Phase Coherence Test works on, and nothing else of them.

A capture of k = 50 takes some 240 bytes a row; what is kept here takes 8 per model and a few more for difficulty.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from brf_exp.corpora.document import read_texts
from brf_exp.errors import InputError
from brf_exp.maths.documents import Offsets, document_chunks
from brf_exp.stages.pairs import TOP_TWO, PairInputs, logit_gaps
from brf_exp.stages.token_classes import token_classes
from brf_exp.storage.captures import Capture, DocumentCollector, DocumentIndex, document_starts, lockstep
from brf_exp.storage.scratch import Scratch

BATCH_ROWS = 65536
MATCHED = ("position", "token_id")
SIGNAL_COLUMNS = ("logsumexp", "target_logit", "entropy")
SIGNALS = ("gap", "surprisal", "top_surprisal", "entropy")


@dataclass(frozen=True)
class Signals:
    """What one model says of each token's difficulty: `values` (4, n) in the order of SIGNALS, NaN where unknown."""

    model: str
    values: np.ndarray


@dataclass(frozen=True)
class GapRows:
    """Matched rows of M models, in scratch arrays.

    `gaps` (M, n) logits; `signals` of every model that can serve as a difficulty proxy, by name; `token_id` (n,) and
    `token_class` (n,), where they are known. `proxies` names those of `signals` that are not under test.
    """

    models: tuple[str, ...]
    documents: DocumentIndex
    gaps: np.ndarray
    signals: tuple[Signals, ...]
    n_under_test: int
    token_id: np.ndarray | None
    token_class: np.ndarray | None

    @property
    def offsets(self) -> Offsets:
        """Rows of the documents, (D + 1,)."""
        return self.documents.offsets

    def proxies_of(self, first: int, second: int) -> list[Signals]:
        """Signals of models other than the two: a proxy outside the test, and the other models under test."""
        return [s for place, s in enumerate(self.signals) if place >= self.n_under_test or place not in (first, second)]


def matched_batches(
    captures: Sequence[Capture], names: Sequence[Sequence[str]], *, n_rows: int | None = None
) -> Iterator[tuple[pa.RecordBatch, ...]]:
    """Batches of the named columns side by side; InputError where row n is not the same token for every model."""
    for capture in captures:
        capture.require_whole()
    shared = [name for name in MATCHED if all(name in capture.columns for capture in captures)]
    wanted = [list(dict.fromkeys(["doc_id", *shared, *own])) for own in names]
    row = 0
    for batches in lockstep(captures, wanted, n_rows=n_rows or BATCH_ROWS):
        for capture, batch in zip(captures[1:], batches[1:], strict=True):
            _require_same_documents(captures[0], batches[0], capture, batch)
            for name in shared:
                _require_equal(captures[0], batches[0], capture, batch, name, row)
        yield batches
        row += batches[0].num_rows
    for capture in captures:
        if capture.n_rows != row:
            raise _other_documents(captures[0], capture)


def check_rows(inputs: PairInputs) -> None:
    """Raise InputError where the captures' rows are not the same (document, position, token)."""
    captures = [*inputs.captures, *([inputs.proxy] if inputs.proxy else [])]
    for _ in matched_batches(captures, [[]] * len(captures)):
        pass


def _require_same_documents(first: Capture, left: pa.RecordBatch, other: Capture, right: pa.RecordBatch) -> None:
    (starts, names), (other_starts, other_names) = document_starts(left), document_starts(right)
    if names != other_names or not np.array_equal(starts, other_starts):
        raise _other_documents(first, other)


def _other_documents(first: Capture, other: Capture) -> InputError:
    n_documents = [capture.manifest.get("documents") or len(capture.documents.doc_ids) for capture in (first, other)]
    return InputError(
        f"`{other.model_name}` must have the documents of {first.model_name}, got others "
        f"({other.n_rows} rows in {n_documents[1]} documents against {first.n_rows} in {n_documents[0]}). "
        "Capture both on the same texts."
    )


def _require_equal(
    first: Capture, left: pa.RecordBatch, other: Capture, right: pa.RecordBatch, name: str, before: int
) -> None:
    ours, theirs = left.column(name).to_numpy(), right.column(name).to_numpy()
    if np.array_equal(ours, theirs):
        return
    row = int(np.flatnonzero(ours != theirs)[0])
    raise InputError(
        f"`{name}` of {other.model_name} must equal that of {first.model_name}, got {theirs[row]} "
        f"instead of {ours[row]} in row {before + row + 1}. Dump both models on the same tokens."
    )


def read_gap_rows(inputs: PairInputs, scratch: Scratch) -> GapRows:
    """Read the needed columns of all captures once, in lockstep.

    Raises InputError where rows do not match or a logit is not a finite number.
    """
    tested, proxy = inputs.captures, inputs.proxy
    captures = [*tested, *([proxy] if proxy else [])]
    for capture in captures:
        capture.require(["doc_id", *TOP_TWO], purpose="coherence")
    # Models under test are each other's proxies where there are more than two.
    speaks = [len(tested) > 2 or capture is proxy for capture in captures]
    first, n = tested[0], tested[0].n_rows
    ids = ["token_id"] if "token_id" in first.columns else []
    spans = ["char_start", "char_end"] if _knows_strings(inputs) else []
    names = [_wanted(capture, signals) for capture, signals in zip(captures, speaks, strict=True)]
    gaps = scratch.empty((len(tested), n))
    signals = [scratch.empty((len(SIGNALS), n), np.float32) if speaking else None for speaking in speaks]
    token_id = scratch.empty((n,), np.int32) if ids else None
    char_spans = scratch.empty((2, n), np.int32) if spans else None
    documents, row = DocumentCollector(first.folder.name), 0
    for batches in matched_batches(captures, [[*names[0], *ids, *spans], *names[1:]]):
        rows = slice(row, row + batches[0].num_rows)
        documents.add(*document_starts(batches[0]), batches[0].num_rows)
        for place, (capture, batch) in enumerate(zip(captures, batches, strict=True)):
            gap = _gaps(capture, batch, row)
            if place < len(tested):
                gaps[place, rows] = gap
            if (target := signals[place]) is not None:
                target[:, rows] = _signals(batch, gap)
        if token_id is not None:
            token_id[rows] = batches[0].column("token_id").to_numpy()
        if char_spans is not None:
            char_spans[:, rows] = [batches[0].column(name).to_numpy() for name in spans]
        row = rows.stop
    found = [Signals(c.model_name, v) for c, v in zip(captures, signals, strict=True) if v is not None]
    index = documents.finish()
    classes = None
    if char_spans is not None:
        classes = _classes_of(inputs, index, char_spans, scratch)
        if inputs.aligned is not None:
            found.append(_aligned(inputs, index, char_spans, scratch))
    return GapRows(
        models=tuple(capture.model_name for capture in tested),
        documents=index,
        gaps=gaps,
        signals=tuple(found),
        n_under_test=len(tested) if len(tested) > 2 else 0,
        token_id=token_id,
        token_class=classes,
    )


def _knows_strings(inputs: PairInputs) -> bool:
    columns = inputs.captures[0].columns
    return "char_start" in columns and "char_end" in columns and inputs.texts is not None


def _wanted(capture: Capture, signals: bool) -> list[str]:
    return [*TOP_TWO, *(name for name in SIGNAL_COLUMNS if signals and name in capture.columns)]


def _gaps(capture: Capture, batch: pa.RecordBatch, before: int) -> np.ndarray:
    """Logit gaps of a batch, float64; InputError where one is not a finite number."""
    return logit_gaps(capture, *(batch.column(name).to_numpy() for name in TOP_TWO), before=before)


def _signals(batch: pa.RecordBatch, gap: np.ndarray) -> np.ndarray:
    """Gap, surprisal of the realised and of the top token, entropy; (4, rows), NaN where unknown or not finite."""
    columns = {name: batch.column(name).to_numpy() for name in SIGNAL_COLUMNS if name in batch.schema.names}
    unknown = np.full(gap.size, np.nan)
    surprisal = top = unknown
    if "logsumexp" in columns:
        top = columns["logsumexp"] - batch.column("logit_1").to_numpy()
        if "target_logit" in columns:
            surprisal = columns["logsumexp"] - columns["target_logit"]
    with np.errstate(over="ignore"):
        found = np.stack([gap, surprisal, top, columns.get("entropy", unknown)]).astype(np.float32)
    return np.where(np.isfinite(found), found, np.nan)


def _classes_of(inputs: PairInputs, index: DocumentIndex, spans: np.ndarray, scratch: Scratch) -> np.ndarray:
    """Class of every token's string, (n,)."""
    assert inputs.texts is not None
    texts = read_texts(inputs.texts)
    classes = scratch.empty((spans.shape[1],), np.int8)
    for doc_id, start, stop in zip(index.doc_ids, index.offsets[:-1], index.offsets[1:], strict=True):
        classes[start:stop] = token_classes(texts.get(doc_id, ""), spans[0, start:stop], spans[1, start:stop])
    return classes


def _aligned(inputs: PairInputs, index: DocumentIndex, spans: np.ndarray, scratch: Scratch) -> Signals:
    """The embedded proxy's signals at the tokens of the first model."""
    assert inputs.aligned is not None
    values = scratch.empty((len(SIGNALS), spans.shape[1]), np.float32)
    for documents in document_chunks(index.offsets):
        rows = slice(int(index.offsets[documents.start]), int(index.offsets[documents.stop]))
        within = index.offsets[documents.start : documents.stop + 1] - rows.start
        doc_ids = index.doc_ids[documents]
        columns = inputs.aligned.columns_for(doc_ids, spans[0, rows], spans[1, rows], within)
        values[:, rows] = [columns[name] for name in SIGNALS]
    return Signals(inputs.aligned.model_name, values)
