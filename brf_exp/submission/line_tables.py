"""JSONL as a table: responses of serving stacks, or one row per line with its values in lists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import pyarrow as pa

from brf_exp.submission.batches import Batch, File, Reader, no_rows, rows_per_batch
from brf_exp.submission.fault import Place, SubmissionError, listed, said
from brf_exp.submission.json_lines import records
from brf_exp.submission.positions import Document, Position, at_position
from brf_exp.submission.row_lines import is_row, open_rows
from brf_exp.submission.serving_logs import documents, name_of
from brf_exp.submission.token_ids import TokenIds


@dataclass(frozen=True)
class LogReader:
    """Logs of serving stacks with `k` values per position; `scored` says whether every realised token has its own.

    `names_told` are the documents' names as the logs tell them, `by_id` whether an id is among them that a server may
    have made up; where `numbered`, documents go by the numbers of their lines instead. `remarks` are warnings.
    """

    files: tuple[File, ...]
    tokens: TokenIds
    k: int
    scored: bool
    names_told: frozenset[str] = frozenset()
    by_id: bool = False
    numbered: bool = False
    remarks: tuple[SubmissionError, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """doc_id, position, token_id, target_logprob where known, id_1, ..., logprob_1, ..."""
        target = ("target_logprob",) if self.scored else ()
        numbered = [f"{stem}_{rank}" for stem in ("id", "logprob") for rank in range(1, self.k + 1)]
        return ("doc_id", "position", "token_id", *target, *numbered)

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns; row n of a file is its n-th position over all lines."""
        lines = _Lines(self.numbered)
        for file in self.files:
            found = ((document, position) for document in lines.documents(file) for position in document.positions)
            row = 1
            while rows := list(islice(found, rows_per_batch(4 * self.k))):
                columns = self._columns(rows, file[1])
                yield Batch(file[1], row, pa.record_batch({name: columns[name] for name in names}))
                row += len(rows)

    def _columns(self, rows: Sequence[tuple[Document, Position]], place: Place) -> dict[str, pa.Array]:
        """Every column of some positions."""
        id_of = self.tokens.id_of
        ids = np.array([[id_of(token) for token, _ in p.top[: self.k]] for _, p in rows], dtype=np.int64)
        values = np.array([[value for _, value in p.top[: self.k]] for _, p in rows], dtype=np.float64)
        columns = {
            "doc_id": pa.array([document.doc_id for document, _ in rows], pa.string()),
            "position": pa.array([p.index for _, p in rows], pa.int32()),
            "token_id": pa.array([id_of(p.token) for _, p in rows], pa.int64()),
        }
        if self.scored:
            columns["target_logprob"] = pa.array([p.logprob for _, p in rows], pa.float64())
        columns |= {f"id_{rank + 1}": pa.array(ids[:, rank]) for rank in range(self.k)}
        return columns | {f"logprob_{rank + 1}": pa.array(values[:, rank]) for rank in range(self.k)}


def open_lines(files: Sequence[File], tokens: TokenIds) -> Reader:
    """Open JSONL files of one kind; reads them once to learn how many values every position has.

    Raises
    ------
    InputError
        Where a line cannot be read, or a position has fewer than two values; names them.
    """
    first = next((record for _, record in records(files[0])), None)
    if first is None:
        raise no_rows(files[0][1])
    if is_row(first):
        return open_rows(files)
    shape, lines, place = _Shape(), _Lines(), files[0][1]
    for file in files:
        before = shape.n_positions
        for document in lines.documents(file):
            shape.add(document, tokens)
        if shape.n_positions == before:
            raise no_rows(file[1])
    reader = LogReader(
        tuple(files),
        tokens,
        shape.k(place),
        shape.scored,
        names_told=frozenset(shape.names),
        by_id=lines.by_id,
        remarks=tuple(shape.remarks(place)),
    )
    return go_by_numbers(reader, place, "ids that are each there once") if shape.twice and lines.by_id else reader


def go_by_numbers(reader: LogReader, place: Place, requirement: str) -> LogReader:
    """The same log with its documents named by the numbers of their lines, and a warning that says why."""
    sentence = (
        f"must have {requirement}, got ids that the server made up: documents go by the numbers of their lines. "
        "Write a custom_id or doc_id into every line."
    )
    remark = said(place, sentence, check="documents-numbered")
    return replace(reader, numbered=True, remarks=(*reader.remarks, remark))


@dataclass
class _Lines:
    """Reads the documents of one file after another; `n` lines so far, `by_id` whether an id named one."""

    numbered: bool = False
    n: int = 0
    by_id: bool = False

    def documents(self, file: File) -> Iterator[Document]:
        """The documents of one file in order."""
        for where, record in records(file):
            self.n += 1
            self.by_id = self.by_id or name_of(record, self.n).by_id
            yield from documents(record, self.n, where, numbered=self.numbered)


@dataclass
class _Shape:
    """What all positions of a table have in common, and what is to be told of them."""

    n_positions: int = 0
    names: set[str] = field(default_factory=set)
    twice: bool = False
    by_text: bool = False
    n_left_out: int = 0
    n_of_several: int = 0
    scored: bool = True
    least: int | None = None
    least_certain: bool = False
    short: list[str] = field(default_factory=list)

    def add(self, document: Document, tokens: TokenIds) -> None:
        """Take in the positions of one document; its tokens get their ids."""
        self.twice = self.twice or document.doc_id in self.names
        self.names.add(document.doc_id)
        self.n_left_out += document.n_left_out
        self.n_of_several += document.n_left_out > 0
        for position in document.positions:
            self.n_positions += 1
            self.by_text = self.by_text or position.by_text
            self.scored = self.scored and position.logprob is not None
            n_listed = len(position.top)
            if n_listed < 2:
                self.short.append(str(at_position(document.where, position.index)))
            if self.least is None or n_listed < self.least:
                self.least, self.least_certain = n_listed, False
            if n_listed == self.least:
                self.least_certain |= not position.doubtful
            for token, _ in ((position.token, None), *position.top):
                tokens.id_of(token)

    def remarks(self, place: Place) -> Iterator[SubmissionError]:
        """Warnings of choices that are no documents, and of lists that may lack tokens."""
        if self.n_left_out:
            sentence = (
                f"must have one choice per response, got more in {self.n_of_several}: {self.n_left_out} choices are "
                "left out, as samples of one prompt are not independent. Ask for one (n=1), and for one prompt."
            )
            yield said(place, sentence, check="choices-left-out")
        if self.by_text:
            sentence = (
                "must name tokens by ids in top_logprobs, got texts: of tokens with one text a single one is listed, "
                "so that one of the top may be missing unseen. Ask for token ids (return_tokens_as_token_ids)."
            )
            yield said(place, sentence, check="tokens-by-text")

    def k(self, place: Place) -> int:
        """Values per position: of the shortest list, less the realised token where that may have been appended to it.

        Where every list of that length ends in the realised token, it may stand there for any rank below, and one
        value less is taken.
        """
        if self.short:
            places = listed(self.short)
            raise said(self.short[0], f"must have at least two tokens listed, got fewer at {places}. Ask for more.")
        k = (self.least or 0) - (not self.least_certain)
        if k < 2:
            raise said(place, "must list at least two tokens beside the realised one. Ask for more.")
        return k
