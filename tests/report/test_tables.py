import csv
import io

import pytest

from brf_exp.report import load_run
from brf_exp.report.tables import Table, tables, to_csv, to_latex


def test_a_whole_run_has_every_table(whole_run):
    made = tables(load_run(whole_run))
    coherence = "phase_maps reliability specification harmonics planning"
    discrimination = "rules contrasts discrimination_maps auc below_minimum secondary_scores reliability_bins"
    assert list(made) == [
        "claims",
        *coherence.split(),
        *discrimination.split(),
        "coherence_curve",
        "audit",
        "identities",
    ]
    assert all(len(row) == len(table.columns) for table in made.values() for row in table.rows)


def test_csv_keeps_every_digit(whole_run):
    run = load_run(whole_run)
    rows = list(csv.DictReader(io.StringIO(to_csv(tables(run)["phase_maps"]))))
    found = run.coherence["phases"]["arctan"]
    assert float(rows[0]["share"]) == found["excess"] / (1 - found["resultant_length_independent"])
    assert float(rows[0]["share_low"]) == found["excess_share_interval"][0]
    assert rows[1]["scale_logits"] == ""


def test_specifications_keep_their_choices_and_both_shares(whole_run):
    run = load_run(whole_run)
    rows = list(csv.DictReader(io.StringIO(to_csv(tables(run)["specification"]))))
    for row, found in zip(rows, run.coherence["specification"], strict=True):
        assert (row["map"], row["scale_factor"]) == (found["map"], str(found["scale_factor"] or ""))
        assert [float(row["share_low"]), float(row["share_high"])] == found["share_interval"]
        assert [float(row[f"residual_share{end}"]) for end in ("", "_low", "_high")] == [0.01, -0.02, 0.04]
        assert float(row["pvalue_adjusted"]) == found["pvalue_adjusted"]


def test_a_plan_has_one_row_per_question_and_power(whole_run):
    (row,) = list(csv.DictReader(io.StringIO(to_csv(tables(load_run(whole_run))["planning"]))))
    assert (row["question"], row["power"], row["tokens"], row["documents"]) == ("find", "0.8", "1512", "126")
    assert (row["tokens_low"], row["tokens_high"]) == ("1008", "")
    assert (row["power_at_10000"], row["power_at_10000_low"]) == ("0.97", "0.8")


def test_pairs_have_their_own_numbers_and_order_its_bins(make_three):
    run = load_run(make_three(stages=("coherence",)))
    run.coherence["pairs"][1]["phases"]["arctan"] |= {"excess": 0.3, "excess_share_interval": [0.4, 0.6]}
    made = tables(run)
    rows = list(csv.DictReader(io.StringIO(to_csv(made["pairs"]))))
    assert [(row["model_a"], row["model_b"], row["proxy"]) for row in rows] == [
        ("org/first", "org/second", "org/third"),
        ("org/first", "org/third", "org/second"),
        ("org/second", "org/third", "org/first"),
    ]
    assert [float(row["share"]) for row in rows] == [0.12 / 0.6, 0.3 / 0.6, 0.12 / 0.6]
    assert (rows[1]["share_low"], rows[1]["share_high"], rows[1]["repairing_pvalue"]) == ("0.4", "0.6", "0.01")
    assert [float(rows[0][f"residual_share{end}"]) for end in ("", "_low", "_high")] == pytest.approx(
        [0.01, -0.014 / 0.6, 0.026 / 0.6]
    )
    assert [row["verdict"] for row in rows] == ["falsified", "supported", "supported"]
    assert made["kuramoto"].rows[10] == [0.2, 10.0, 39.0]


@pytest.mark.parametrize("reason", ["constant gaps", "identical models"])
def test_an_undefined_test_leaves_empty_cells_and_its_reason(make_undefined, reason):
    made = tables(load_run(make_undefined(reason, stages=("coherence",))))
    assert list(made) == ["phase_maps"]
    for row in made["phase_maps"].rows:
        assert row[1:-2] == [None] * (len(row) - 3)
        assert row[-2:] == ["inconclusive", reason]
    assert to_latex(made["phase_maps"]).count("inconclusive") == 2
    assert to_csv(made["phase_maps"]).count(reason) == 2


def test_a_pair_without_a_test_has_empty_cells(make_three):
    made = tables(load_run(make_three("ties at zero", stages=("coherence",))))
    assert made["pairs"].rows[0][3:] == [*[None] * 8, "inconclusive", "ties at zero", True]
    assert "kuramoto" not in made


def test_rules_are_sorted_by_loss_and_undefined_ones_come_last(make_run):
    run = load_run(make_run())
    run.discrimination["rules"]["linear"] |= {"log_loss_nats": None, "n_undefined": 4}
    rows = tables(run)["rules"].rows
    assert rows[0][0] == "oracle"
    assert rows[-1][:2] == ["linear", "linear pool"]
    assert rows[-1][3] is None
    assert rows[-1][7] == 4


