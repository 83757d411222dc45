"""Excerpts of the scored text with what fusion did to every realised token."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from brf_exp.corpora.document import TEXTS, read_texts
from brf_exp.errors import BrfError
from brf_exp.report.load import Run
from brf_exp.report.style import printable
from brf_exp.report.wording import MINUS, number, percent
from brf_exp.storage.captures import Capture, open_capture

STEPS_NATS = (0.01, 0.03, 0.1, 0.3, 1.0)  # where a token's colour becomes one step stronger
N_AMPLIFIED = N_SUPPRESSED = 3
N_BEFORE, N_AFTER, N_ORDINARY = 22, 14, 48  # tokens of an excerpt, at least
CHARS_BEFORE, CHARS_AFTER, CHARS_ORDINARY = 110, 70, 260  # code points of an excerpt, about, where tokens are short
MARGIN = 1e-9  # of rounding, so that equal probabilities never count as below


@dataclass(frozen=True)
class Piece:
    """Text as it stands, with the colour step of its token (0: none) and a note; `note` is empty between tokens."""

    text: str
    step: int = 0
    below: bool = False
    centre: bool = False
    note: str = ""


@dataclass(frozen=True)
class Excerpt:
    """A stretch of one document and why it was chosen."""

    reason: str
    document: str
    first_position: int
    pieces: tuple[Piece, ...]
    cut_before: bool
    cut_after: bool


@dataclass(frozen=True)
class _Scored:
    """Per-position columns of Born Rule Fusion and where each token stands; spans are None without texts."""

    document: np.ndarray
    position: np.ndarray
    token_id: np.ndarray
    gain_nats: np.ndarray
    log_p: np.ndarray
    loss_linear: np.ndarray
    loss_brf: np.ndarray
    names: list[str]
    texts: list[str] | None
    spans: np.ndarray | None


def excerpts(run: Run) -> list[Excerpt]:
    """The strongest amplifications and suppressions, one per document, and the start of a middling document."""
    scored = _scored(run)
    if scored is None or not scored.gain_nats.size:
        return []
    chosen: list[Excerpt] = []
    taken: set[int] = set()
    for sign, n_wanted, word in ((1, N_AMPLIFIED, "amplified"), (-1, N_SUPPRESSED, "suppressed")):
        for row in _strongest(scored, sign, n_wanted, taken):
            nats = number(abs(float(scored.gain_nats[row])))
            start, stop = _reach(scored, row, -CHARS_BEFORE, N_BEFORE), _reach(scored, row, CHARS_AFTER, N_AFTER)
            chosen.append(_excerpt(scored, start, stop, row, f"Strongly {word}: {nats} nats"))
    row = _ordinary_start(scored, taken)
    stop = _reach(scored, row, CHARS_ORDINARY, N_ORDINARY)
    return [*chosen, _excerpt(scored, row, stop, None, "An ordinary passage, not chosen by effect")]


def _reach(scored: _Scored, row: int, chars: int, n_tokens: int) -> int:
    """The first row (chars < 0) or the row behind the last one of an excerpt, within the row's document."""
    first, behind = np.searchsorted(scored.document, [scored.document[row], scored.document[row] + 1]).tolist()
    far = row
    if scored.spans is not None:
        starts = scored.spans[first:behind, 0]
        far = first + int(np.searchsorted(starts, scored.spans[row, 0] + chars))
    if chars < 0:
        return max(first, min(far, row - n_tokens))
    return min(behind, max(far, row + n_tokens + 1))


def _strongest(scored: _Scored, sign: int, n_wanted: int, taken: set[int]) -> Iterator[int]:
    """Rows of largest effect of one sign, from documents not yet taken."""
    n_found = 0
    for row in np.argsort(-sign * scored.gain_nats, kind="stable").tolist():
        document = int(scored.document[row])
        if n_found == n_wanted or sign * scored.gain_nats[row] <= 0:
            return
        if document not in taken:
            taken.add(document)
            n_found += 1
            yield row


