"""Submissions made to do harm: refused in one line, with a runs folder full of other work left as it was."""

import gzip
import hashlib
import io
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from brf_exp.config import IngestStageConfig
from brf_exp.errors import InputError
from brf_exp.stages.ingest import run

Submission = Any
Attack = Callable[[Submission, Path], Path]


def tree(folder: Path) -> str:
    """Hash of every name, kind and content below a folder, and of when each file was written."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        kind = (path.is_dir(), path.is_symlink(), not path.is_dir() and path.lstat().st_mtime_ns)
        digest.update(f"{path.relative_to(folder)} {kind}\n".encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def yaml_of(change: Callable[[dict[str, Any]], object]) -> Attack:
    """The description changed."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        change(submission.description)
        for key in list(submission.tables):
            if key not in submission.description["models"] or key not in "ab":
                del submission.tables[key]
        folder: Path = submission.write()
        return folder

    return attack


def named(key: str, value: object) -> Attack:
    """A key of model b's entry changed."""
    return yaml_of(lambda d: d["models"]["b"].__setitem__(key, value))


def capture(path: str) -> Attack:
    """Another place for model b's rows."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        folder: Path = submission.write()
        submission.description["models"]["b"]["capture"] = path
        (folder / "submission.yaml").write_text(yaml.safe_dump(submission.description))
        return folder

    return attack


def raw_yaml(text: str | bytes) -> Attack:
    """Another submission.yaml."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        folder: Path = submission.write()
        (folder / "submission.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return folder

    return attack


def raw_table(data: bytes, suffix: str = ".csv") -> Attack:
    """Other bytes as table b."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        submission.description["models"]["b"]["capture"] = "b" + suffix
        table = submission.tables.pop("b")
        folder: Path = submission.write()
        submission.tables["b"] = table
        (folder / f"b{suffix}").write_bytes(data)
        return folder

    return attack


def both(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Attack:
    """Both tables changed alike."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        submission.tables = {key: change(table) for key, table in submission.tables.items()}
        folder: Path = submission.write()
        return folder

    return attack


def zipped(*members: tuple[str, bytes], change: Callable[[zipfile.ZipInfo], object] | None = None) -> Attack:
    """A zip of members beside a sound description."""

    def attack(_submission: Submission, tmp: Path) -> Path:
        path = tmp / "s.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members:
                info = zipfile.ZipInfo(name)
                if change is not None:
                    change(info)
                archive.writestr(info, data, info.compress_type or zipfile.ZIP_DEFLATED)
        return path

    return attack


def tarred(*members: tuple[str, bytes, bytes, str]) -> Attack:
    """A tar.gz of (name, kind, data, link)."""

    def attack(_submission: Submission, tmp: Path) -> Path:
        with tarfile.open(tmp / "s.tar.gz", "w:gz") as archive:
            for name, kind, data, link in members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = kind, link, len(data)
                archive.addfile(info, io.BytesIO(data))
        return tmp / "s.tar.gz"

    return attack


def raw_tar(data: bytes) -> Attack:
    """A gzip of bytes, called a tar.gz."""

    def attack(_submission: Submission, tmp: Path) -> Path:
        (tmp / "s.tar.gz").write_bytes(gzip.compress(data))
        return tmp / "s.tar.gz"

    return attack


def header(kind: bytes, size: int) -> bytes:
    """A tar header of some kind."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, size
    return info.tobuf()


def large_directory(_submission: Submission, tmp: Path) -> Path:
    """A zip whose list of members is said to be 3 GB long."""
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 1, 1, 3_000_000_000, 0, 0)
    (tmp / "s.zip").write_bytes(b"PK\3\4" + end)
    return tmp / "s.zip"


def circle(submission: Submission, _tmp: Path) -> Path:
    """A capture that links to itself."""
    folder: Path = submission.write()
    (folder / "b.csv").unlink()
    (folder / "b.csv").symlink_to("b.csv")
    return folder


def part_link(submission: Submission, tmp: Path) -> Path:
    """A part that links out of the submission."""
    submission.description["models"]["b"]["capture"] = "b"
    table = submission.tables.pop("b")
    folder: Path = submission.write()
    (folder / "b").mkdir()
    table.to_parquet(tmp / "secret.parquet")
    (folder / "b" / "part-0.parquet").symlink_to(tmp / "secret.parquet")
    return folder


def device(submission: Submission, _tmp: Path) -> Path:
    """A capture that links to a device without an end."""
    folder: Path = submission.write()
    (folder / "b.csv").unlink()
    (folder / "b.csv").symlink_to("/dev/zero")
    return folder


def parquet_of(columns: dict[str, Any]) -> Attack:
    """A Parquet table b."""
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return raw_table(out.getvalue(), ".parquet")


def bytes_in_text() -> pa.Array:
    """A string column whose bytes are no UTF-8."""
    return pa.array([b"\xff\xfe"] * 2, pa.binary()).view(pa.string())


def texts_of(data: bytes) -> Attack:
    """Another texts.jsonl."""

    def attack(submission: Submission, _tmp: Path) -> Path:
        folder: Path = submission.write()
        (folder / "texts.jsonl").write_bytes(data)
        return folder

    return attack


def texts_link(submission: Submission, _tmp: Path) -> Path:
    """texts.jsonl links to a file of the system."""
    folder: Path = submission.write()
    (folder / "texts.jsonl").symlink_to("/etc/passwd")
    return folder


REG, DIR = tarfile.REGTYPE, tarfile.DIRTYPE
HEAD = b"position,logit_1,logit_2\n"
ATTACKS: dict[str, tuple[Attack, str]] = {
    # archives
    "zip up": (zipped(("../../x", b"")), "`s.zip` must be an archive of relative paths, got '../../x'."),
    "zip absolute": (zipped(("/etc/x", b"")), "`s.zip` must be an archive of relative paths, got '/etc/x'."),
    "zip drive": (zipped(("c:/x", b"")), "`s.zip` must be an archive of relative paths, got 'c:/x'."),
    "zip backslash": (zipped(("..\\x", b"")), "`s.zip` must be an archive of relative paths, got '..\\\\x'."),
    "zip link": (
        zipped(("a.csv", b"/etc/passwd"), change=lambda i: setattr(i, "external_attr", 0o120777 << 16)),
        "`s.zip` must be an archive of plain files and folders, got 'a.csv'.",
    ),
    "zip device": (
        zipped(("a.csv", b""), change=lambda i: setattr(i, "external_attr", 0o020666 << 16)),
        "`s.zip` must be an archive of plain files and folders, got 'a.csv'.",
    ),
    "zip overlong name": (zipped(("x" * 300, b"")), "`s.zip` must be an archive of printable paths of at most 200"),
    "zip deep": (zipped(("d/" * 120 + "x", b"")), "`s.zip` must be an archive of printable paths of at most 200"),
    "zip unicode direction": (
        zipped(("\u202evsc.a", b"")),
        "`s.zip` must be an archive of printable paths of at most 200 characters, got '\\u202evsc.a'.",
    ),
    "zip of lzma": (
        zipped(("a.csv", b"x"), change=lambda i: setattr(i, "compress_type", zipfile.ZIP_LZMA)),
        "`s.zip` must be packed by deflate, got 'a.csv'.",
    ),
    "zip of bzip2": (
        zipped(("a.csv", b"x"), change=lambda i: setattr(i, "compress_type", zipfile.ZIP_BZIP2)),
        "`s.zip` must be packed by deflate, got 'a.csv'.",
    ),
    "zip same place twice": (
        zipped(("x", b""), ("./x", b"")),
        "`s.zip` must be an archive of distinct files, got 'x'.",
    ),
    "zip file as folder": (zipped(("x", b""), ("x/y", b"")), "`s.zip` must be an archive that can be unpacked, got: "),
    "zip ratio": (zipped(("a", bytes(4_000_000))), "`s.zip` must unpack to at most 1048576 bytes"),
    "zip many": (zipped(*[(f"{n}", b"") for n in range(1001)]), "`s.zip` must hold at most 1000 files, got more."),
    "zip endless list": (large_directory, "`s.zip` must hold at most 1000 files, got a longer list of them."),
    "zip two descriptions": (
        zipped(("x/submission.yaml", b""), ("y/submission.yaml", b"")),
        "`s.zip` must hold one submission.yaml, at the top or in its only folder, got 2.",
    ),
    "tar up": (tarred(("../x", REG, b"", "")), "`s.tar.gz` must be an archive of relative paths, got '../x'."),
    "tar link out": (
        tarred(("a.csv", tarfile.SYMTYPE, b"", "/etc/passwd")),
        "`s.tar.gz` must be an archive of plain files and folders, got 'a.csv'.",
    ),
    "tar link then file": (
        tarred(("d", tarfile.SYMTYPE, b"", "/tmp"), ("d/x", REG, b"x", "")),
        "`s.tar.gz` must be an archive of plain files and folders, got 'd'.",
    ),
    "tar hard link": (
        tarred(("a.csv", tarfile.LNKTYPE, b"", "/etc/passwd")),
        "`s.tar.gz` must be an archive of plain files and folders, got 'a.csv'.",
    ),
    "tar block device": (tarred(("d", tarfile.BLKTYPE, b"", "")), "`s.tar.gz` must be an archive of plain files and"),
    "tar pipe": (tarred(("p", tarfile.FIFOTYPE, b"", "")), "`s.tar.gz` must be an archive of plain files and folders"),
    "tar ratio": (tarred(("a", REG, bytes(8_000_000), "")), "`s.tar.gz` must unpack to at most 1"),
    "tar overlong name": (tarred(("x" * 230, REG, b"", "")), "`s.tar.gz` must be an archive of printable paths of at"),
    "tar endless header": (
        raw_tar(header(tarfile.XHDTYPE, 8**11 - 1)),
        "`s.tar.gz` must be an archive that can be unpacked, got: it is damaged.",
    ),
    "tar long long name": (
        raw_tar(header(tarfile.GNUTYPE_LONGNAME, 500_000) + b"x" * 500_000),
        "`s.tar.gz` must be an archive that can be unpacked, got: it is damaged.",
    ),
    "tar chain of headers": (
        raw_tar((header(tarfile.XGLTYPE, 0)) * 1900 + header(REG, 0)),
        "`s.tar.gz` must be an archive that can be unpacked, got: it is damaged.",
    ),
    # submission.yaml
    "yaml bomb": (
        raw_yaml("a: &a [x]\n" + "\n".join(f"b{n}: &b{n} [*a, *a]" for n in range(9))),
        "`submission.yaml line 1` must hold no YAML anchors or aliases.",
    ),
    "yaml object": (
        raw_yaml("name: !!python/object/apply:os.system [id]\n"),
        "`submission.yaml line 1` must hold no YAML tags, got 'tag:yaml.org,2002:python/object/apply:os.system'.",
    ),
    "yaml merge": (raw_yaml("<<: {a: 1}\n"), "`submission.yaml` must have keys among models, name, schema, submitter"),
    "yaml many keys": (
        raw_yaml("".join(f"k{n}:\n" for n in range(8000))),
        "`submission.yaml` must have keys among models, name, schema, submitter, got 'k0'. Remove or rename it.",
    ),
    "yaml escape beyond Unicode": (
        raw_yaml('name: "\\UFFFFFFFF"\n'),
        "`submission.yaml` must be YAML of one document without deep nesting.",
    ),
    "yaml UTF-16": (raw_yaml("name: x\n".encode("utf-16")), "`submission.yaml` must be UTF-8 text."),
    "yaml is a picture": (raw_yaml(b"\x89PNG\r\n\x1a\n\0\0"), "`submission.yaml` must be UTF-8 text."),
    "yaml nested": (raw_yaml("name: " + "{a: " * 3000), "`submission.yaml"),
    "interpolation": (
        yaml_of(lambda d: d.__setitem__("name", "${oc.env:HOME}")),
        "`name` must be a slug ([a-z][a-z0-9-]{0,62}), got '${oc.env:HOME}'.",
    ),
    "name up": (yaml_of(lambda d: d.__setitem__("name", "../tiny")), "`name` must be a slug "),
    "name in Cyrillic": (yaml_of(lambda d: d.__setitem__("name", "tin\u0443")), "`name` must be a slug "),
    "name of a shipped pair": (yaml_of(lambda d: d.__setitem__("name", "gpt2-distilgpt2")), "`name` must be none of "),
    "name of a group": (yaml_of(lambda d: d.__setitem__("name", "hf")), "`name` must be none of the reserved "),
    "name with a newline": (yaml_of(lambda d: d.__setitem__("name", "ok\n")), "`name` must be a slug "),
    "model name turns direction": (
        named("name", "org/\u202emodel"),
        "`models.b.name` must be a text of 1 to 200 printable characters, got 'org/\\u202emodel'.",
    ),
    "model name of no width": (named("name", "org/\u200bm"), "`models.b.name` must be a text of 1 to 200 printable"),
    "model name in wide letters": (
        named("name", "\uff4frg/model"),
        "`models.b.name` must be a name in plain letters (Unicode NFKC), got '\uff4frg/model'. Type it anew.",
    ),
    "model name overlong": (named("name", "x" * 10_000), "`models.b.name` must be a text of 1 to 200 printable char"),
    "tokenizer that is none": (
        named("tokenizer", "null"),
        "`models.b.tokenizer` must be a name that models share if and only if their token ids mean the same",
    ),
    "tokenizer with a bell": (
        named("tokenizer", "a\x07b"),
        "`models.b.tokenizer` must be a text of 1 to 200 printable",
    ),
    "revision is a list": (named("revision", ["x"]), "`models.b.revision` must be a text of 1 to 200 printable char"),
    "vocabulary of nines": (named("vocab_size", "9" * 5000), "`models.b.vocab_size` must be a whole number from 2 to"),
    "vocabulary negative": (named("vocab_size", -5), "`models.b.vocab_size` must be a whole number from 2 to"),
    "temperature tiny": (named("temperature", "1e-300"), "`models.b.temperature` must be a number from 0.01 to 100"),
    "temperature of digits": (named("temperature", "9" * 5000), "`models.b.temperature` must be a number from 0.01 to"),
    "27 models": (
        yaml_of(lambda d: d["models"].update({f"m{n}": d["models"]["a"] for n in range(27)})),
        "`submission.yaml line ",
    ),
    # paths
    "capture up": (capture("../../etc/passwd"), "`models.b.capture` must be a path inside the submission"),
    "capture of the system": (capture("/etc/passwd"), "`models.b.capture` must be a path inside the submiss"),
    "capture overlong": (
        capture("x/" * 90 + "y" * 19 + ".csv"),
        "`models.b.capture` must be a text of 1 to 200 printable characters",
    ),
    "capture component overlong": (
        capture("d/" + "x" * 190),
        "`models.b.capture` must be a file or folder of the submission",
    ),
    "capture in a circle": (circle, "`models.b.capture` must be "),
    "capture is a device": (device, "`models.b.capture` must be a path inside the submission, got 'b.csv'."),
    "part links out": (part_link, "`b/part-0.parquet` must be a file inside the submission."),
    "capture is the description": (
        capture("submission.yaml"),
        "`models.b.capture` must be a .csv, .tsv, .jsonl",
    ),
    "capture is a URL": (capture("http://x/b.csv"), "`models.b.capture` must be a path inside the submission"),
    # tables
    "column twice": (
        raw_table(b"position,logit_1,logit_2,logit_2\n0,2,1,1\n"),
        "`b.csv column logit_2` must be there once, got 2 times.",
    ),
    "number of a column": (
        raw_table(b"position,logit_1,logit_2,logit_" + b"9" * 5000 + b"\n0,2,1,1\n"),
        "`b.csv` must have the column doc_id as a.csv has it.",
    ),
    "columns by the million": (
        raw_table(b"position,logit_1,logit_2" + b",x" * 1_000_000 + b"\n0,2,1" + b",1" * 1_000_000 + b"\n"),
        "`b.csv",
    ),
    "a field of megabytes": (
        raw_table(b"doc_id,position,logit_1,logit_2\n" + b"d" * 3_000_000 + b",0,2,1\n"),
        "`b.csv",
    ),
    "a number of megabytes": (
        raw_table(HEAD + b"0,2," + b"1" * 900_000 + b"\n"),
        "`b.csv row 1 column logit_2` must be a finite number, got inf.",
    ),
    "document turns direction": (
        both(lambda t: t.assign(doc_id="\u202edoc")),
        "`a.csv row 1 column doc_id` must be a printable name of at most 256 characters, got '\\u202edoc'.",
    ),
    "document with a tab": (
        both(lambda t: t.assign(doc_id="=1\t2")),
        "`a.csv row 1 column doc_id` must be a printable name of at most 256 characters, got '=1\\t2'.",
    ),
    "number with underscores": (raw_table(HEAD + b"0,1_0,1\n"), "`b.csv row 1 column logit_1` must be a number, got"),
    "number in hexadecimal": (raw_table(HEAD + b"0,0x1F,1\n"), "`b.csv row 1 column logit_1` must be a number, got"),
    "formula for a number": (
        raw_table(HEAD + b"0,=1+1,1\n"),
        "`b.csv row 1 column logit_1` must be a number, got '=1+1'.",
    ),
    "number too large": (raw_table(HEAD + b"0,1e999,1\n"), "`b.csv row 1 column logit_1` must be a finite number, got"),
    "position too large": (raw_table(HEAD + b"9999999999,2,1\n"), "`b.csv row 1 column position` must be from 0 to"),
    "zeros in text": (raw_table(HEAD + b"0,2,1\0\n"), "`b.csv"),
    "pickle called csv": (raw_table(b"\x80\x04cos\nsystem\n(S'id'\ntR."), "`b.csv` must be "),
    "gzip in gzip": (
        raw_table(gzip.compress(gzip.compress(HEAD + b"0,2,1\n")), ".csv.gz"),
        "`b.csv.gz` must be UTF-8 text, got ",
    ),
    "gzip bomb": (
        raw_table(gzip.compress(HEAD + b"0,2,1\n" * 20_000_000, 1), ".csv.gz"),
        "`b.csv.gz` must be at most 1",
    ),
    "parquet of lists in lists": (
        parquet_of({"position": [0, 1], "logit_1": [[[1.0]]] * 2, "logit_2": [0.0, 0.0]}),
        "`b.parquet",
    ),
    "parquet text of other bytes": (
        parquet_of({"doc_id": bytes_in_text(), "position": [0, 1], "logit_1": [1.0] * 2, "logit_2": [0.0] * 2}),
        "`b.parquet column doc_id` must be UTF-8 text, got 'other bytes'.",
    ),
    "parquet cut off": (raw_table(b"PAR1" + bytes(100) + b"PAR1", ".parquet"), "`b.parquet` must be a Parquet file."),
    "npz of objects": (
        raw_table(
            (lambda out: [np.savez(out, logits=np.array([object()], dtype=object)), out.getvalue()][1])(io.BytesIO()),
            ".npz",
        ),
        "`b.npz",
    ),
    "safetensors with an endless header": (
        raw_table(struct.pack("<Q", 2**63) + b"{}", ".safetensors"),
        "`b.safetensors` must ",
    ),
    "json nested": (raw_table(b"[" * 100_000 + b"\n", ".jsonl"), "`b.jsonl line 1` must "),
    "json number of nines": (raw_table(b'{"x": ' + b"9" * 5000 + b"}\n", ".jsonl"), "`b.jsonl line 1` must "),
    # texts
    "texts nested": (texts_of(b"[" * 200_000), "`texts.jsonl line 1` must be JSON such as"),
    "texts of nines": (texts_of(b"9" * 5000), "`texts.jsonl line 1` must be JSON such as"),
    "texts with more keys": (
        texts_of(b'{"doc_id": "d1", "text": "x", "__proto__": {}}'),
        "`texts.jsonl line 1` must have the keys doc_id and text, got __proto__, doc_id, text.",
    ),
    "texts link out": (texts_link, "`texts.jsonl` must be a file inside the submission."),
    "texts in other bytes": (texts_of(b'{"doc_id": "\xff"}'), "`texts.jsonl line 1` must be UTF-8 text."),
}


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with work in it."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "submissions" / "earlier").mkdir(parents=True)
    (folder / "submissions" / "earlier" / "pair.json").write_text("{}")
    (folder / "captures").mkdir()
    return folder


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_in_one_line_with_nothing_changed(
    name: str, submission: Submission, tmp_path: Path, runs_dir: Path
) -> None:
    attack, expected = ATTACKS[name]
    path = attack(submission, tmp_path)
    before, outside = tree(runs_dir), sorted(tmp_path.parent.iterdir())
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        run(IngestStageConfig(submission=str(path), runs_dir=str(runs_dir)))
    assert time.perf_counter() - start < 20
    message = str(caught.value)
    assert message.startswith(expected), message
    assert message.isprintable() and len(message) < 1500
    assert tree(runs_dir) == before
    assert sorted(tmp_path.parent.iterdir()) == outside


def test_there_are_enough_attacks() -> None:
    assert len(ATTACKS) >= 80


def test_an_earlier_submission_keeps_its_name(submission: Submission, runs_dir: Path) -> None:
    submission.description["name"] = "earlier"
    before = tree(runs_dir)
    with pytest.raises(InputError, match="^`name` must be one that no other submission has in .*got 'earlier'"):
        run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(runs_dir)))
    assert tree(runs_dir) == before


def test_names_of_mixed_alphabets_give_a_warning(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission.description["models"]["b"]["name"] = "org/m\u043edel-b"
    run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    assert "`models.b.name` must have words of one alphabet, got 'org/m\u043edel-b'." in capsys.readouterr().err


def test_a_name_of_another_alphabet_throughout_is_fine(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submission.description["models"]["b"]["name"] = "org/\u043c\u043e\u0434\u0435\u043b\u044c-v2 \u03b1"
    run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    assert capsys.readouterr().err == ""


def test_nothing_unpacked_is_left(submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    for attack in (ATTACKS["zip ratio"][0], ATTACKS["tar chain of headers"][0]):
        with pytest.raises(InputError):
            run(IngestStageConfig(submission=str(attack(submission, tmp_path)), runs_dir=str(tmp_path / "runs")))
    assert list(temporary.iterdir()) == []


def test_the_description_itself_is_not_executed(submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    mark = tmp_path / "executed"
    text = yaml.safe_dump(submission.description)
    (folder / "submission.yaml").write_text(f"x: !!python/object/apply:pathlib.Path.touch [{mark}]\n{text}")
    with pytest.raises(InputError):
        run(IngestStageConfig(submission=str(folder), runs_dir=str(tmp_path / "runs")))
    assert not mark.exists()
