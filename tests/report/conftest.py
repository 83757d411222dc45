"""Runs with everything that results may hold, and runs whose tests are undefined or of more than two models."""

import copy
import json
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from brf_exp.storage.tables import read_table, write_table

THREE = ("org/first", "org/second", "org/third")
OF_A_MAP = ("scale", "resultant_length", "mean_direction_rad", "rayleigh_z", "rayleigh_pvalue", "rayleigh_log_pvalue")
OF_THE_TEST = (
    "resultant_length_independent", "nulls", "excess", "excess_raw", "excess_share", "excess_interval",
    "excess_share_interval", "minimum_detectable_share", "effective_n", "residual", "negative_control_rate",
)  # fmt: skip

LATER = (
    "below_minimum_contrasts", "below_minimum_events", "interference", "attribution", "auc", "secondary", "noise_floor",
    "noise_floor_reason", "deciding_k",
)  # fmt: skip


def undefine_one(made: dict[str, Any], reason: str) -> None:
    """One map as the test leaves it where it is not defined."""
    made |= {**dict.fromkeys((*OF_A_MAP, *OF_THE_TEST)), "verdict": "inconclusive", "reason": reason}


def undefine(found: dict[str, Any], reason: str) -> None:
    """Every map of these results as the test leaves it where the data define none."""
    for made in found["phases"].values():
        undefine_one(made, reason)
    nothing = dict.fromkeys(("negative_control_rate", "rank_correlation", "reliability_curve", "secondary", "planning"))
    found |= {**nothing, "specification": [], "controls": None, "verdict": "inconclusive", "reason": reason}
    found |= {"sentence": f"For this pair: {reason} (inconclusive).", "robust": True}


def _change(folder: Path, change: Callable[[dict[str, Any]], None], stage: str = "coherence") -> Path:
    path = folder / stage / "results.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    return folder


def _auc() -> dict[str, Any]:
    """The candidate and two scores: one that it is better than, one that it is worse than."""
    aucs = {"interference": 0.62, "coherence": 0.57, "max_prob": 0.83}
    scores = {
        name: {
            "auc": auc,
            "standard_error": 0.005,
            "interval": [auc - 0.01, auc + 0.01],
            "reason": None,
            "within_document": {
                "auc": auc - 0.02,
                "interval": [auc - 0.05, auc + 0.01],
                "n_documents": 20,
                "n_dropped": 1,
                "reason": None,
            },
        }
        for name, auc in aucs.items()
    }
    differences = {
        name: {
            "difference": 0.62 - aucs[name],
            "standard_error": 0.006,
            "interval": [0.61 - aucs[name], 0.63 - aucs[name]],
            "pvalue": 0.001,
            "pvalue_adjusted": 0.002,
            "reason": None,
        }
        for name in ("coherence", "max_prob")
    }
    counts = {"n_positions": 252, "n_documents": 21, "n_positive": 112, "n_negative": 140, "n_open": 3}
    said = {"label": "the realised token is the top token", "note": "automatic", "candidate": "interference"}
    return {**said, **counts, "adjustment": "holm", "scores": scores, "differences": differences, "reason": None}


def _below_minimum() -> dict[str, Any]:
    flipped = {"difference": 1 / 252 - 0.3, "truncation": [-0.31, -0.28], "interval": [-0.34, -0.25]}
    flipped |= {"pvalue": 1e-9, "pvalue_adjusted": 2e-9, "reason": None}
    zero = {"difference": 1 / 252, "truncation": [0.0, 2 / 252], "interval": None, "pvalue": None}
    zero |= {"pvalue_adjusted": None, "reason": "no variation"}
    events = {"surprisal_nats": 5.5, "top_tokens_agree": 0.0, "median_frequency_rank": 40.0}
    others = {"surprisal_nats": 1.1, "top_tokens_agree": 0.6, "median_frequency_rank": 7.5}
    counts = {"n_undefined": 0, "n_events": 1, "n_others": 251, "n_distinct_tokens": 50}
    return {
        "below_minimum_contrasts": {"brf_zero": zero, "brf_flipped": flipped},
        "below_minimum_events": {**counts, "events": events, "others": others, "reason": None},
    }


def _calibration() -> dict[str, Any]:
    bins = {"mean_confidence": [0.2, 0.5, 0.9], "accuracy": [0.25, 0.4, 0.8], "counts": [84, 84, 84]}
    expected = {"expected": 0.083, "expected_interval": [0.05, 0.12], "expected_truncation": [0.08, 0.09]}
    squared = {"squared": 0.007, "squared_interval": [0.003, 0.01], "squared_truncation": [0.006, 0.008]}
    return {**expected, **squared, "plug_in": 0.085, "pvalue": 0.01, "bins": bins}


