"""A few hundred of the cases that `make fuzz` runs by the hundred thousand."""

import numpy as np
import pytest

from brf_exp.errors import InputError
from brf_exp.stages import ingest
from fuzzing.cases import KINDS, examples, make_case
from fuzzing.mutations import MUTATIONS, mutated
from fuzzing.runner import run_cases

SEED = 20_000


def test_the_promise_holds() -> None:
    outcome = run_cases(range(250), seed=SEED)
    assert outcome.broken == []
    assert outcome.n_cases == 250
    assert outcome.accepted.total() > 5 and outcome.refused.total() > 100
    assert set(outcome.refused) | set(outcome.accepted) == set(KINDS)


@pytest.mark.parametrize("error", [ValueError("x"), InputError("two\nlines"), InputError("no place")])
def test_a_broken_promise_is_found(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_config: object) -> None:
        raise error

    monkeypatch.setattr(ingest, "run", fail)
    outcome = run_cases(range(2), seed=SEED)
    assert [number for number, _ in outcome.broken] == [0, 1]
    assert type(error).__name__ in outcome.broken[0][1]


def test_cases_are_what_their_numbers_say() -> None:
    assert [make_case(n, SEED) for n in range(5)] == [make_case(n, SEED) for n in range(5)]
    assert make_case(1, SEED) != make_case(1, SEED + 1)
    assert len(examples()) >= 10


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_every_mutation_changes_something(mutation: object) -> None:
    data = b"position,logit_1\n0,1\n1,2\n" * 4
    changed = 0
    for seed in range(20):
        spoiled = bytearray(data)
        mutation(spoiled, np.random.default_rng(seed))  # type: ignore[operator]
        changed += bytes(spoiled) != data
    assert changed >= 10
    assert mutated(b"", np.random.default_rng(0)) == b""
