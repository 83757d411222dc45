"""Documents on the disk instead of in memory."""

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator
from typing import IO

from brf_exp.corpora.document import Document, Split, fingerprint
from brf_exp.errors import InputError
from brf_exp.storage.space import FULL


class StoredDocuments:
    """Documents in the order they came in, read again at each pass; one at a time is in memory.

    They lie in a file without a name that is gone with this object, or with the process if that is killed.
    `fingerprint` is that of all ids and texts. Raises InputError where the disk is full.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self._file = tempfile.TemporaryFile(prefix="brf-exp-")  # noqa: SIM115 - lives as long as the documents
        weakref.finalize(self, self._file.close)
        self._ends = array("Q")
        try:
            self.fingerprint = fingerprint(self._stored(self._file, documents))
            self._file.flush()
        except OSError as error:
            if error.errno not in FULL:
                raise
            folder = tempfile.gettempdir()
            raise InputError(
                f"`{folder}` must have room for the corpus's texts, got a full disk. Free some, or set TMPDIR."
            ) from error

    def _stored(self, file: IO[bytes], documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, each on the disk once it is asked for the next."""
        end = 0
        for document in documents:
            end += file.write(json.dumps([document.doc_id, document.text, document.domain, document.split]).encode())
            self._ends.append(end)
            yield document

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Document]:
        first = 0
        for end in self._ends:
            doc_id, text, domain, split = json.loads(os.pread(self._file.fileno(), end - first, first))
            yield Document(doc_id, text, domain, Split(split))
            first = end
