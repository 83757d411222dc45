"""Resolving pairs: what is matched, and what is refused with which words."""

import numpy as np
import pyarrow as pa
import pytest

from brf_exp.config import (
    CaptureConfig,
    CoherenceStageConfig,
    CorpusConfig,
    DiscriminateStageConfig,
    PairConfig,
    PhaseConfig,
)
from brf_exp.errors import ConfigError, InputError
from brf_exp.stages import coherence, discriminate
from brf_exp.stages.gap_rows import check_rows
from brf_exp.stages.pairs import resolve_pair
from brf_exp.storage.captures import write_part
from brf_exp.storage.runs import content_key, read_json, write_json
from brf_exp.storage.schema import arrow_schema


def make_capture(folder, rng, *, lengths=(40,) * 25, name="m", gaps=None, tokenizer="t", weights=None, **columns):
    """A small capture of a coherence-only dump with the given gaps."""
    folder.mkdir(parents=True)
    n = sum(lengths)
    gap = rng.exponential(1.0, n) if gaps is None else gaps
    table = {
        "doc_id": np.repeat([f"d{i}" for i in range(len(lengths))], lengths),
        "position": np.concatenate([np.arange(m) for m in lengths]),
        "logit_1": np.asarray(gap, dtype=np.float32),
        "logit_2": np.zeros(n, dtype=np.float32),
        **columns,
    }
    schema = arrow_schema(list(table))
    sha = write_part(folder / "part-00000.parquet", pa.table({f.name: table[f.name] for f in schema}, schema=schema))
    part = {"name": "part-00000.parquet", "rows": n, "documents": len(lengths), "sha256": sha}
    model = {"name": name, "weights_sha256": weights}
    manifest = {"schema": 1, "model": model, "tokenizer_fingerprint": tokenizer, "rows": n, "parts": [part]}
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
    with pytest.raises(ConfigError, match="`captures` must be two or more capture folders, got 1"):
        resolve_pair(settings(tmp_path, make_capture(tmp_path / "a", rng)))


def test_three_folders_are_three_models(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng, name=name) for name in "abc"]
    inputs = resolve_pair(settings(tmp_path, *made))
    assert inputs.name == "a-b-c"
    assert [capture.model_name for capture in inputs.captures] == ["a", "b", "c"]
    assert inputs.gaps().shape == (3, 1000)
    assert (inputs.proxy, inputs.aligned, inputs.identical) == (None, None, ())
    check_rows(inputs)


def test_the_identity_covers_every_model_and_the_proxy(tmp_path, rng):
    a, b, c, d = (make_capture(tmp_path / name, rng, name=name) for name in "abcd")
    made = [
        settings(tmp_path, a, b),
        settings(tmp_path, b, a),
        settings(tmp_path, a, b, c),
        settings(tmp_path, a, b, d),
        settings(tmp_path, a, b, proxy=c),
        settings(tmp_path, a, b, proxy=d),
    ]
    keys = [content_key(resolve_pair(config).identity()) for config in made]
    assert len(set(keys)) == len(keys)
    assert content_key(resolve_pair(settings(tmp_path, a, b, proxy="none")).identity()) == keys[0]


CHANGES = [
    ({"tokenizer": "u"}, "must have the tokenizer of m, got another one"),
    ({"lengths": (40,) * 24}, r"got others \(960 rows in 24 documents against 1000 in 25\)"),
    ({"lengths": (40,) * 24 + (39, 1)}, r"got others \(1000 rows in 26 documents against 1000 in 25\)"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
@pytest.mark.parametrize("role", ["second", "third", "proxy"])
def test_headers_must_match(tmp_path, rng, change, message, role):
    first, same = make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng)
    other = make_capture(tmp_path / "c", rng, **change)
    for path in tmp_path.glob("*/*.parquet"):
        path.write_bytes(b"no row is read")
    config = {
        "second": settings(tmp_path, first, other),
        "third": settings(tmp_path, first, same, other),
        "proxy": settings(tmp_path, first, same, proxy=other),
    }[role]
    with pytest.raises(InputError, match=message):
        resolve_pair(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (39, 41, *(40,) * 23)}, "must have the documents of m"),
        (
            {"position": np.concatenate([np.arange(1, 41), *[np.arange(40)] * 24])},
            "`position` of m must equal that of m, got 1 instead of 0 in row 1",
        ),
        (
            {"position": np.concatenate([*[np.arange(40)] * 24, np.arange(39), [40]])},
            "`position` of m must equal that of m, got 40 instead of 39 in row 1000",
        ),
    ],
)
@pytest.mark.parametrize("role", ["second", "third", "proxy"])
def test_rows_must_match(tmp_path, rng, change, message, role):
    first, same = make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng)
    other = make_capture(tmp_path / "c", rng, **change)
    config = {
        "second": settings(tmp_path, first, other),
        "third": settings(tmp_path, first, same, other),
        "proxy": settings(tmp_path, first, same, proxy=other),
    }[role]
    inputs = resolve_pair(config)
    with pytest.raises(InputError, match=message):
        check_rows(inputs)
    with pytest.raises(InputError, match=message):
        coherence.run(config)


