"""What is simulated: every row of the tables as a name, a number of simulations and a function of the index."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from calibration.captures import PAIRS, available_pairs, broken_outcome, true_outcome
from calibration.components import component_pvalues, kuramoto_pvalue
from calibration.designs import DESIGNS, Design, generator
from calibration.procedure import simulated_outcomes

PHASES = ("arctan", "quantile")
N_SIMULATIONS = 1000
N_POWER, N_COVERAGE = 100, 250
N_DRAWS, N_SEEDS = 200, 20
N_ALWAYS_RESIDUAL = 200  # simulations of a null design whose regressor is run whatever P1 says

# Designs of the whole procedure: shorter documents, because what costs time is the number of trees.
LENGTH = 64
PROCEDURES = {
    "independent": replace(DESIGNS["AR .6, icc .2"], length=LENGTH),
    "shared position .1": replace(DESIGNS["shared position .1"], length=LENGTH),
    "shared token .3": replace(DESIGNS["shared token .3"], length=LENGTH),
    "all shared": replace(DESIGNS["all shared"], length=LENGTH),
    "shared token .3, proxy .9": replace(DESIGNS["shared token .3"], length=LENGTH, reliability=0.9),
}
# Designs in which P1 hardly ever rejects: no regressor is needed to see that nothing is supported.
WITHOUT_DEPENDENCE = ("independent", "shared position .1")
RESIDUALS, POWER_DOCUMENTS, PILOT_DOCUMENTS = (0.05, 0.1, 0.2, 0.3), (20, 40, 100), 40
COVERAGE_RESIDUALS = (0.0, 0.1, 0.3)
TRUTH_DOCUMENTS = 2500
KURAMOTO = ("iid", "AR .6, icc .2", "AR .9, icc .2", "ragged, 40 documents", "tied gaps", "shared document .2")


@dataclass(frozen=True)
class Row:
    """One line of a table: `simulate(index)` gives the numbers of one simulation, `index` below `n`."""

    name: str
    n: int
    simulate: Callable[[int], Mapping[str, Any]]


def component_name(design: str, phase: str) -> str:
    """Name of the row of all component tests in a design under a map."""
    return f"components / {design} / {phase}"


def kuramoto_name(design: str, phase: str) -> str:
    """Name of the row of the three-model test in a design under a map."""
    return f"kuramoto / {design} / {phase}"


def procedure_name(design: str) -> str:
    """Name of the row of the whole procedure in a null design."""
    return f"procedure / {design}"


def power_name(residual: float, n_documents: int) -> str:
    """Name of the row of the whole procedure with a planted residual correlation."""
    return f"power / r {residual:g}, {n_documents} documents"


def truth_name(residual: float) -> str:
    """Name of the row that stands for the truth at a residual correlation."""
    return f"truth / r {residual:g}"


def broken_name(pair: str, how: str) -> str:
    """Name of the row of a real pair with its documents mismatched."""
    return f"broken {how} / {pair}"


def true_name(pair: str) -> str:
    """Name of the row of a real pair as it is, over seeds."""
    return f"true / {pair}"


def simulate_components(design: Design, name: str, phase: str, index: int) -> dict[str, float]:
    """All component tests on one sample."""
    rng = generator(name, index)
    return component_pvalues(design.sample(rng), phase, rng)


def simulate_kuramoto(design: Design, name: str, phase: str, index: int) -> dict[str, float]:
    """The three-model test on one sample."""
    rng = generator(name, index)
    return {"kuramoto": kuramoto_pvalue(design.sample(rng, n_models=3), phase, rng)}


def simulate_procedure(design: Design, name: str, n_always: int, index: int) -> dict[str, Any]:
    """The whole procedure on one sample; the first `n_always` run the regressor whatever P1 says."""
    rng = generator(name, index)
    return simulated_outcomes(design.sample(rng), PHASES, rng, always_residual=index < n_always)


def with_residual(residual: float, n_documents: int) -> Design:
    """The design of the power table: shared token difficulty, known to the proxy, and a relation beyond it."""
    return replace(PROCEDURES["shared token .3"], residual=residual, n_documents=n_documents)


def simulated_rows() -> list[Row]:
    """Everything that needs no captures."""
    return [*_component_rows(), *_truth_rows(), *_procedure_rows(), *_power_rows()]


def _component_rows() -> list[Row]:
    made = []
    for phase in PHASES:
        for design, its in DESIGNS.items():
            name = component_name(design, phase)
            made.append(Row(name, N_SIMULATIONS, partial(simulate_components, its, name, phase)))
        for design in KURAMOTO:
            name = kuramoto_name(design, phase)
            made.append(Row(name, N_SIMULATIONS, partial(simulate_kuramoto, DESIGNS[design], name, phase)))
    return made


def _truth_rows() -> list[Row]:
    made = []
    for residual in (0.0, *RESIDUALS):
        name = truth_name(residual)
        made.append(Row(name, 1, partial(simulate_procedure, with_residual(residual, TRUTH_DOCUMENTS), name, 1)))
    return made


def _procedure_rows() -> list[Row]:
    made = []
    for design, its in PROCEDURES.items():
        name, always = procedure_name(design), N_SIMULATIONS
        if design in WITHOUT_DEPENDENCE:
            always = N_ALWAYS_RESIDUAL
        made.append(Row(name, N_SIMULATIONS, partial(simulate_procedure, its, name, always)))
    return made


def _power_rows() -> list[Row]:
    made = []
    for residual in RESIDUALS:
        for n_documents in POWER_DOCUMENTS:
            name = power_name(residual, n_documents)
            covered = residual in COVERAGE_RESIDUALS and n_documents == PILOT_DOCUMENTS
            n = N_COVERAGE if covered else N_POWER
            made.append(Row(name, n, partial(simulate_procedure, with_residual(residual, n_documents), name, n)))
    return made


def simulate_broken(pair: str, how: str, name: str, runs_dir: Path, index: int) -> dict[str, Any]:
    """The whole procedure on a real pair whose models read different documents."""
    return broken_outcome(PAIRS[pair](runs_dir), name, index, how=how)


def simulate_true(pair: str, runs_dir: Path, index: int) -> dict[str, Any]:
    """The whole procedure on a real pair; the index is the seed."""
    return true_outcome(PAIRS[pair](runs_dir), index)


def capture_rows(runs_dir: Path) -> list[Row]:
    """The real pairs that this machine has, broken in two ways, and as they are."""
    made = []
    for pair in available_pairs():
        for how in ("separate", "deranged"):
            name = broken_name(pair, how)
            made.append(Row(name, N_DRAWS, partial(simulate_broken, pair, how, name, runs_dir)))
        made.append(Row(true_name(pair), N_SEEDS, partial(simulate_true, pair, runs_dir)))
    return made
