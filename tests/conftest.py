"""A run folder as `brf-exp run` leaves it, made of small synthetic results."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

N_DOCUMENTS, N_TOKENS = 21, 12
WORDS = "the phase of a gap is a map from one number to an angle and back".split()[:N_TOKENS]


def _positions() -> dict[str, np.ndarray]:
    n = N_DOCUMENTS * N_TOKENS
    document = np.repeat(np.arange(N_DOCUMENTS, dtype=np.int32), N_TOKENS)
    return {"document": document, "position": (np.arange(n) % N_TOKENS).astype(np.int32)}


def _phases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    gaps = rng.exponential(2.0, (2, N_DOCUMENTS * N_TOKENS))
    phases = 2 * np.arctan(gaps / 1.5)
    return _positions() | {"gap_a": gaps[0], "gap_b": gaps[1], "phase_a_rad": phases[0], "phase_b_rad": phases[1]}


def _losses() -> dict[str, np.ndarray]:
    """Row 5 is amplified by 1.5 nats, row 40 suppressed by 2 nats and below both models; the rest hardly moves."""
    rng = np.random.default_rng(2)
    positions = _positions()
    n = positions["document"].size
    log_p = -rng.exponential(1.0, (2, n)) - 0.1
    linear = -np.log(np.exp(log_p).mean(axis=0))
    gain = rng.uniform(-0.02, 0.02, n)
    gain[5] = 1.5
    gain[40] = -2.0
    linear[5] = 2.0
    log_p[:, 40] = linear[40] = 0.5
    log_p[:, 40] *= -1
    columns = {
        "token_id": np.arange(n, dtype=np.int32) % 50,
        "log_p_a": log_p[0],
        "log_p_b": log_p[1],
        "coherence": rng.uniform(-0.4, 1.0, n),
        "own_scale_coherence": rng.uniform(-0.4, 1.0, n),
        "loss_linear_nats": linear,
        "loss_brf_nats": linear - gain,
    }
    return positions | columns


def _coherent(excess: float) -> dict[str, Any]:
    shift = {"n": 0, "mean": 0.0, "pvalue": 0.0, "log_pvalue": -900.0, "statistic": 1800.0, "df": 2}
    return {
        "resultant_length_independent": 0.4,
        "nulls": {"shift": shift, "repairing": {"n": 99, "mean": 0.01, "pvalue": 0.01}},
        "excess": excess,
        "excess_share": excess / 0.6,
        "excess_raw": excess + 0.01,
        "excess_interval": [excess - 0.02, excess + 0.02],
        "excess_share_interval": [(excess - 0.02) / 0.6, (excess + 0.02) / 0.6],
        "minimum_detectable_share": 0.03,
        "effective_n": 180.4,
    }


def _specification(proxy: bool) -> list[dict[str, Any]]:
    """Two maps, one of them at three scales."""
    rows = []
    for name, factor, share in (
        ("arctan", 0.5, 0.12),
        ("arctan", 1.0, 0.2),
        ("arctan", 4.0, 0.3),
        ("quantile", None, 0.33),
    ):
        row = {
            "map": name,
            "scale": factor and 1.5 * factor,
            "scale_factor": factor,
            "share": share,
            "pvalue": share / 5,
        }
        row |= {"share_interval": [share - 0.05, share + 0.05], "pvalue_adjusted": share, "reason": "shared difficulty"}
        row |= {"residual_share": 0.01 if proxy else None, "residual_share_interval": [-0.02, 0.04] if proxy else None}
        rows.append(row | {"verdict": "falsified"})
    return rows


def _planning() -> dict[str, Any]:
    needed = {"0.8": {"n_positions": 1512, "n_documents": 126, "interval": [1008, None]}}
    asked = {"question": "find", "true_share": 0.05, "needed": needed}
    asked["at_10000_tokens"] = {"power": 0.97, "interval": [0.8, 0.99], "n_documents": 833.3}
    measured = {"n_positions": 252, "n_documents": N_DOCUMENTS, "positions_per_document": 12.0, "design_effect": 1.4}
    return {"on": "phases", "delta": 0.05, "standard_error_share": 0.04, **measured, "questions": [asked]}


def _secondary() -> dict[str, Any]:
    harmonic = {"order": 1, "resultant_length": 0.6, "excess": 0.13, "pvalue": 0.0, "pvalue_adjusted": 0.0}
    numbers = {"cluster_ppc": 0.36, "cluster_ppc_excess": 0.02, "sign_flip_pvalue": 0.01}
    return {**numbers, "document_permutation": {"statistic": 7.5, "pvalue": 0.0235}, "harmonics": [harmonic]}


def _coherence(pair: str, models: list[str], proxy: bool) -> dict[str, Any]:
    circle = {
        "resultant_length": 0.6,
        "mean_direction_rad": -0.4,
        "rayleigh_z": 90.7,
        "rayleigh_pvalue": 0.0,
        "rayleigh_log_pvalue": -4731.9,
        "verdict": "falsified",
        "reason": "shared difficulty",
        "negative_control_rate": 0.03,
    }
    residual = _coherent(0.006) if proxy else None
    maps = {
        "arctan": {"scale": 1.5, **circle, **_coherent(0.12), "residual": residual},
        "quantile": {"scale": None, **circle, **_coherent(0.2), "residual": residual},
    }
    curve = [
        {"reliability": 0.5, "value": None, "lower": None, "upper": None},
        {"reliability": 0.8, "value": 0.01, "lower": -0.03, "upper": 0.05},
        {"reliability": 1.0, "value": 0.06, "lower": 0.02, "upper": 0.1},
    ]
    return {
        "schema": 1,
        "stage": "coherence",
        "pair": pair,
        "corpus": "proverbs",
        "models": models,
        "proxy": "org/third" if proxy else None,
        "lineage": "the second is distilled from the first",
        "n_positions": N_DOCUMENTS * N_TOKENS,
        "n_documents": N_DOCUMENTS,
        "pseudo_documents": False,
        "aligned_share": None,
        "identical_models": [],
        "tie_fractions": [0.02, 0.0],
        "phases": maps,
        "specification": _specification(proxy),
        "secondary": _secondary(),
        "planning": _planning(),
        "negative_control_rate": 0.03,
        "negative_control": "P1, P2 and reliability" if proxy else "P1",
        "reliability_curve": curve if proxy else None,
        "rank_correlation": {"value": 0.05, "interval": [-0.01, 0.11], "pvalue": 0.08} if proxy else None,
        "confidence_level": 0.95,
        "alpha": 0.05,
        "gates": {"n_documents": N_DOCUMENTS, "min_documents": 20, "controls": "passed", "failed": ""},
        "controls": {
            "planted": {"verdict": "supported", "reason": "coherent beyond shared difficulty"},
            "twin": {"verdict": "falsified", "reason": "shared difficulty"},
        },
        "delta": 0.05,
        "primary": "arctan",
        "verdict": "falsified",
        "reason": "shared difficulty",
        "sentence": f"For {pair}, proverbs, map arctan: no more than shared difficulty (falsified).",
        "robust": True,
    }


def _rule(role: str, low: float, high: float | None, **parameters: float) -> dict[str, Any]:
    folds = {"folds": [parameters, {name: value + 0.1 for name, value in parameters.items()}]} if parameters else {}
    return {"role": role, "log_loss_nats": [low, high], "n_undefined": 0, "accuracy": [0.5, 0.52], "parameters": folds}


def _contrast(difference: float, half_width: float) -> dict[str, Any]:
    return {
        "difference_nats": difference,
        "truncation": [difference - 0.001, difference + 0.001],
        "interval": [difference - half_width, difference + half_width],
        "upper_one_sided": difference + half_width,
        "lower_simultaneous": difference - half_width,
        "pvalue_adjusted": 0.02,
        "standard_error": half_width / 2,
        "minimum_detectable_nats": half_width,
    }


def _discrimination(pair: str, models: list[str]) -> dict[str, Any]:
    rules = {
        "brf": _rule("candidate", 1.40, 1.41, weight=0.5),
        "linear": _rule("rival", 1.38, 1.38, weight=0.6),
        "log_linear": _rule("rival", 1.9, 2.0, weight=0.4),
        "contrastive": _rule("rival", 1.1, None),
        "model_a": _rule("model", 1.5, 1.5),
        "model_b": _rule("model", 1.6, 1.6),
        "oracle": _rule("oracle", 1.0, 1.0),
        "brf_zero": _rule("rival", 1.39, 1.4),
        "brf_quantile": _rule("other_map", 1.42, 1.43),
    }
    contrasts = {
        "linear": _contrast(0.025, 0.01),
        "log_linear": _contrast(-0.5, 0.1),
        "brf_zero": _contrast(0.003, 0.01),
        "model_a": _contrast(-0.1, 0.05),
        "model_b": _contrast(-0.2, 0.05),
        "oracle": _contrast(0.4, 0.02),
    }
    made = {"verdict": "falsified", "reason": "no gain over linear"}
    return {
        "schema": 1,
        "stage": "discrimination",
        "pair": pair,
        "corpus": "proverbs",
        "models": models,
        "n_positions": N_DOCUMENTS * N_TOKENS,
        "n_documents": N_DOCUMENTS,
        "split": {"kind": "cross_fit", "n_folds": 5, "tune": True},
        "k": 20,
        "bhattacharyya": [0.64, 0.66],
        "rules": rules,
        "contrasts": contrasts,
        "maps": {"arctan": {"rule": "brf", **made}, "quantile": {"rule": "brf_quantile", **made}},
        "below_minimum_rate": 1 / 252,
        "below_minimum_interval": [0.0, 2 / 252],
        "below_minimum_controls": {"brf_zero": 0.0, "brf_flipped": 0.3},
        "agreement": {"negative_share": 0.28, "interval": [0.25, 0.31]},
        "noise_floor": None,
        "gates": {"n_documents": N_DOCUMENTS, "min_documents": 20, "controls": "passed", "failed": ""},
        "controls": {"planted": {"verdict": "supported"}, "twin": {"verdict": "falsified"}},
        "delta_nats": 0.005,
        "minimum_detectable_nats": 0.0123,
        "primary": "arctan",
        **made,
        "sentence": f"For {pair}, proverbs, map arctan: no relevant gain over linear (falsified).",
        "robust": True,
    }


def _claims(pair: str) -> dict[str, Any]:
    text = {
        "supported_if": "it holds",
        "falsified_if": "it does not",
        "tested_by": "a statistic",
        "source": "a preprint",
    }
    evidence = {"share": 0.1234, "interval": [0.1, 0.2], "strongest rival": "linear"}
    verdicts = {
        "brf.discrimination": ("falsified", "no gain over linear", True),
        "brf.below_minimum": ("supported", "structural", None),
        "brf.phase_coherence": ("inconclusive", "power", False),
        "brf.composability": ("not tested", "no stage measures it yet", None),
    }
    claims = []
    for name, (verdict, reason, robust) in verdicts.items():
        found = {} if verdict == "not tested" else evidence
        judged = {"verdict": verdict, "reason": reason, "robust": robust, "evidence": found}
        sentence = f"For {pair}: {reason} ({verdict})."
        claims.append({"id": name, "statement": f"{name} is true & proven.", "sentence": sentence, **judged, **text})
    return {"schema": 1, "stage": "claims", "pair": pair, "ledger_sha256": "c0ffee" * 10, "claims": claims}


def _audit() -> dict[str, Any]:
    rules = {
        "linear": {"formula": "sum_i w_i p_i", "source": "Stone 1961", "worst": {},
                   "properties": {"never_below_minimum": True, "no_cross_terms": True, "gauge_invariance": None}},
        "brf": {"formula": "|sum_i sqrt(w_i p_i) exp(i phi_i)|^2 / Z", "source": "the preprint", "worst": {},
                "properties": {"never_below_minimum": False, "no_cross_terms": False, "gauge_invariance": True}},
    }  # fmt: skip
    identities = {"mixture": {"statement": "q is a mixture", "max_error": 2.2e-16, "holds": True}}
    return {"schema": 1, "stage": "audit", "n_distributions": 2000, "rules": rules, "identities": identities}


def _write_capture(folder: Path, name: str, *, texts: bool) -> None:
    import pyarrow as pa

    from brf_exp.storage.captures import write_part

    columns = _positions()
    ends = np.cumsum([len(word) + 1 for word in WORDS]) - 1
    starts = ends - [len(word) for word in WORDS]
    rows = {
        "doc_id": [f"doc-{index:02d}" for index in columns["document"]],
        "position": columns["position"],
        "char_start": np.tile(starts, N_DOCUMENTS).astype(np.int32),
        "char_end": np.tile(ends, N_DOCUMENTS).astype(np.int32),
    }
    folder.mkdir(parents=True)
    sha256 = write_part(folder / "part-00000.parquet", pa.table(rows))
    n = columns["position"].size
    manifest = {
        "schema": 1,
        "model": {"name": name, "id": f"hub/{name}", "revision": "abc123", "weights_sha256": "f00d" * 16},
        "corpus": {"name": "file", "path": "my texts.txt", "fingerprint": "beef" * 16, "split": "held_out"},
        "mode": "teacher_forced",
        "determines": {"capture": {"k": 20, "dtype": "float32"}},
        "k": 20,
        "rows": n,
        "documents": N_DOCUMENTS,
        "parts": [{"name": "part-00000.parquet", "rows": n, "documents": N_DOCUMENTS, "sha256": sha256}],
    }
    (folder / "capture.json").write_text(json.dumps(manifest), encoding="utf-8")
    if texts:
        lines = [json.dumps({"doc_id": f"doc-{d:02d}", "text": " ".join(WORDS)}) for d in range(N_DOCUMENTS)]
        (folder / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _manifest(stage: str, **determines: Any) -> dict[str, Any]:
    environment = {"git_commit": "0123456789abcdef", "git_dirty": True, "finished": "2026-01-02T03:04:05+00:00"}
    packages = {"brf-exp": "0.1.0", "numpy": "2.4.0"}
    made = {"schema": 1, "stage": stage, "key": stage * 8, "determines": {"seed": 3, **determines}}
    return made | {"packages": packages, "environment": environment}


def build_run(
    folder: Path,
    *,
    pair: str = "tiny",
    models: tuple[str, ...] = ("org/first", "org/second"),
    stages: tuple[str, ...] = ("coherence", "discriminate", "audit", "claims"),
    proxy: bool = True,
    captures: bool = True,
    texts: bool = True,
) -> Path:
    """Write a run folder; returns it."""
    from brf_exp.storage.runs import MANIFEST, RESULTS, write_json
    from brf_exp.storage.tables import write_table

    results = {
        "coherence": lambda: _coherence(pair, list(models), proxy),
        "discriminate": lambda: _discrimination(pair, list(models[:2])),
        "audit": _audit,
        "claims": lambda: _claims(pair),
    }
    for stage in stages:
        (folder / stage).mkdir(parents=True)
        write_json(folder / stage / RESULTS, results[stage]())
        determines = {"phase": {"name": "arctan", "scale": 1.5, "table": None}, "evaluation": {"n_resamples": 99}}
        write_json(folder / stage / MANIFEST, _manifest(stage, **determines))
    draws = np.random.default_rng(3).normal(0.01, 0.01, (2, 99))
    grid = np.linspace(-0.9, 1.0, 20)
    curve = {"coherence": grid, "log_loss_lower_nats": grid**2 + 1.38, "log_loss_upper_nats": grid**2 + 1.39}
    if "coherence" in stages:
        write_table(folder / "coherence" / "positions.parquet", _phases())
        columns = {"excess": draws[0]} | ({"residual_excess": draws[1]} if proxy else {})
        write_table(folder / "coherence" / "repairings.parquet", columns)
    if "discriminate" in stages:
        write_table(folder / "discriminate" / "positions.parquet", _losses())
        write_table(folder / "discriminate" / "coherence_curve.parquet", curve)
    places = {}
    if captures:
        for role, name in (("a", models[0]), ("b", models[1])):
            place = folder.parent / f"{folder.name}-captures" / role
            _write_capture(place, name, texts=texts)
            places[role] = f"../{folder.name}-captures/{role}"
    summary = {"schema": 1, "stage": "run", "pair": pair, "corpus": "proverbs", "models": list(models)}
    write_json(folder / RESULTS, summary | {"captures": places})
    manifest = _manifest("run")
    manifest["environment"]["seconds"] = {"coherence": 1.25}
    write_json(folder / MANIFEST, manifest)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a run folder under tmp_path/runs/run."""

    def make(name: str = "tiny-00000000", **options: Any) -> Path:
        return build_run(tmp_path / "runs" / "run" / name, **options)

    return make


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder with everything in it, for tests that only read."""
    return build_run(tmp_path_factory.mktemp("whole") / "runs" / "run" / "tiny-00000000")


def _with_share(found: dict[str, Any], share: float, error: float, n_repairings: int) -> None:
    """Coherence results of one residual share and standard error, decided by the test's own rule."""
    from brf_exp.maths.decisions import CoherenceEvidence, Gates, coherence_verdict

    quantile = stats.t.ppf(0.975, N_DOCUMENTS - 1)
    pvalue = 1 / (n_repairings + 1)
    for made in found["phases"].values():
        null = {"kind": "repairing", "n": n_repairings, "mean": 0.01, "pvalue": pvalue}
        test = {"value": share, "df": N_DOCUMENTS - 1}
        for part, value in ((made, share + 0.2), (made["residual"], share)):
            ends = [value - quantile * error, value + quantile * error]
            part |= {"null": null, "document_test": test, "excess_share": value, "excess_share_interval": ends}
            part["nulls"]["repairing"] = {"n": n_repairings, "mean": 0.01, "pvalue": pvalue}
            part["nulls"]["shift"]["pvalue"] = 1e-12
    made = found["phases"][found["primary"]]
    ends = [tuple(part["excess_share_interval"]) for part in (made, made["residual"])]
    evidence = CoherenceEvidence(made["excess"], 1e-12, pvalue, *ends, True, 0.0, found["delta"])
    verdict = coherence_verdict(Gates(**found["gates"]), evidence)
    found |= {"verdict": verdict.verdict, "reason": verdict.reason}


