from pathlib import Path

import pytest

from brf_exp.models.reference import EMBEDDED, embedded_names
from brf_exp.storage.runs import read_json

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", embedded_names())
def test_page_has_the_numbers_of_the_files(name: str) -> None:
    evaluation, recipe = (read_json(EMBEDDED / name / file) for file in ("evaluation.json", "recipe.json"))
    for domain, found in evaluation["domains"].items():
        bits = found["bits_per_byte"]
        columns = [f"{bits[key]:.3f}" for key in ("model", "ngram_tokens", "xz_primed")]
        assert f"| `{name}` | {domain} | {' | '.join(columns)} |" in PAGE
        columns = [f"{bits[key]:.3f}" for key in ("gzip", "xz", "xz_primed", "ngram_bytes")]
        assert f"| {domain} | {found['n_documents']} | {found['n_bytes']:,} | {' | '.join(columns)} |" in PAGE
        if bits["model"] >= bits["xz_primed"]:
            lost = PAGE[PAGE.index("Models that do not beat primed xz:") :]
            assert f"`{name}` on {domain} ({bits['model']:.3f})" in lost
    assert f"{recipe['n_parameters']:,} |" in PAGE
    assert f"| {recipe['n_tokens']:,} | {recipe['seconds'] / 60:.0f} min |" in PAGE
