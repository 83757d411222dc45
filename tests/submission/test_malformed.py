"""Every fault of a submission becomes one line that names the place, and nothing is written."""

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from brf_exp.config import IngestStageConfig
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages.ingest import run

Submission = Any
Spoil = Callable[[Submission], object]


def refusal(path: Path | str, runs_dir: Path) -> str:
    """The one line with which ingest refuses; `runs_dir` is left as it was."""
    for there_before in (False, True):
        if there_before:
            runs_dir.mkdir()
        with pytest.raises(InputError) as caught:
            run(IngestStageConfig(submission=str(path), runs_dir=str(runs_dir)))
        assert runs_dir.exists() == there_before
        assert not there_before or not list(runs_dir.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    return message


def cell(key: str, row: int, column: str, value: object) -> Spoil:
    """Change one cell (1-based row) of one table."""

    def spoil(submission: Submission) -> None:
        table = submission.tables[key].astype({column: object})
        table.loc[row - 1, column] = value
        submission.tables[key] = table

    return spoil


def drop(*names: str) -> Spoil:
    """Leave columns out of both tables."""
    return lambda submission: submission.drop(*names)


def declare(key: str, value: object) -> Spoil:
    """Change a top-level key of submission.yaml."""
    return lambda submission: submission.description.__setitem__(key, value)


def entry(key: str, value: object) -> Spoil:
    """Change a key of model b's entry."""
    return lambda submission: submission.description["models"]["b"].__setitem__(key, value)


def table_of(key: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Spoil:
    """Change a whole table."""
    return lambda submission: submission.tables.__setitem__(key, change(submission.tables[key]))


def logit_above(submission: Submission) -> None:
    """Row 2 of a: a target outside the ids with a logit above logit_4."""
    table = submission.tables["a"]
    outside = set(range(11)) - set(table.loc[1, [f"id_{rank}" for rank in range(1, 5)]].astype(int))
    for one in submission.tables.values():
        one.loc[1, "token_id"] = min(outside)
    table.loc[1, "target_logit"] = table.loc[1, "logit_4"] + 1


def target_differs(submission: Submission) -> None:
    """Row 2 of a: the target is id_2, with another logit."""
    for one in submission.tables.values():
        one.loc[1, "token_id"] = submission.tables["a"].loc[1, "id_2"]
    submission.tables["a"].loc[1, "target_logit"] = submission.tables["a"].loc[1, "logit_2"] + 0.01


def outside_the_ids(submission: Submission, row: int) -> int:
    """A token that neither model lists in a row (1-based), made that row's realised one in both tables."""
    listed = {
        token
        for table in submission.tables.values()
        for token in table.loc[row - 1, [f"id_{rank}" for rank in range(1, 5)]].astype(int)
    }
    token = min(set(range(11)) - listed)
    for table in submission.tables.values():
        table.loc[row - 1, "token_id"] = token
        table.loc[row - 1, "target_logit"] = table.loc[row - 1, "logit_4"] - 1
    return token


def target_counted_twice(submission: Submission) -> None:
    """Row 3 of a: the listed values and the realised token's, which is not listed, exceed the logsumexp."""
    outside_the_ids(submission, 3)
    table = submission.tables["a"]
    listed = table.loc[2, [f"logit_{rank}" for rank in range(1, 5)]].astype(float)
    table.loc[2, "target_logit"] = table.loc[2, "logit_4"]
    table.loc[2, "logsumexp"] = np.log(np.exp(listed).sum()) + 1e-3


def target_probability_counted_twice(submission: Submission) -> None:
    """Row 2: log-probabilities ln(0.5), ln(0.45) and, of the realised token beside them, ln(0.2)."""
    values = {"id_1": 1, "id_2": 2, "token_id": 1, "target_logprob": np.log(0.5), "logprob_1": np.log(0.5)}
    for key in submission.tables:
        submission.description["models"][key]["value_kind"] = "logprob"
        table = submission.rows.assign(**values, logprob_2=np.log(0.45))
        table.loc[1, ["token_id", "target_logprob"]] = [5, np.log(0.2)]
        submission.tables[key] = table.astype({"token_id": int})


def floors(value: float, *rows: int) -> Spoil:
    """A floor as the realised token's value in some rows of table b."""

    def spoil(submission: Submission) -> None:
        for row in rows:
            outside_the_ids(submission, row)
            submission.tables["b"].loc[row - 1, "target_logit"] = value

    return spoil


def another_token(submission: Submission) -> None:
    """Rows 5 to 7 of b have another token than those of a."""
    submission.drop("target_logit", "id_1", "id_2", "id_3", "id_4")
    submission.tables["a"]["token_id"] = 10
    submission.tables["b"]["token_id"] = [10] * 4 + [9] * 3


def low_logsumexp(submission: Submission) -> None:
    """Row 4 of b: a logsumexp equal to its largest logit."""
    submission.tables["b"].loc[3, "logsumexp"] = submission.tables["b"].loc[3, "logit_1"]


def log_probabilities(shift: float, log_base: object = "e") -> Spoil:
    """Both tables with log-probabilities too large by `shift`."""

    def spoil(submission: Submission) -> None:
        for key, table in list(submission.tables.items()):
            submission.description["models"][key] |= {"value_kind": "logprob", "log_base": log_base}
            values = [name for name in table.columns if name.startswith("logit_")]
            table[values] = table[values].sub(table.pop("logsumexp"), axis=0) + shift
            submission.tables[key] = table.drop(columns="target_logit")

    return spoil


def top_two(submission: Submission) -> None:
    """Log-probabilities ln(0.9), ln(0.9): each legal, their sum not."""
    columns = {"logprob_1": np.log(0.9), "logprob_2": np.log(0.9)}
    for key in submission.tables:
        submission.description["models"][key]["value_kind"] = "logprob"
        submission.tables[key] = submission.rows.assign(**columns)


CASES: dict[str, tuple[Spoil, str]] = {
    "no position": (drop("position"), "`a.csv` must have the column position, got doc_id, token_id"),
    "no values": (
        drop(*[f"logit_{rank}" for rank in range(1, 5)]),
        "`a.csv` must have the columns logit_1, logit_2, ..., got doc_id",
    ),
    "k is 1": (
        drop(*[f"{stem}_{rank}" for stem in ("id", "logit") for rank in range(2, 5)]),
        "`a.csv` must have at least logit_1 and logit_2, got logit_1. ",
    ),
    "gap in logits": (drop("logit_2"), "`a.csv` must have logit_2 (logit_1, logit_2, ... without a gap), got logit_1,"),
    "logits from 0": (
        table_of("a", lambda t: t.assign(logit_0=9.0)),
        "`a.csv` must have logit_1 (logit_1, logit_2, ... without a gap), got logit_0, logit_1",
    ),
    "gap in ids": (drop("id_1"), "`a.csv` must have id_1 (id_1, id_2, ... without a gap), got id_2, id_3, id_4."),
    "fewer ids": (drop("id_4"), "`a.csv` must have as many id_ columns as values (4), got 3. Dump id_1 to id_4."),
    "half a span": (
        table_of("b", lambda t: t.assign(char_start=0)),
        "`b.csv` must have char_start and char_end together, got char_start alone.",
    ),
    "span backwards": (
        table_of("b", lambda t: t.assign(char_start=3, char_end=[3, 4, 2, 4, 4, 4, 4])),
        "`b.csv row 3 column char_end` must be at least char_start (3), got 2.",
    ),
    "text for a number": (cell("a", 3, "logit_2", "abc"), "`a.csv row 3 column logit_2` must be a number, got 'abc'."),
    "empty cell": (cell("a", 5, "logit_1", ""), "`a.csv row 5 column logit_1` must be a number, got ''."),
    "decimal comma": (cell("a", 1, "logsumexp", "1,5"), "`a.csv row 1 column logsumexp` must be a number, got '1,5'."),
    "nan": (cell("b", 2, "logit_3", "NaN"), "`b.csv row 2 column logit_3` must be a finite number, got nan."),
    "infinity": (cell("b", 7, "logit_4", "-inf"), "`b.csv row 7 column logit_4` must be a finite number, got -inf."),
    "too large for float32": (
        lambda s: [s.drop("target_logit"), cell("b", 7, "logit_4", "-1e300")(s)],
        "`b.csv row 7 column logit_4` must be finite in float32, got -1e+300.",
    ),
    "not descending": (cell("a", 4, "logit_2", "99"), "`a.csv row 4 column logit_2` must be at most logit_1 ("),
    "id twice": (
        lambda s: cell("a", 6, "id_3", s.tables["a"].loc[5, "id_1"])(s),
        "`a.csv row 6 column id_3` must be an id that is not in its row already, got ",
    ),
    "id too large": (cell("a", 2, "id_1", 11), "`a.csv row 2 column id_1` must be from 0 to 10 (vocab_size), got 11."),
    "id negative": (cell("a", 2, "id_4", -1), "`a.csv row 2 column id_4` must be from 0 to 10 (vocab_size), got -1."),
    "id not whole": (cell("a", 2, "id_1", 1.5), "`a.csv row 2 column id_1` must be a whole number, got 1.5."),
    "token too large": (
        cell("a", 1, "token_id", 50),
        "`a.csv row 1 column token_id` must be from 0 to 10 (vocab_size), got 50. Correct the row or vocab_size.",
    ),
    "rank 0": (
        table_of("a", lambda t: t.assign(target_rank=0)),
        "`a.csv row 1 column target_rank` must be from 1 to 11 (vocab_size), got 0.",
    ),
    "entropy in bits": (
        table_of("a", lambda t: t.assign(entropy=3.4)),
        "`a.csv row 1 column entropy` must be from -0.001 to 2.399, got 3.4. Dump it in nats",
    ),
    "position negative": (
        cell("a", 1, "position", -1),
        "`a.csv row 1 column position` must be from 0 to 2147483647, got -1. Correct the row.",
    ),
    "position twice": (
        cell("a", 3, "position", 1),
        "`a.csv row 3 column position` must be above 1, the position before it in its document, got 1.",
    ),
    "position falls": (
        cell("b", 6, "position", 0),
        "`b.csv row 6 column position` must be above 1, the position before it in its document, got 0.",
    ),
    "document in two places": (
        lambda s: [cell(key, 7, "doc_id", "d1")(s) for key in "ab"],
        "`a.csv row 7 column doc_id` must be next to its document's rows, got 'd1'. Sort by doc_id, position.",
    ),
    "document without a name": (
        cell("a", 2, "doc_id", ""),
        "`a.csv row 2 column doc_id` must be a document's name, got ''. Name every row's document.",
    ),
    "logsumexp too small": (low_logsumexp, "`b.csv row 4 column logsumexp` must be at least "),
    "logsumexp at a temperature too small": (
        table_of("b", lambda t: t.assign(**{"logsumexp_t0.7": -99.0})),
        "`b.csv row 1 column logsumexp_t0.7` must be at least ",
    ),
    "target not its entry": (target_differs, "`a.csv row 2 column target_logit` must be logit_2 ("),
    "target above the last": (logit_above, "`a.csv row 2 column target_logit` must be at most logit_4 ("),
    "target beside a full row": (
        target_counted_twice,
        "`a.csv row 3 column logsumexp` must be at least ",
    ),
    "target probability beside a full row": (
        target_probability_counted_twice,
        "`a.csv row 2` must be probabilities that sum to at most 1 with that of the realised token, which is not "
        "listed, got 1.1",
    ),
    "a floor for the target": (
        floors(-9999.0, 3),
        "`b.csv row 3 column target_logit` must be the realised token's own value, got -9999.0. This stands in place "
        "of a value, in 1 of 7 rows (3): dump the values themselves, or none of them (null in a log, no column in a "
        "table): then coherence alone.",
    ),
    "the lowest float32 for the target": (
        floors(float(np.finfo(np.float32).min), 1, 5),
        "`b.csv row 1 column target_logit` must be the realised token's own value, got -3.4028235e+38. This stands in "
        "place of a value, in 2 of 7 rows (1, 5)",
    ),
    "the lowest float16 for the target": (floors(-65504.0, 7), "`b.csv row 7 column target_logit` must be the realis"),
    "-100 for two targets": (
        floors(-100.0, 2, 6),
        "`b.csv row 2 column target_logit` must be the realised token's own value, got -100.0. This stands in place "
        "of a value, in 2 of 7 rows (2, 6)",
    ),
    "positive log-probability": (
        log_probabilities(5.0),
        "`a.csv` must be log-probabilities as declared, got what looks like logits: 7 of 7 rows have values above 0, ",
    ),
    "probabilities above 1": (top_two, "`a.csv row 1` must be probabilities that sum to at most 1, got 1.8"),
    "more values than tokens": (
        lambda s: [s.description["models"][key].update(vocab_size=3) for key in "ab"],
        "`a.csv` must have at most vocab_size = 3 values per row, got 4.",
    ),
    "no rows": (table_of("b", lambda t: t.iloc[:0]), "`b.csv` must have at least one row below its header, got none."),
    "fewer rows": (table_of("b", lambda t: t.iloc[:6]), "`b.csv` must have as many rows as a.csv (7), got 6."),
    "another token": (
        another_token,
        "`b.csv row 5` must be the same (doc_id, position, token_id) as in a.csv, ('d2', 1, 10), got ('d2', 1, 9).",
    ),
    "another position": (
        cell("b", 7, "position", 8),
        "`b.csv row 7` must be the same (doc_id, position, token_id) as in a.csv, ('d2', 7, ",
    ),
    "doc_id in one only": (
        lambda s: s.tables.update(b=s.tables["b"].drop(columns="doc_id")),
        "`b.csv` must have the column doc_id as a.csv has it.",
    ),
    # submission.yaml
    "schema": (declare("schema", 2), "`schema` must be 1, got '2'."),
    "name with capitals": (declare("name", "My-Pair"), "`name` must be a slug ([a-z][a-z0-9-]{0,62}), got 'My-Pair'."),
    "name goes up": (declare("name", "../x"), "`name` must be a slug ([a-z][a-z0-9-]{0,62}), got '../x'."),
    "name too long": (declare("name", "a" * 64), "`name` must be a slug ([a-z][a-z0-9-]{0,62}), got 'aaa"),
    "name null": (declare("name", None), "`name` must be none of the reserved false, "),
    "name true": (declare("name", True), "`name` must be none of the reserved "),
    "name no": (declare("name", "no"), "`name` must be none of the reserved "),
    "name of a shipped pair": (declare("name", "tiny"), "`name` must be none of the reserved "),
    "unknown key": (
        declare("licence", "x"),
        "`submission.yaml` must have keys among models, name, schema, submitter, got 'licence'. Remove or rename it.",
    ),
    "unknown key of a model": (entry("temprature", 1), "`models.b` must have keys among capture, log_base, name, "),
    "key missing": (
        lambda s: s.description["models"]["b"].pop("tokenizer"),
        "`models.b` must have the key 'tokenizer', got capture, name, revision, temperature, value_kind, vocab_size.",
    ),
    "one model": (
        lambda s: [s.description["models"].pop("b"), s.tables.pop("b")],
        "`models` must be two or more models keyed a, b, ..., got a. Describe both models.",
    ),
    "models in a list": (
        lambda s: [declare("models", [1, 2])(s), s.tables.clear()],
        "`models` must be two or more models keyed a, b, ..., got a list.",
    ),
    "models a and c": (
        lambda s: (
            [
                s.description["models"].update(c=s.description["models"].pop("b")),
                s.tables.update(c=s.tables.pop("b")),
            ]
        ),
        "`models` must be keyed a, b, c, ... without a gap, got a, c. Rename the keys.",
    ),
    "value kind": (entry("value_kind", "prob"), "`models.b.value_kind` must be one of logit, logprob, got 'prob'."),
    "value kind of the columns": (
        lambda s: s.tables.update(b=s.tables["b"].rename(columns=lambda name: name.replace("logit_", "logprob_"))),
        "`models.b.value_kind` must be logprob where b.csv has logprob_1, logprob_2, ..., got 'logit'.",
    ),
    "log base": (log_probabilities(-1.0, 7), "`models.a.log_base` must be one of 10, 2, e, got '7'."),
    "log base of logits": (entry("log_base", 2), "`models.b.log_base` must be e where value_kind is logit, got '2'."),
    "temperature 0": (entry("temperature", 0), "`models.b.temperature` must be a number from 0.01 to 100, got '0'."),
    "temperature nan": (
        entry("temperature", float("nan")),
        "`models.b.temperature` must be a number from 0.01 to 100, ",
    ),
    "temperature huge": (entry("temperature", "1e999"), "`models.b.temperature` must be a number from 0.01 to 100, "),
    "vocabulary size": (entry("vocab_size", 1), "`models.b.vocab_size` must be a whole number from 2 to 2147483647"),
    "vocabulary size in words": (entry("vocab_size", "many"), "`models.b.vocab_size` must be a whole number from 2 to"),
    "model without a name": (entry("name", ""), "`models.b.name` must be a text of 1 to 200 printable characters, "),
    "model name in two lines": (entry("name", "a\nb"), "`models.b.name` must be a text of 1 to 200 printable char"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_one_line_and_leaves_nothing(name: str, submission: Submission, tmp_path: Path) -> None:
    spoil, expected = CASES[name]
    spoil(submission)
    message = refusal(submission.write(), tmp_path / "runs")
    assert message.startswith(expected), message


def test_an_unlikely_target_is_no_floor(submission: Submission, tmp_path: Path) -> None:
    floors(-99.5, 3)(submission)
    floors(-123.25, 6)(submission)
    run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))


def path_cases() -> dict[str, tuple[str, str]]:
    """Places a capture cannot have."""
    inside = "must be a path inside the submission"
    return {
        "parent": ("../a.csv", inside),
        "absolute": ("/etc/passwd", inside),
        "hidden parent": ("x/../../a.csv", inside),
        "drive": ("C:\\a.csv", inside),
        "missing": ("c.csv", "must be a file or folder of the submission"),
        "pickle": ("a.pkl", "must be a .csv, .tsv, .jsonl (also .gz, .zst), .parquet, .npz or .safetensors file"),
        "link out": ("link.csv", inside),
        "no parts": ("empty", "must hold files named part-*.parquet"),
    }


@pytest.mark.parametrize("name", path_cases())
def test_captures_stay_inside_the_submission(name: str, submission: Submission, tmp_path: Path) -> None:
    capture, expected = path_cases()[name]
    folder = submission.write()
    (folder / "a.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (folder / "empty").mkdir()
    (tmp_path / "outside.csv").write_text("position,logit_1,logit_2\n0,1,0\n")
    (folder / "link.csv").symlink_to(tmp_path / "outside.csv")
    submission.description["models"]["b"]["capture"] = capture
    (folder / "submission.yaml").write_text(yaml.safe_dump(submission.description))
    message = refusal(folder, tmp_path / "runs")
    assert expected in message
    assert message.startswith(("`models.b.capture`", "`empty`"))


YAML_CASES = {
    "alias": ("a: &x 1\nb: *x\n", "`submission.yaml line 1` must hold no YAML anchors or aliases."),
    "billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\n", "`submission.yaml line 1` must hold no YAML anchors"),
    "tag": ("!!python/object/apply:os.system ['true']\n", "`submission.yaml line 1` must hold no YAML tags, got "),
    "tag of a value": ("schema: !!int '1'\n", "`submission.yaml line 1` must hold no YAML tags, got "),
    "key twice": ("name: x\nname: y\n", "`submission.yaml` must have every key once, got 'name' twice."),
    "merge key": ("? [1]\n: 2\n", "`submission.yaml line 1` must have plain words as keys."),
    "not YAML": ("a: [1\nb: 2\n", "`submission.yaml line 2` must be YAML: "),
    "deep": ("[" * 5000, "`submission.yaml` must be YAML of one document without deep nesting."),
    "two documents": ("a: 1\n---\nb: 2\n", "`submission.yaml line 2` must be YAML: "),
    "a list": (
        "- 1\n",
        "`submission.yaml` must be a mapping with the keys models, name, schema, submitter, got ['1'].",
    ),
    "empty": ("", "`submission.yaml` must be a mapping with the keys models, name, schema, submitter, got nothing."),
    "large": ("#" * 70_000, "`submission.yaml` must be at most 65536 bytes, got 70000."),
    "control character": ("a: \x01\n", "`submission.yaml` must be YAML"),
}


@pytest.mark.parametrize("name", YAML_CASES)
def test_description_is_plain_yaml(name: str, submission: Submission, tmp_path: Path) -> None:
    text, expected = YAML_CASES[name]
    folder = submission.write()
    (folder / "submission.yaml").write_text(text)
    message = refusal(folder, tmp_path / "runs")
    assert message.startswith(expected), message


RAW_CASES = {
    "empty file": (b"", "`b.csv` must start with a header of column names"),
    "header only": (b"position,logit_1,logit_2\n", "`b.csv` must have at least one row"),
    "column twice": (b"position,logit_1,logit_1\n0,1,1\n", "`b.csv column logit_1` must be there once, got 2 times."),
    "short row": (
        b"position,logit_1,logit_2\n0,2,1\n1,2\n",
        "`b.csv row 2` must be 3 values wide as the header is, got 2",
    ),
    "long row": (b"position,logit_1,logit_2\n0,2,1\n1,2,1,0\n", "`b.csv row 2` must be 3 values wide as the header"),
    "latin-1": (b"doc_id,position,logit_1,logit_2\nd,0,2,1\n\xe9,1,2,1\n", "`b.csv row 2` must be UTF-8 text"),
    "latin-1 header": (b"position,logit_1,logit_2,\xe9\n0,2,1,0\n", "`b.csv` must be UTF-8 text, got other bytes in"),
    "semicolons": (b"position;logit_1;logit_2\n0;2;1\n", "`b.csv` must have the column doc_id as a.csv has it."),
    "UTF-16": ("position,logit_1,logit_2\n0,2,1\n".encode("utf-16"), "`b.csv` must be UTF-8 text"),
    "open quote": (b'doc_id,position,logit_1,logit_2\n"d,0,2,1\n', "`b.csv row 1` must be 4 values wide"),
    "zero bytes": (b"\0" * 100, "`b.csv` must be UTF-8 text, got UTF-16 or binary data"),
}


@pytest.mark.parametrize("name", RAW_CASES)
def test_csv_that_cannot_be_read(name: str, submission: Submission, tmp_path: Path) -> None:
    data, expected = RAW_CASES[name]
    folder = submission.write()
    (folder / "b.csv").write_bytes(data)
    message = refusal(folder, tmp_path / "runs")
    assert message.startswith(expected), message


def test_damaged_gzip(submission: Submission, tmp_path: Path) -> None:
    submission.set_capture(".csv.gz")
    folder = submission.write()
    whole = (folder / "b.csv.gz").read_bytes()
    (folder / "b.csv.gz").write_bytes(whole[: len(whole) // 2])
    assert refusal(folder, tmp_path / "runs").startswith(
        "`b.csv.gz` must be a whole, readable file, got a damaged one."
    )


def test_gzip_bomb(submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brf_exp.submission.unpacked.LARGEST_BYTES", 10_000)
    submission.set_capture(".csv.gz")
    folder = submission.write()
    (folder / "b.csv.gz").write_bytes(gzip.compress(b"position,logit_1,logit_2\n" + b"0,1,0\n" * 5000))
    assert refusal(folder, tmp_path / "runs").startswith("`b.csv.gz` must be at most 10000 bytes unpacked.")


def test_damaged_parquet(submission: Submission, tmp_path: Path) -> None:
    submission.set_capture(".parquet")
    folder = submission.write()
    (folder / "b.parquet").write_bytes(b"PAR1 and no more")
    assert refusal(folder, tmp_path / "runs") == "`b.parquet` must be a Parquet file. Write it again."


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("logit_1", [None] + [9.0] * 6, "`b.parquet row 1 column logit_1` must be a value, got nothing."),
        ("logit_1", [True] * 7, "`b.parquet column logit_1` must be numbers, got 'bool'."),
        ("doc_id", [1.0] * 7, "`b.parquet column doc_id` must be text, got 'double'."),
    ],
)
def test_parquet_of_other_types(
    column: str, value: list[Any], expected: str, submission: Submission, tmp_path: Path
) -> None:
    submission.set_capture(".parquet")
    submission.tables["b"][column] = value
    assert refusal(submission.write(), tmp_path / "runs").startswith(expected)


def test_parts_have_the_same_columns(submission: Submission, tmp_path: Path) -> None:
    submission.description["models"]["b"]["capture"] = "b"
    table = submission.tables.pop("b")
    folder = submission.write()
    (folder / "b").mkdir()
    table.iloc[:3].to_parquet(folder / "b" / "part-0.parquet", index=False)
    table.iloc[3:].drop(columns="logsumexp").to_parquet(folder / "b" / "part-1.parquet", index=False)
    expected = "`b/part-1.parquet` must have the columns of b/part-0.parquet."
    assert refusal(folder, tmp_path / "runs").startswith(expected)


def test_a_fault_in_a_later_part_names_that_part(submission: Submission, tmp_path: Path) -> None:
    submission.description["models"]["b"]["capture"] = "b"
    table = submission.tables.pop("b")
    table.loc[5, "position"] = 0
    folder = submission.write()
    (folder / "b").mkdir()
    table.iloc[:4].to_parquet(folder / "b" / "part-0.parquet", index=False)
    table.iloc[4:].to_parquet(folder / "b" / "part-1.parquet", index=False)
    assert refusal(folder, tmp_path / "runs").startswith("`b/part-1.parquet row 2 column position` must be above 1")


TEXT_CASES = {
    "unknown key": (
        '{"doc_id": "d1", "text": "x", "lang": "en"}',
        "`texts.jsonl line 1` must have the keys doc_id and",
    ),
    "no text": ('{"doc_id": "d1"}', "`texts.jsonl line 1` must have the keys doc_id and text, got doc_id."),
    "twice": (
        '{"doc_id": "d1", "text": "x"}\n{"doc_id": "d1", "text": "y"}',
        "`texts.jsonl line 2` must be a document that is not there already, got 'd1'.",
    ),
    "missing": ('{"doc_id": "d1", "text": "x"}', "`texts.jsonl` must hold every document of a.csv, got none for d2."),
    "not JSON": ('{"doc_id": "d1"', "`texts.jsonl line 1` must be JSON such as"),
    "a number": ('{"doc_id": 1, "text": "x"}', "`texts.jsonl line 1 doc_id` must be a string, got 1."),
    "a list": ("[1]", "`texts.jsonl line 1` must have the keys doc_id and text, got list."),
}


@pytest.mark.parametrize("name", TEXT_CASES)
def test_texts(name: str, submission: Submission, tmp_path: Path) -> None:
    submission.texts, expected = TEXT_CASES[name]
    message = refusal(submission.write(), tmp_path / "runs")
    assert message.startswith(expected), message


def test_a_span_beyond_its_text(submission: Submission, tmp_path: Path) -> None:
    submission.texts = '{"doc_id": "d1", "text": "abc"}\n{"doc_id": "d2", "text": "\\u00e9\\u00e9\\u00e9\\u00e9"}\n'
    for table in submission.tables.values():
        table["char_start"] = [0, 1, 2, 0, 1, 2, 3]
        table["char_end"] = table["char_start"] + 1
    submission.tables["b"].loc[6, "char_end"] = 5
    expected = "`b.csv row 7 column char_end` must be at most 4, the length of its text, got 5."
    assert refusal(submission.write(), tmp_path / "runs").startswith(expected)


def test_links_in_place_of_fixed_files(submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"doc_id": "d1", "text": "x"}\n{"doc_id": "d2", "text": "y"}\n')
    (folder / "texts.jsonl").symlink_to(secret)
    assert refusal(folder, tmp_path / "runs").startswith("`texts.jsonl` must be a file inside the submission.")


def test_a_named_pipe_is_no_capture(submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    (folder / "b.csv").unlink()
    os.mkfifo(folder / "b.csv")
    assert refusal(folder, tmp_path / "runs").startswith(
        "`models.b.capture` must be a file or folder of the submission"
    )


def test_no_description(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    expected = "`submission.yaml` must be in the submission's folder, got none."
    assert refusal(tmp_path / "empty", tmp_path / "runs").startswith(expected)


def test_no_such_path(tmp_path: Path) -> None:
    expected = "`submission` must be a folder, .zip or .tar.gz, got "
    assert refusal(tmp_path / "nowhere", tmp_path / "runs").startswith(expected)


def test_no_submission_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`submission` must be a folder, .zip or .tar.gz, got nothing"):
        run(IngestStageConfig(runs_dir=str(tmp_path)))


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A gzipped tar file of the members."""
    with tarfile.open(path, "w:gz") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def tar_member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE_MEMBERS = {
    "absolute": (
        tar_member("/tmp/brf-exp-hostile"),
        "must be an archive of relative paths, got '/tmp/brf-exp-hostile'",
    ),
    "parent": (tar_member("x/../../hostile"), "must be an archive of relative paths, got 'x/../../hostile'"),
    "symbolic link": (tar_member("a.csv", tarfile.SYMTYPE, "/etc/passwd"), "must be an archive of plain files and"),
    "hard link": (tar_member("a.csv", tarfile.LNKTYPE, "b.csv"), "must be an archive of plain files and folders"),
    "device": (tar_member("null", tarfile.CHRTYPE), "must be an archive of plain files and folders, got 'null'"),
    "pipe": (tar_member("pipe", tarfile.FIFOTYPE), "must be an archive of plain files and folders, got 'pipe'"),
}


@pytest.mark.parametrize("name", HOSTILE_MEMBERS)
def test_hostile_tar(name: str, tmp_path: Path) -> None:
    member, expected = HOSTILE_MEMBERS[name]
    path = tar_of(tmp_path / "s.tar.gz", (member, b""))
    assert refusal(path, tmp_path / "runs").startswith(f"`s.tar.gz` {expected}")


def zip_of(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """A zip file of the members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_hostile_zip(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.csv")
    link.external_attr = 0o120777 << 16
    path = zip_of(tmp_path / "link.zip", (link, b"/etc/passwd"))
    assert "must be an archive of plain files and folders, got 'a.csv'" in refusal(path, tmp_path / "runs1")
    path = zip_of(tmp_path / "up.zip", ("../up.csv", b""))
    assert "must be an archive of relative paths, got '../up.csv'" in refusal(path, tmp_path / "runs2")
    path = zip_of(tmp_path / "many.zip", *[(str(number), b"") for number in range(1001)])
    assert "must hold at most 1000 files, got more" in refusal(path, tmp_path / "runs3")
    path = zip_of(tmp_path / "none.zip", ("a.csv", b"x"))
    assert "must hold one submission.yaml, at the top or in its only folder, got 0" in refusal(path, tmp_path / "runs4")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4 and no more")
    assert "`bad.zip` must be an archive that can be unpacked, got: it is damaged" in refusal(
        tmp_path / "bad.zip", tmp_path / "runs5"
    )


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_bomb_stops_at_its_ratio(suffix: str, tmp_path: Path) -> None:
    zeros = bytes(8 * 1024 * 1024)
    if suffix == ".zip":
        path = zip_of(tmp_path / "bomb.zip", ("submission.yaml", zeros))
    else:
        path = tar_of(tmp_path / "bomb.tar.gz", (tar_member("submission.yaml"), zeros))
    assert f"`bomb{suffix}` must unpack to at most" in refusal(path, tmp_path / "runs")


def test_half_a_tar(submission: Submission, tmp_path: Path) -> None:
    folder = submission.write()
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz") as archive:
        archive.add(folder, "s")
    whole = (tmp_path / "s.tar.gz").read_bytes()
    (tmp_path / "s.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert "`s.tar.gz` must be an archive that can be unpacked" in refusal(tmp_path / "s.tar.gz", tmp_path / "runs")
