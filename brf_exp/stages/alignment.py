"""A difficulty proxy for models with a tokenizer of their own: an embedded model on the same texts, by characters."""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from brf_exp.config import CaptureConfig, CorpusConfig, ModelConfig
from brf_exp.corpora.document import TEXTS, Document, read_texts, write_texts
from brf_exp.maths.alignment import Spans, align
from brf_exp.maths.documents import document_chunks
from brf_exp.models.reference import identify, resolve_spec
from brf_exp.storage.captures import ROW_GROUP_ROWS, Capture, open_capture, read_part, sha256_of
from brf_exp.storage.runs import building, content_key, locked

PROXY_MODEL = "tiny_mixed"
SPANS = ("char_start", "char_end")
ALIGNED_SCHEMA = 1
_NEEDED_PACKAGES = ("datasets", "torch", "transformers")
_LOGITS = ("logsumexp", "target_logit", "logit_1", "logit_2", "entropy")
_COLUMNS = (*SPANS, "gap", "surprisal", "top_surprisal", "entropy")


@dataclass(frozen=True)
class AlignedProxy:
    """An embedded model's rows on the documents of a capture that has other tokens.

    `share_aligned` is the share of that capture's tokens for which the model says something.
    """

    model_name: str
    capture: Capture
    share_aligned: float

    def identity(self) -> str:
        """Hash of the rows; where they lie is no part of it."""
        return content_key({"parts": [p["sha256"] for p in self.capture.manifest["parts"]], "model": self.model_name})

    def columns_for(
        self, doc_ids: Sequence[str], char_start: np.ndarray, char_end: np.ndarray, offsets: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Difficulty of tokens of whole documents: gap, surprisal, top_surprisal, entropy; (n,) float64, nats.

        `char_start` and `char_end` (n,) are the tokens' code points in their document's text, `offsets` (D + 1,) the
        documents' rows among them. NaN where the model says nothing: documents without text, spans outside the text.
        Asked for documents in their own order, it reads each of its part files once.
        """
        ranges = np.array([self._rows_of.get(doc_id, (0, 0)) for doc_id in doc_ids], dtype=np.int64).reshape(-1, 2)
        rows = self._read(ranges)
        lengths = np.diff(ranges, axis=1)[:, 0]
        source = Spans(rows.pop("char_start"), rows.pop("char_end"), np.concatenate([[0], np.cumsum(lengths)]))
        surprisal = rows.pop("surprisal")
        return align(Spans(char_start, char_end, offsets), source, surprisal=surprisal, predictions=rows)

    @cached_property
    def _rows_of(self) -> dict[str, tuple[int, int]]:
        """First row, and the one behind the last, of each document."""
        index = self.capture.documents
        spans = zip(index.offsets[:-1].tolist(), index.offsets[1:].tolist(), strict=True)
        return dict(zip(map(_doc_id, index.doc_ids), spans, strict=True))

    def _read(self, ranges: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of each range, one behind the other."""
        present = ranges[ranges[:, 1] > ranges[:, 0]]
        first, stop = (int(present[:, 0].min()), int(present[:, 1].max())) if present.size else (0, 0)
        pieces, end = [], 0
        for part in self.capture.manifest["parts"]:
            begin, end = end, end + int(part["rows"])
            if begin < stop and end > first:
                columns = _part_columns(self.capture.folder / part["name"])
                pieces.append({name: values[max(first - begin, 0) : stop - begin] for name, values in columns.items()})
        wanted = np.concatenate([np.arange(0), *(np.arange(*span) for span in present)]) - first
        return {name: np.concatenate([np.empty(0), *(p[name] for p in pieces)])[wanted] for name in _COLUMNS}


@lru_cache(maxsize=2)
def _part_columns(path: Path) -> dict[str, np.ndarray]:
    """Spans and difficulty columns of one part; documents asked for in order come from the same one or two."""
    table = read_part(path, [*SPANS, *_LOGITS])
    columns = {name: table.column(name).to_numpy().astype(np.float64) for name in _LOGITS}
    return {name: table.column(name).to_numpy() for name in SPANS} | {
        "gap": columns["logit_1"] - columns["logit_2"],
        "surprisal": columns["logsumexp"] - columns["target_logit"],
        "top_surprisal": columns["logsumexp"] - columns["logit_1"],
        "entropy": columns["entropy"],
    }


def aligned_proxy(
    tested: Sequence[Capture], texts: Path | None, *, runs_dir: Path, device: str, seed: int, progress: bool
) -> AlignedProxy | None:
    """The embedded model run over the texts of the first capture, captured now or found captured.

    None where that cannot be: no texts, no character spans, an installation without torch, or the embedded model
    is itself one of those under test.
    """
    first = tested[0]
    can_run = all(importlib.util.find_spec(name) for name in _NEEDED_PACKAGES)
    if texts is None or not set(SPANS) <= set(first.columns) or not can_run or any(map(_is_proxy_model, tested)):
        return None
    path = _cut_texts(first, texts, runs_dir)
    if path.stat().st_size == 0:
        return None
    # Late import: an analysis runs without the packages that a capture needs.
    from brf_exp.stages.capture import capture

    folder = capture(
        ModelConfig(name=PROXY_MODEL),
        CorpusConfig(name="file", path=str(path), id_column="doc_id"),
        CaptureConfig(k=2, device=device),
        runs_dir=runs_dir,
        seed=seed,
        progress=progress,
    )
    made = AlignedProxy(PROXY_MODEL, open_capture(folder), share_aligned=0.0)
    return replace(made, share_aligned=_share_aligned(first, made))


def _is_proxy_model(capture: Capture) -> bool:
    """A model's own rows must not tell how hard its tokens are."""
    model = capture.manifest["model"]
    own = identify(resolve_spec(PROXY_MODEL)).weights_sha256
    return bool(model["name"] == PROXY_MODEL or model.get("weights_sha256") == own)


def _cut_texts(first: Capture, texts: Path, runs_dir: Path) -> Path:
    """The documents' texts as far as the capture has tokens, written once; a book's first page is not read whole."""
    parts = [part["sha256"] for part in first.manifest["parts"]]
    key = content_key({"schema": ALIGNED_SCHEMA, "texts": sha256_of(texts), "parts": parts})
    final = runs_dir / "aligned" / key[:16]
    with locked(final):
        if not (final / TEXTS).is_file():
            with building(final) as partial:
                write_texts(partial / TEXTS, _cut_documents(first, texts))
    return final / TEXTS


def _cut_documents(first: Capture, texts: Path) -> Iterator[Document]:
    """Documents in the capture's order; those without text behind the cut are left out."""
    whole = read_texts(texts)
    longest = np.zeros(len(first.documents.doc_ids), dtype=np.int64)
    for documents, spans, offsets in _document_spans(first):
        longest[documents] = np.maximum.reduceat(spans[1], offsets[:-1])
    for number, doc_id in enumerate(first.documents.doc_ids):
        text = whole.get(doc_id, "")[: max(int(longest[number]), 0)]
        if text.strip():
            # A lone surrogate has no UTF-8; a question mark keeps the count of code points.
            yield Document(_numbered(number, doc_id), text.encode(errors="replace").decode())


def _numbered(number: int, doc_id: str) -> str:
    """A document's name that no reader of JSON takes for a date."""
    return f"{number:06d} {doc_id}"


def _doc_id(numbered: str) -> str:
    return numbered.partition(" ")[2]


def _document_spans(capture: Capture) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Consecutive documents, their tokens' spans (2, n), and their offsets within them; a bounded number of rows."""
    offsets = capture.documents.offsets
    batches = capture.iter_batches(SPANS, n_rows=ROW_GROUP_ROWS)
    held = np.empty((2, 0), dtype=np.int32)
    for documents in document_chunks(offsets):
        within = offsets[documents.start : documents.stop + 1] - offsets[documents.start]
        pieces, n_held = [held], held.shape[1]
        while n_held < within[-1]:
            batch = next(batches)
            pieces.append(np.stack([batch.column(name).to_numpy() for name in SPANS]))
            n_held += batch.num_rows
        held = np.concatenate(pieces, axis=1)
        yield documents, held[:, : within[-1]], within
        held = held[:, within[-1] :]


def _share_aligned(first: Capture, proxy: AlignedProxy) -> float:
    n_aligned = 0
    for documents, spans, offsets in _document_spans(first):
        columns = proxy.columns_for(first.documents.doc_ids[documents], spans[0], spans[1], offsets)
        n_aligned += int(np.isfinite(columns["gap"]).sum())
    return n_aligned / first.n_rows
