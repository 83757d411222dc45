"""Tables of a report: columns and rows of plain values, written as CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brf_exp.report import discrimination_rows as discrimination
from brf_exp.report.audit_rows import example_rows, prior_system_rows, setting_rows
from brf_exp.report.discrimination_rows import two
from brf_exp.report.gallery import share_of
from brf_exp.report.load import Run
from brf_exp.report.wording import SUPERSCRIPTS, interval, number, property_name, rule_name
from brf_exp.storage.spreadsheets import csv_cell

Row = list[Any]
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\u2212": "$-$", "\u2013": "--", "\u00a0": "~",
    "\u00d7": r"$\times$", "\u03b4": r"$\delta$",
}  # fmt: skip
_PLAIN = dict(zip(SUPERSCRIPTS, "-0123456789", strict=True))


@dataclass(frozen=True)
class Table:
    """A table: full precision for CSV; `paper` are the columns that a LaTeX table keeps, by index."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    paper: Sequence[int] = ()


def tables(run: Run) -> dict[str, Table]:
    """Every table that the run has numbers for, by file name."""
    made: dict[str, Table] = {}
    if run.claims is not None:
        made["claims"] = _claims(run.claims)
    if run.coherence is not None:
        made["phase_maps"] = _phase_maps(run.coherence)
        made["reliability"] = _records("Reliability of the difficulty proxy", run.coherence["reliability_curve"] or [])
        made |= _beside_the_maps(run.coherence)
    if run.discrimination is not None:
        made |= _discrimination(run.discrimination)
    curve = run.tables.get("coherence_curve")
    if curve is not None:
        rows = np.column_stack(list(curve.values())).tolist()
        made["coherence_curve"] = Table("Log loss of constant coherence", list(curve), rows)
    if run.audit is not None:
        made["audit"] = _audit(run.audit)
        made["identities"] = _identities(run.audit)
        made["audit_settings"] = Table("Structural properties at every setting", *setting_rows(run.audit))
        made["audit_examples"] = Table("An example of every property that is lacking", *example_rows(run.audit))
        systems = prior_system_rows(run.audit)
        made["prior_systems"] = Table("Prior systems", *systems, paper=(0, 1, 2, 4, 5, 6))
    return {name: table for name, table in made.items() if table.rows}


def _claims(found: dict[str, Any]) -> Table:
    columns = ["claim", "statement", "verdict", "reason", "sentence", "robust", "source", "tested_by"]
    rows = [[claim["id"], *(claim.get(name) for name in columns[1:])] for claim in found["claims"]]
    return Table("Verdict of every claim", columns, rows, paper=(0, 2, 3))


def _phase_maps(found: dict[str, Any]) -> Table:
    columns = [
        "map", "scale_logits", "resultant_length", "resultant_length_independent", "rayleigh_z", "rayleigh_pvalue",
        "excess", "excess_low", "excess_high", "share", "share_low", "share_high", "shift_pvalue", "repairing_pvalue",
        "residual_share", "residual_share_low", "residual_share_high", "negative_control_rate", "verdict", "reason",
    ]  # fmt: skip
    rows = [[name, *_map_cells(made)] for name, made in found["phases"].items()]
    return Table("Phase Coherence Test under every phase map", columns, rows, paper=(0, 2, 3, 9, 10, 11, 15, 16, 18))


def _map_cells(made: dict[str, Any]) -> Row:
    """One map's numbers; None where the test does not exist under it."""
    left = made["residual"]
    residual = [share_of(left), *two(left["excess_share_interval"])] if left else [None, None, None]
    names = ("scale", "resultant_length", "resultant_length_independent", "rayleigh_z", "rayleigh_pvalue", "excess")
    nulls = [made["nulls"][null]["pvalue"] if made["nulls"] else None for null in ("shift", "repairing")]
    share = [share_of(made), *two(made["excess_share_interval"])]
    head = [*(made[column] for column in names), *two(made["excess_interval"]), *share, *nulls, *residual]
    return [*head, made.get("negative_control_rate"), made.get("verdict"), made.get("reason")]


def _beside_the_maps(found: dict[str, Any]) -> dict[str, Table]:
    """What the coherence results hold besides one row per map; older ones do not have all of it."""
    made = {"specification": _specification(found.get("specification") or [])}
    if found.get("secondary"):
        made["harmonics"] = _records("Harmonics of the phase differences", found["secondary"]["harmonics"])
    if found.get("pairs"):
        made["pairs"] = _pairs(found["pairs"])
    if found.get("kuramoto"):
        made["kuramoto"] = _kuramoto(found["kuramoto"])
    if found.get("planning"):
        made["planning"] = _planning(found["planning"])
    return made


def _specification(found: list[dict[str, Any]]) -> Table:
    columns = [
        "map", "scale_factor", "scale_logits", "share", "share_low", "share_high", "pvalue", "pvalue_adjusted",
        "residual_share", "residual_share_low", "residual_share_high", "verdict", "reason",
    ]  # fmt: skip
    rows = []
    for made in found:
        head = [made["map"], made["scale_factor"], made["scale"], made["share"], *two(made["share_interval"])]
        residual = [made["residual_share"], *two(made["residual_share_interval"])]
        rows.append([*head, made["pvalue"], made["pvalue_adjusted"], *residual, made["verdict"], made["reason"]])
    return Table("Every phase map at every scale", columns, rows, paper=(0, 1, 3, 4, 5, 8, 9, 10, 11))


