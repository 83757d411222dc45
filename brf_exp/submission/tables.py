"""One model's table, in whatever form it came: which reader it needs, its columns, and its rows in batches."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final

from brf_exp.submission.batches import Batch as Batch
from brf_exp.submission.batches import File, Reader
from brf_exp.submission.csv_tables import open_csv
from brf_exp.submission.fault import Place, SubmissionError, said
from brf_exp.submission.file_types import EXPECTED, family_of
from brf_exp.submission.line_tables import LogReader, go_by_numbers, open_lines
from brf_exp.submission.parquet_tables import open_parquet
from brf_exp.submission.tensor_dumps import open_tensors
from brf_exp.submission.token_ids import TokenIds
from brf_exp.submission.unpacked import BLOCK_BYTES as BLOCK_BYTES
from brf_exp.submission.unpacked import open_unpacked as _open_unpacked

PARTS: Final = "part-*"
MOST_PARTS: Final = 1000


@dataclass(frozen=True)
class Reading:
    """How the tables of one submission are read; one of these for all its models.

    `k` is how many values are kept of every row of a dump of whole rows of logits (0: all), `tokens` the ids of tokens
    that logs name by text alone.
    """

    k: int = 50
    tokens: TokenIds = field(default_factory=TokenIds)


@dataclass(frozen=True)
class Source:
    """One model's table: its column names and its files, in order."""

    place: Place
    names: tuple[str, ...]
    files: tuple[File, ...]
    reader: Reader

    @property
    def remarks(self) -> tuple[SubmissionError, ...]:
        """Warnings of what was met when the files were opened."""
        return self.reader.remarks if isinstance(self.reader, LogReader) else ()

    def batches(self, names: Sequence[str]) -> Iterator[Batch]:
        """The named columns of every row, a batch at a time.

        Columns of a CSV come as numbers where they parse, else as strings, which say better what is wrong.
        """
        return self.reader.batches(names)


def open_source(
    folder: Path, capture: str, *, vocabulary_size: int | None = None, reading: Reading | None = None
) -> Source:
    """Open the table at `capture` inside a submission's folder.

    Parameters
    ----------
    folder
        The submission.
    capture
        A file, or a folder of files `part-*` of one kind.
    vocabulary_size
        Outcomes of the model; a dump of whole rows of logits is cut to them, as outputs may be padded.
    reading
        Shared by all models of a submission.

    Raises
    ------
    InputError
        Where the table cannot be opened or its columns are not each there once.
    """
    path, place = folder / capture, Place(capture)
    files = _parts(folder, path, capture) if path.is_dir() else ((path, place),)
    reader = _opened(files, vocabulary_size, reading or Reading())
    twice = sorted(name for name, count in Counter(reader.names).items() if count > 1 and name)
    if twice:
        count = Counter(reader.names)[twice[0]]
        raise said(files[0][1].at(column=twice[0]), f"must be there once, got {count} times. Remove one.")
    return Source(place, reader.names, files, reader)


def named_alike(sources: Sequence[Source]) -> list[Source]:
    """The tables of a submission's models; logs whose ids have nothing in common go by the numbers of their lines.

    Servers make up an id for every response, so that two models' logs of one text would have no document in common.
    """
    readers = [source.reader for source in sources if isinstance(source.reader, LogReader)]
    names = [reader.names_told for reader in readers]
    if len(readers) < max(2, len(sources)) or not any(reader.by_id for reader in readers):
        return list(sources)
    if len(set(map(len, names))) > 1 or any(names[0] & others for others in names[1:]):
        return list(sources)
    shared = f"names that the other models' logs have too, as all have {len(names[0])} documents and none in common"
    return [
        replace(source, reader=go_by_numbers(reader, source.place, shared)) if reader.by_id else source
        for source, reader in zip(sources, readers, strict=True)
    ]


def open_unpacked(path: Path, place: Place) -> BinaryIO:
    """A file's bytes, unpacked where its name ends in .gz or .zst, under the size cap."""
    return _open_unpacked((path, place))


def _opened(files: Sequence[File], vocabulary_size: int | None, reading: Reading) -> Reader:
    """The reader of the files' kind."""
    families: dict[str, Callable[[], Reader]] = {
        "csv": lambda: open_csv(files),
        "jsonl": lambda: open_lines(files, reading.tokens),
        "parquet": lambda: open_parquet(files),
        "tensors": lambda: open_tensors(files, k=reading.k, vocabulary_size=vocabulary_size),
    }
    family = family_of(files[0][0].name)
    if family is None:
        raise said(files[0][1], f"must be {EXPECTED}. Convert it.")
    return families[family]()


def _parts(folder: Path, path: Path, capture: str) -> tuple[File, ...]:
    """The part files of a folder by name, all of one kind, none of them outside the submission."""
    parts = sorted(part for part in path.glob(PARTS) if family_of(part.name) is not None)
    if not 0 < len(parts) <= MOST_PARTS:
        got = len(parts) or "none"
        raise said(
            capture,
            f"must hold files named {PARTS}.parquet, or .csv, .jsonl, .npz, ..., at most {MOST_PARTS}, got {got}. "
            "Name the parts so.",
        )
    for part in parts:
        if not part.is_file() or not part.resolve().is_relative_to(folder.resolve()):
            raise said(f"{capture}/{part.name}", "must be a file inside the submission. Put the file itself there.")
        if family_of(part.name) != family_of(parts[0].name):
            raise said(f"{capture}/{part.name}", f"must be of the kind of {parts[0].name}. Write all parts alike.")
    return tuple((part, Place(f"{capture.rstrip('/')}/{part.name}")) for part in parts)
