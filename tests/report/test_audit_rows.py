from pathlib import Path

import pytest

from brf_exp.config import AuditStageConfig
from brf_exp.report.audit_rows import example_rows, prior_system_rows, setting_rows
from brf_exp.stages.audit import run
from brf_exp.storage.runs import RESULTS, read_json

OLD = {"rules": {"linear": {"properties": {"bounded": True}, "source": "", "formula": ""}}, "identities": {}}


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder: Path = run(AuditStageConfig(runs_dir=str(tmp_path_factory.mktemp("runs")), n_distributions=4))
    return read_json(folder / RESULTS)


def test_a_row_per_setting_and_number_of_models(audit: dict) -> None:
    columns, rows = setting_rows(audit)
    assert columns[:5] == ["rule", "setting", "models", "between the models", "never below all models"]
    assert all(len(row) == len(columns) for row in rows)
    assert len(rows) == sum(len(rule["settings"]) for rule in audit["rules"].values())
    assert ["power mean", "order 2", 3, False, False, True, False] in [row[:7] for row in rows]


def test_an_example_for_every_property_a_rule_lacks(audit: dict) -> None:
    columns, rows = example_rows(audit)
    lacking = sum(answer is False for rule in audit["rules"].values() for answer in rule["properties"].values())
    assert len(rows) == lacking > 50
    for row in rows:
        example = dict(zip(columns, row, strict=True))
        assert abs(example["found"] - example["expected"]) >= 1e-3
        assert 0 <= example["token"] < len(example["fused"].split())
        assert (example["phases_rad"] is not None) is (example["rule"] == "Born Rule Fusion")
    below = next(row for row in rows if row[0] == "Born Rule Fusion" and row[2] == "never below all models")
    assert len(below[5].split()) == 2
    per_token = [row[4] for row in rows if row[1] == "phases token random"]
    assert per_token and all(";" in phases for phases in per_token)


def test_prior_systems_name_rules_in_words(audit: dict) -> None:
    columns, rows = prior_system_rows(audit)
    made = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert made["DeePEn"]["rule here"] == "linear pool"
    assert made["Mixture-of-Agents"]["rule here"] is None
    assert made["FusionRoute"]["needs"] == "live models, training"


def test_results_from_before_have_no_rows() -> None:
    assert setting_rows(OLD)[1] == example_rows(OLD)[1] == prior_system_rows(OLD)[1] == []