def _pairs(found: list[dict[str, Any]]) -> Table:
    columns = [
        "model_a", "model_b", "proxy", "share", "share_low", "share_high", "shift_pvalue", "repairing_pvalue",
        "residual_share", "residual_share_low", "residual_share_high", "verdict", "reason", "robust",
    ]  # fmt: skip
    rows = []
    for pair in found:
        # Of one map's cells: share with ends and both nulls' p-values, then the residual share with ends.
        cells = _map_cells(pair["phases"][pair["primary"]])
        rows.append([*pair["models"], pair["proxy"], *cells[8:16], pair["verdict"], pair["reason"], pair["robust"]])
    return Table("Every pair of models", columns, rows, paper=(0, 1, 3, 4, 5, 8, 9, 10, 11, 12))


def _kuramoto(found: dict[str, Any]) -> Table:
    counts, shifted = found["counts"], found["shifted_counts"]
    rows = [[place / len(counts), *pair] for place, pair in enumerate(zip(counts, shifted, strict=True))]
    return Table("Order of all models' phases", ["order_from", "positions", "positions_shifted"], rows)


def _planning(found: dict[str, Any]) -> Table:
    columns = [
        "question", "true_share", "power", "tokens", "documents", "tokens_low", "tokens_high",
        "power_at_10000", "power_at_10000_low", "power_at_10000_high",
    ]  # fmt: skip
    rows = []
    for asked in found["questions"]:
        at = asked["at_10000_tokens"]
        for power, needed in asked["needed"].items():
            sizes = [needed["n_positions"], needed["n_documents"], *needed["interval"]]
            rows.append([asked["question"], asked["true_share"], float(power), *sizes, at["power"], *at["interval"]])
    return Table("Tokens needed for a given power", columns, rows, paper=(0, 1, 2, 3, 4, 7))


def _discrimination(found: dict[str, Any]) -> dict[str, Table]:
    """The tables of the discrimination results; older ones do not have all of it."""
    contrasts = "Log loss of Born Rule Fusion minus each rule, nats"
    below = "Tokens below every model, Born Rule Fusion minus each phase control"
    return {
        "rules": Table("Every rule on the same positions", *discrimination.rule_rows(found), paper=(1, 3, 4, 5, 6)),
        "contrasts": Table(contrasts, *discrimination.contrast_rows(found), paper=(1, 3, 4, 5, 6, 7)),
        "discrimination_maps": Table(
            "Verdict under every phase map", *discrimination.map_rows(found), paper=(0, 2, 3, 4, 5, 6)
        ),
        "auc": Table(
            "AUC for the correctness of the top token", *discrimination.auc_rows(found), paper=(1, 2, 3, 4, 8, 9, 10)
        ),
        "below_minimum": Table(below, *discrimination.below_minimum_rows(found), paper=(1, 2, 3, 4, 5, 9)),
        "secondary_scores": Table(
            "Secondary scores", *discrimination.secondary_rows(found), paper=(1, 2, 3, 7, 8, 9, 10)
        ),
        "reliability_bins": Table("Accuracy by confidence of the top token", *discrimination.reliability_rows(found)),
        "truncation_widths": Table("Width left open by truncation", *discrimination.width_rows(found)),
    }


def _audit(found: dict[str, Any]) -> Table:
    properties = list(dict.fromkeys(name for rule in found["rules"].values() for name in rule["properties"]))
    rows = [
        [rule_name(name), rule["formula"], rule["source"], *(rule["properties"].get(p) for p in properties)]
        for name, rule in found["rules"].items()
    ]
    paper = (0, *range(3, 3 + len(properties)))
    return Table("Structural properties", ["rule", "formula", "source", *map(property_name, properties)], rows, paper)


def _identities(found: dict[str, Any]) -> Table:
    rows = [[name, made["statement"], made["max_error"], made["holds"]] for name, made in found["identities"].items()]
    return Table("Identities", ["identity", "statement", "max_error", "holds"], rows)


def _records(caption: str, records: list[dict[str, Any]]) -> Table:
    columns = list(records[0]) if records else []
    return Table(caption, columns, [[record[name] for name in columns] for record in records])


def to_csv(table: Table) -> str:
    """The whole table, numbers at full precision; empty where there is none."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_cell(column) for column in table.columns])
    writer.writerows([[csv_cell(cell) for cell in row] for row in table.rows])
    return buffer.getvalue()


def to_latex(table: Table) -> str:
    """The columns for paper as a booktabs table; it needs \\usepackage{booktabs}."""
    heads = [escape(str(table.columns[index]).replace("_", " ")) for index in table.paper]
    body = [" & ".join(escape(cell_text(row[index])) for index in table.paper) + r" \\" for row in table.rows]
    aligned = "".join("r" if _is_numeric(table, index) else "l" for index in table.paper)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape(table.caption)}}}"]
    lines += [rf"\begin{{tabular}}{{{aligned}}}", r"\toprule", " & ".join(heads) + r" \\", r"\midrule", *body]
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def cell_text(value: Any) -> str:
    """One value as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return interval(value)
    return number(value, 4) if value is None or isinstance(value, int | float) else str(value)


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    made = "".join(f"$^{{{_PLAIN[c]}}}$" if c in _PLAIN else _ESCAPES.get(c, c) for c in text)
    return made.replace("}$$^{", "")


def _is_numeric(table: Table, index: int) -> bool:
    cells = [row[index] for row in table.rows if row[index] is not None]
    return bool(cells) and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)
