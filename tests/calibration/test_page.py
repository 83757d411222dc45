"""Results of simulations on disk, and how the page judges them."""

from dataclasses import replace
from functools import partial

import pytest

from calibration import claims, measures, rows, store, tables
from calibration.designs import DESIGNS, Design
from calibration.discrimination_rows import discrimination_rows
from calibration.rows import Row, simulate_kuramoto

SMALL = Design(n_documents=6, length=20)


def _row(n: int) -> Row:
    return Row("kuramoto / small", n, partial(simulate_kuramoto, SMALL, "small", "arctan"))


def test_what_is_there_is_not_computed_again(tmp_path) -> None:
    row = _row(3)
    assert store.read(tmp_path, row) is None
    store.compute(tmp_path, [row], n_processes=1)
    path = store.path_of(tmp_path, row)
    written = path.stat().st_mtime_ns
    store.compute(tmp_path, [row], n_processes=1)
    assert path.stat().st_mtime_ns == written
    expected = [pytest.approx(row.simulate(index)["kuramoto"], rel=1e-5) for index in range(3)]
    assert store.read(tmp_path, row) == {"kuramoto": expected}


def test_other_settings_are_other_results(tmp_path) -> None:
    store.compute(tmp_path, [_row(2)], n_processes=1)
    assert store.read(tmp_path, _row(3)) is None
    other = replace(_row(2), simulate=partial(simulate_kuramoto, replace(SMALL, length=21), "small", "arctan"))
    assert store.path_of(tmp_path, other) == store.path_of(tmp_path, _row(2)) and store.read(tmp_path, other) is None


def test_names_of_rows_are_names_of_files(tmp_path) -> None:
    made = [*rows.simulated_rows(), *discrimination_rows(), *rows.capture_rows(tmp_path)]
    assert len({store.path_of(tmp_path, row) for row in made}) == len(made)


@pytest.mark.parametrize(
    ("value", "claim", "shown"),
    [
        (0.05, claims.SIZE, ".050"),
        (0.08, claims.SIZE, "**.080**"),
        (0.02, claims.SIZE, "**.020**"),
        (0.02, claims.AT_MOST, ".020"),
        (0.08, claims.AT_MOST, "**.080**"),
        (0.9, claims.NOT, "(.900)"),
    ],
)
def test_rates_outside_the_band_are_bold(value: float, claim: str, shown: str) -> None:
    assert tables.judged(value, 1000, claim) == shown


def test_coverage_outside_the_band_is_bold() -> None:
    columns = {"residual_lower": [0.0, 0.1, 0.3, -0.1], "residual_upper": [0.2, 0.3, 0.4, 0.2]}
    assert measures.coverage(columns, "residual", 0.15) == 0.75
    assert (tables.covered(0.95, 1000), tables.covered(0.92, 1000)) == (".950", "**.920**")


def test_claims_follow_what_models_share() -> None:
    assert claims.covers("shift", DESIGNS["shared document .2"]) == claims.SIZE
    assert claims.covers("shift", DESIGNS["shared hard start"]) == claims.NOT
    assert claims.covers("repairing", DESIGNS["shared hard start"]) == claims.SIZE
    assert claims.covers("document_permutation", DESIGNS["shared document .2"]) == claims.NOT
    assert {claims.covers(test, DESIGNS["shared token .3"]) for test in claims.TESTS} == {claims.NOT}
