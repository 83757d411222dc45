"""A collection into its folder: page, figures, CSV and LaTeX."""

from collections.abc import Sequence
from pathlib import Path

from brf_exp.report.collect_figures import PairRow, gain_forest, share_forest
from brf_exp.report.collect_load import Collection, Row, subject_name
from brf_exp.report.collect_page import collection_page
from brf_exp.report.collect_tables import records_csv, runs_latex
from brf_exp.report.style import FORMATS, Drawn, encode, inline_svg, settle
from brf_exp.report.write import PAGE

TALLEST_PNG = 20.0  # inches


def write_collection(
    collection: Collection, folder: Path, *, columns: Sequence[str], claim_columns: Sequence[str]
) -> None:
    """Fill a folder with report.html, figures/, table.csv, table.tex and claims.csv. Same runs, same bytes."""
    (folder / "figures").mkdir()
    elements = {}
    for name, drawn in _figures(collection).items():
        settle(drawn.figure)
        # A figure of hundreds of rows is metres long: nobody wants it as pixels.
        for kind in FORMATS if drawn.figure.get_figheight() <= TALLEST_PNG else ("svg", "pdf"):
            content = encode(drawn.figure, kind, name=name)
            (folder / "figures" / f"{name}.{kind}").write_bytes(content)
            if kind == "svg":
                elements[name] = inline_svg(content, name=name, label=drawn.label)
    texts = {
        "table.csv": records_csv(collection.rows, columns),
        "claims.csv": records_csv(collection.claim_rows, claim_columns),
        "table.tex": runs_latex(collection.rows, caption="Every run; corrected p-values where a run counts"),
        PAGE: collection_page(collection, figures=elements),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8", "replace"))


def _figures(collection: Collection) -> dict[str, Drawn]:
    """The forests that the runs have numbers for."""
    made = {}
    shares = [row for row in collection.rows if row["coherence_counted"] and row["share_low"] is not None]
    gains = [row for row in collection.rows if row["difference_counted"] and row["difference_low_nats"] is not None]
    if shares:
        left = _verdicts(collection, "phase_coherence")
        figure = share_forest(
            [_share_row(row, left) for row in shares], delta=max(row["delta_share"] for row in shares)
        )
        made["coherence_over_pairs"] = Drawn(figure, "Excess coherence of every pair with its interval and verdict")
    if gains:
        left = _verdicts(collection, "discrimination")
        figure = gain_forest(
            [_gain_row(row, left) for row in gains], delta_nats=max(row["delta_nats"] for row in gains)
        )
        made["gains_over_pairs"] = Drawn(figure, "Log loss of Born Rule Fusion minus its strongest rival, every pair")
    return made


def _verdicts(collection: Collection, test: str) -> dict[str, str]:
    """What is left of the verdict of the claim that a test decides, by the folder of the run."""
    claim = next((claim["id"] for claim in collection.results["claims"] if claim["test"] == test), "")
    return {folder: row["verdict_adjusted"] for folder, row in collection.counted(claim).items()}


def _share_row(row: Row, left: dict[str, str]) -> PairRow:
    """Beyond shared difficulty, or where nothing tells difficulty all of it."""
    verdict, name = left.get(row["folder"], "inconclusive"), subject_name(row)
    if row["residual_share_low"] is None:
        return PairRow(f"{name} (no proxy)", row["share"], (row["share_low"], row["share_high"]), verdict)
    ends = row["residual_share_low"], row["residual_share_high"]
    return PairRow(name, row["residual_share"], ends, verdict, beside=row["share"])


def _gain_row(row: Row, left: dict[str, str]) -> PairRow:
    ends = row["difference_low_nats"], row["difference_high_nats"]
    return PairRow(subject_name(row), row["difference_nats"], ends, left.get(row["folder"], "inconclusive"))
