"""Runs whose coherence results are out of the ordinary: undefined, or of more than two models."""

import copy
import json
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


def _change(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = folder / "coherence" / "results.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    return folder


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
