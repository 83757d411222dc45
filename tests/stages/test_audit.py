import json
from pathlib import Path

import numpy as np
import pytest

from brf_exp.config import AuditStageConfig
from brf_exp.maths.rules import RULES, fuse
from brf_exp.stages import audit as stage
from brf_exp.stages.prior_systems import records
from brf_exp.storage.runs import RESULTS, read_json


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    return stage.run(AuditStageConfig(runs_dir=str(runs), n_distributions=40, seed=3))


@pytest.fixture(scope="module")
def results(folder: Path) -> dict:
    return read_json(folder / RESULTS)


def test_keys_that_claims_and_report_read(results: dict) -> None:
    assert (results["schema"], results["stage"], results["n_distributions"], results["n_triples"]) == (
        1,
        "audit",
        40,
        10,
    )
    assert results["vocabulary_size"] == 12
    assert set(results["rules"]) == set(RULES)
    for name, rule in results["rules"].items():
        assert (rule["formula"], rule["source"]) == (RULES[name].formula, RULES[name].source)
        assert list(rule["properties"]) == list(results["properties"])
        assert set(rule["worst"]) <= set(rule["properties"])
    for identity in results["identities"].values():
        assert set(identity) == {"statement", "max_error", "median_error", "holds"}
    assert results["identities"]["zero_phase_power_mean"]["max_error"] < 1e-12
    assert results["identities"]["token_phases_mixture"]["holds"] is False
    assert results["prior_systems"] == records()


def test_every_number_of_small_forecasts_is_told(results: dict) -> None:
    assert results["n_small"] == {"2": [600, 600, 600], "3": [600, 600, 600]}


def test_examples_can_be_recomputed_from_the_file(results: dict) -> None:
    """What the file says q is, from the probabilities and phases in the file."""
    n_checked = 0
    for name, rule in results["rules"].items():
        for setting in rule["settings"]:
            failed = {prop for prop, answer in setting["properties"].items() if answer is False}
            assert set(setting["witnesses"]) == failed
            for witness in setting["witnesses"].values():
                if setting["confidence"] not in (None, "max_prob"):
                    continue
                p = np.array(witness["probabilities"])
                parameters = dict(setting["parameters"])
                if RULES[name].uses_phases:
                    parameters["phases_rad"] = np.array(witness["phases_rad"])
                np.testing.assert_allclose(fuse(name, np.log(p), **parameters).p, witness["fused"], atol=1e-12)
                token = witness["token"]
                differs = abs(witness["found"][token] - witness["expected"][token])
                assert differs == pytest.approx(witness["deviation"], abs=1e-12)
                n_checked += 1
    assert n_checked > 200


def test_settings_say_how_many_models_and_positions(results: dict) -> None:
    found = {name: {(s["label"], s["n_models"]) for s in rule["settings"]} for name, rule in results["rules"].items()}
    assert found["linear"] == {("", 2), ("", 3)}
    assert {n for _, n in found["contrastive"]} == {2}
    assert ("phases gap flipped", 2) in found["brf"] and ("phases gap flipped", 3) not in found["brf"]
    linear = results["rules"]["linear"]["settings"][0]
    assert linear["n_asked"]["bounded"] == 3 * 600 + 40
    assert linear["n_asked"]["gauge_invariance"] == 0


def test_found_again_and_made_anew_when_systems_change(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = AuditStageConfig(runs_dir=str(folder.parents[1]), n_distributions=40, seed=3)
    before = (folder / RESULTS).stat().st_mtime_ns
    assert stage.run(config) == folder
    assert (folder / RESULTS).stat().st_mtime_ns == before
    monkeypatch.setattr(stage, "records", lambda: [])
    assert stage.run(config) != folder


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = stage.run(AuditStageConfig(runs_dir=str(tmp_path), n_distributions=40, seed=3))
    other = stage.run(AuditStageConfig(runs_dir=str(tmp_path), n_distributions=40, seed=4))
    assert (again / RESULTS).read_bytes() == (folder / RESULTS).read_bytes()
    assert json.loads((other / RESULTS).read_text())["identities"] != read_json(folder / RESULTS)["identities"]


def test_one_pair_of_two_tokens_is_enough(tmp_path: Path) -> None:
    made = stage.run(AuditStageConfig(runs_dir=str(tmp_path), n_distributions=1, vocabulary_size=2))
    found = read_json(made / RESULTS)
    assert found["rules"]["linear"]["properties"]["in_convex_hull"] is True
    assert found["rules"]["brf"]["properties"]["never_below_minimum"] is False