def test_latex_is_escaped_and_keeps_the_columns_for_paper():
    table = Table("50 % of $x$_1", ["a_b", "left out", "value"], [["R&D #1 {x} ~^\\", "no", 2.2e-16]], paper=(0, 2))
    assert to_latex(table).splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{50 \% of \$x\$\_1}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a b & value \\",
        r"\midrule",
        r"R\&D \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} & 2.200$\times$10$^{-16}$ \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_csv_quotes_what_it_must():
    assert (
        to_csv(Table("", ["a", "b"], [['x,"y"', None], ["two\nlines", True]])) == 'a,b\n"x,""y""",\n"two\nlines",True\n'
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_no_cell_of_text_is_a_formula(start):
    text = f'{start}HYPERLINK("http://x","y")'
    (heads, cells) = csv.reader(io.StringIO(to_csv(Table("", [text, "b"], [[text, f"a{start}b"]])), newline=""))
    text = text.replace("\r", "\n")
    assert heads == [f"'{text}", "b"]
    assert cells == [f"'{text}", f"a{start}b".replace("\r", "\n")]


def test_no_carriage_return_ends_a_row():
    assert to_csv(Table("", ["a"], [["x\r=1+1"], ["x\r\n=1+1"]])) == 'a\n"x\n=1+1"\n"x\n=1+1"\n'


def test_numbers_stay_numbers():
    assert to_csv(Table("", ["a"], [[-0.5], [-3], [1e-30], [None], [True], ["-0.5"]])).split() == [
        *("a", "-0.5", "-3", "1e-30"),
        *('""', "True", "'-0.5"),
    ]


def test_a_submissions_names_cannot_be_formulas(make_run):
    run = load_run(make_run(models=("=cmd|' /C calc'!A0", "@SUM(1)"), captures=False))
    made = tables(run)
    for name in ("rules", "contrasts"):
        found = {row["name"] for row in csv.DictReader(io.StringIO(to_csv(made[name])))}
        assert {"'=cmd|' /C calc'!A0", "'@SUM(1)"} <= found


def rows_of(run, name):
    return list(csv.DictReader(io.StringIO(to_csv(tables(run)[name]))))


def test_contrasts_have_their_noise_floor(whole_run):
    for row in rows_of(load_run(whole_run), "contrasts"):
        assert (row["noise_floor_nats"], row["least_gain_nats"]) == ("0.0004", "0.005")


def test_aucs_have_their_differences(whole_run):
    rows = {row["score"]: row for row in rows_of(load_run(whole_run), "auc")}
    assert list(rows) == ["interference", "coherence", "max_prob"]
    assert (rows["interference"]["auc"], rows["interference"]["difference"]) == ("0.62", "")
    assert float(rows["max_prob"]["difference"]) == 0.62 - 0.83
    assert float(rows["max_prob"]["difference_low"]) == 0.61 - 0.83
    assert float(rows["coherence"]["within_documents"]) == 0.57 - 0.02
    assert rows["coherence"]["pvalue_adjusted"] == "0.002"


def test_rates_below_every_model_have_their_controls(whole_run):
    zero, flipped = rows_of(load_run(whole_run), "below_minimum")
    assert (zero["control"], zero["interval_low"], zero["truncation_low"]) == ("brf_zero", "", "0.0")
    assert zero["reason"] == "no variation"
    assert (flipped["rate"], flipped["interval_low"], flipped["pvalue_adjusted"]) == ("0.3", "-0.34", "2e-09")


def test_secondary_scores_have_what_there_is_and_say_what_is_missing(whole_run):
    run = load_run(whole_run)
    rows = {row["rule"]: row for row in rows_of(run, "secondary_scores")}
    assert list(rows) == ["oracle", "linear", "brf", "contrastive"]  # by Brier score, those without one last
    assert (rows["brf"]["brier_low"], rows["brf"]["brier_difference"]) == ("0.61", "")
    assert (rows["linear"]["brier_difference"], rows["linear"]["brier_difference_high"]) == ("0.015", "0.025")
    assert (rows["linear"]["calibration_error"], rows["linear"]["calibration_error_low"]) == ("0.083", "0.05")
    assert (rows["linear"]["recalibrated_nats"], rows["linear"]["temperature_high"]) == ("1.35", "1.2")
    assert (rows["oracle"]["recalibrated_nats"], rows["oracle"]["missing"]) == ("", "recalibrated: not tuned")
    assert rows["contrastive"]["missing"] == "unbounded normaliser"
    assert [row["accuracy"] for row in rows_of(run, "reliability_bins")] == ["0.25", "0.4", "0.8"] * 3


def test_maps_have_the_share_at_which_they_suppress_agreement(whole_run):
    arctan, quantile = rows_of(load_run(whole_run), "discrimination_maps")
    assert (arctan["negative_share"], arctan["negative_share_high"]) == ("0.28", "0.31")
    assert (quantile["rule"], quantile["negative_share"], quantile["negative_share_low"]) == ("brf_quantile", "0.5", "")


def test_widths_stand_beside_the_k_they_were_measured_at(make_run):
    run = load_run(make_run(captures=False))
    widths = {"5": {"linear": 0.4, "log_linear": 0.3}, "20": {"linear": 0.1, "log_linear": 0.2}}
    run.discrimination["deciding_k"] = {"k": 60, "verdict": "falsified", "widths": widths}
    assert [list(row.values()) for row in rows_of(run, "truncation_widths")] == [
        ["linear", "0.4", "0.1"],
        ["log_linear", "0.3", "0.2"],
    ]


def test_results_without_the_later_keys_have_the_earlier_tables(make_run, forget_later_keys):
    run = load_run(make_run(stages=("discriminate",), captures=False))
    forget_later_keys(run.discrimination)
    made = tables(run)
    assert list(made) == ["rules", "contrasts", "discrimination_maps", "coherence_curve"]
    assert made["contrasts"].rows[0][-2:] == [None, None]