def test_rows_are_compared_behind_the_first_batch(tmp_path, rng):
    n = 150_000
    token_id = np.arange(n, dtype=np.int32)
    changed = token_id.copy()
    changed[140_000] = 7
    first, second = (
        make_capture(tmp_path / name, rng, lengths=(n,), gaps=np.ones(n), token_id=ids)
        for name, ids in (("a", token_id), ("b", changed))
    )
    message = "`token_id` of m must equal that of m, got 7 instead of 140000 in row 140001"
    with pytest.raises(InputError, match=message):
        check_rows(resolve_pair(settings(tmp_path, first, second)))


@pytest.mark.parametrize(
    ("weights", "seeds", "expected"),
    [
        (("x", "y", "x"), (1, 2, 3), (("a", "c"),)),
        (("x", "x", "x"), (1, 2, 3), (("a", "b"), ("a", "c"), ("b", "c"))),
        (("x", "y", "z"), (1, 1, 1), ()),  # other weights, equal numbers
        ((None, None, "z"), (1, 1, 1), (("a", "b"), ("a", "c"), ("b", "c"))),
        ((None, None, None), (1, 2, 2), (("b", "c"),)),
    ],
)
def test_identical_models_are_named(tmp_path, weights, seeds, expected):
    made = [
        make_capture(tmp_path / name, np.random.default_rng(seed), name=name, weights=sha256)
        for name, sha256, seed in zip("abc", weights, seeds, strict=True)
    ]
    assert resolve_pair(settings(tmp_path, *made)).identical == expected


# --- submissions ------------------------------------------------------------------------------------------------------


def submission(tmp_path, rng, members, *, shared_ids=True):
    folder = tmp_path / "runs" / "submissions" / "mine"
    for key in members:
        make_capture(folder / key, rng, name=f"model-{key}")
    models = {key: {"capture": key} for key in members}
    write_json(folder / "pair.json", {"name": "mine", "models": models, "shared_ids": shared_ids})
    return folder


def of_submission(tmp_path, folder, **more):
    pair = PairConfig(name="mine", submission=str(folder))
    return resolve_pair(CoherenceStageConfig(runs_dir=str(tmp_path / "runs"), pair=pair, progress=False, **more))


def test_all_models_of_a_submission_are_tested(tmp_path, rng):
    folder = submission(tmp_path, rng, "cab")
    inputs = of_submission(tmp_path, folder)
    assert inputs.name == "mine"
    assert [capture.model_name for capture in inputs.captures] == ["model-a", "model-b", "model-c"]
    assert inputs.proxy is None
    assert of_submission(tmp_path, folder, proxy="none").identity() == inputs.identity()


@pytest.mark.parametrize(("proxy", "tested"), [("a", ["model-b", "model-c"]), ("c", ["model-a", "model-b"])])
def test_a_member_that_is_the_proxy_is_not_tested(tmp_path, rng, proxy, tested):
    inputs = of_submission(tmp_path, submission(tmp_path, rng, "abc"), proxy=proxy)
    assert [capture.model_name for capture in inputs.captures] == tested
    assert inputs.proxy is not None
    assert inputs.proxy.model_name == f"model-{proxy}"


def test_a_capture_folder_can_be_a_submissions_proxy(tmp_path, rng):
    folder = submission(tmp_path, rng, "ab")
    inputs = of_submission(tmp_path, folder, proxy=make_capture(tmp_path / "p", rng, name="third"))
    assert len(inputs.captures) == 2
    assert inputs.proxy is not None
    assert inputs.proxy.model_name == "third"


