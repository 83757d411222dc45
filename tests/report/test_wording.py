import pytest

from brf_exp.report import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0, "0"), (13142, "13,142"), (-2.0, "−2"), (0.12345, "0.123"), (-0.005, "−0.005"),
        (10978.4, "10,978"),
        (2.2e-16, "2.20×10⁻¹⁶"), (-3e12, "−3.00×10¹²"),
        (None, "–"), (float("nan"), "–"), (float("inf"), "–"),
    ],
)  # fmt: skip
def test_numbers(value, text):
    assert wording.number(value) == text


@pytest.mark.parametrize(
    ("value", "log_value", "text"),
    [
        (0.0, -4731.9, "10⁻²⁰⁵⁶"),
        (0.0, None, "< 10⁻³⁰⁰"),
        (0.0123, -4.4, "0.012"),
        (None, None, "–"),
        (4.4e-14, -30.7, "4.4×10⁻¹⁴"),
    ],
)
def test_pvalues_too_small_for_a_float_are_powers_of_ten(value, log_value, text):
    assert wording.pvalue(value, log_value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([0.1, 0.25], "[0.1,\u00a00.25]"),
        ([None, 1], "[–,\u00a01]"),
        (0.5, "0.5"),
        ("linear", "linear"),
        (True, "yes"),
        (None, "–"),
    ],
)
def test_evidence(value, text):
    assert wording.evidence(value) == text


def test_intervals_with_fixed_decimals_line_up():
    assert wording.interval([-0.1, 2], 3) == "[−0.100,\u00a02.000]"
    assert wording.interval(None) == "–"


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, "–"), ({"weight": 0.5}, "weight 0.5"), ({"folds": [{}, {}]}, "–"),
        ({"folds": [{"hit_rate": 0.2, "a": 1.0}, {"hit_rate": 0.3, "a": 1.0}]}, "hit rate 0.2 to 0.3, a 1"),
        ({"weight": [0.2, 0.5, 0.3]}, "weight 0.2 / 0.5 / 0.3"),
        ({"folds": [{"weight": [0.2, 0.8]}, {"weight": [0.4, 0.8]}]}, "weight 0.2 to 0.4 / 0.8"),
    ],
)  # fmt: skip
def test_parameters_are_values_or_ranges(found, text):
    assert wording.parameters(found) == text


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("model_b", "beta"),
        ("model_c", "model c"),
        ("linear", "linear pool"),
        ("brf_tanh", "Born Rule Fusion, map tanh"),
        ("new_rule", "new rule"),
    ],
)
def test_rule_names(rule, text):
    assert wording.rule_name(rule, ["alpha", "beta"]) == text


@pytest.mark.parametrize(
    ("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_in_a_row(names, text):
    assert wording.listed(names) == text


@pytest.mark.parametrize(("value", "text"), [(None, "never"), (13003, "13,003")])
def test_sample_sizes(value, text):
    assert wording.sample_size(value) == text


@pytest.mark.parametrize(
    ("rule", "role", "group"),
    [
        ("linear", "rival", 0),
        ("brf_zero", "rival", 1),
        ("model_a", "model", 2),
        ("oracle", "oracle", 3),
        ("gate", "gate", 3),
    ],
)
def test_groups(rule, role, group):
    assert wording.group_of(rule, role) == wording.GROUPS[group]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.1234, "12.34"), (1, "100.00"), (-0.5, "−50.00"), (None, "–"),
        ([0.01, 0.0255], "[1.00,\u00a02.55]"), ((None, 0.1), "[–,\u00a010.00]"), ((None, None), "[–,\u00a0–]"),
    ],
)  # fmt: skip
def test_shares_in_a_column_of_per_cent(share, text):
    assert wording.per_cent_points(share) == text


@pytest.mark.parametrize(("score", "text"), [("gap_sum", "sum of the gaps"), ("new_score", "new score")])
def test_score_names(score, text):
    assert wording.score_name(score) == text
