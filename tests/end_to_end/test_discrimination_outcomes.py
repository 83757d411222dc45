"""The Cross-Term Discrimination Test through the command line on odd input: a named outcome, or one line and exit 2."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import logsumexp

from brf_exp.cli import main
from brf_exp.stages.unnormalised import loss_bounds
from brf_exp.storage.parts import PartWriter
from brf_exp.storage.runs import write_json
from brf_exp.storage.schema import arrow_schema

FAST = ("evaluation.n_resamples=99", "progress=false")
UNTUNED = ("evaluation.split=none", "evaluation.tune=false")
PASSED = {"planted": {"verdict": "supported", "reason": ""}, "twin": {"verdict": "falsified", "reason": ""}}
V = 12
EQUAL = (24,) * 21
WHERE = "For model-a-model-b, proverbs.txt, map arctan: "
Here = Callable[..., Path]
World = tuple[list[np.ndarray], np.ndarray]


def world(lengths: Sequence[int], *, models: int = 2, seed: int = 0) -> World:
    """Related logits of some models over V tokens, (n, V) each, and tokens drawn from the first one."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    shared = rng.normal(size=(n, V))
    logits = [(1.4 * shared + rng.normal(size=(n, V))).astype(np.float32) for _ in range(models)]
    p = np.exp(logits[0].astype(np.float64))
    drawn = (np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1) > rng.random((n, 1))).argmax(axis=1)
    return logits, drawn


