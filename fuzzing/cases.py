"""One broken submission per number: an example of some format, spoiled in a way that the number decides."""

import datetime
import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.mutations import mutated

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "docs" / "examples" / "submissions"
DESCRIPTION: Final = "submission.yaml"
NAMES: Final = ("../up.csv", "/abs.csv", "a.csv", "x" * 300, "a\x00b", "c:\\a.csv", "nul\n", "\u202ecsv.a", "d/../../e")
TEXTS: Final = (
    b'{"doc_id": "d0", "text": "abc"}\n{"doc_id": "d1", "text": "\\ud800"}\n',
    b'{"doc_id": 1, "text": 2}\n[[[[\n"x"\n{}\n',
)
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """Files of a submission by name; `archive` is the name of the archive they come in, with its bytes, if any."""

    number: int
    kind: str
    files: Files
    archive: tuple[str, bytes] | None = None

    def write(self, folder: Path) -> Path:
        """Write the submission below a folder; its path."""
        if self.archive is not None:
            path = folder / self.archive[0]
            path.write_bytes(self.archive[1])
            return path
        for name, data in self.files.items():
            path = folder / "s" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder / "s"


@cache
def examples() -> tuple[Files, ...]:
    """Every example submission."""
    found = []
    for folder in sorted(path.parent for path in EXAMPLES.glob(f"*/{DESCRIPTION}")):
        files = {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }
        found.append(files)
    return tuple(found)


def make_case(number: int, seed: int) -> Case:
    """The case of a number."""
    rng = np.random.default_rng([seed, number])
    files = dict(examples()[int(rng.integers(len(examples())))])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    tables = sorted(name for name in files if name != DESCRIPTION)
    chosen = tables[int(rng.integers(len(tables)))]
    if kind == "archive":
        return Case(number, kind, files, _archive(files, rng))
    if kind == "description":
        files[DESCRIPTION] = mutated(files[DESCRIPTION], rng)
    elif kind == "bytes":
        files[chosen] = mutated(files[chosen], rng)
    elif kind == "inside":
        files[chosen] = _mutated_inside(chosen, files[chosen], rng)
    elif kind == "types":
        files = _as_parquet(files, chosen, rng)
    elif kind == "exchange":
        files[chosen] = files[tables[int(rng.integers(len(tables)))]]
        other = examples()[int(rng.integers(len(examples())))]
        files |= {name: data for name, data in other.items() if name != DESCRIPTION and rng.random() < 0.5}
    else:
        files["texts.jsonl"] = mutated(TEXTS[int(rng.integers(len(TEXTS)))], rng)
    return Case(number, kind, files)


KINDS: Final = {
    "bytes": 0.3,
    "inside": 0.3,
    "description": 0.15,
    "archive": 0.1,
    "types": 0.05,
    "exchange": 0.05,
    "texts": 0.05,
}


def _mutated_inside(name: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Mutated below the packing, where there is one."""
    if name.endswith(".gz"):
        return gzip.compress(mutated(gzip.decompress(data), rng), mtime=0)
    if name.endswith(".zst"):
        unpacked = pa.input_stream(pa.BufferReader(data), compression="zstd").read()
        return bytes(pa.compress(mutated(unpacked, rng), codec="zstd", asbytes=True))
    if name.endswith(".npz"):
        return _mutated_npz(data, rng)
    return mutated(data, rng)


def _mutated_npz(data: bytes, rng: np.random.Generator) -> bytes:
    """One array's file inside an npz spoiled, the zip around it whole."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        names = source.namelist()
        spoiled = names[int(rng.integers(len(names)))]
        for name in names:
            inner = source.read(name)
            if name == spoiled:
                head = inner[:128] if rng.random() < 0.7 else inner
                inner = mutated(head, rng) + inner[len(head) :]
            target.writestr(name, inner)
    return out.getvalue()


def _as_parquet(files: Files, chosen: str, rng: np.random.Generator) -> Files:
    """A Parquet table of odd columns in place of one table."""
    n = int(rng.integers(0, 6))
    columns: dict[str, Any] = {
        "doc_id": pa.array([f"d{row // 3}" for row in range(n)]),
        "position": pa.array(range(n), pa.int32()),
        "logit_1": pa.array([2.0] * n),
        "logit_2": pa.array([1.0] * n),
    }
    for name in rng.choice(["doc_id", "position", "logit_1", "id_1", "entropy", "ids", "logits"], size=2):
        columns[str(name)] = _odd_column(n, rng)
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    made = {name: data for name, data in files.items() if name != chosen}
    made[DESCRIPTION] = made[DESCRIPTION].replace(chosen.encode(), b"odd.parquet")
    return made | {"odd.parquet": out.getvalue()}


def _odd_column(n: int, rng: np.random.Generator) -> Any:
    """A column of a type that no dump should have, or of values that none should."""
    made = [
        pa.array([None] * n),
        pa.array([[1.0, 2.0]] * n),
        pa.array([[]] * n, pa.list_(pa.int64())),
        pa.array([{"a": 1}] * n),
        pa.array([b"\xff\xfe"] * n),
        pa.array(["x"] * n).dictionary_encode(),
        pa.array([True] * n),
        pa.array([Decimal("1.5")] * n),
        pa.array([datetime.datetime(2020, 1, 1)] * n),
        pa.array([2**64 - 1] * n, pa.uint64()),
        pa.array([-(2**63)] * n),
        pa.array([float("nan"), float("inf"), -0.0, 1e308, 5e-324, -1e308][:n]),
        pa.array(np.zeros(n, np.float16)),
        pa.array(["1", "2", "", None, "abc", "1e5"][:n], pa.large_string()),
    ]
    return made[int(rng.integers(len(made)))]


def _archive(files: Files, rng: np.random.Generator) -> tuple[str, bytes]:
    """The files in a zip or tar.gz, with an odd member, or with the archive's bytes spoiled."""
    members = list(files.items())
    if rng.random() < 0.4:
        members.append((NAMES[int(rng.integers(len(NAMES)))], b"x"))
    is_zip = bool(rng.random() < 0.5)
    data = _zip(members) if is_zip else _tar(members, rng)
    if rng.random() < 0.7:
        inside = not is_zip and rng.random() < 0.6
        data = gzip.compress(mutated(gzip.decompress(data), rng), 1, mtime=0) if inside else mutated(data, rng)
    return ("s.zip" if is_zip else "s.tar.gz"), data


def _zip(members: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name.replace("\x00", "0"))
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _tar(members: list[tuple[str, bytes]], rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            if rng.random() < 0.03:
                info.type, info.linkname, info.size = rng.choice([b"1", b"2", b"3", b"6"]), "a.csv", 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
