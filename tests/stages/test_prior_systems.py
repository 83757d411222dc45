import re
from dataclasses import fields
from pathlib import Path

import pytest

from brf_exp.maths.rules import RULES
from brf_exp.report.audit_rows import SYSTEMS
from brf_exp.stages.prior_systems import (
    COMPARABLE,
    FUSES,
    MEANINGS,
    NEEDS,
    PRIOR_SYSTEMS,
    UNSOURCED,
    PriorSystem,
    page,
    records,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prior-systems.md"
ARXIV = re.compile(r"arXiv (\d\d)(0[1-9]|1[0-2])\.\d{5}$")
DOI = re.compile(r"doi 10\.\d{4,9}/\S+$")


@pytest.mark.parametrize("system", PRIOR_SYSTEMS, ids=lambda system: system.name)
def test_every_field_says_something(system: PriorSystem) -> None:
    assert system.name and system.why.endswith(".")
    assert system.fuses in FUSES
    assert system.needs and set(system.needs) <= set(NEEDS)
    assert system.comparable in COMPARABLE
    assert system.rule is None or system.rule in RULES
    assert (system.rule is None) is (system.comparable == "no")


@pytest.mark.parametrize("system", PRIOR_SYSTEMS, ids=lambda system: system.name)
def test_references_are_identifiers_that_fit_the_year(system: PriorSystem) -> None:
    arxiv = ARXIV.search(system.reference)
    assert arxiv or DOI.search(system.reference) or system.reference == UNSOURCED
    assert (system.year is None) is (system.reference == UNSOURCED)
    if arxiv:
        # A preprint may appear in print in the year after.
        assert 0 <= system.year - (2000 + int(arxiv[1])) <= 1
    if "," in system.reference:
        assert str(system.year) in system.reference.split(",")[0]


def test_what_needs_no_more_than_dumps_is_comparable() -> None:
    for system in PRIOR_SYSTEMS:
        assert system.comparable != "no" or system.needs != ("dumps",), system.name
        assert system.comparable != "yes" or system.needs == ("dumps",), system.name
    assert {system.comparable for system in PRIOR_SYSTEMS} == set(COMPARABLE) == set(MEANINGS)


def test_names_are_unique_and_references_are_those_of_the_rules() -> None:
    assert len({system.name for system in PRIOR_SYSTEMS}) == len(PRIOR_SYSTEMS)
    sources = {rule.source for rule in RULES.values() if "doi" in rule.source or "arXiv" in rule.source}
    cited = {system.reference for system in PRIOR_SYSTEMS}
    assert sources - cited == {RULES["brf"].source}


def test_every_published_rule_has_a_system() -> None:
    standing = {system.rule for system in PRIOR_SYSTEMS}
    assert set(RULES) - standing == {"lin_log_mixture"}


def test_records_are_flat_rows() -> None:
    for record in records():
        assert list(record) == list(SYSTEMS) == [field.name for field in fields(PriorSystem)]
        assert all(value is None or isinstance(value, str | int) for value in record.values())


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_page_has_a_row_of_full_width_per_system() -> None:
    rows = [line for line in page().splitlines() if line.startswith("|")]
    assert len(rows) == len(PRIOR_SYSTEMS) + 2
    assert {row.count("|") for row in rows} == {len(SYSTEMS) + 1}
