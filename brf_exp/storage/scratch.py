"""Working arrays as long as the data: in memory up to a budget, in files that vanish beyond it."""

import tempfile
import weakref
from pathlib import Path

import numpy as np

MEBIBYTE = 2**20
SCRATCH = ".scratch"  # folder of such files under a runs folder


class Scratch:
    """Hands out arrays; the first ones live in memory, those beyond the budget in memory-mapped temporary files.

    Pages of such files are written back and dropped by the system when memory is wanted elsewhere. The files have no
    name: they are gone with the arrays, or with the process if that is killed.
    """

    def __init__(self, folder: Path, *, memory_mb: int) -> None:
        self._folder, self._left = folder, memory_mb * MEBIBYTE

    @classmethod
    def in_memory(cls) -> "Scratch":
        """Arrays in memory only, for data of a known, small size."""
        return cls(Path(tempfile.gettempdir()), memory_mb=2**30)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype | type = np.float64) -> np.ndarray:
        """An array with nothing in it yet."""
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if n_bytes <= self._left or n_bytes == 0:
            self._left -= n_bytes
            array = np.empty(shape, dtype)
            weakref.finalize(array, self._give_back, n_bytes)
            return array
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.truncate(n_bytes)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)

    def _give_back(self, n_bytes: int) -> None:
        """The memory of an array that nothing uses any more can be handed out again."""
        self._left += n_bytes
