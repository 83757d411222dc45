"""What is simulated of the Cross-Term Discrimination Test."""

from dataclasses import replace
from functools import partial

from calibration.designs import Design
from calibration.losses import LossDesign, simulate_losses
from calibration.ranks import simulate_ranks
from calibration.rows import N_SIMULATIONS, Row

DOCUMENTS = (20, 40, 100)
LAWS = {"normal": 0, "skewed right": 1, "skewed left": -1}
CORRELATIONS = (0.3, 0.9)
# Ten thousand positions, cut into documents in four ways; and more documents than that.
TEN_THOUSAND = ((20, 500), (40, 250), (100, 100), (400, 25))
MANY_DOCUMENTS, N_POWER = 400, 400
WIDTH_NATS = 0.01
PLACES = {"lower bound": 0.0, "middle": 0.5, "upper bound": 1.0}


def lengths_name(ragged: bool) -> str:
    """How a design's documents are cut."""
    return "ragged" if ragged else "equal"


def size_designs() -> dict[str, LossDesign]:
    """Designs of the error rates, by row name: equal lengths at the lower correlation only."""
    made = {}
    for n_documents in DOCUMENTS:
        for ragged in (False, True):
            for law, skewed in LAWS.items():
                for correlation in CORRELATIONS if ragged else CORRELATIONS[:1]:
                    design = LossDesign(n_documents, ragged, skewed=skewed, correlation=correlation)
                    what = f"{n_documents} {lengths_name(ragged)}, {law}, correlation {correlation:g}"
                    made[f"losses / {what}"] = design
    return made


def truncation_designs() -> dict[str, LossDesign]:
    """Designs in which truncation leaves twice delta open at a position."""
    plain = LossDesign(40, width=WIDTH_NATS)
    return {f"losses truncated / truth at the {where}": replace(plain, place=place) for where, place in PLACES.items()}


def power_designs() -> dict[str, LossDesign]:
    """Designs of the power table that are not in the error rates."""
    made = {
        f"losses power / {n_documents} of {length}": LossDesign(n_documents, ragged=False, length=length)
        for n_documents, length in TEN_THOUSAND
    }
    return {**made, f"losses power / {MANY_DOCUMENTS} ragged": LossDesign(MANY_DOCUMENTS)}


def rank_designs() -> dict[str, Design]:
    """Designs of the comparison of AUCs."""
    return {
        f"ranks / {n_documents} {lengths_name(ragged)}": Design(0.3, 0.05, n_documents=n_documents, ragged=ragged)
        for n_documents in DOCUMENTS
        for ragged in (False, True)
    }


def discrimination_rows() -> list[Row]:
    """Every row of the Cross-Term Discrimination Test."""
    losses = {
        **dict.fromkeys(size_designs(), N_SIMULATIONS),
        **dict.fromkeys(truncation_designs(), N_SIMULATIONS),
        **dict.fromkeys(power_designs(), N_POWER),
    }
    designs = {**size_designs(), **truncation_designs(), **power_designs()}
    made = [Row(name, n, partial(simulate_losses, designs[name], name)) for name, n in losses.items()]
    ranks = rank_designs().items()
    return made + [Row(name, N_SIMULATIONS, partial(simulate_ranks, design, name)) for name, design in ranks]
