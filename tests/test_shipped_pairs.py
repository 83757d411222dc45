"""Shipped pairs that live on a hub say which revision is meant, of every model."""

from pathlib import Path

import pytest
import yaml

from brf_exp.paths import conf_dir

PAIRS = sorted((conf_dir() / "pair").glob("*.yaml"))
HUB = [path for path in PAIRS if "/" in str(yaml.safe_load(path.read_text()).get("a", ""))]


def test_there_are_shipped_hub_pairs() -> None:
    assert len(HUB) >= 5


@pytest.mark.parametrize("path", HUB, ids=lambda path: path.stem)
def test_every_hub_id_has_a_revision_that_does_not_move(path: Path) -> None:
    pair = yaml.safe_load(path.read_text())
    assert pair["name"] == path.stem
    for member in ("a", "b", "proxy"):
        if member in pair:
            assert pair.get(f"{member}_revision") not in (None, "", "main", "master"), member