def _ordinary_start(scored: _Scored, taken: set[int]) -> int:
    """First row of the document whose mean effect is the median one, of those not shown yet."""
    n_documents = int(scored.document.max()) + 1
    counts = np.bincount(scored.document, minlength=n_documents)
    means = np.bincount(scored.document, weights=scored.gain_nats, minlength=n_documents) / np.maximum(counts, 1)
    left = [d for d in range(n_documents) if d not in taken and counts[d]] or [int(scored.document[0])]
    ranked = sorted(left, key=lambda d: (means[d], d))
    return int(np.searchsorted(scored.document, ranked[len(ranked) // 2]))


def _excerpt(scored: _Scored, start: int, stop: int, centre: int | None, reason: str) -> Excerpt:
    document = int(scored.document[start if centre is None else centre])
    first, behind = np.searchsorted(scored.document, [document, document + 1]).tolist()
    pieces = tuple(_pieces(scored, document, start, stop, centre))
    position = int(scored.position[start])
    return Excerpt(reason, scored.names[document], position, pieces, start > first, stop < behind)


def _pieces(scored: _Scored, document: int, start: int, stop: int, centre: int | None) -> Iterator[Piece]:
    if scored.spans is None or scored.texts is None:
        for row in range(start, stop):
            yield _token(scored, row, f"{scored.token_id[row]} ", row == centre)
        return
    text = scored.texts[document]
    cursor = int(scored.spans[start, 0])
    for row in range(start, stop):
        low, high = max(int(scored.spans[row, 0]), cursor), int(scored.spans[row, 1])
        if low > cursor:
            yield Piece(_visible(text[cursor:low]))
        if high > low:  # a token inside a character that is already shown has no text of its own
            yield _token(scored, row, text[low:high], row == centre)
        cursor = max(cursor, high)


def _token(scored: _Scored, row: int, text: str, centre: bool) -> Piece:
    gain = float(scored.gain_nats[row])
    step = int(np.searchsorted(STEPS_NATS, abs(gain), side="right")) * (1 if gain > 0 else -1)
    below = bool(scored.loss_brf[row] > -float(scored.log_p[:, row].min()) + MARGIN)
    models = [percent(float(p)) for p in np.exp(scored.log_p[:, row])]
    fused = [percent(float(np.exp(-loss[row]))) for loss in (scored.loss_linear, scored.loss_brf)]
    sign = "+" if gain > 0 else MINUS if gain < 0 else ""
    note = (
        f"models {models[0]} and {models[1]}, linear pool {fused[0]}, Born Rule Fusion {fused[1]} "
        f"({sign}{number(abs(gain))} nats{', below both models' if below else ''})"
    )
    return Piece(_visible(text), step, below, centre, note)


def _visible(text: str) -> str:
    """Line ends that can be seen, and nothing that a page cannot hold."""
    return printable(text).replace("\n", "\u21b5\n").replace("\t", "\u21e5\t")


def _scored(run: Run) -> _Scored | None:
    column = run.tables.get("losses")
    if column is None:
        return None
    names, texts, spans = _texts(run, column["document"].size, column["document"])
    return _Scored(
        document=column["document"],
        position=column["position"],
        token_id=column["token_id"],
        gain_nats=column["loss_linear_nats"] - column["loss_brf_nats"],
        log_p=np.stack([column["log_p_a"], column["log_p_b"]]),
        loss_linear=column["loss_linear_nats"],
        loss_brf=column["loss_brf_nats"],
        names=names,
        texts=texts,
        spans=spans,
    )


def _texts(run: Run, n_rows: int, document: np.ndarray) -> tuple[list[str], list[str] | None, np.ndarray | None]:
    """Document names, and their texts with the spans of tokens where the capture and its texts are still there."""
    unnamed = [f"document {index + 1}" for index in range(int(document.max()) + 1 if n_rows else 0)]
    capture = _capture(run, n_rows, len(unnamed))
    if capture is None:
        return unnamed, None, None
    names = [printable(name) for name in capture.documents.doc_ids]
    path = texts_path(capture.folder)
    if path is None or not {"char_start", "char_end"} <= set(capture.columns):
        return names, None, None
    try:
        found = read_texts(path)
    except (BrfError, UnicodeDecodeError):
        return names, None, None
    spans = capture.read_matrix(["char_start", "char_end"])
    if any(name not in found for name in capture.documents.doc_ids):
        return names, None, None
    return names, [found[name] for name in capture.documents.doc_ids], spans


def texts_path(folder: Path) -> Path | None:
    """The documents' texts of a capture: in its own folder, or beside it in a submission's."""
    places = (folder / TEXTS, folder.parent / TEXTS)
    return next((place for place in places if place.is_file()), None)


def _capture(run: Run, n_rows: int, n_documents: int) -> Capture | None:
    """The first model's capture, where it is there and still has the rows that were scored."""
    try:
        capture = open_capture(run.captures["a"])
    except (KeyError, BrfError):
        return None
    same = capture.n_rows == n_rows and len(capture.documents.doc_ids) == n_documents
    return capture if same else None
