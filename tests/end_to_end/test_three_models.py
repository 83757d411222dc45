"""The main job on three embedded models, small, through the command line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

MODELS = ["tiny_prose", "tiny_code", "tiny_mixed"]


def load(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def test_the_run_names_every_model_and_capture(three: Path) -> None:
    results = load(three)
    assert results["models"] == MODELS
    assert results["proxy"] is None
    assert {name: Path(path).parts[-2] for name, path in results["captures"].items()} == dict(
        zip("abc", MODELS, strict=True)
    )
    assert all((three / path / "capture.json").is_file() for path in results["captures"].values())
    assert results["n_positions"] == 40 * 64


def test_every_pair_has_the_third_as_its_proxy(three: Path) -> None:
    results = load(three / "coherence")
    assert results["models"] == MODELS
    assert [(pair["models"], pair["proxy"]) for pair in results["pairs"]] == [
        (["tiny_prose", "tiny_code"], "tiny_mixed"),
        (["tiny_prose", "tiny_mixed"], "tiny_code"),
        (["tiny_code", "tiny_mixed"], "tiny_prose"),
    ]
    assert results["confidence_level"] == pytest.approx(1 - 0.05 / 3)
    assert results["alpha"] == pytest.approx(0.05 / 3)
    assert all(pair["phases"]["arctan"]["residual"]["excess"] for pair in results["pairs"])
    assert sum(results["kuramoto"]["counts"]) == results["n_positions"]
    assert (results["verdict"], results["reason"]) == ("inconclusive", "controls")
    assert results["sentence"].startswith("For tiny3, stdlib, map arctan: of 3 pairs of models, ")


def test_the_rules_fuse_all_three(three: Path) -> None:
    results = load(three / "discriminate")
    assert results["models"] == MODELS
    assert {f"model_{letter}" for letter in "abc"} <= set(results["rules"])
    assert "contrastive" not in results["rules"]
    for fold in results["rules"]["linear"]["parameters"]["folds"]:
        assert len(fold["weight"]) == 3 and sum(fold["weight"]) == pytest.approx(1)
    linear, best = results["rules"]["linear"]["log_loss_nats"], results["rules"]["oracle"]["log_loss_nats"]
    assert best[1] < linear[0] == linear[1]


def test_the_power_at_ten_thousand_tokens_is_the_plans(three: Path) -> None:
    coherence = load(three / "coherence")
    (claim,) = [c for c in load(three / "claims")["claims"] if c["id"] == "brf.ten_thousand_tokens"]
    (planned,) = [
        question["at_10000_tokens"]
        for question in coherence["planning"]["questions"]
        if (question["question"], question["true_share"]) == ("find", coherence["delta"])
    ]
    assert claim["evidence"]["power, coherence"] == planned["interval"]


def test_the_report_opens_and_shows_all_pairs(three: Path) -> None:
    page = (three / "report" / "report.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy" in page
    assert "<script" not in page
    assert 'src="http' not in page
    text = re.sub(r"<[^>]+>", " ", page)
    assert all(name in text for name in MODELS)
    figures = {path.stem for path in (three / "report" / "figures").iterdir()}
    assert any("kuramoto" in name for name in figures), figures
    assert any("pair" in name for name in figures), figures
