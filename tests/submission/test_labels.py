"""Dumps that are not what they are called are named as what they look like; sound dumps of every kind are not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp, softmax

from brf_exp.config import IngestStageConfig
from brf_exp.errors import InputError
from brf_exp.stages.ingest import run
from brf_exp.storage.runs import read_json
from brf_exp.submission.fault import Place
from brf_exp.submission.normaliser import entropy_bounds, log_sum_bounds

Submission = Any
V, K, N = 40, 6, 60


def logits(seed: int = 3, scale: float = 2.0) -> np.ndarray:
    """Logits over a whole vocabulary, (N, V)."""
    return np.random.default_rng(seed).normal(scale=scale, size=(N, V))


def table(values: np.ndarray, stem: str = "logit", **columns: Any) -> pd.DataFrame:
    """The K largest values of every row, in the order given by themselves, with other columns."""
    top = -np.sort(-values, axis=1)[:, :K]
    place = {"doc_id": np.repeat(["d1", "d2"], N // 2), "position": np.tile(np.arange(N // 2), 2)}
    return pd.DataFrame(place | columns | {f"{stem}_{rank + 1}": top[:, rank] for rank in range(K)})


def put(submission: Submission, frame: pd.DataFrame, **entry: Any) -> None:
    """Both models have this table and these entries."""
    submission.tables = {key: frame.copy() for key in "ab"}
    for key in "ab":
        submission.description["models"][key] |= {"vocab_size": V, **entry}


def logprobs(seed: int = 3, scale: float = 2.0) -> np.ndarray:
    """Log-probabilities over a whole vocabulary, (N, V)."""
    z = logits(seed, scale)
    return z - logsumexp(z, axis=1, keepdims=True)


def renormalised() -> np.ndarray:
    """Log-probabilities over the K best alone."""
    top = -np.sort(-logits(scale=0.5), axis=1)[:, :K]
    return top - logsumexp(top, axis=1, keepdims=True)


def filtered(floor: float) -> np.ndarray:
    """Log-probabilities with all but two or three tokens of every row at a floor."""
    values = -np.sort(-logprobs(), axis=1)
    for row in range(N):
        values[row, 2 + row % 2 :] = floor
    return values


def ascending(frame: pd.DataFrame, stem: str) -> pd.DataFrame:
    """The same with every row's values turned round."""
    names = [f"{stem}_{rank + 1}" for rank in range(K)]
    frame[names] = frame[names].to_numpy()[:, ::-1]
    return frame


def entropy(z: np.ndarray) -> np.ndarray:
    """Entropy of every row in nats."""
    p = softmax(z, axis=1)
    return -(p * np.log(p)).sum(axis=1)


def tempered(temperature: float) -> pd.DataFrame:
    """Logits divided by a temperature beside the logsumexp and entropy at temperature 1."""
    z = logits()
    return table(z / temperature, logsumexp=logsumexp(z, axis=1), entropy=entropy(z))


def halved(kind: type[np.floating[Any]], scale: float, shift: float = 0.0) -> pd.DataFrame:
    """Logits beside a logsumexp that was stored in fewer digits."""
    z = logits(scale=scale) + shift
    return table(z, logsumexp=logsumexp(z, axis=1).astype(kind).astype(float))


