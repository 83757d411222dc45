"""The embedded corpus: Python's own standard library, read from the running interpreter.

Two domains. `prose` is the docstrings of a module, or one help topic of `pydoc_data.topics`;
`code` is the source of a module without its docstrings, so that no passage stands in both.
Nothing is copied into the project: the text differs between Python versions, and its fingerprint
says which text a number belongs to.
"""

import ast
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brf_exp.corpora.document import Document, Split

# Not text a person wrote to be read (tables, bundled wheels, test fixtures), or not on every machine.
EXCLUDED_FOLDERS = frozenset(
    (
        "__phello__",
        "__pycache__",
        "dist-packages",
        "encodings",
        "ensurepip",
        "idle_test",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    )
)
EXCLUDED_PREFIXES = ("_sysconfigdata", "config-")
MIN_PROSE_CHARS = 400
MIN_CODE_CHARS = 400
# Shares of 100 hash buckets: 0..11 held out, 12..17 validation, the rest training.
HELD_OUT_BUCKETS = 12
VALIDATION_BUCKETS = 6


def split_of(subject: str) -> Split:
    """Split of a subject (module or topic name): fixed by its hash, the same on every machine.

    Both renderings of a module (prose and code) have the same subject, so neither leaks into training
    while the other is held out.
    """
    bucket = int.from_bytes(hashlib.sha256(f"split:{subject}".encode()).digest()[:8], "big") % 100
    if bucket < HELD_OUT_BUCKETS:
        return Split.HELD_OUT
    return Split.VALIDATION if bucket < HELD_OUT_BUCKETS + VALIDATION_BUCKETS else Split.TRAIN


def documents(domain: str, *, split: Split = Split.ALL) -> Iterator[Document]:
    """Every document of `prose`, `code` or `all` in a split, in the order of their ids."""
    found = []
    if domain in ("prose", "all"):
        found += [topic for topic in _topics() if split in (topic.split, Split.ALL)]
    for subject, source in _modules(split):
        found += [made for made in _of_module(subject, source) if domain in (made.domain, "all")]
    yield from sorted(found, key=lambda document: document.doc_id)


def _modules(split: Split) -> Iterator[tuple[str, str]]:
    """Dotted name and source text of every module of a split that is text for readers."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in _sources(root):
        parts = path.relative_to(root).with_suffix("").parts
        if EXCLUDED_FOLDERS & set(parts) or parts[0].startswith(EXCLUDED_PREFIXES):
            continue
        subject = ".".join(parts).removesuffix(".__init__")
        if split not in (split_of(subject), Split.ALL):
            continue
        try:
            yield subject, path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue


def _sources(root: Path) -> Iterator[Path]:
    """Python files below a folder, leaving whole folders out early: installed packages are many thousand files."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in EXCLUDED_FOLDERS]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _of_module(subject: str, source: str) -> Iterator[Document]:
    """The prose and the code of one module, where they are long enough."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    owners = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node)
    ]
    prose = "\n\n".join(ast.get_docstring(node) or "" for node in owners)
    code = _without_docstrings(source, owners)
    if len(prose) >= MIN_PROSE_CHARS:
        yield Document(f"prose/{subject}", prose, "prose", split_of(subject))
    if len(code) >= MIN_CODE_CHARS:
        yield Document(f"code/{subject}", code, "code", split_of(subject))


def _without_docstrings(source: str, owners: list[Any]) -> str:
    """Source lines less those of the docstrings."""
    dropped: set[int] = set()
    for node in owners:
        text = node.body[0]
        dropped.update(range(text.lineno, text.end_lineno + 1))
    kept = [line for number, line in enumerate(source.splitlines(), start=1) if number not in dropped]
    return "\n".join(kept).strip("\n") + "\n"


def _topics() -> Iterator[Document]:
    """The interpreter's help topics."""
    from pydoc_data.topics import topics

    for name, text in topics.items():
        if len(text) >= MIN_PROSE_CHARS:
            yield Document(f"prose/topic.{name}", text, "prose", split_of(f"topic.{name}"))
