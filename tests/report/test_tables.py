import csv
import io

from brf_exp.report import load_run
from brf_exp.report.tables import Table, tables, to_csv, to_latex


def test_a_whole_run_has_every_table(whole_run):
    made = tables(load_run(whole_run))
    names = "claims phase_maps reliability rules contrasts coherence_curve audit identities"
    assert list(made) == names.split()
    assert all(len(row) == len(table.columns) for table in made.values() for row in table.rows)


def test_csv_keeps_every_digit(whole_run):
    run = load_run(whole_run)
    rows = list(csv.DictReader(io.StringIO(to_csv(tables(run)["phase_maps"]))))
    found = run.coherence["phases"]["arctan"]
    assert float(rows[0]["share"]) == found["excess"] / (1 - found["resultant_length_independent"])
    assert float(rows[0]["share_low"]) == found["excess_share_interval"][0]
    assert rows[1]["scale_logits"] == ""


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
