"""What the coherence stage reads of matched captures, and which rows it refuses with which words."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.config import CoherenceStageConfig
from brf_exp.errors import InputError
from brf_exp.stages import coherence, gap_rows
from brf_exp.stages.gap_rows import SIGNALS, check_rows, matched_batches, read_gap_rows
from brf_exp.stages.pairs import PairInputs, resolve_pair
from brf_exp.storage.captures import Capture, open_capture
from brf_exp.storage.scratch import Scratch

LENGTHS = (5, 1, 12, 40, 2, 7)
N = sum(LENGTHS)
Write = Callable[..., str]
Settings = Callable[..., CoherenceStageConfig]


def gaps(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, N).astype(np.float32)


def difficulty(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "logsumexp": rng.normal(9, 1, N),
        "target_logit": rng.normal(0, 1, N).astype(np.float32),
        "entropy": rng.random(N).astype(np.float32),
    }


def members(inputs: PairInputs) -> list[Capture]:
    return [*inputs.captures, *([inputs.proxy] if inputs.proxy else [])]


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_rows", [1, 7, 65536])
@pytest.mark.parametrize("memory_mb", [0, 16])
def test_rows_are_read_whatever_the_batches_parts_and_budget(
    write_capture: Write,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_rows: int,
    memory_mb: int,
) -> None:
    monkeypatch.setattr(gap_rows, "BATCH_ROWS", batch_rows)
    ids = np.random.default_rng(0).integers(0, 99, N).astype(np.int32)
    told = difficulty(3)
    folders = [
        write_capture("a", gaps(1), LENGTHS, token_id=ids, rows_per_part=6),
        write_capture("b", gaps(2), LENGTHS, token_id=ids, rows_per_part=20),
        write_capture("p", gaps(3), LENGTHS, token_id=ids, **told),
    ]
    inputs = resolve_pair(settings(*folders[:2], proxy=folders[2]))
    check_rows(inputs)
    rows = read_gap_rows(inputs, Scratch(tmp_path / "scratch", memory_mb=memory_mb))
    assert isinstance(rows.gaps, np.memmap) == (memory_mb == 0)
    assert rows.models == ("a", "b")
    assert rows.documents.doc_ids == tuple(f"d{number}" for number in range(len(LENGTHS)))
    np.testing.assert_array_equal(rows.offsets, np.cumsum([0, *LENGTHS]))
    np.testing.assert_array_equal(rows.gaps, np.stack([gaps(1), gaps(2)]))
    np.testing.assert_array_equal(rows.token_id, ids)
    assert rows.token_class is None
    (proxy,) = rows.proxies_of(0, 1)
    assert proxy.model == "p"
    expected = {
        "gap": gaps(3),
        "surprisal": told["logsumexp"] - told["target_logit"],
        "top_surprisal": told["logsumexp"] - gaps(3),
        "entropy": told["entropy"],
    }
    for name, values in zip(SIGNALS, proxy.values, strict=True):
        np.testing.assert_array_equal(values, expected[name].astype(np.float32), err_msg=name)


def test_signals_that_a_proxy_lacks_are_unknown(write_capture: Write, settings: Settings) -> None:
    folders = [write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("abp")]
    rows = read_gap_rows(resolve_pair(settings(*folders[:2], proxy=folders[2])), Scratch.in_memory())
    (proxy,) = rows.proxies_of(0, 1)
    np.testing.assert_array_equal(np.isnan(proxy.values).all(axis=1), [False, True, True, True])
    np.testing.assert_array_equal(proxy.values[0], gaps(2))


def test_infinite_difficulty_is_unknown(write_capture: Write, settings: Settings) -> None:
    told = difficulty(0)
    told["target_logit"][3] = -np.inf
    told["logsumexp"][4] = np.inf
    told["entropy"][5] = np.nan
    folders = [write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("ab")]
    proxy = write_capture("p", gaps(2), LENGTHS, **told)
    rows = read_gap_rows(resolve_pair(settings(*folders, proxy=proxy)), Scratch.in_memory())
    values = rows.proxies_of(0, 1)[0].values
    assert not np.isinf(values).any()
    assert [np.flatnonzero(np.isnan(row)).tolist() for row in values] == [[], [3, 4], [4], [5]]


def test_of_three_models_each_is_the_proxy_of_the_others(write_capture: Write, settings: Settings) -> None:
    folders = [write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("abcp")]
    rows = read_gap_rows(resolve_pair(settings(*folders[:3])), Scratch.in_memory())
    named = {pair: [signals.model for signals in rows.proxies_of(*pair)] for pair in ((0, 1), (0, 2), (1, 2))}
    assert named == {(0, 1): ["c"], (0, 2): ["b"], (1, 2): ["a"]}
    rows = read_gap_rows(resolve_pair(settings(*folders[:3], proxy=folders[3])), Scratch.in_memory())
    assert [signals.model for signals in rows.proxies_of(0, 2)] == ["b", "p"]


def test_without_a_proxy_nobody_speaks(write_capture: Write, settings: Settings) -> None:
    folders = [write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("ab")]
    rows = read_gap_rows(resolve_pair(settings(*folders)), Scratch.in_memory())
    assert rows.proxies_of(0, 1) == []
    assert (rows.token_id, rows.token_class) == (None, None)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path: Path, settings: Settings) -> Callable[..., str]:
    """A function that runs the stage on captures it must refuse; returns the message."""

    def run(*folders: str, **more: Any) -> str:
        with pytest.raises(InputError) as caught:
            coherence.run(settings(*folders, **more))
        assert "\n" not in str(caught.value)
        assert not [path for path in (tmp_path / "runs").glob("**/*") if path.is_file() and path.suffix != ".lock"]
        return str(caught.value)

    return run


def changed(values: np.ndarray, row: int, value: float) -> np.ndarray:
    made = values.copy()
    made[row] = value
    return made


@pytest.mark.parametrize("batch_rows", [8, 65536])
@pytest.mark.parametrize("role", ["second", "third", "proxy"])
@pytest.mark.parametrize("name", ["token_id", "position"])
def test_a_row_of_another_token(
    write_capture: Write,
    refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    role: str,
    batch_rows: int,
) -> None:
    monkeypatch.setattr(gap_rows, "BATCH_ROWS", batch_rows)
    columns = {"token_id": np.arange(N), "position": np.concatenate([np.arange(n) for n in LENGTHS])}
    first, same = (write_capture(m, gaps(s), LENGTHS, rows_per_part=9, **columns) for s, m in enumerate("ab"))
    other = columns | {name: changed(columns[name], 41, 7777)}
    odd = write_capture("odd", gaps(2), LENGTHS, rows_per_part=30, **other)
    message = {
        "second": lambda: refused(first, odd),
        "third": lambda: refused(first, same, odd),
        "proxy": lambda: refused(first, same, proxy=odd),
    }[role]()
    assert message == (
        f"`{name}` of odd must equal that of a, got 7777 instead of {columns[name][41]} in row 42. "
        "Dump both models on the same tokens."
    )


def test_documents_in_another_order(write_capture: Write, refused: Callable[..., str]) -> None:
    names = ["x", "y", "z"]
    first = write_capture("a", gaps(0)[:30], (10, 10, 10), doc_ids=names)
    other = write_capture("b", gaps(1)[:30], (10, 10, 10), doc_ids=names[::-1])
    message = refused(first, other)
    assert message.startswith("`b` must have the documents of a, got others (30 rows in 3 documents against 30 in 3)")


def test_documents_of_other_lengths(write_capture: Write, refused: Callable[..., str]) -> None:
    first = write_capture("a", gaps(0)[:30], (10, 10, 10))
    other = write_capture("b", gaps(1)[:30], (10, 9, 11))
    assert "must have the documents of a" in refused(first, other)


@pytest.mark.parametrize("order", [1, -1])
def test_one_capture_is_shorter(write_capture: Write, refused: Callable[..., str], order: int) -> None:
    whole, short = write_capture("a", gaps(0), LENGTHS), write_capture("b", gaps(1)[:58], LENGTHS[:4])
    message = refused(*[whole, short][::order])
    counts = ["58 rows in 4 documents", "67 in 6"] if order == 1 else ["67 rows in 6 documents", "58 in 4"]
    assert message.endswith(f"got others ({' against '.join(counts)}). Capture both on the same texts.")


def test_one_capture_is_shorter_than_it_says(write_capture: Write, refused: Callable[..., str]) -> None:
    whole = write_capture("a", gaps(0)[:60], (20, 20, 20))
    short = write_capture("b", gaps(1)[:59], (20, 20, 19), counted_rows=60)
    longer = write_capture("c", gaps(1)[:61], (20, 20, 21), counted_rows=60)
    assert "b` must hold the 60 rows that its capture.json counts, got 59. " in refused(whole, short)
    assert "c` must hold the 60 rows that its capture.json counts, got 61. " in refused(whole, longer)


@pytest.mark.parametrize(
    ("first", "second"),
    [(np.nan, 0), (0, np.nan), (np.inf, 0), (-np.inf, 0), (0, -np.inf), (np.inf, np.inf), (-np.inf, -np.inf), (1, 1.5)],
)
@pytest.mark.parametrize("role", ["tested", "proxy"])
def test_logits_that_are_not_finite_or_ascend(
    write_capture: Write, refused: Callable[..., str], first: float, second: float, role: str
) -> None:
    good = [write_capture(name, gaps(seed), LENGTHS) for seed, name in enumerate("ab")]
    odd = write_capture(
        "odd", changed(gaps(2), 50, first), LENGTHS, logit_2=changed(np.zeros(N), 50, second).astype(np.float32)
    )
    message = refused(good[0], odd) if role == "tested" else refused(*good, proxy=odd)
    assert message == (
        f"`logit_1` and `logit_2` of odd must be finite and descending, got {float(first)} and {float(second)} "
        "in row 51. Mend the capture."
    )
    if role == "tested":
        inputs = PairInputs("x", (open_capture(Path(good[0])), open_capture(Path(odd))), None, None, False)
        with pytest.raises(InputError, match=r"must be finite and descending.* in row 51"):
            inputs.gaps()


def test_a_zero_of_either_sign_is_a_gap(write_capture: Write, settings: Settings) -> None:
    values = changed(changed(gaps(0), 3, -0.0), 4, 0.0)
    inputs = resolve_pair(settings(write_capture("a", values, LENGTHS), write_capture("b", gaps(1), LENGTHS)))
    found = read_gap_rows(inputs, Scratch.in_memory()).gaps
    assert found[0, 3:5].tolist() == [0, 0]


def test_missing_columns_are_named(
    write_capture: Write, refused: Callable[..., str], without_columns: Callable[..., None]
) -> None:
    good, bad = write_capture("a", gaps(0), LENGTHS), write_capture("b", gaps(1), LENGTHS)
    without_columns(Path(bad), "doc_id", "logit_2")
    message = refused(good, bad)
    assert message.startswith("`b` must have the column(s) doc_id, logit_2 for coherence, got position and 1 logits.")


def test_a_damaged_part_is_one_line(write_capture: Write, refused: Callable[..., str]) -> None:
    made = [write_capture(name, gaps(seed), LENGTHS, rows_per_part=20) for seed, name in enumerate("ab")]
    path = sorted(Path(made[1]).glob("*.parquet"))[1]
    n_bytes = path.stat().st_size
    path.write_bytes(path.read_bytes()[: n_bytes // 2])
    assert f"part-00001.parquet` must have {n_bytes} bytes, got {n_bytes // 2}." in refused(*made)


def test_batches_stop_at_the_first_difference(write_capture: Write, settings: Settings) -> None:
    ids = np.arange(N)
    first = write_capture("a", gaps(0), LENGTHS, token_id=ids)
    second = write_capture("b", gaps(1), LENGTHS, token_id=changed(ids, 35, 0))
    inputs = resolve_pair(settings(first, second))
    batches: Iterator[Any] = matched_batches(members(inputs), [["logit_1"], ["logit_1"]], n_rows=10)
    seen = 0
    with pytest.raises(InputError, match="in row 36"):
        for pair in batches:
            seen += pair[0].num_rows
    assert seen == 30


def test_a_model_without_token_ids_is_matched_by_position(write_capture: Write, settings: Settings) -> None:
    first = write_capture("a", gaps(0), LENGTHS, token_id=np.arange(N))
    second = write_capture("b", gaps(1), LENGTHS)
    inputs = resolve_pair(settings(first, second))
    rows = read_gap_rows(inputs, Scratch.in_memory())
    np.testing.assert_array_equal(rows.token_id, np.arange(N))
    swapped = replace(inputs, captures=inputs.captures[::-1])
    assert read_gap_rows(swapped, Scratch.in_memory()).token_id is None
