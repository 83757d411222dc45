"""The coherence stage on captures: bytes that depend on nothing but the data and the seed, and named reasons."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.config import CoherenceStageConfig, PhaseConfig
from brf_exp.maths import documents
from brf_exp.maths.undefined import UndefinedStatisticError
from brf_exp.stages import coherence, gap_rows
from brf_exp.stages.claim_tests import phase_coherence
from brf_exp.stages.pair_test import SCALE_FACTORS
from brf_exp.storage import captures, scratch

Write = Callable[..., str]
Settings = Callable[..., CoherenceStageConfig]
Run = Callable[..., dict[str, Any]]
EQUAL = (24,) * 21
N = sum(EQUAL)
RAGGED = tuple(np.random.default_rng(5).integers(6, 24, 21).tolist())
MAPS = ("arctan", "linear", "tanh", "exponential", "quantile")


def gaps(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1.0, n)


def related(seed: int, share: float, n: int = N) -> np.ndarray:
    """Gaps of three models that share part of what moves them, (3, n)."""
    rng = np.random.default_rng(seed)
    common, own = rng.normal(size=n), rng.normal(size=(3, n))
    return np.exp(np.sqrt(share) * common + np.sqrt(1 - share) * own)


def difficulty(seed: int, n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {"logsumexp": rng.normal(9, 1, n), "target_logit": rng.normal(0, 1, n).astype(np.float32)}


def strict(text: str) -> Any:
    """JSON without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in strict JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def tested(write_capture: Write, settings: Settings, controls_pass: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that tests models a, b, ... with the given gaps, and a proxy p where there is one; its results."""
    counter = iter(range(100))

    def run(
        made: Sequence[np.ndarray],
        lengths: Sequence[int] = EQUAL,
        *,
        proxy: np.ndarray | None = None,
        scale_factors: tuple[float, ...] = (1.0,),
        **more: Any,
    ) -> dict[str, Any]:
        number = next(counter)
        monkeypatch.setattr("brf_exp.stages.pair_test.SCALE_FACTORS", scale_factors)
        folders = [
            write_capture(name, values, lengths, folder=f"{number}{name}")
            for name, values in zip("abcdef", made, strict=False)
        ]
        if proxy is not None:
            more["proxy"] = write_capture("p", proxy, lengths, folder=f"{number}p")
        return results_of(coherence.run(settings(*folders, **more)))

    return run


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = strict((folder / "results.json").read_text(encoding="utf-8"))
    return found


# --- the same bytes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def bytes_of(write_capture: Write, settings: Settings, tmp_path: Path, controls_pass: None) -> Callable[..., bytes]:
    """A function that tests two models and a proxy, or three models, in a fresh folder; the bytes of its results."""
    counter = iter(range(100))

    def run(lengths: Sequence[int], *, n_models: int = 2, rows_per_part: int = 65536, **more: Any) -> bytes:
        number, n = next(counter), sum(lengths)
        made = related(3, 0.3, n)
        ids = np.random.default_rng(1).integers(0, 9, n).astype(np.int32)
        folders = [
            write_capture(
                name,
                values,
                lengths,
                folder=f"{number}{name}",
                rows_per_part=rows_per_part * (1 + k),
                token_id=ids,
                **difficulty(k, n),
            )
            for k, (name, values) in enumerate(zip("abc", made, strict=True))
        ]
        more |= {"runs_dir": str(tmp_path / f"runs{number}")}
        proxy = {"proxy": folders.pop()} if n_models == 2 else {}
        folder = coherence.run(settings(*folders, **proxy, **more))
        assert not list((tmp_path / f"runs{number}").glob(".scratch/*"))
        return (folder / "results.json").read_bytes()

    return run


def test_memory_batches_chunks_and_parts_make_no_difference(
    bytes_of: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bytes_of(RAGGED)
    assert strict(expected.decode())["secondary"]["document_permutation"] is None
    with monkeypatch.context() as patch:
        made = []
        whole = scratch.Scratch.empty

        def spied(self: scratch.Scratch, *arguments: Any) -> np.ndarray:
            made.append(whole(self, *arguments))
            return made[-1]

        patch.setattr(scratch, "MEBIBYTE", 4096)
        patch.setattr(scratch.Scratch, "empty", spied)
        assert bytes_of(RAGGED, memory_mb=1) == expected
        assert sum(isinstance(array, np.memmap) for array in made) > len(made) / 2
    with monkeypatch.context() as patch:
        patch.setattr(gap_rows, "BATCH_ROWS", 13)
        assert bytes_of(RAGGED) == expected
    with monkeypatch.context() as patch:
        patch.setattr(documents.document_chunks, "__defaults__", (50,))
        assert bytes_of(RAGGED) == expected
    with monkeypatch.context() as patch:
        patch.setattr(captures, "ROW_GROUP_ROWS", 11)
        assert bytes_of(RAGGED, rows_per_part=60) == expected


def test_chunks_make_no_difference_to_three_models(
    bytes_of: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (12,) * 21
    expected = strict(bytes_of(lengths, n_models=3, memory_mb=0).decode())
    monkeypatch.setattr(documents.document_chunks, "__defaults__", (30,))
    found = strict(bytes_of(lengths, n_models=3).decode())
    # A matrix product, whose last digit depends on how large its blocks are.
    for left, right in zip([expected, *expected["pairs"]], [found, *found["pairs"]], strict=True):
        values = [results["secondary"].pop("document_permutation") for results in (left, right)]
        assert values[1] == pytest.approx(values[0], rel=1e-12)
    assert found == expected


def test_the_seed_decides_what_is_drawn(bytes_of: Callable[..., bytes]) -> None:
    first, again, other = (bytes_of(RAGGED, seed=seed) for seed in (1, 1, 2**32 - 1))
    assert again == first
    drawn, otherwise = (strict(made.decode())["phases"]["arctan"] for made in (first, other))
    assert drawn["nulls"]["repairing"]["mean"] != otherwise["nulls"]["repairing"]["mean"]
    assert drawn["residual"]["excess_raw"] != otherwise["residual"]["excess_raw"]
    assert drawn["nulls"]["shift"] == otherwise["nulls"]["shift"]


# --- named reasons ----------------------------------------------------------------------------------------------------


def zeros(seed: int, share: float) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(N) < share, 0, gaps(seed))


REASONS: list[tuple[str, dict[str, Any], str]] = [
    ("constant gaps of one model", {"made": [np.ones(N), gaps(1)]}, "constant gaps"),
    ("constant gaps of a third model", {"made": [gaps(0), gaps(1), np.full(N, 2.0)]}, "constant gaps"),
    ("all gaps tied at zero", {"made": [np.zeros(N), np.zeros(N)]}, "constant gaps"),
    ("half of the gaps zero", {"made": [zeros(0, 0.6), zeros(1, 0.6)]}, "ties at zero"),
    ("half of the gaps of three models zero", {"made": [zeros(k, 0.6) for k in range(3)]}, "ties at zero"),
    ("19 documents", {"made": [gaps(0, 190), gaps(1, 190)], "lengths": (10,) * 19}, "documents"),
    ("two documents", {"made": [gaps(0, 200), gaps(1, 200)], "lengths": (100, 100)}, "documents"),
    ("two documents of one row", {"made": [gaps(0, 2), gaps(1, 2)], "lengths": (1, 1)}, "documents"),
    ("documents of one token", {"made": [gaps(0, 30), gaps(1, 30)], "lengths": (1,) * 30}, "documents of one token"),
    ("short documents", {"made": [gaps(0, 60), gaps(1, 60)], "lengths": (2,) * 30}, "document length"),
    ("one row", {"made": [gaps(0, 1), gaps(1, 1)], "lengths": (1,)}, "documents"),
    ("one document of 5 rows", {"made": [gaps(0, 5), gaps(1, 5)], "lengths": (5,)}, "documents"),
    ("one document of 39 rows", {"made": [gaps(0, 39), gaps(1, 39)], "lengths": (39,)}, "documents"),
    ("one document of 40 rows", {"made": [gaps(0, 40), gaps(1, 40)], "lengths": (40,)}, "document length"),
    ("phases that hardly vary", {"made": [gaps(0), gaps(1)], "phase": PhaseConfig(scale=1e9)}, "constant phases"),
]
SENTENCES = {
    "constant gaps": "one model's gaps are all equal",
    "ties at zero": "half of the gaps are exactly 0",
    "documents": "too few documents",
    "documents of one token": "every document has one token",
    "document length": "too short for their autocorrelation",
    "constant phases": "do not vary within documents",
    "no difficulty proxy": "without a third model as difficulty proxy",
    "identical models": "one and the same",
    "proxy under test": "the difficulty proxy is one of the models under test",
    "pseudo-documents": "one long document cut into blocks",
}


@pytest.mark.parametrize("proxy", [None, 9], ids=["alone", "with a proxy"])
@pytest.mark.parametrize(("case", "reason"), [(c, r) for _, c, r in REASONS], ids=[name for name, _, _ in REASONS])
def test_data_that_decide_nothing_name_the_reason(
    tested: Run, case: dict[str, Any], reason: str, proxy: int | None
) -> None:
    case = dict(case)
    made = case.pop("made")
    third = None if proxy is None else gaps(proxy, made[0].size)
    results = tested(made, proxy=third, **case)
    assert (results["verdict"], results["reason"]) == ("inconclusive", reason)
    if len(made) == 2:
        assert results["sentence"].startswith("For a-b, proverbs.txt, map arctan: ")
        assert SENTENCES[reason] in results["sentence"]
        assert results["sentence"].endswith(" (inconclusive).")
    else:
        assert len(results["pairs"]) == 3
        assert all(SENTENCES[reason] in pair["sentence"] for pair in results["pairs"])
        assert results["kuramoto"] is None
    assert set(results["phases"]) == set(MAPS)
    # What is undefined is null everywhere, and the claim's evidence can be read off it.
    measured = type("M", (), {"coherence": results})
    assert phase_coherence(measured).verdict.reason == reason  # type: ignore[arg-type]


def test_without_a_proxy_nothing_is_supported(tested: Run) -> None:
    results = tested(related(0, 0.6)[:2])
    assert (results["verdict"], results["reason"]) == ("inconclusive", "no difficulty proxy")
    assert SENTENCES["no difficulty proxy"] in results["sentence"]
    assert results["phases"]["arctan"]["excess_share_interval"][0] > 0.05


@pytest.mark.parametrize(
    ("n_rows", "n_documents"), [(1, 1), (2, 1), (3, 1), (5, 2), (39, 19), (40, 20), (2000, 20), (2001, 20)]
)
def test_one_document_is_cut_into_blocks(tested: Run, n_rows: int, n_documents: int) -> None:
    results = tested([gaps(0, n_rows), gaps(1, n_rows)], (n_rows,))
    assert (results["pseudo_documents"], results["n_documents"], results["n_positions"]) == (True, n_documents, n_rows)
    assert results["verdict"] != "supported"


def test_a_very_long_document_is_cut_into_blocks_that_a_transform_can_take(
    tested: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brf_exp.stages.pair_test.MAX_PSEUDO_ROWS", 30)
    assert tested([gaps(0, 2000), gaps(1, 2000)], (2000,))["n_documents"] == 67


def test_blocks_of_one_document_support_nothing(tested: Run) -> None:
    rng = np.random.default_rng(0)
    made, proxy = np.exp(0.9 * rng.normal(size=2000) + 0.3 * rng.normal(size=(2, 2000))), gaps(9, 2000)
    results = tested(made, (2000,), proxy=proxy)
    assert (results["verdict"], results["reason"]) == ("inconclusive", "pseudo-documents")
    assert SENTENCES["pseudo-documents"] in results["sentence"]
    assert tested(made, (100,) * 20, proxy=proxy)["verdict"] == "supported"


@pytest.mark.parametrize("weights", ["equal", "unknown"])
def test_two_times_the_same_model(write_capture: Write, settings: Settings, controls_pass: None, weights: str) -> None:
    model = {"weights_sha256": "f00d"} if weights == "equal" else {}
    second = gaps(1) if weights == "equal" else gaps(0)
    a, b = write_capture("a", gaps(0), EQUAL, model=model), write_capture("b", second, EQUAL, model=model)
    config = settings(a, b, proxy=write_capture("p", gaps(2), EQUAL))
    results = results_of(coherence.run(config))
    assert (results["verdict"], results["reason"]) == ("inconclusive", "identical models")
    assert results["identical_models"] == [["a", "b"]]
    assert SENTENCES["identical models"] in results["sentence"]


@pytest.mark.parametrize("weights", ["equal", "unknown"])
def test_a_proxy_that_is_under_test(
    write_capture: Write, settings: Settings, controls_pass: None, weights: str
) -> None:
    made = related(0, 0.4)
    model = {"weights_sha256": "f00d"} if weights == "equal" else {}
    a, b = write_capture("a", made[0], EQUAL), write_capture("b", made[1], EQUAL, model=model)
    proxy = write_capture("b", made[2] if weights == "equal" else made[1], EQUAL, folder="again", model=model)
    results = results_of(coherence.run(settings(a, b, proxy=proxy)))
    assert (results["verdict"], results["reason"]) == ("inconclusive", "proxy under test")
    assert SENTENCES["proxy under test"] in results["sentence"]


@pytest.mark.parametrize("step", [0.125, 0.5])
def test_logits_on_a_lattice_are_decided_and_their_ties_counted(tested: Run, step: float) -> None:
    made = [np.round(values / step) * step for values in related(1, 0.02)]
    results = tested(made[:2], proxy=made[2])
    assert results["tie_fractions"][0] > 0.95
    assert results["largest_ties"][0] == pytest.approx(np.unique(made[0], return_counts=True)[1].max() / N)
    assert results["verdict"] in ("inconclusive", "falsified")
    assert all(results["phases"][name]["residual"]["excess_interval"] for name in MAPS)


def test_gaps_with_two_values_have_every_harmonic_that_exists(tested: Run) -> None:
    """Phases 0 and pi / 2: four times them do not vary."""
    made = [np.random.default_rng(seed).integers(0, 2, N).astype(float) for seed in range(2)]
    results = tested(made, proxy=gaps(2))
    assert results["phases"]["arctan"]["scale"] == 1
    assert results["phases"]["arctan"]["nulls"]["shift"]["df"] == 1
    overtones = results["secondary"]["harmonics"]
    assert [overtone["order"] for overtone in overtones if overtone["pvalue"] is None] == [4]


def test_a_map_that_is_undefined_is_null_beside_those_that_are_not(tested: Run) -> None:
    results = tested([zeros(0, 0.6), zeros(1, 0.6)], proxy=gaps(2))
    for name in MAPS[:4]:
        found = results["phases"][name]
        assert (found["verdict"], found["reason"]) == ("inconclusive", "ties at zero")
        numbers = {key: value for key, value in found.items() if key not in ("verdict", "reason")}
        assert set(numbers.values()) == {None}
    assert results["phases"]["quantile"]["excess"] is not None
    assert [entry["map"] for entry in results["specification"]] == ["quantile"]
    assert (results["secondary"], results["planning"]) == (None, None)


def test_covariates_that_determine_the_gaps(tested: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_left(*arguments: Any, **settings: Any) -> None:
        raise UndefinedStatisticError("no residuals", "nothing is left")

    monkeypatch.setattr("brf_exp.stages.pair_test.residuals", nothing_left)
    results = tested([gaps(0), gaps(1)], proxy=gaps(2))
    assert (results["verdict"], results["reason"]) == ("inconclusive", "no residuals")
    assert "the difficulty proxy determines the gaps" in results["sentence"]


def test_an_error_of_the_program_is_no_result(tested: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*arguments: Any, **settings: Any) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr("brf_exp.stages.pair_test.harmonics", broken)
    with pytest.raises(ValueError, match="broadcast"):
        tested([gaps(0), gaps(1)])
    assert not list((tmp_path / "runs").glob("coherence/*/*"))


# --- what is in the results -------------------------------------------------------------------------------------------


def test_dependent_models_are_found_coherent_beyond_the_proxy(tested: Run) -> None:
    rng = np.random.default_rng(0)
    n = 60 * 50
    common, shared, own = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(3, n))
    made = np.exp(0.6 * common + 0.6 * shared + 0.5 * own[:2])
    proxy = np.exp(0.8 * common + 0.3 * own[2])
    results = tested(made, (60,) * 50, proxy=proxy)
    assert (results["verdict"], results["reason"]) == ("supported", "coherent beyond shared difficulty")
    assert results["proxy"] == "p"
    assert results["negative_control_rate"] <= 0.1


def test_the_specification_has_every_map_at_every_scale(tested: Run) -> None:
    results = tested(related(0, 0.3)[:2], proxy=gaps(5), scale_factors=SCALE_FACTORS)
    found = {(entry["map"], entry["scale_factor"]) for entry in results["specification"]}
    assert found == {(name, factor) for name in MAPS[:4] for factor in SCALE_FACTORS} | {("quantile", None)}
    for entry in results["specification"]:
        if entry["scale_factor"] == 1:
            plain = results["phases"][entry["map"]]
            assert entry["share"] == plain["excess_share"]
            assert entry["residual_share_interval"] == plain["residual"]["excess_share_interval"]
        if entry["scale_factor"] is not None:
            assert entry["scale"] == entry["scale_factor"] * results["phases"][entry["map"]]["scale"]
        assert entry["pvalue_adjusted"] >= entry["pvalue"]


@pytest.mark.parametrize("phase", ["arctan", "quantile", "table"])
def test_three_models_are_three_pairs(tested: Run, tmp_path: Path, phase: str) -> None:
    (tmp_path / "map.csv").write_text("gap,phase\n0,0\n1,1.5\n5,3\n", encoding="utf-8")
    made = PhaseConfig(phase, scale=1.5, table=str(tmp_path / "map.csv"))
    results = tested(related(0, 0.3), phase=made)
    assert results["models"] == ["a", "b", "c"]
    named = [(pair["models"], pair["proxy"]) for pair in results["pairs"]]
    assert named == [(["a", "b"], "c"), (["a", "c"], "b"), (["b", "c"], "a")]
    assert results["confidence_level"] == pytest.approx(1 - 0.05 / 3)
    assert results["alpha"] == pytest.approx(0.05 / 3)
    assert all(pair["phases"][phase]["residual"] for pair in results["pairs"])
    assert results["phases"] == results["pairs"][0]["phases"]
    kuramoto = results["kuramoto"]
    assert sum(kuramoto["counts"]) == N
    assert sum(kuramoto["shifted_counts"]) == pytest.approx(N)
    # The excess of r^2 is the sum of the pairs' excess cosines.
    raw = [pair["phases"][phase]["excess_raw"] for pair in results["pairs"]]
    assert kuramoto["excess_squared"]["value"] == pytest.approx(2 / 9 * sum(raw), rel=1e-9)
    assert kuramoto["mean"] > kuramoto["shifted_mean"]


def test_intervals_of_three_models_are_wider(tested: Run) -> None:
    made = related(0, 0.3)
    three = tested(made)["phases"]["arctan"]
    two = tested(made[:2], proxy=made[2])["phases"]["arctan"]
    for left, right in ((three, two), (three["residual"], two["residual"])):
        assert left["excess_raw"] == pytest.approx(right["excess_raw"], rel=1e-12)
        assert [found["nulls"]["repairing"]["n"] for found in (left, right)] == [3 * 99, 99]
        widths = [np.diff(found["excess_interval"])[0] for found in (left, right)]
        assert widths[0] > 1.1 * widths[1]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["supported"] * 3, ("supported", "coherent beyond shared difficulty")),
        (["supported", "falsified", "supported"], ("inconclusive", "pairs differ")),
    ],
)
def test_the_joint_verdict_is_that_of_every_pair(
    tested: Run, monkeypatch: pytest.MonkeyPatch, verdicts: list[str], expected: tuple[str, str]
) -> None:
    from brf_exp.maths.decisions import Verdict

    reasons = {"supported": "coherent beyond shared difficulty", "falsified": "shared difficulty"}
    decided = iter([verdict for verdict in verdicts for _ in MAPS])

    def decide(*arguments: Any) -> Verdict:
        verdict = next(decided)
        return Verdict(verdict, reasons[verdict])

    monkeypatch.setattr("brf_exp.stages.phase_test.coherence_verdict", decide)
    results = tested(related(0, 0.3, 20 * 12), (12,) * 20)
    assert next(decided, None) is None
    assert [pair["verdict"] for pair in results["pairs"]] == verdicts
    assert (results["verdict"], results["reason"]) == expected
    assert f"of 3 pairs of models, {verdicts.count('supported')} support" in results["sentence"]
