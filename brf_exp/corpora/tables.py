"""Documents from local files and from hub datasets, read through `datasets`."""

import importlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from brf_exp.config import CorpusConfig
from brf_exp.corpora.document import Document
from brf_exp.errors import ConfigError, InputError

BUILDERS = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
SUFFIXES = tuple(sorted([*BUILDERS, ".txt"]))
HUB_TIMEOUT_SECONDS = 20.0
BATCH_ROWS = 100


def _datasets() -> Any:
    """The `datasets` package, silenced; it is not needed where all text comes from the standard library or .txt."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            "`corpus` must be stdlib or .txt files where `datasets` is not installed. "
            "Run: pip install 'brf-exp[models]'"
        ) from None
    datasets.disable_progress_bars()
    return datasets


def read_file(corpus: CorpusConfig) -> Iterable[Document]:
    """Documents of a .txt file (one), a folder of .txt files, or the rows of a .jsonl, .json, .csv or .parquet file."""
    if corpus.path is None:
        raise ConfigError("`corpus.path` must be a file or a folder of .txt files with corpus=file, got None.")
    path = Path(corpus.path).expanduser()
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise InputError(f"`corpus` must be file, hub, stdlib, or an existing file or folder, got {corpus.path!r}.")
    if path.suffix.lower() == ".txt":
        return [Document(path.stem, _text_of(path))]
    if path.suffix.lower() not in BUILDERS:
        raise InputError(f"`corpus.path` must end in one of {', '.join(SUFFIXES)}, got {corpus.path!r}.")
    return _read_table(path, corpus)


def _read_folder(folder: Path) -> Iterable[Document]:
    """One document per .txt file below the folder, by path."""
    paths = sorted(folder.rglob("*.txt"), key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise InputError(f"`corpus.path` must be a folder with .txt files, got none in {str(folder)!r}.")
    return (Document(path.relative_to(folder).with_suffix("").as_posix(), _text_of(path)) for path in paths)


def _text_of(path: Path) -> str:
    """The file's text with its line ends as they are."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"`corpus.path` must be UTF-8 text, got another encoding at byte {error.start} of {str(path)!r}."
        ) from None


def _read_table(path: Path, corpus: CorpusConfig) -> Iterator[Document]:
    """The rows of a local table; its cache is on the disk and temporary, so nothing is left in the home folder."""
    datasets = _datasets()
    with tempfile.TemporaryDirectory(prefix="brf-exp-") as cache:
        try:
            table = datasets.load_dataset(
                BUILDERS[path.suffix.lower()],
                data_files=[_glob_escaped(path.resolve())],
                split="train",
                cache_dir=cache,
            )
        except Exception as error:
            raise InputError(
                f"`corpus.path` must be a readable {path.suffix} table, got {_root_cause(error)} in {str(path)!r}."
            ) from None
        yield from _documents_of(table, corpus, where=str(corpus.path))


def _glob_escaped(path: Path) -> str:
    """The path with the characters that `datasets` reads as patterns made literal."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in str(path))


def _root_cause(error: BaseException) -> str:
    """First line of the error that lies at the bottom; `datasets` wraps the informative one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:300]


def read_hub(corpus: CorpusConfig) -> Iterator[Document]:
    """Documents of one split of a hub dataset; code of a dataset is never run."""
    if corpus.id is None:
        raise ConfigError("`corpus.id` must be a hub dataset id with corpus=hub, got None.")
    datasets = _datasets()
    hub: Any = importlib.import_module("huggingface_hub")
    importlib.import_module("huggingface_hub.utils").logging.set_verbosity_error()
    try:
        if not hub.constants.HF_HUB_OFFLINE:  # one quick question instead of minutes of retries
            hub.HfApi().dataset_info(corpus.id, revision=corpus.revision, timeout=HUB_TIMEOUT_SECONDS)
        table = datasets.load_dataset(corpus.id, corpus.subset, split=corpus.split, revision=corpus.revision)
    except Exception as error:
        raise InputError(
            f"`corpus.id` must be a dataset that can be loaded from the hub, got {corpus.id!r}: {_root_cause(error)}. "
            "Check corpus.id, corpus.subset, corpus.split, corpus.revision and the network, or use corpus=file."
        ) from None
    return _documents_of(table, corpus, where=corpus.id)


def _documents_of(table: Any, corpus: CorpusConfig, *, where: str) -> Iterator[Document]:
    """One document per row that has text; some rows at a time are in memory."""
    columns = sorted(table.column_names)
    for field in ("text_column", "id_column"):
        wanted = getattr(corpus, field)
        if wanted is not None and wanted not in columns:
            raise InputError(f"`corpus.{field}` must be one of {', '.join(columns)} in {where!r}, got {wanted!r}.")
    used = {corpus.text_column: None} | ({corpus.id_column: None} if corpus.id_column else {})
    first = 0
    for batch in table.select_columns([*used]).iter(BATCH_ROWS):
        texts = batch[corpus.text_column]
        ids = batch[corpus.id_column] if corpus.id_column else (f"{n:06d}" for n in range(first, first + len(texts)))
        for row, (doc_id, text) in enumerate(zip(ids, texts, strict=True), start=first + 1):
            if text is not None:
                yield Document(_id_of(doc_id, row, corpus), _checked(text, row, corpus, where=where))
        first += len(texts)


def _id_of(value: Any, row: int, corpus: CorpusConfig) -> str:
    if value is None or str(value) == "":
        raise InputError(
            f"`corpus.id_column` must have an id in every row, got none in row {row} of {corpus.id_column!r}."
        )
    return str(value)


def _checked(text: Any, row: int, corpus: CorpusConfig, *, where: str) -> str:
    if not isinstance(text, str):
        raise InputError(
            f"`corpus.text_column` must hold text, got {type(text).__name__} in row {row} of column "
            f"{corpus.text_column!r} of {where!r}."
        )
    return text