def cut_to_bfloat16(z: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers."""
    return (z.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(float)


LOGPROB = {"value_kind": "logprob"}
Spoil = Callable[[Submission], None]
CASES: dict[str, tuple[Spoil, str]] = {
    "probabilities called log-probabilities": (
        lambda s: put(s, table(softmax(logits(), axis=1), "logprob"), **LOGPROB),
        "log-probabilities as declared, got what looks like probabilities: all 360 values lie from ",
    ),
    "probabilities called logits": (
        lambda s: put(s, table(softmax(logits(), axis=1))),
        "logits as declared, got what looks like probabilities: all 360 values lie from ",
    ),
    "sign turned, best first": (
        lambda s: put(s, ascending(table(-np.sort(-logprobs(), axis=1)[:, :K] * -1, "logprob"), "logprob"), **LOGPROB),
        "log-probabilities as declared, got what looks like negative log-probabilities: all 360 values lie from ",
    ),
    "worst first": (
        lambda s: put(s, ascending(table(logits()), "logit")),
        "logits as declared, got what looks like values sorted worst first: the last is the largest in all 60 rows.",
    ),
    "logits called log-probabilities": (
        lambda s: put(s, table(logits(), "logprob"), **LOGPROB),
        "log-probabilities as declared, got what looks like logits: 60 of 60 rows have values above 0",
    ),
    "base 10": (
        lambda s: put(s, table(logprobs() / np.log(10), "logprob"), **LOGPROB),
        "logarithms to base e (log_base), got what looks like base 10: as declared the probabilities of ",
    ),
    "base 2": (
        lambda s: put(s, table(logprobs(scale=4.0) / np.log(2), "logprob"), **LOGPROB),
        "logarithms to base e (log_base), got what looks like base 2: as declared the probabilities of ",
    ),
    "base e called base 10": (
        lambda s: put(s, table(logprobs(scale=4.0), "logprob"), **LOGPROB, log_base=10),
        "logarithms to base 10 (log_base), got what looks like base e: as declared the probabilities of ",
    ),
    "renormalised": (
        lambda s: put(s, table(renormalised(), "logprob"), **LOGPROB),
        "log-probabilities over all 40 tokens, got what looks like ones normalised over the 6 listed: in all 60 rows "
        "these sum to 1 within ",
    ),
    "floor -9999": (
        lambda s: put(s, table(filtered(-9999.0), "logprob"), **LOGPROB),
        "the model's own values, got what looks like a top-p or top-k filter: 60 of 60 rows end in exactly -9999, 60 ",
    ),
    "floor -100": (
        lambda s: put(s, table(filtered(-100.0), "logprob"), **LOGPROB),
        "the model's own values, got what looks like a top-p or top-k filter: 60 of 60 rows end in exactly -100, 60 ",
    ),
    "floor of logits": (
        lambda s: put(s, table(filtered(-1e10))),
        "the model's own values, got what looks like a top-p or top-k filter: 60 of 60 rows end in exactly -1e+10, 60 ",
    ),
    "minus infinity": (
        lambda s: put(s, table(filtered(-np.inf), "logprob"), **LOGPROB),
        "6 finite values in every row, got 60 rows that end in empty or infinite ones, as a top-p or top-k filter ",
    ),
    "empty tails": (
        lambda s: put(s, table(filtered(-np.inf), "logprob").replace(-np.inf, np.nan), **LOGPROB),
        "6 finite values in every row, got 60 rows that end in empty or infinite ones, as a top-p or top-k filter ",
    ),
    "temperature above 1": (
        lambda s: put(s, tempered(2.0)),
        "values and logsumexp at one temperature, got what looks like values divided by 2 ",
    ),
    "temperature below 1": (
        lambda s: put(s, tempered(0.7)),
        "values and logsumexp at one temperature, got what looks like values divided by 0.7 ",
    ),
    "logsumexp in float16 beside sharp rows": (
        lambda s: put(s, halved(np.float16, 8.0)),
        "logsumexp` must be summed in float32 or finer, got numbers of float16 in all 60 rows: off by up to 0.0078 "
        "nats, and every probability by 0.8%, so that listed ones sum to more than 1.",
    ),
    "logsumexp in float16 of large logits": (
        lambda s: put(s, halved(np.float16, 0.5, shift=100.0)),
        "logsumexp` must be summed in float32 or finer, got numbers of float16 in all 60 rows: off by up to 0.031 nats",
    ),
    "logsumexp in bfloat16": (
        lambda s: put(s, table(logits(), logsumexp=cut_to_bfloat16(logsumexp(logits(), axis=1)))),
        "logsumexp` must be summed in float32 or finer, got numbers of bfloat16 in all 60 rows: off by up to ",
    ),
    "entropy in bits": (
        lambda s: put(s, table(logits(), logsumexp=logsumexp(logits(), axis=1), entropy=entropy(logits()) / np.log(2))),
        "its entropy in nats, got what looks like bits: ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_mislabelled_dumps_are_named(name: str, submission: Submission, tmp_path: Path) -> None:
    spoil, expected = CASES[name]
    spoil(submission)
    with pytest.raises(InputError) as caught:
        run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    start = "`a.csv` must have " if expected.startswith(("6 ", "values", "its")) else "`a.csv` must be "
    start = "`a.csv` must hold " if expected.startswith("the model") else start
    start = "`a.csv column " if expected.startswith("logsumexp`") else start
    assert str(caught.value).startswith(start + expected), str(caught.value)


SOUND: dict[str, Spoil] = {
    "logits": lambda s: put(s, table(logits(), logsumexp=logsumexp(logits(), axis=1), entropy=entropy(logits()))),
    "positive logits": lambda s: put(s, table(logits() + 30.0)),
    "logits far below 0": lambda s: put(s, table(logits() - 200.0)),
    "log-probabilities": lambda s: put(s, table(logprobs(), "logprob"), **LOGPROB),
    "sharp log-probabilities": lambda s: put(s, table(logprobs(scale=8.0), "logprob"), **LOGPROB),
    "flat log-probabilities": lambda s: put(s, table(logprobs(scale=0.1), "logprob"), **LOGPROB),
    "base 10 as declared": lambda s: put(s, table(logprobs() / np.log(10), "logprob"), **LOGPROB, log_base=10),
    "base 2 as declared": lambda s: put(s, table(logprobs() / np.log(2), "logprob"), **LOGPROB, log_base=2),
    "temperature as declared": lambda s: put(s, tempered(2.0), temperature=2.0),
    "written with four digits": lambda s: put(s, table(logprobs().round(4), "logprob"), **LOGPROB),
    "constant": lambda s: put(s, table(np.tile(np.where(np.arange(V) < 1, 1.0, 0.0), (N, 1)))),
    "logsumexp in float32": lambda s: put(s, halved(np.float32, 2.0)),
    "half precision in the values alone": lambda s: put(
        s, table(logits().astype(np.float16).astype(float), logsumexp=logsumexp(logits().astype(np.float16), axis=1))
    ),
    "zero": lambda s: put(s, table(np.zeros((N, V)))),
    "small positive logits": lambda s: put(s, table(np.abs(logits(scale=0.002)))),
    "one token certain": lambda s: put(s, table(np.where(np.arange(V) == 3, 0.0, -80.0) + logits() * 1e-3)),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_dumps_are_accepted_without_a_word(
    name: str, submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SOUND[name](submission)
    folder = run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    assert read_json(folder / "pair.json")["warnings"] == []
    assert capsys.readouterr().err == ""


def test_log_probabilities_called_logits_give_a_warning(
    submission: Submission, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(submission, table(logprobs()))
    folder = run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    warnings = read_json(folder / "pair.json")["warnings"]
    assert [one["check"] for one in warnings] == ["looks-log-probabilities"] * 2
    expected = "brf-exp: warning: `a.csv` must be logits as declared, got what looks like log-probabilities: in all 60 "
    assert capsys.readouterr().err.startswith(expected)


def test_a_logsumexp_of_few_digits_gives_a_warning(submission: Submission, tmp_path: Path) -> None:
    put(submission, halved(np.float16, 0.5))
    folder = run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    assert {one["check"] for one in read_json(folder / "pair.json")["warnings"]} == {"half-precision"}


def test_sums_of_one_without_further_evidence_give_a_warning(submission: Submission, tmp_path: Path) -> None:
    put(submission, table(logprobs(scale=25.0).clip(-50), "logprob"), **LOGPROB)
    values = submission.tables["a"][[f"logprob_{rank + 1}" for rank in range(K)]]
    kept = np.abs(np.exp(values).sum(axis=1) - 1) < 1e-4
    submission.tables = {key: frame[kept] for key, frame in submission.tables.items()}
    folder = run(IngestStageConfig(submission=str(submission.write()), runs_dir=str(tmp_path / "runs")))
    assert {one["check"] for one in read_json(folder / "pair.json")["warnings"]} == {"looks-sum-to-one"}


@pytest.mark.parametrize("scale", [0.01, 0.5, 2.0, 10.0])
@pytest.mark.parametrize("k", [2, 7, V])
def test_bounds_hold_for_whole_distributions(scale: float, k: int) -> None:
    z = logits(seed=11, scale=scale)
    top = -np.sort(-z, axis=1)[:, :k]
    exact = logsumexp(z, axis=1)
    low, high = log_sum_bounds(top, V)
    assert (low <= exact + 1e-12).all() and (exact <= high + 1e-12).all()
    least, most = entropy_bounds(top, exact, V)
    p = softmax(z, axis=1)
    terms = np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0.0)
    whole = -terms.sum(axis=1)
    assert (least <= whole + 1e-9).all() and (whole <= most + 1e-9).all()
    if k == V:
        np.testing.assert_allclose(low, high)
        np.testing.assert_allclose(least, most, atol=1e-9)


def test_bounds_are_reached() -> None:
    top = np.log([[0.4, 0.2]])
    flat = np.log([[0.4, 0.2, 0.2, 0.2]])
    np.testing.assert_allclose(log_sum_bounds(top, 4)[1], logsumexp(flat, axis=1))
    least, most = entropy_bounds(top, np.zeros(1), 4)
    np.testing.assert_allclose([least, most], [[entropy(flat)[0]]] * 2)


def test_a_place_names_what_is_known() -> None:
    assert str(Place("a.csv").at(row=3).at(column="x")) == "a.csv row 3 column x"