def _with_gain(found: dict[str, Any], difference: float, error: float) -> None:
    """Discrimination results with one difference from the linear pool, decided by the test's own rule."""
    from brf_exp.maths.decisions import Gates, RivalEnds, discrimination_verdict

    ends = []
    for name, made in found["contrasts"].items():
        middle = difference if name == "linear" else difference - 0.3
        upper, lower = middle + 1.75 * error, middle - 2.6 * error
        made |= {"difference_nats": middle, "truncation": [middle - 1e-4, middle + 1e-4]}
        made |= {"interval": [middle - 2.1 * error, middle + 2.1 * error], "least_gain_nats": found["delta_nats"]}
        made |= {"upper_one_sided": upper + 1e-4, "lower_simultaneous": lower - 1e-4, "noise_floor_nats": 0.0004}
        if found["rules"][name]["role"] == "rival":
            ends.append(RivalEnds(name, upper + 1e-4, lower - 1e-4, upper, lower))
    verdict = discrimination_verdict(Gates(**found["gates"]), ends, delta_nats=found["delta_nats"])
    found |= {"verdict": verdict.verdict, "reason": verdict.reason}


@pytest.fixture(scope="session")
def write_light_run() -> Callable[..., Path]:
    """A function that writes a run folder of JSON alone; verdicts follow from the numbers it is given."""
    from brf_exp.storage.runs import MANIFEST, RESULTS, write_json

    def write(
        folder: Path,
        *,
        pair: str = "tiny",
        corpus: str = "proverbs",
        models: tuple[str, ...] = (),
        share: tuple[float, float] = (0.006, 0.01),
        gain: tuple[float, float] = (0.025, 0.005),
        phase: str = "arctan",
        seed: int = 0,
        n_repairings: int = 99_999,
        effective_df: float | None = N_DOCUMENTS - 1,
        tested: dict[str, Any] | None = None,
    ) -> Path:
        models = models or (f"org/{pair}-a", f"org/{pair}-b")
        found = {"coherence": _coherence(pair, list(models), True), "discriminate": _discrimination(pair, list(models))}
        for made in found.values():
            made |= {"corpus": corpus, "primary": phase, "confidence_level": 0.95}
            made |= {} if effective_df is None else {"effective_df": effective_df}
            made |= {} if tested is None else {"tested": tested}
        found["coherence"]["phases"][phase] = found["coherence"]["phases"]["arctan"]
        _with_share(found["coherence"], *share, n_repairings)
        _with_gain(found["discriminate"], *gain)
        found["claims"] = _claims(pair)
        tests = {"phase_coherence": found["coherence"], "discrimination": found["discriminate"]}
        for claim in found["claims"]["claims"]:
            decided = tests.get(claim["id"].removeprefix("brf."), claim)
            claim |= {"verdict": decided["verdict"], "reason": decided["reason"]}
        key = hashlib.sha256(json.dumps([found, seed], sort_keys=True).encode()).hexdigest()
        for stage, results in found.items():
            (folder / stage).mkdir(parents=True)
            write_json(folder / stage / RESULTS, results)
            write_json(folder / stage / MANIFEST, _manifest(stage) | {"key": f"{stage}-{key}"})
        settings = {"determines": {"seed": seed, "evaluation": {"n_resamples": 9999}}, "key": key}
        write_json(folder / MANIFEST, _manifest("run") | settings)
        listed = [{"id": claim["id"], "test": claim["id"].removeprefix("brf.")} for claim in found["claims"]["claims"]]
        write_json(folder / "ledger.json", {"claims": listed})
        write_json(folder / RESULTS, {"schema": 1, "stage": "run", "pair": pair, "corpus": corpus})
        return folder

    return write
