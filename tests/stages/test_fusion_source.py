"""Chunks of captures: what they hold, and that how rows are cut changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from brf_exp.config import DiscriminateStageConfig, PhaseScope, Split
from brf_exp.errors import ConfigError
from brf_exp.maths.topk import KnownTokens
from brf_exp.stages import discriminate
from brf_exp.stages.fusion_source import CaptureSource, stored_temperatures
from brf_exp.stages.pairs import resolve_pair
from brf_exp.storage import schema
from brf_exp.storage.captures import open_capture

LENGTHS = [37 + d % 29 for d in range(50)]
N, V, K = sum(LENGTHS), 12, 5


def _logits(seed: int, model: int, own: float) -> np.ndarray:
    """Logits (n, V) that models share in part, as float32 rounds them."""
    shared = np.random.default_rng(seed).normal(0, 2, (N, V))
    return (shared + own * np.random.default_rng([seed, model]).normal(0, 1, (N, V))).astype(np.float32)


def _columns(z: np.ndarray, targets: np.ndarray, k: int, temperatures: tuple[str, ...]) -> dict[str, np.ndarray]:
    order = np.argsort(-z, axis=1, kind="stable")[:, :k]
    z64 = z.astype(np.float64)
    normaliser = np.logaddexp.reduce(z64, axis=1)
    log_p = z64 - normaliser[:, None]
    top = np.take_along_axis(z, order, axis=1)
    return {
        "token_id": targets,
        "target_logit": z[np.arange(N), targets],
        "logsumexp": normaliser,
        "entropy": -(np.exp(log_p) * log_p).sum(axis=1),
        **{f"logsumexp_t{t}": np.logaddexp.reduce(z64 / float(t), axis=1) for t in temperatures},
        **dict(zip(schema.id_columns(k), order.T, strict=True)),
        **dict(zip(schema.logit_columns(k), top.T, strict=True)),
    }


Dump = Callable[..., list[str]]


@pytest.fixture
def dump(write_capture: Callable[..., str]) -> Dump:
    """A function that writes captures of small models; their folders."""

    def write(
        n_models: int = 2, k: int = K, temperatures: tuple[tuple[str, ...], ...] = (("0.5",),) * 3, **model: Any
    ) -> list[str]:
        targets = np.argmax(_logits(1, 0, 0.8) + np.random.default_rng(9).gumbel(size=(N, V)), axis=1)
        folders = []
        for number in range(n_models):
            rows = _columns(_logits(1, number, 0.8), targets, k, temperatures[number])
            folder = "many-" + "abc"[number] if not model else "whole-" + "abc"[number]
            made = {"vocabulary_size": V, **model}
            folders.append(
                write_capture(
                    f"m{number}", rows["logit_1"], LENGTHS, folder=folder, model=made, rows_per_part=700, **rows
                )
            )
        return folders

    return write


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DiscriminateStageConfig]:
    def make(folders: list[str], memory_mb: int = 1024, runs: str = "runs") -> DiscriminateStageConfig:
        made = DiscriminateStageConfig(
            runs_dir=str(tmp_path / runs), captures=folders, progress=False, memory_mb=memory_mb
        )
        made.evaluation.n_resamples, made.evaluation.controls = 99, False
        return made

    return make


def _source(config: DiscriminateStageConfig) -> CaptureSource:
    return discriminate.source_of(config, resolve_pair(config))


def _assert_same(one: KnownTokens, other: KnownTokens, rows: slice) -> None:
    np.testing.assert_array_equal(one.shared, other.shared[:, rows])
    np.testing.assert_array_equal(one.overlaps, other.overlaps[:, :, rows])
    np.testing.assert_array_equal(one.argmax_ids, other.argmax_ids[:, rows])


def test_chunks_hold_the_rows_of_the_captures(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    source = _source(config(dump(), memory_mb=0))
    chunks = list(source.chunks())
    assert len(chunks) > 2 and not source._kept
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    targets = np.argmax(_logits(1, 0, 0.8) + np.random.default_rng(9).gumbel(size=(N, V)), axis=1)
    position = 0
    for documents, rows in chunks:
        assert documents.start == position
        position = documents.stop
        mine = slice(starts[documents.start], starts[documents.stop])
        np.testing.assert_array_equal(rows.offsets, starts[documents.start : documents.stop + 1] - mine.start)
        np.testing.assert_array_equal(rows.known.shared_ids[:, 0], targets[mine])
        for temperature in (1.0, 0.5):
            known = rows.known_at(temperature)
            for model in (0, 1):
                z = _logits(1, model, 0.8)[mine].astype(np.float64) / temperature
                log_p = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
                ids = known.shared_ids
                expected = np.where(ids >= 0, np.take_along_axis(log_p, np.maximum(ids, 0), axis=1), -np.inf)
                np.testing.assert_allclose(known.shared[model], expected, atol=1e-9)
                np.testing.assert_allclose(known.max_log_p[model], log_p.max(axis=1), atol=1e-9)
    assert position == len(LENGTHS)


def test_chunks_of_any_size_and_pass_are_the_same(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    folders = dump()
    small, large = _source(config(folders, memory_mb=0)), _source(config(folders, memory_mb=4096))
    ((_, whole),) = large.chunks()
    for _ in range(2):
        chunks = list(small.chunks())
        assert len(chunks) > 2
        for documents, rows in chunks:
            mine = slice(int(small.offsets[documents.start]), int(small.offsets[documents.stop]))
            for name in ("gaps", "shifted_gaps", "ranks", "shifted_ranks", "random_phases", "entropies"):
                np.testing.assert_array_equal(getattr(rows, name), getattr(whole, name)[:, mine], err_msg=name)
            np.testing.assert_array_equal(rows.cells, whole.cells[mine])
            _assert_same(rows.known, whole.known, mine)
            _assert_same(rows.known_at(0.5), whole.known_at(0.5), mine)
    ((_, again),) = large.chunks()
    assert again is whole


def test_draws_differ_between_models_and_seeds(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    settings = config(dump())
    ((_, rows),) = _source(settings).chunks()
    assert np.abs(rows.random_phases[0] - rows.random_phases[1]).min() > 0
    for shifted, gaps in zip(rows.shifted_gaps, rows.gaps, strict=True):
        assert not np.array_equal(shifted, gaps)
        for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
            np.testing.assert_array_equal(np.sort(shifted[start:stop]), np.sort(gaps[start:stop]))
    settings.seed += 1
    ((_, other),) = _source(settings).chunks()
    assert (other.random_phases != rows.random_phases).all()
    assert (other.shifted_gaps != rows.shifted_gaps).any()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((), (), (1.0,)),
        (("0.5", "2"), ("0.5",), (1.0, 0.5)),
        (("2.0", "0.7", "1"), ("2", "0.7", "1.0"), (1.0, 0.7, 2.0)),
    ],
)
def test_temperatures_are_those_that_every_capture_stores(
    dump: Dump,
    config: Callable[..., DiscriminateStageConfig],
    first: tuple[str, ...],
    second: tuple[str, ...],
    expected: tuple[float, ...],
) -> None:
    folders = dump(temperatures=(first, second))
    assert stored_temperatures([open_capture(Path(folder)) for folder in folders]) == expected
    source = _source(config(folders))
    ((_, rows),) = source.chunks()
    assert source.temperatures == expected
    assert set(rows.at_temperatures) == set(expected) - {1.0}


def test_without_tuning_there_is_one_temperature(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    settings = config(dump())
    settings.evaluation.tune = False
    assert _source(settings).temperatures == (1.0,)


def test_captures_of_the_whole_vocabulary_are_complete(
    dump: Dump, config: Callable[..., DiscriminateStageConfig]
) -> None:
    part, whole = _source(config(dump())), _source(config(dump(k=V, vocabulary_size=V)))
    assert whole.complete and not part.complete
    ((_, rows),) = whole.chunks()
    assert rows.known.has_no_tail.all() and rows.known_at(0.5).has_no_tail.all()
    ((_, rows),) = part.chunks()
    assert not rows.known.has_no_tail.any()


def test_a_vocabulary_that_models_share_says_how_many_tokens_are_outside(
    dump: Dump, config: Callable[..., DiscriminateStageConfig]
) -> None:
    ((_, rows),) = _source(config(dump())).chunks()
    for known in (rows.known, rows.known_at(0.5)):
        np.testing.assert_array_equal(known.n_outside, V - (known.shared_ids >= 0).sum(axis=1))
    ((_, rows),) = _source(config(dump(vocabulary_size=None))).chunks()
    assert rows.known.n_outside is None


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("n_models", [2, 3])
def test_memory_changes_no_result(dump: Dump, config: Callable[..., DiscriminateStageConfig], n_models: int) -> None:
    folders = dump(n_models)
    small = discriminate.run(config(folders, memory_mb=0, runs="small"))
    large = discriminate.run(config(folders, memory_mb=4096, runs="large"))
    assert (small / "results.json").read_bytes() == (large / "results.json").read_bytes()
    found = _results(small)
    assert found["temperatures"] == [1.0, 0.5] and found["n_positions"] == N
    assert found["rules"]["linear"]["n_undefined"] == 0
    for name in ("positions", "coherence_curve"):
        assert (small / f"{name}.parquet").read_bytes() == (large / f"{name}.parquet").read_bytes()


def test_the_table_ends_with_a_document_whatever_the_memory(
    dump: Dump, config: Callable[..., DiscriminateStageConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brf_exp.stages.discrimination_tables.MAX_TABLE_POSITIONS", 1300)
    folders = dump()
    kept = int(np.cumsum(LENGTHS)[np.cumsum(LENGTHS) <= 1300][-1])
    for memory_mb in (0, 4096):
        settings = config(folders, memory_mb=memory_mb, runs=f"runs-{memory_mb}")
        settings.evaluation.tune, settings.evaluation.split = False, Split.NONE
        folder = discriminate.run(settings)
        assert pq.read_table(folder / "positions.parquet").num_rows == kept


def test_token_scope(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    settings = config(dump())
    settings.phase.scope = PhaseScope.TOKEN
    found = _results(discriminate.run(settings))
    assert found["phase_scope"] == "token" and "quantile" not in found["maps"]
    assert found["interference"]["interference_information_nats"] is None
    rules = found["rules"]
    for name in ("brf", "brf_shifted", "linear", "brf_zero"):
        assert 0 < np.min(rules[name]["accuracy"]) <= np.max(rules[name]["accuracy"]) < 1
    lower, upper = rules["brf"]["log_loss_nats"]
    assert 0 < lower < upper


def test_the_quantile_map_has_no_token_scope(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    settings = config(dump())
    settings.phase.name, settings.phase.scope = "quantile", PhaseScope.TOKEN
    message = r"^`phase\.scope` must be position with phase=quantile, got token\. Choose another phase map\.$"
    with pytest.raises(ConfigError, match=message):
        discriminate.run(settings)


def test_whole_vocabularies_let_contrastive_in(dump: Dump, config: Callable[..., DiscriminateStageConfig]) -> None:
    whole = _results(discriminate.run(config(dump(k=V, vocabulary_size=V))))
    assert "contrastive" in whole["contrasts"]
    assert len(whole["rules"]["contrastive"]["parameters"]["folds"]) == 5
    part = _results(discriminate.run(config(dump())))
    assert "contrastive" not in part["contrasts"]
    assert part["rules"]["contrastive"]["log_loss_nats"][1] is None
