"""Resolving pairs: what is matched, and what is refused with which words."""

import numpy as np
import pyarrow as pa
import pytest

from brf_exp.config import CoherenceStageConfig, PhaseConfig
from brf_exp.errors import ConfigError, InputError, StatisticalError
from brf_exp.stages import coherence, discriminate
from brf_exp.stages.pairs import resolve_pair
from brf_exp.storage.captures import write_part
from brf_exp.storage.runs import read_json, write_json
from brf_exp.storage.schema import arrow_schema


def make_capture(folder, rng, *, lengths=(40,) * 25, name="m", gaps=None, tokenizer="t", positions=None, **columns):
    """A small capture of a coherence-only dump with the given gaps."""
    folder.mkdir()
    n = sum(lengths)
    gap = rng.exponential(1.0, n) if gaps is None else gaps
    table = {
        "doc_id": np.repeat([f"d{i}" for i in range(len(lengths))], lengths),
        "position": np.concatenate([np.arange(m) for m in lengths]) if positions is None else positions,
        "logit_1": np.asarray(gap, dtype=np.float32),
        "logit_2": np.zeros(n, dtype=np.float32),
        **columns,
    }
    schema = arrow_schema(list(table))
    sha = write_part(folder / "part-00000.parquet", pa.table({f.name: table[f.name] for f in schema}, schema=schema))
    part = {"name": "part-00000.parquet", "rows": n, "documents": len(lengths), "sha256": sha}
    manifest = {"schema": 1, "model": {"name": name}, "tokenizer_fingerprint": tokenizer, "rows": n, "parts": [part]}
    write_json(folder / "capture.json", manifest)
    return str(folder)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def settings(tmp_path, *captures, **more):
    config = CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), captures=list(captures), progress=False, **more)
    config.evaluation.n_resamples = config.evaluation.n_repairings = 199
    config.evaluation.n_negative_controls = 50
    config.evaluation.controls = False
    return config


def test_two_folders_are_a_pair(tmp_path, rng):
    config = settings(tmp_path, make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng, name="n"))
    inputs = resolve_pair(config)
    assert inputs.name == "m-n"
    assert inputs.gaps().shape == (2, 1000)
    results = read_json(coherence.run(config) / "results.json")
    assert (results["verdict"], results["reason"]) == ("inconclusive", "controls")
    assert set(results["phases"]) == {"arctan", "linear", "tanh", "exponential", "quantile"}


def test_a_table_of_ones_own_is_the_primary_map(tmp_path, rng):
    (tmp_path / "map.csv").write_text("gap,phase\n0,0\n1,1.5\n5,3\n", encoding="utf-8")
    phase = PhaseConfig(name="table", table=str(tmp_path / "map.csv"))
    made = [make_capture(tmp_path / name, rng) for name in "ab"]
    results = read_json(coherence.run(settings(tmp_path, *made, phase=phase)) / "results.json")
    assert results["primary"] == "table"
    assert results["phases"]["table"]["scale"] is None
    assert len(results["phases"]) == 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gap,phase\n0,0\n", "two or more"),
        ("gap,phase\n1,0\n0,1\n", "must increase"),
        ("gap,angle\n0,0\n1,1\n", "columns gap,phase"),
        ("gap,phase\n0,x\n1,1\n", "columns gap,phase"),
        ("gap,phase\n0,\n1,1\n", "finite"),
    ],
)
def test_broken_tables_are_named(tmp_path, rng, text, message):
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    phase = PhaseConfig(name="table", table=str(tmp_path / "map.csv"))
    config = settings(tmp_path, *(make_capture(tmp_path / name, rng) for name in "ab"), phase=phase)
    with pytest.raises(InputError, match=message) as caught:
        coherence.run(config)
    assert "phase.table" in str(caught.value)


def test_one_folder_is_not_a_pair(tmp_path, rng):
    with pytest.raises(ConfigError, match="`captures` must be two capture folders, got 1"):
        resolve_pair(settings(tmp_path, make_capture(tmp_path / "a", rng)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer": "u"}, "must have the tokenizer of m, got another one"),
        ({"lengths": (40,) * 24}, r"got others \(960 rows in 24 documents against 1000 in 25\)"),
        ({"lengths": (39, 41, *(40,) * 23)}, "must have the documents of m"),
        (
            {"positions": np.concatenate([np.arange(1, 41), *[np.arange(40)] * 24])},
            "`position` of m must equal that of m, got 1 instead of 0 in row 1",
        ),
    ],
)
def test_rows_must_match(tmp_path, rng, change, message):
    first, second = make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng, **change)
    with pytest.raises(InputError, match=message):
        resolve_pair(settings(tmp_path, first, second))


def test_infinite_logits_are_named_by_row(tmp_path, rng):
    gaps = rng.exponential(1.0, 1000)
    gaps[6] = np.inf
    config = settings(tmp_path, make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng, gaps=gaps))
    with pytest.raises(InputError, match="must be finite, got another value in row 7"):
        coherence.run(config)


def test_constant_gaps_are_a_named_reason(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng, gaps=np.ones(1000)) for name in "ab"]
    with pytest.raises(StatisticalError, match="`coherence` cannot be computed for m-m: "):
        coherence.run(settings(tmp_path, *made))
    assert not list((tmp_path / "runs").glob("coherence/*/results.json"))


def test_missing_columns_are_named(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng) for name in "ab"]
    with pytest.raises(InputError, match=r"must have the column\(s\) token_id, logsumexp, target_logit, id_1"):
        discriminate.run(settings(tmp_path, *made))


def test_few_documents_decide_nothing(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng, lengths=(60,) * 10) for name in "ab"]
    results = read_json(coherence.run(settings(tmp_path, *made)) / "results.json")
    assert (results["verdict"], results["reason"]) == ("inconclusive", "documents")


def test_one_long_document_is_cut_into_pseudo_documents(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng, lengths=(2000,)) for name in "ab"]
    results = read_json(coherence.run(settings(tmp_path, *made)) / "results.json")
    assert results["pseudo_documents"] is True
    assert results["n_documents"] == 20


def test_the_same_settings_give_the_same_bytes(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng) for name in "ab"]
    folders = []
    for name in ("one", "two"):
        config = settings(tmp_path, *made)
        config.runs_dir = str(tmp_path / name)
        folders.append(coherence.run(config))
    for file in ("results.json", "config.yaml", "positions.parquet", "repairings.parquet"):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()