def _secondary_scores() -> dict[str, Any]:
    again = {"log_loss_nats": 1.35, "at_temperature_1_nats": 1.37, "temperatures": [1.0, 1.2]}
    whole = {"calibration_error": _calibration(), "recalibrated": again, "missing": {}}
    none = dict.fromkeys(("brier", "calibration_error", "recalibrated"))
    rules = {
        "brf": {"brier": [0.61, 0.62], **whole},
        "linear": {"brier": [0.6, 0.6], **whole},
        "oracle": {"brier": [0.4, 0.4], **whole, "recalibrated": None, "missing": {"recalibrated": "not tuned"}},
        "contrastive": {**none, "missing": dict.fromkeys(none, "unbounded normaliser")},
    }
    contrast = {"difference": 0.015, "interval": [0.005, 0.025], "truncation": [0.01, 0.02], "pvalue": 0.01}
    contrasts = {"linear": contrast, "oracle": contrast}
    return {"note": "Secondary.", "candidate": "brf", "rules": rules, "brier_contrasts": contrasts}


def _later_keys(found: dict[str, Any]) -> None:
    """What earlier results of the discrimination test do not have."""
    shares = {"arctan": {"negative_share": 0.28, "interval": [0.25, 0.31]}}
    shares["quantile"] = {"negative_share": 0.5, "interval": None}
    found["agreement"] |= {"negative_share_tuned": 0.1, "maps": shares}
    for contrast in found["contrasts"].values():
        contrast |= {"noise_floor_nats": 0.0004, "least_gain_nats": 0.005}
    gain = {"coherent_gain_nats": -0.025, "coherent_gain_interval": [-0.035, -0.015]}
    found |= {
        **_below_minimum(),
        "interference": {**gain, "interference_information_nats": [0.01, 0.03]},
        "attribution": {"difference_nats": 0.0007, "upper_one_sided": 0.0013, "not_worse": True},
        "auc": _auc(),
        "secondary": _secondary_scores(),
        "noise_floor": {"largest_nats": 0.0004, "n_positions": 96, "dtype": "bfloat16", "batch_tokens": 4096},
        "noise_floor_reason": "",
        "deciding_k": None,
    }


def _with_later_keys(folder: Path) -> Path:
    if (folder / "discriminate").is_dir():
        _change(folder, _later_keys, "discriminate")
    return folder


@pytest.fixture
def forget_later_keys() -> Callable[[dict[str, Any]], None]:
    """A function that leaves of discrimination results what the first version wrote."""

    def forget(found: dict[str, Any]) -> None:
        for name in LATER:
            found.pop(name, None)
        found["agreement"] = {name: found["agreement"][name] for name in ("negative_share", "interval")}
        for contrast in found["contrasts"].values():
            del contrast["noise_floor_nats"], contrast["least_gain_nats"]
        found["noise_floor"] = None

    return forget


@pytest.fixture
def make_run(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """A function that writes a run folder with every key that results may have."""
    return lambda *arguments, **options: _with_later_keys(make_run(*arguments, **options))


@pytest.fixture(scope="session")
def whole_run(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder with everything in it, for tests that only read."""
    runs = shutil.copytree(whole_run.parent, tmp_path_factory.mktemp("later") / "runs" / "run")
    return _with_later_keys(runs / whole_run.name)


def _forget_phases(folder: Path) -> None:
    """Leave the tables of a test that does not exist: gaps, but no phases and no re-pairings."""
    (folder / "coherence" / "repairings.parquet").unlink()
    positions = folder / "coherence" / "positions.parquet"
    kept = {name: values for name, values in read_table(positions).items() if not name.startswith("phase_")}
    write_table(positions, kept)


@pytest.fixture
def make_undefined(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """A function that writes a run whose coherence test does not exist, for the reason given."""

    def make(reason: str, **options: Any) -> Path:
        folder = make_run(**options)
        _forget_phases(folder)
        return _change(folder, lambda found: undefine(found, reason))

    return make


def _add_pairs(found: dict[str, Any], undefined: str) -> None:
    names = ("primary", "phases", "specification", "negative_control_rate", "rank_correlation", "robust")
    of_one = {name: found[name] for name in (*names, "reliability_curve", "secondary", "sentence")}
    pairs = []
    for place, members in enumerate(combinations(THREE, 2)):
        (proxy,) = set(THREE) - set(members)
        verdict = {"verdict": ("falsified", "supported", "supported")[place], "reason": f"reason {place}"}
        pairs.append(copy.deepcopy(of_one) | {"models": list(members), "proxy": proxy, **verdict})
    if undefined:
        undefine(pairs[0], undefined)
        undefine(found, undefined)
    counts = np.arange(50.0)
    order = {"mean": 0.8, "shifted_mean": 0.7, "n_shifts": 100, "shift_pvalue": 0.0, "counts": counts.tolist()}
    order |= {"shifted_counts": counts[::-1].tolist(), "excess_squared": {"value": 0.2, "interval": [0.15, 0.25]}}
    found |= {"pairs": pairs, "kuramoto": None if undefined else order}
    found |= {"confidence_level": 1 - 0.05 / 3, "alpha": 0.05 / 3, "verdict": "inconclusive", "reason": "pairs differ"}


@pytest.fixture
def make_three(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """A function that writes a run of three models; `undefined`: why the first pair has no test."""

    def make(undefined: str = "", **options: Any) -> Path:
        folder = make_run(models=THREE, pair="three", **options)
        if undefined:
            _forget_phases(folder)
        return _change(folder, lambda found: _add_pairs(found, undefined))

    return make


@pytest.fixture
def undefine_map() -> Callable[[dict[str, Any], str], None]:
    """A function that leaves one map's results as the test does where the map is not defined."""
    return undefine_one