def top_k(logits: np.ndarray, targets: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """Columns of a capture that keeps the k best logits."""
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    ranked = np.take_along_axis(logits, order, axis=1)
    return {
        "token_id": targets,
        "logsumexp": logsumexp(logits.astype(np.float64), axis=1),
        "target_logit": logits[np.arange(targets.size), targets],
        **{f"id_{rank + 1}": order[:, rank] for rank in range(k)},
        **{f"logit_{rank + 1}": ranked[:, rank] for rank in range(k)},
    }


@pytest.fixture
def captured(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a capture of each model a, b, ... and returns the override that names them.

    `without` are columns that a model's capture does not have; `model` is put into every manifest.
    """

    def write(
        made: World,
        lengths: Sequence[int],
        *,
        k: int = 5,
        without: dict[str, Sequence[str]] | None = None,
        rows_per_part: int = 65536,
        **model: Any,
    ) -> str:
        logits, targets = made
        folders = []
        for name, one in zip("abc", logits, strict=False):
            folder = tmp_path / f"capture-{name}"
            folder.mkdir()
            columns = {key: v for key, v in top_k(one, targets, k).items() if key not in (without or {}).get(name, ())}
            columns |= {"doc_id": np.repeat([f"d{number}" for number in range(len(lengths))], lengths)}
            columns |= {"position": np.concatenate([np.arange(n) for n in lengths])}
            schema = arrow_schema(list(columns))
            arrays = {f.name: pa.array(columns[f.name], f.type) for f in schema}
            batch = pa.RecordBatch.from_pydict(arrays, schema=schema)
            writer = PartWriter(folder, rows_per_part=rows_per_part)
            writer.add(batch, np.isin(np.arange(batch.num_rows), np.cumsum([0, *lengths])))
            manifest = {"schema": 1, "model": {"name": f"model-{name}", **model}, "rows": batch.num_rows}
            corpus = {"name": "file", "path": "/somewhere/proverbs.txt"}
            write_json(
                folder / "capture.json",
                {**manifest, "corpus": corpus, "documents": len(lengths), "parts": writer.finish()},
            )
            folders.append(str(folder))
        return f"captures=[{','.join(folders)}]"

    return write


@pytest.fixture
def discriminated(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A function that runs `discriminate` and reads its strict JSON; the planted worlds count as passed."""
    monkeypatch.setattr("brf_exp.stages.discriminate.discrimination_controls", lambda *given, **named: PASSED)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in strict JSON")

    def run(*arguments: object) -> dict[str, Any]:
        folder = here("discriminate", *arguments, *FAST, f"runs_dir={tmp_path / 'runs'}")
        return json.loads((folder / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)

    return run


def sharpened(logits: np.ndarray, gap: float | np.ndarray) -> np.ndarray:
    """Logits on a coarse lattice whose two best differ by exactly the gap."""
    made, rows = np.round(logits * 4) / 4, np.arange(len(logits))
    first = made.argmax(axis=1)
    others = made.copy()
    others[rows, first] = -np.inf
    made[rows, first] = others.max(axis=1) + gap
    return made.astype(np.float32)


def constant(made: World) -> World:
    return [sharpened(one, 1.0) for one in made[0]], made[1]


def flat(made: World) -> World:
    return [np.zeros_like(one) for one in made[0]], made[1]


def mostly_tied(made: World) -> World:
    rng = np.random.default_rng(1)
    return [sharpened(one, np.where(rng.random(len(one)) < 0.6, 0.0, 0.75)) for one in made[0]], made[1]


def one_model(made: World) -> World:
    return [made[0][0], made[0][0]], made[1]


def one_document(made: World) -> World:
    """The first document over and over."""
    n = EQUAL[0]
    return [np.tile(one[:n], (len(EQUAL), 1)) for one in made[0]], np.tile(made[1][:n], len(EQUAL))


def as_is(made: World) -> World:
    return made


# --- outcomes with a name ---------------------------------------------------------------------------------------------

OUTCOMES: dict[str, tuple[Callable[[World], World], Sequence[int], dict[str, Any], Sequence[str], str, str]] = {
    # data, lengths of documents, capture, settings, reason, words of the sentence
    "one row": (as_is, (1,), {}, (), "documents", "too few documents"),
    "one document": (as_is, (100,), {}, (), "documents", "too few documents"),
    "one document, untuned": (as_is, (100,), {}, UNTUNED, "documents", "too few documents"),
    "two documents": (as_is, (60, 40), {}, (), "documents", "too few documents"),
    "two documents, k 2": (as_is, (60, 40), {"k": 2}, (), "documents", "too few documents"),
    "one fold": (as_is, (60, 40), {}, ("evaluation.min_documents=2", "evaluation.n_folds=2"), "folds", "one fold"),
    "untuned": (as_is, EQUAL, {}, UNTUNED, "not tuned", "rules were not tuned"),
    "one token each": (as_is, (1,) * 30, {}, (), "documents of one token", "every document has one token"),
    "all zero": (flat, EQUAL, {}, (), "identical models", "one and the same"),
    "constant": (constant, EQUAL, {}, (), "constant gaps", "gaps are all equal"),
    "constant, whole vocabulary": (constant, EQUAL, {"k": V}, (), "constant gaps", "gaps are all equal"),
    "half zero": (mostly_tied, EQUAL, {}, (), "ties at zero", "half of the gaps are exactly 0"),
    "half zero, untuned": (mostly_tied, EQUAL, {}, UNTUNED, "ties at zero", "half of the gaps are exactly 0"),
    "same rows": (one_model, EQUAL, {}, (), "identical models", "one and the same"),
    "same rows, k 2": (one_model, EQUAL, {"k": 2}, (), "identical models", "one and the same"),
    "same rows, whole vocabulary": (one_model, EQUAL, {"k": V}, (), "identical models", "one and the same"),
    "same rows, untuned": (one_model, EQUAL, {}, UNTUNED, "identical models", "one and the same"),
    "same weights": (as_is, EQUAL, {"weights_sha256": "f00d"}, (), "identical models", "one and the same"),
    "documents alike": (one_document, EQUAL, {"k": V}, (), "no variation", "chance cannot be told from it"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_decides_nothing_is_a_result_with_its_reason(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]], case: str
) -> None:
    edit, lengths, capture, settings, reason, words = OUTCOMES[case]
    found = discriminated(captured(edit(world(lengths)), lengths, **capture), *settings)
    assert (found["verdict"], found["reason"]) == ("inconclusive", reason)
    assert found["sentence"].startswith(WHERE)
    assert words in found["sentence"]
    # Point losses are there whatever the reason.
    for name in ("linear", "model_a", "model_b"):
        lower, upper = found["rules"][name]["log_loss_nats"]
        assert lower == upper > 0


@pytest.mark.parametrize("lengths", [(1,), (100,)])
def test_one_document_has_losses_and_no_intervals(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]], lengths: Sequence[int]
) -> None:
    made = world(lengths)
    found = discriminated(captured(made, lengths, k=V))
    log_p = np.stack([one - logsumexp(one, axis=1, keepdims=True) for one in (x.astype(np.float64) for x in made[0])])
    target = log_p[:, np.arange(sum(lengths)), made[1]]
    assert found["rules"]["model_a"]["log_loss_nats"][0] == pytest.approx(-target[0].mean(), abs=1e-6)
    linear = -np.log(np.exp(target).mean(axis=0)).mean()
    assert found["rules"]["linear"]["log_loss_nats"][0] == pytest.approx(linear, abs=1e-6)
    assert found["contrasts"] == {}
    assert all(made["contrasts"] == {} for made in found["maps"].values())
    assert found["agreement"]["interval"] is None
    assert found["minimum_detectable_nats"] is None
    assert found["split"]["tune"] is False


def test_half_of_all_gaps_at_zero_is_no_obstacle_where_a_scale_is_set(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    found = discriminated(captured(mostly_tied(world(EQUAL)), EQUAL, k=V), "phase.scale=1")
    assert found["gates"]["failed"] == ""
    assert found["scale_from"] == "setting"
    assert found["reason"] in ("power", "truncation") or found["verdict"] == "falsified"


def test_a_scale_that_stands_in_is_said(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    found = discriminated(captured(mostly_tied(world(EQUAL)), EQUAL))
    assert found["scale_from"] == "stand-in"


def test_identical_models_have_finite_numbers(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    found = discriminated(captured(one_model(world(EQUAL)), EQUAL, k=V))
    model = found["rules"]["model_a"]["log_loss_nats"][0]
    for name in ("brf", "linear", "log_linear", "brf_zero"):
        assert found["rules"][name]["log_loss_nats"] == pytest.approx([model, model], abs=1e-9)
    assert found["contrasts"]["linear"]["difference_nats"] == pytest.approx(0, abs=1e-12)
    assert found["agreement"]["negative_share"] == 0


def test_turned_phases_of_identical_models_cancel_and_are_counted(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    found = discriminated(captured(one_model(world(EQUAL)), EQUAL, k=V), *UNTUNED)
    turned = found["rules"]["brf_flipped"]
    assert (turned["log_loss_nats"], turned["n_undefined"]) == (None, sum(EQUAL))
    assert "brf_flipped" not in found["contrasts"]
    assert "brf_zero" in found["contrasts"]


def test_born_rule_fusion_that_cancels_is_undefined(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Distributions that are equal up to rounding, with gaps on either side of a step of half a circle."""
    logits, targets = world(EQUAL)
    more = np.arange(sum(EQUAL)) % 2 == 0
    above = np.nextafter(np.float32(1), np.float32(2))
    base = sharpened(logits[0], 0.0)
    # The second best logit at 0, so that the gap above 1 is exact in single precision.
    base -= base.max(axis=1, keepdims=True)
    first = base.argmax(axis=1)
    turned = []
    for side in (more, ~more):
        turned.append(base.copy())
        turned[-1][np.arange(first.size), first] = np.where(side, above, np.float32(1))
    (tmp_path / "step.csv").write_text(f"gap,phase\n1,0\n{above:.10f},{np.pi}\n", encoding="utf-8")
    step = ("phase=table", f"phase.table={tmp_path / 'step.csv'}")
    named = captured((turned, targets), EQUAL, k=V)
    found = discriminated(named, *step, *UNTUNED)
    assert (found["verdict"], found["reason"]) == ("inconclusive", "undefined fusion")
    assert found["rules"]["brf"]["n_undefined"] == sum(EQUAL)
    assert found["rules"]["brf"]["log_loss_nats"] is None
    assert found["contrasts"] == {}
    assert "undefined at some positions" in found["sentence"]
    # Unequal weights leave something, and tuning finds them.
    assert discriminated(named, *step)["rules"]["brf"]["n_undefined"] == 0


@pytest.mark.parametrize(("k", "models"), [(2, 2), (V, 2), (5, 3), (2, 3)])
def test_few_and_all_logits_are_scored(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]], k: int, models: int
) -> None:
    found = discriminated(captured(world(EQUAL, models=models), EQUAL, k=k, vocabulary_size=V))
    assert found["gates"]["failed"] == ""
    lower, upper = found["rules"]["brf"]["log_loss_nats"]
    assert (lower == pytest.approx(upper, abs=1e-6)) == (k == V)
    assert {"linear", "brf_zero", "brf_shifted"} <= set(found["contrasts"])


# --- no logsumexp -----------------------------------------------------------------------------------------------------


def exact_losses(made: World) -> np.ndarray:
    """Losses of every model from its full vocabulary, (M, n)."""
    wide = [one.astype(np.float64) for one in made[0]]
    return np.stack([logsumexp(one, axis=1) - one[np.arange(made[1].size), made[1]] for one in wide])


def by_hand(logits: np.ndarray, target: int, k: int, size: int | None) -> tuple[float, float]:
    """Ends of one position's loss with dictionaries: nothing else, or every other token at the k-th logit."""
    ranked = sorted(range(logits.size), key=lambda token: -logits[token])[:k]
    known = {token: float(logits[token]) for token in [*ranked, target]}
    listed = sum(np.exp(value) for value in known.values())
    others = np.inf if size is None else (size - len(known)) * np.exp(logits[ranked[-1]])
    return np.log(listed) - logits[target], np.log(listed + others) - logits[target]


@pytest.mark.parametrize("k", [2, 5, V - 1, V])
@pytest.mark.parametrize("size", [V, None])
def test_ends_of_a_loss_without_normaliser_are_those_of_an_enumeration(k: int, size: int | None) -> None:
    (logits, *_), targets = world((50,), seed=3)
    wide = logits.astype(np.float64)
    rows = top_k(wide, targets, k)
    ids, values = (np.column_stack([rows[f"{stem}_{rank + 1}"] for rank in range(k)]) for stem in ("id", "logit"))
    found = loss_bounds(values, ids, target_logit=rows["target_logit"], target_ids=targets, vocabulary_size=size)
    expected = np.transpose([by_hand(wide[row], int(targets[row]), k, size) for row in range(50)])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    exact = rows["logsumexp"] - rows["target_logit"]
    assert (found[0] <= exact + 1e-12).all()
    assert (exact <= found[1] + 1e-12).all()
    if k == V and size is not None:
        np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


def test_without_logsumexp_ends_contain_the_exact_losses(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    made = world(EQUAL)
    lacking = {"a": ["logsumexp"], "b": ["logsumexp"]}
    found = discriminated(captured(made, EQUAL, without=lacking, vocabulary_size=V))
    assert (found["verdict"], found["reason"]) == ("inconclusive", "missing logsumexp")
    assert "the column logsumexp is missing from the rows of model-a; model-b; add it" in found["sentence"]
    assert found["missing_columns"] == {"model-a": ["logsumexp"], "model-b": ["logsumexp"]}
    exact = exact_losses(made)
    surest = np.argmax([np.diff(np.sort(one.astype(np.float64), axis=1)[:, -2:])[:, 0] for one in made[0]], axis=0)
    means = {
        "model_a": exact[0].mean(),
        "model_b": exact[1].mean(),
        "linear": -np.log(np.exp(-exact).mean(axis=0)).mean(),
        "oracle": exact.min(axis=0).mean(),
        "route_gap": np.take_along_axis(exact, surest[None], axis=0).mean(),
    }
    for name, mean in means.items():
        lower, upper = found["rules"][name]["log_loss_nats"]
        assert lower < mean < upper
    assert found["rules"]["brf"]["log_loss_nats"] is None
    right = [one.argmax(axis=1) == made[1] for one in made[0]]
    assert found["rules"]["model_a"]["accuracy"] == pytest.approx(right[0].mean())
    assert found["rules"]["route_gap"]["accuracy"] == pytest.approx(np.where(surest == 0, *right).mean())


def test_one_model_with_its_logsumexp_is_a_point_and_bounds_the_pool(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    made = world(EQUAL)
    rules = discriminated(captured(made, EQUAL, without={"b": ["logsumexp"]}))["rules"]
    exact = exact_losses(made)
    assert rules["model_a"]["log_loss_nats"] == pytest.approx([exact[0].mean()] * 2, abs=1e-6)
    assert rules["model_b"]["log_loss_nats"][1] is None  # the vocabulary's size is not known
    # At the worst the other model adds nothing to the pool.
    assert rules["linear"]["log_loss_nats"][1] == pytest.approx(exact[0].mean() + np.log(2), abs=1e-6)


def test_without_logsumexp_agreement_is_as_with_it_and_no_key_is_missing(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    made = world(EQUAL)
    whole = discriminated(captured(made, EQUAL))
    for name in "ab":
        (tmp_path / f"capture-{name}").rename(tmp_path / f"whole-{name}")
    lacking = discriminated(captured(made, EQUAL, without={"a": ["logsumexp"]}))
    assert set(whole) <= set(lacking)
    assert whole["agreement"] | {"negative_share_tuned": None} == lacking["agreement"]
    assert set(whole["maps"]) == set(lacking["maps"])
    assert set(whole["rules"]["brf"]) == set(lacking["rules"]["brf"])
    assert lacking["gates"] == whole["gates"] | {"failed": "missing logsumexp"}


def test_how_rows_are_cut_changes_nothing_without_logsumexp(
    captured: Callable[..., str],
    discriminated: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = world(EQUAL)
    first = discriminated(captured(made, EQUAL, without={"a": ["logsumexp"]}, vocabulary_size=V))
    for name in "ab":
        (tmp_path / f"capture-{name}").rename(tmp_path / f"whole-{name}")
    monkeypatch.setattr("brf_exp.stages.gap_rows.BATCH_ROWS", 37)
    cut = captured(made, EQUAL, without={"a": ["logsumexp"]}, vocabulary_size=V, rows_per_part=50)
    assert discriminated(cut, "memory_mb=1") == first


def test_three_models_without_logsumexp(
    captured: Callable[..., str], discriminated: Callable[..., dict[str, Any]]
) -> None:
    made = world(EQUAL, models=3)
    found = discriminated(captured(made, EQUAL, without={"c": ["logsumexp"]}, vocabulary_size=V))
    assert found["reason"] == "missing logsumexp"
    lower, upper = found["rules"]["linear"]["log_loss_nats"]
    assert lower < -np.log(np.exp(-exact_losses(made)).mean(axis=0)).mean() < upper
    assert found["rules"]["model_c"]["log_loss_nats"][0] < found["rules"]["model_c"]["log_loss_nats"][1]


def test_a_submission_without_logsumexp_keeps_its_target_and_says_what_it_can(
    discriminated: Callable[..., dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, folder = world(EQUAL), tmp_path / "submission"
    folder.mkdir()
    for name, logits in zip("ab", made[0], strict=True):
        columns = {key: v for key, v in top_k(logits, made[1], 5).items() if key != "logsumexp"}
        columns |= {"doc_id": np.repeat([f"d{d}" for d in range(21)], 24), "position": np.tile(np.arange(24), 21)}
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = "{{name: model-{0}, tokenizer: words, vocab_size: 12, value_kind: logit, capture: {0}.csv}}"
    models = "".join(f"  {name}: {model.format(name)}\n" for name in "ab")
    (folder / "submission.yaml").write_text(f"schema: 1\nname: mine\nmodels:\n{models}", encoding="utf-8")
    assert main(["ingest", f"submission={folder}", f"runs_dir={tmp_path / 'runs'}"]) == 0
    capsys.readouterr()
    found = discriminated("pair=mine")
    assert found["reason"] == "missing logsumexp"
    lower, upper = found["rules"]["model_a"]["log_loss_nats"]
    assert lower < exact_losses(made)[0].mean() < upper


@pytest.mark.parametrize("lost", [("a", "b"), ("b",)])
def test_a_whole_run_without_logsumexp_ends_with_its_claims_and_a_report(
    captured: Callable[..., str], here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Sequence[str]
) -> None:
    monkeypatch.setattr("brf_exp.stages.discriminate.discrimination_controls", lambda *given, **named: PASSED)
    monkeypatch.setattr("brf_exp.stages.coherence.planted_controls", lambda data, config: PASSED)
    named = captured(world(EQUAL), EQUAL, without=dict.fromkeys(lost, ["logsumexp"]), vocabulary_size=V)
    fewer = ("evaluation.n_repairings=99", "evaluation.n_negative_controls=20")
    folder = here("run", named, *FAST, *fewer, f"runs_dir={tmp_path / 'runs'}")
    claims = json.loads((folder / "claims" / "results.json").read_text(encoding="utf-8"))
    found = {claim["id"]: claim for claim in claims["claims"]}
    assert found["brf.discrimination"]["reason"] == "missing logsumexp"
    assert found["brf.below_minimum"]["evidence"]["observed rate"] is None
    assert found["brf.agreement_amplified"]["reason"] == "agreement suppressed"
    assert "add it" in (folder / "report" / "report.html").read_text(encoding="utf-8")
    # The ledger is frozen by hash before any result is there, and the run's own files carry hash and robustness.
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["ledger_sha256"] == claims["ledger_sha256"]
    assert claims["ledger_frozen_late"] is False
    summary = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert summary["robust"] == {name: claim["robust"] for name, claim in found.items()}


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["token_id", "target_logit"])
def test_other_missing_columns_are_refused_by_name(
    captured: Callable[..., str], refused: Callable[..., str], tmp_path: Path, column: str
) -> None:
    named = captured(world(EQUAL), EQUAL, without={"b": [column]})
    message = refused("discriminate", named, *FAST, f"runs_dir={tmp_path / 'runs'}")
    assert message.startswith(f"`model-b` must have the column(s) {column} for discriminate, got doc_id, position, ")


def test_missing_ids_and_logsumexp_are_named_together(
    captured: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    lost = ["logsumexp", *(f"id_{rank + 1}" for rank in range(5))]
    named = captured(world(EQUAL), EQUAL, without={"a": lost})
    message = refused("discriminate", named, *FAST, f"runs_dir={tmp_path / 'runs'}")
    assert message.startswith("`model-a` must have the column(s) logsumexp, id_1 for discriminate, got ")


def test_other_tokens_are_refused_with_their_row(
    captured: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    logits, targets = world(EQUAL)
    captured(([logits[0]], targets), EQUAL)
    (tmp_path / "capture-a").rename(tmp_path / "first")
    moved = targets.copy()
    moved[30] = (moved[30] + 1) % V
    captured(([logits[1]], moved), EQUAL)
    named = f"captures=[{tmp_path / 'first'},{tmp_path / 'capture-a'}]"
    message = refused("discriminate", named, *FAST, f"runs_dir={tmp_path / 'runs'}")
    assert message == (
        f"`token_id` of model-a must equal that of model-a, got {moved[30]} instead of {targets[30]} in row 31. "
        "Dump both models on the same tokens."
    )


def test_other_tokenizers_are_refused(
    captured: Callable[..., str], refused: Callable[..., str], tmp_path: Path
) -> None:
    named = captured(world(EQUAL), EQUAL)
    for name in "ab":
        path = tmp_path / f"capture-{name}" / "capture.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, manifest | {"tokenizer_fingerprint": name * 8})
    message = refused("discriminate", named, *FAST, f"runs_dir={tmp_path / 'runs'}")
    assert message == (
        "`model-b` must have the tokenizer of model-a, got another one. Choose two models that share their token ids."
    )