def test_a_proxy_leaves_two_models(tmp_path, rng):
    with pytest.raises(ConfigError, match="`proxy` must leave two models of `mine` to test, got 'b'"):
        of_submission(tmp_path, submission(tmp_path, rng, "ab"), proxy="b")


def test_a_submission_needs_one_tokenizer(tmp_path, rng):
    with pytest.raises(InputError, match="`mine` must have models with one tokenizer"):
        of_submission(tmp_path, submission(tmp_path, rng, "ab", shared_ids=False))


# --- models that are captured now -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def of_models(runs_dir, pair, **more):
    corpus = CorpusConfig(name="stdlib", max_documents=3, max_document_tokens=40)
    config = CoherenceStageConfig(
        runs_dir=str(runs_dir), pair=pair, corpus=corpus, capture=CaptureConfig(k=4), progress=False, **more
    )
    return resolve_pair(config)


def names_of(inputs):
    proxy, aligned = inputs.proxy, inputs.aligned
    tested = [capture.model_name for capture in inputs.captures]
    return inputs.name, tested, proxy and proxy.model_name, aligned and aligned.model_name


TINY = {"a": "tiny_prose", "b": "tiny_code"}


@pytest.mark.parametrize(
    ("pair", "proxy", "expected"),
    [
        ({"name": "tiny", "proxy": "tiny_mixed"}, None, ("tiny", ["tiny_prose", "tiny_code"], "tiny_mixed", None)),
        ({"name": "tiny", "proxy": "tiny_mixed"}, "none", ("tiny", ["tiny_prose", "tiny_code"], None, None)),
        ({"name": "hf", "proxy": "none"}, None, ("tiny_prose-tiny_code", ["tiny_prose", "tiny_code"], None, None)),
        ({"name": "hf"}, None, ("tiny_prose-tiny_code", ["tiny_prose", "tiny_code"], None, "tiny_mixed")),
        ({"name": "hf"}, "tiny_mixed", ("tiny_prose-tiny_code", ["tiny_prose", "tiny_code"], "tiny_mixed", None)),
        (
            {"name": "hf", "others": ["tiny_mixed"]},
            None,
            ("tiny_prose-tiny_code-tiny_mixed", ["tiny_prose", "tiny_code", "tiny_mixed"], None, None),
        ),
        (
            {"name": "mine", "others": ["tiny_prose"]},
            "tiny_mixed",
            ("mine", ["tiny_prose", "tiny_code", "tiny_prose"], "tiny_mixed", None),
        ),
    ],
)
def test_models_to_test_and_their_proxy(shared_runs, pair, proxy, expected):
    inputs = of_models(shared_runs, PairConfig(**TINY, **pair), proxy=proxy)
    assert names_of(inputs) == expected
    check_rows(inputs)


def test_a_model_named_twice_is_identical(shared_runs):
    inputs = of_models(shared_runs, PairConfig(name="hf", **TINY, others=["tiny_prose"]))
    assert inputs.identical == (("tiny_prose", "tiny_prose"),)


# --- what is read of them ---------------------------------------------------------------------------------------------


def test_infinite_logits_are_named_by_row(tmp_path, rng):
    gaps = rng.exponential(1.0, 1000)
    gaps[6] = np.inf
    config = settings(tmp_path, make_capture(tmp_path / "a", rng), make_capture(tmp_path / "b", rng, gaps=gaps))
    with pytest.raises(InputError, match="must be finite.* in row 7"):
        coherence.run(config)


def test_constant_gaps_are_a_named_reason(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng, gaps=np.ones(1000)) for name in "ab"]
    results = read_json(coherence.run(settings(tmp_path, *made)) / "results.json")
    assert (results["verdict"], results["reason"]) == ("inconclusive", "constant gaps")


def test_missing_columns_are_named(tmp_path, rng):
    made = [make_capture(tmp_path / name, rng) for name in "ab"]
    with pytest.raises(InputError, match=r"must have the column\(s\) token_id, logsumexp, target_logit, id_1"):
        discriminate.run(DiscriminateStageConfig(runs_dir=str(tmp_path / "runs"), captures=made, progress=False))


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
